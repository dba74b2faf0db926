"""Which networks a study needs: by its arms, their regions, its losses and what else asks for one."""

import pytest
from conftest import bad_input
from models import call

from synthct.core.presets import resolve
from synthct.study.needs import needed, of_arm

LOSS = ["vgg19-dcbb9e9d.pth", "sam_vit_b_01ec64.pth", "M291"]  # of the preset paper


def names(needs) -> list[str]:
    return [need.network.name for need in needs]


def test_what_a_study_needs_in_all_its_steps():
    paper = resolve("paper", "mr")
    assert names(needed(paper, ["impact", "elastix"])) == ["M730", *LOSS]
    assert names(needed(paper, ["elastix", "mi", "mind", "none", "truth"])) == LOSS
    masks = resolve("paper", "mr", ["inference.body_mask=totalsegmentator"])
    assert names(needed(masks, ["none"], segment=True)) == [*LOSS, "M597", "M297"]
    assert names(needed(masks, ["none"], masks=False)) == LOSS
    assert needed(resolve("test", "mr"), ["elastix", "mi"]) == []


def test_both_recipes_of_the_paper_take_m730_to_different_depths():
    (mr,), (cbct,) = (of_arm(resolve("paper", modality)["registration"], "impact") for modality in ("mr", "cbct"))
    assert (mr.network.name, mr.layers, cbct.network.name, cbct.layers) == ("M730", 7, "M730", 2)
    assert mr.among(["M730_2_Layers.pt"]) is None and cbct.among(["M730_2_Layers.pt"]) == "M730_2_Layers.pt"


def test_the_released_maps_compare_no_network_in_head_and_neck():
    section = resolve("released", "mr")["registration"]
    assert names(of_arm(section, "impact")) == names(of_arm(section, "impact", ["AB", "HN"])) == ["M850"]
    assert of_arm(section, "impact", ["HN"]) == []
    assert names(needed(resolve("released", "cbct"), ["impact"])) == ["M730", "SAM2.1_Small.pt"]


def test_fine_tuning_with_a_loss_of_its_own():
    settings = resolve("test", "mr", ["finetuning.perceptual.encoder=sam"])
    assert names(needed(settings)) == ["sam_vit_b_01ec64.pth"]


def test_an_arm_of_ones_own(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text(
        'inherit = "test"\n[registration.arms.mine]\nengine = "sampled"\n'
        '[registration.arms.mine.settings.models.late]\nextractor = "M850.pt"\nweight = 1.0\n'
    )
    assert names(needed(resolve(own, "mr"), ["mine"])) == ["M850.pt"]


@pytest.fixture
def check(tmp_path, root, monkeypatch):
    """check.py on the demo's MR patients, where every place of weights is an empty directory."""
    for name in ("SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    sheet = root / "assets" / "demo" / "samplesheet_mr.csv"
    common = (
        "--sheet",
        sheet,
        "--modality",
        "mr",
        "--set",
        "folds.folds=2;folds.holdout=2",
        "--out",
        tmp_path / "s.json",
    )
    return lambda *options: call("check.py", *common, *options)


def test_all_that_is_absent_is_named_at_once_with_what_is_wrong_beside_it(check, tmp_path):
    done = check("--registration", "impact,elastix", "--segment", "--set", "folds.folds=9;training.batch=8")
    bad_input(done, "folds 9", "and weights are not there", "M730 (Dataset730_", *LOSS, "M297")
    command = "fetch --preset paper --modality mr --registration impact,elastix --segment --set 'training.batch=8'"
    bad_input(done, f"`bin/weights.py {command} --weights {tmp_path / 'empty'}`")
    assert not (tmp_path / "s.json").exists()


def test_what_lies_in_the_studys_own_place_counts(check, tmp_path):
    """The names are enough: the place may be an object store."""
    names = tmp_path / "names.txt"
    names.write_text("M730.pt\nvgg19-dcbb9e9d.pth\nsam_vit_b_01ec64.pth\n")
    place = ("--registration", "impact", "--weights", "s3://bucket/w", "--weights-files", names)
    bad_input(check(*place), "weights are not there: M291", "looked in s3://bucket/w;", "--weights s3://bucket/w`")
    folder = "Dataset291_TotalSegmentator_part1_organs_1559subj/trainer"
    names.write_text(names.read_text() + f"{folder}/plans.json\n{folder}/fold_0/checkpoint_final.pth\n")
    assert check(*place).returncode == 0


def test_nothing_is_asked_of_who_chooses_no_network_or_only_evaluates(check):
    assert check("--registration", "elastix,mi", "--set", "training.perceptual.encoder=none").returncode == 0
    assert check("--no-plan").returncode == 0
    bad_input(check("--no-plan", "--segment"), "weights are not there: M297")
