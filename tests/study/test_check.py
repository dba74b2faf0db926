"""What is checked before a study: its settings, its cohort and its networks, from one request."""

import pytest

from synthct.core.errors import InputError
from synthct.study.check import Request, check, fetching


@pytest.fixture
def sheet(tmp_path):
    """Four patients, of whom nothing but the sheet is looked at."""
    rows = "".join(f"P{number},AB,A,mr.mha,ct.mha\n" for number in range(4))
    (tmp_path / "sheet.csv").write_text("patient,region,center,image,ct\n" + rows)
    return tmp_path / "sheet.csv"


def test_a_request_gives_settings_and_patients(sheet):
    changes = ["folds.folds=2; folds.holdout=0", "training.batch=4"]
    settings, patients = check(Request(sheet=sheet, modality="mr", preset="test", overrides=changes, networks=False))
    assert (settings["preset"], settings["folds"]["folds"], settings["training"]["batch"]) == ("test", 2, 4)
    assert [patient.name for patient in patients] == ["P0", "P1", "P2", "P3"]


def test_faults_of_the_cohort_are_told_together(sheet, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("Q9\n")
    request = {"sheet": sheet, "modality": "mr", "preset": "test", "networks": False}
    with pytest.raises(InputError, match="holdout 9: .*; and .*'Q9'"):
        check(Request(**request, overrides=["folds.holdout=9"], exclude=[names]))
    with pytest.raises(InputError, match="no such arm"):  # what stands in the way of all else comes alone
        check(Request(**request, overrides=["folds.holdout=9"], registration="mime"))


@pytest.mark.parametrize(
    "changes",
    [
        ["inference.flips=foo"],
        ["inference.flips=x,x"],
        ["training.perceptual.encoder=foo"],
        ["finetuning.perceptual.encoder=foo"],
        ["training.max_steps=0", "training.max_epochs=0"],
        ["finetuning.max_steps=0"],
        ["training.copies=0", "training.originals=false"],
        ["training.patch=[32,32]", "training.batch=1"],
        ["finetuning.patch=[32,32]", "finetuning.batch=1"],
        ["finetuning.channels=3"],
        ["finetuning.network.encoder=resnet18"],
        ["training.perceptual.encoder=none", "training.l1_weight=0"],
        ["training.perceptual.encoder=sam", "training.perceptual.layers=[12]"],
        ["training.perceptual.encoder=vgg19", "training.perceptual.layers=[3,3]"],
        ["training.perceptual.layers=[1,2]", "training.perceptual.layer_weights=[1.0]"],
    ],
)
def test_what_a_later_step_would_refuse_is_refused_at_once(sheet, changes):
    changes = ["folds.holdout=0", *changes]
    with pytest.raises(InputError, match=changes[-1].split("=")[0].replace("finetuning", "training").split(".")[-1]):
        check(Request(sheet=sheet, modality="mr", preset="test", overrides=changes, networks=False))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["registration.dense.iterations=[40,30]"], "dense.iterations .*expected 3 numbers, one a level of voxel_mm"),
        (["registration.elastix.grid_schedule=[4,2]"], "elastix.grid_schedule .*expected 3 numbers"),
        (["registration.elastix.rigid.sample_step=[4,2]"], "elastix.rigid.sample_step .*expected 4 numbers"),
        (["registration.elastix.mi=0"], "elastix.mi 0.0: expected more than 0"),
        (["registration.dense.grid_schedule=[4,2,2]"], "expected 1 at its end"),
        (["registration.dense.mi.bins=3", "registration.arms.mi.settings.mi.weight=1"], "3 bins, expected 6 or more"),
        (
            ['registration.rigid.engines=["dense", "elastix"]'],
            "rigid.engines: elastix, expected some of dense, sampled",
        ),
        (["registration.arms.mind.settings.mind.weight=0"], "arms.mind: nothing to compare"),
        (["registration.arms.impact.settings.models.mind.extractor=MIND"], "expected MIND R<radius>D<dilation>"),
        (["registration.arms.impact.settings.models.mind.layers=01"], "has one output"),
        (["registration.arms.impact.settings.models.network.distance=L3"], "distance 'L3': expected L1 or L2"),
        (["registration.sampled.interpolation=nearest"], "interpolation 'nearest': expected cubic or linear"),
        (["registration.dense.grid_mm=0.01"], "grid_mm 0.01: expected 1.0 mm or more"),
        (["dose.gamma_mm=0"], "dose.gamma_mm 0.0: expected more than 0"),
        (["dose.gamma_percent=0"], "dose.gamma_percent 0.0: expected more than 0"),
        (["dose.target.semi_axes_mm=[25.0,0.0,20.0]"], "expected more than 0"),
        (["dose.target.semi_axes_mm=[25.0]"], "dose.target.semi_axes_mm .*expected three numbers"),
        (["dose.photon.cutoff_mm=0"], "dose.photon.cutoff_mm 0.0: expected more than 0"),
        (["dose.grid_mm=0.1"], "dose.grid_mm 0.1: expected 0.5 mm or more"),
        (["training.channels=4"], "training.channels 4: expected an odd number"),
    ],
)
def test_a_registration_that_cannot_run_is_refused_at_once(sheet, changes, expected):
    arms = "elastix,mi,mind,impact"
    request = {"modality": "mr", "preset": "paper", "registration": arms, "networks": False}
    with pytest.raises(InputError, match=expected):
        check(Request(sheet=sheet, overrides=["folds.holdout=0", "folds.folds=2", *changes], **request))


def test_a_list_that_leaves_a_fold_nobody_is_told_before_anything_is_registered(sheet, tmp_path):
    request = {"sheet": sheet, "modality": "mr", "preset": "test", "networks": False, "registration": "elastix,mi"}
    request["overrides"] = ["folds.holdout=0", "folds.folds=2"]
    (tmp_path / "all.txt").write_text("P0\nP1\nP2\nP3\n")
    with pytest.raises(InputError, match=r"--exclude, all.txt for elastix: fold 0: no patient left to train on"):
        check(Request(**request, exclude=[tmp_path / "all.txt"]))
    rows = "".join(f"P{number},mi,,exclude\n" for number in range(4))
    (tmp_path / "one.csv").write_text("patient,arm,reason,verdict\n" + rows)
    with pytest.raises(InputError, match=r"--exclude, one.csv for mi: fold 0"):
        check(Request(**request, exclude=[tmp_path / "one.csv"]))
    (tmp_path / "none.csv").write_text("patient,arm,reason,verdict\n" + rows.replace("exclude", "keep"))
    assert check(Request(**request, exclude=[tmp_path / "none.csv"]))


def test_a_regions_own_numbers_are_used_or_refused(sheet, tmp_path):
    request = {"sheet": sheet, "modality": "mr", "networks": False, "overrides": ["folds.holdout=0", "folds.folds=2"]}
    own = tmp_path / "own.toml"
    for section, change in (("training", "batch = 2"), ("folds", "folds = 2"), ("evaluation", "hu_range = [0, 9]")):
        own.write_text(f'inherit = "test"\n[{section}.region.AB]\n{change}\n')
        with pytest.raises(InputError, match=f"{section}.region: a region has numbers of its own in registration"):
            check(Request(**request, preset=own))
    own.write_text('inherit = "test"\n[preprocessing.region.AB]\nspacing = [2.0, 2.0, 3.0]\n')
    assert check(Request(**request, preset=own))
    own.write_text('inherit = "test"\n[preprocessing.region.HN]\nct_range = [-1000, 2000]\n')
    assert check(Request(**request, preset=own))  # nobody is of that region
    sheet.write_text(sheet.read_text().replace("P3,AB", "P3,HN"))
    with pytest.raises(InputError, match=r"ct_range \[-1000, 2000\] for region HN: AB has \[-1024, 3071\]"):
        check(Request(**request, preset=own))


def test_a_region_in_other_letters_than_the_settings_is_refused(sheet):
    request = {"sheet": sheet, "modality": "mr", "preset": "test", "networks": False}
    sheet.write_text(sheet.read_text().replace(",AB,", ",ab,"))
    with pytest.raises(InputError, match="region 'ab', which the settings spell 'AB'"):
        check(Request(**request, overrides=["folds.holdout=0", "folds.folds=2"]))
    sheet.write_text(sheet.read_text().replace(",ab,", ",pelvis,"))
    assert check(Request(**request, overrides=["folds.holdout=0", "folds.folds=2"]))


def test_arms_of_one_label_are_refused(sheet, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('inherit = "test"\n[registration.arms.mine]\nengine = "elastix"\nlabel = "Elastix"\n')
    request = {"sheet": sheet, "modality": "mr", "preset": own, "networks": False}
    request["overrides"] = ["folds.holdout=0", "folds.folds=2"]
    with pytest.raises(InputError, match="elastix and mine are both labelled 'Elastix'"):
        check(Request(**request, registration="elastix,mine"))
    assert check(Request(**request, registration="mi,mine"))


def test_an_arm_needs_the_ct_of_the_column_that_its_table_names(sheet, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('inherit = "test"\n[registration.arms.simulated]\nengine = "none"\nct = "ct_aligned"\n')
    request = {"modality": "mr", "preset": own, "overrides": ["folds.holdout=0", "folds.folds=2"], "networks": False}
    with pytest.raises(
        InputError, match="ct_aligned empty, which --registration simulated needs: patient P0, P1, P2, P3"
    ):
        check(Request(**request, sheet=sheet, registration="none,simulated"))
    with_truth = tmp_path / "with_truth.csv"
    with_truth.write_text(
        "\n".join(f"{line},{'ct_aligned' if n == 0 else 't.mha'}" for n, line in enumerate(sheet.read_text().split()))
    )
    assert check(Request(**request, sheet=with_truth, registration="none,simulated"))[1]


def test_an_evaluation_draws_nothing_and_needs_no_network_of_a_training(sheet, tmp_path, monkeypatch):
    for name in ("SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    request = {"sheet": sheet, "modality": "mr", "overrides": ["folds.holdout=9"], "plan": False}
    assert check(Request(**request))[0]["folds"]["holdout"] == "9"
    with pytest.raises(InputError, match="M297"):
        check(Request(**request, segment=True))


def test_the_command_that_fetches_names_what_changes_the_networks():
    request = Request(sheet="s.csv", modality="cbct", preset="released", registration="impact,mi")
    assert fetching(request) == "bin/weights.py fetch --preset released --modality cbct --registration impact,mi"
