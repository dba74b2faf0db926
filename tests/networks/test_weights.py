"""Which networks a study needs, and whether they are there: one line for all that are absent."""

import pytest
import torch

from synthct.core.errors import InputError
from synthct.core.presets import resolve
from synthct.networks import weights


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Every place where weights are looked for is an empty directory; returned is the first of them."""
    for name in ("SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "SYNTHCT_WEIGHTS"


def trained(place, directory: str):
    """What TotalSegmentator leaves of a trained network, without the weights themselves."""
    fold = place / directory / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_final.pth").touch()
    (fold.parent / "plans.json").touch()
    return fold


def test_the_table_agrees_with_the_package_that_publishes_the_networks():
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    known = 0
    for network in weights.table().values():
        number = weights.data_set(network.name)
        row = TASK_ID_WEIGHTS_CONFIGS.get(int(number)) if number else None
        if row:
            known += 1
            assert network.file == row["foldername"]
            assert network.url.endswith(f"/{row['version']}/{row['foldername']}.zip")
        assert network.licence and network.what and network.url.startswith("https://")
    assert known == 5  # 730 is older than the package's table
    assert "/v2.2.0-weights/Dataset730_" in weights.table()["M730"].url


@pytest.mark.parametrize(
    ("layers", "file", "serves"),
    [
        ("01", "M730_2_Layers.pt", True),
        ("1", "M730_2_Layers.pt", True),
        ("001", "M730_2_Layers.pt", False),
        ("0000001", "M730.pt", True),
        ("01", "TS/M730.pt", True),
        ("01", "M731.pt", False),
        ("01", "M850.pt", False),
    ],
)
def test_an_export_serves_for_the_layers_that_it_holds(nowhere, layers, file, serves):
    (nowhere / file).parent.mkdir(exist_ok=True)
    (nowhere / file).touch()
    found = weights.find(weights.of_extractor("TS730", layers))
    assert found == (nowhere / file if serves else None)


def test_the_trained_network_comes_before_its_exports(nowhere):
    for name in ("M730_2_Layers.pt", "M730_3_Layers.pt", "M730.pt"):
        (nowhere / name).touch()
    need = weights.of_extractor("TS730", "01")
    assert weights.find(need) == nowhere / "M730.pt"
    fold = trained(nowhere, "Dataset730_TotalSegmentatorMRI_part1_organs_495subj")
    assert weights.find(need) == fold / "checkpoint_final.pth"
    (nowhere / "M730.pt").unlink()
    (fold / "checkpoint_final.pth").unlink()
    assert weights.find(need) == nowhere / "M730_2_Layers.pt"


def test_a_perceptual_loss_takes_no_export_for_the_trained_network(nowhere):
    (nowhere / "M291.pt").touch()
    with pytest.raises(InputError, match="M291"):
        weights.locate_totalsegmentator("291", "", wanted_by="the loss", otherwise="take mind")


@pytest.mark.parametrize("variable", ["SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"])
def test_every_place_is_looked_at(nowhere, variable, monkeypatch):
    place = nowhere.parent / variable
    if variable == "TOTALSEG_HOME_DIR":
        monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH")
        place = place / "nnunet" / "results"
    fold = trained(place, "Dataset291_TotalSegmentator_part1_organs_1559subj")
    assert weights.locate_totalsegmentator("291", "", wanted_by="", otherwise="") == fold
    assert weights.locate_totalsegmentator("291", str(fold), wanted_by="", otherwise="") == fold


def test_the_places_are_those_of_the_packages_themselves(nowhere, monkeypatch):
    from totalsegmentator.config import get_weights_dir

    assert weights.totalsegmentator_directory() == get_weights_dir()
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH")
    assert weights.totalsegmentator_directory() == get_weights_dir()
    monkeypatch.delenv("TOTALSEG_HOME_DIR")
    assert weights.totalsegmentator_directory() == get_weights_dir()
    monkeypatch.delenv("SYNTHCT_WEIGHTS")
    for home in (None, "/elsewhere"):
        monkeypatch.setenv("TORCH_HOME", home) if home else monkeypatch.delenv("TORCH_HOME", raising=False)
        assert str(weights.directory()) == f"{torch.hub.get_dir()}/checkpoints"


def test_everything_absent_is_one_line_with_the_command(nowhere):
    needs = weights.of_models(
        [{"extractor": "MIND R1D2", "layers": "1"}, {"extractor": "TS730", "layers": "01"}], "", "A"
    )
    with pytest.raises(InputError) as stop:
        weights.require([*needs, *weights.of_training(resolve("paper", "mr")["training"])])
    said = str(stop.value)
    for part in ("M730 (Dataset730_", "for A", "vgg19-dcbb9e9d.pth", "sam_vit_b", "M291"):
        assert part in said
    fetched = f"bin/weights.py fetch M730 vgg19-dcbb9e9d.pth sam_vit_b_01ec64.pth M291 --weights {nowhere}"
    assert fetched in said and "\n" not in said


def test_a_file_of_ones_own_cannot_be_fetched(tmp_path):
    need = weights.of_extractor(str(tmp_path / "mine.pt"))
    with pytest.raises(InputError, match=r"mine\.pt.*looked in .*mine.pt cannot be fetched"):
        weights.require([need])
    (tmp_path / "mine.pt").touch()
    assert weights.require([need]) == [tmp_path / "mine.pt"]
