"""The sampled metric against reference numbers from PyPI itk-impact 0.1.6, and what it adds to them.

``data/impact_parity/itk_impact.json`` was written by benchmarks/impact_parity.py --write.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from parity_cases import OFFSET, TURNED, Case, Scene, crop, phantom, settings_of, write_scripts  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.core.errors import InputError  # noqa: E402
from synthct.registration.dense import extractors, sampled  # noqa: E402
from synthct.registration.dense.interpolation import Interpolated, resampled  # noqa: E402
from synthct.registration.recipes import models_of, recipe  # noqa: E402

STORED = ROOT / "tests/data/impact_parity"
RESULTS = json.loads((STORED / "itk_impact.json").read_text(encoding="utf-8"))["results"]
REAL = json.loads((STORED / "m730.json").read_text(encoding="utf-8"))["results"]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    return write_scripts(tmp_path_factory.mktemp("scripts"))


def _case(result: dict) -> Case:
    return Case(**result["case"] | {"direction": tuple(result["case"]["direction"])})


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: _case(result).name)
def test_value_and_derivative_are_those_of_itk_impact(result, scripts):
    case = _case(result)
    ours = Scene(*phantom(case.direction)).ours(case, scripts)
    assert ours["value"] + OFFSET.get(case.distance, 0) * sum(case.layer_weights) == pytest.approx(
        result["value"], rel=2e-5
    )
    difference = np.subtract(ours["derivative"], result["derivative"])
    # a linear image's slope jumps at the voxels' faces, where itk-impact takes the mean over 0.002 mm
    tolerance = 3e-4 if case.interpolation == "linear" else 1e-5
    assert np.linalg.norm(difference) < tolerance * np.linalg.norm(result["derivative"])


@pytest.mark.parametrize("result", REAL, ids=lambda result: _case(result).name)
def test_the_papers_network_on_a_real_ct_gives_the_numbers_of_itk_impact(result, shared):
    """M730's first two blocks on a simulated CBCT and its CT: value and derivative by itk-impact 0.1.6, same file."""
    network, directory = shared / "weights/M730_2_Layers.pt", shared / "cases/registration/cbct/SIM_HN_034"
    if not (network.is_file() and directory.is_dir()):
        pytest.skip(f"not among the shared inputs: {network.name} or {directory.name}")
    case = _case(result)
    ours = Scene(*crop(directory, (48, 48, 32), standard=True)).ours(case, {"m730": network})
    assert ours["value"] == pytest.approx(result["value"], rel=2e-6)
    difference = np.subtract(ours["derivative"], result["derivative"])
    assert np.linalg.norm(difference) < 5e-4 * np.linalg.norm(result["derivative"])


@pytest.mark.parametrize("arguments", [1, 2, 4])
def test_exports_of_every_age_load_and_the_oldest_get_standard_scores(tmp_path, arguments):
    """Before 2026 an export took the image alone and left it to the metric to normalise."""

    class Old(torch.nn.Module):
        def forward(self, x) -> list[torch.Tensor]:
            return [x, 2 * x, 3 * x]

    class Middle(torch.nn.Module):
        def forward(self, x, layers: torch.Tensor) -> list[torch.Tensor]:
            return [x, 2 * x, 3 * x][: int(layers)]

    class New(torch.nn.Module):
        def forward(self, x, layers: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
            return [x - stats[2], 2 * x, 3 * x][: int(layers)]

    torch.jit.script({1: Old, 2: Middle, 4: New}[arguments]()).save(str(tmp_path / "M730.pt"))
    model = {"extractor": "TS730", "layers": "0100000", "channels": 1}
    found = extractors.extractor(model, str(tmp_path))(
        torch.full((1, 1, 4, 4, 4), 300.0), torch.tensor([-900.0, 900.0, 100.0, 50.0]), torch.eye(3)
    )
    assert len(found) == 1 and float(found[0].mean()) == pytest.approx(8.0 if arguments == 1 else 600.0, rel=1e-5)


def test_an_export_of_two_layers_serves_no_more_than_two(shared):
    place = str(shared / "weights")
    kept = {"layers": "01", "channels": 1}
    maps = extractors.extractor({"extractor": "TS730", **kept}, place)(
        torch.randn(2, 1, 11, 11, 11), torch.tensor([-3.0, 3.0, 0.0, 1.0]), torch.eye(3)
    )
    assert [tuple(m.shape) for m in maps] == [(2, 64, 6, 6, 6)]
    with pytest.raises(InputError, match=r"M730 \(Dataset730.*weights\.py fetch M730"):
        extractors.extractor({"extractor": "TS730", "layers": "0000001", "channels": 1}, place)


def test_mapped_patches_go_through_the_whole_transform():
    """Every voxel of a patch lies where SimpleITK's spline puts it; a turned image turns its patches too."""
    scene = Scene(*phantom(TURNED))
    line = np.array([-4.0, 0.0, 4.0])
    part, point_map = scene.part()
    part.displacement(scene.coefficients)
    found = part.around(line)
    transform = scene.control.to_sitk(scene.coefficients, scene.fixed.grid)
    axes = np.array(scene.fixed.grid.direction).reshape(3, 3)
    for row, voxel, offset in ((0, 0, (-4, -4, -4)), (7, 1, (0, -4, -4)), (31, 26, (4, 4, 4)), (50, 15, (-4, 4, 0))):
        point = scene.world()[row] + axes @ offset
        wanted = point_map.unit(torch.tensor([transform.TransformPoint(point.tolist())], dtype=torch.float32))
        assert (found[row, voxel] - wanted[0]).abs().max() < 1e-5


def test_mapped_and_moved_patches_agree_for_a_shift_and_only_there(scripts):
    scene = Scene(*phantom())
    mapped, moved = (replace(Case("jacobian", "L2"), patches=name) for name in ("mapped", "moved"))
    a, b = scene.ours(mapped, scripts), scene.ours(moved, scripts)
    assert a["value"] != pytest.approx(b["value"], rel=1e-3)
    scene.coefficients = torch.tensor([1.5, -1.0, 0.7])[:, None, None, None].expand_as(scene.coefficients).clone()
    a, b = scene.ours(mapped, scripts), scene.ours(moved, scripts)
    assert a["value"] == pytest.approx(b["value"], rel=1e-4)
    assert np.allclose(a["derivative"], b["derivative"], atol=1e-4 * np.abs(b["derivative"]).max())


def test_the_metric_is_the_weighted_sum_of_its_parts(scripts):
    scene = Scene(*phantom())
    both = settings_of(Case("static", "Cosine"), scripts)
    mind = settings_of(Case("static", "L2", "mind"), scripts)["models"]["only"]
    both["models"] = {
        "a": both["models"]["only"] | {"weight": 0.25},
        "b": mind | {"weight": 0.75},
        "c": {"weight": 0.0},
    }
    both["mutual"] = {"weight": 2.0, "bins": 16}
    terms = sampled.build(both, 0, scene.sides(), extractors.extractors(both, "cpu"))
    assert [term.weight for term in terms] == [0.25, 0.75, 2.0]
    part, point_map = scene.part()
    coordinates = point_map.moved(part.base, part.displacement(scene.coefficients))
    values = [float(term(part, coordinates, part.weight)) for term in terms]
    assert values[0] == pytest.approx(scene.ours(Case("static", "Cosine"), scripts)["value"], rel=1e-6)
    assert values[1] == 1.0 and -2.0 < values[2] < -0.2
    still = part.fixed  # the moving image at the fixed image's own relative places: less in common
    assert float(terms[2](part, still, part.weight)) > values[2]


def test_cubic_values_are_itks():
    image = np.random.default_rng(0).normal(size=(9, 11, 13)).astype(np.float32)
    index = np.random.default_rng(1).uniform(-0.4, [12.4, 10.4, 8.4], (100, 3))
    for kind, theirs in (("cubic", sitk.sitkBSpline3), ("linear", sitk.sitkLinear)):
        wanted = [sitk.GetImageFromArray(image).EvaluateAtContinuousIndex(i, theirs) for i in index.tolist()]
        look_up = Interpolated(torch.tensor(image)[None], kind)
        assert np.allclose(look_up(torch.tensor(index, dtype=torch.float32))[0], wanted, atol=1e-5)
        grid = resampled(torch.tensor(image), (6, 11, 26), kind)
        assert float(grid[3, 2, 5]) == pytest.approx(float(look_up(torch.tensor([[2.5, 2.0, 4.5]]))), abs=1e-5)
    double = Interpolated(torch.tensor(image, dtype=torch.float64)[None].repeat(2, 1, 1, 1), "cubic")
    assert torch.autograd.gradcheck(double, (torch.tensor(index[:6]).requires_grad_(),))


def test_presets_hold_the_released_and_the_papers_sums():
    def parts(preset, modality, region):
        found = recipe(presets.resolve(preset, modality)["registration"], "impact", region)
        named = {m["extractor"]: (m["weight"], m["layers"]) for m in models_of(found.settings).values()}
        return found.settings["mode"], named, found.settings["mutual"]["weight"], found.settings["grid_mm"]

    mind = {"MIND R1D2": (0.75, "1")}
    assert parts("paper", "mr", "AB") == ("static", {"TS730": (0.25, "0000001")} | mind, 0.0, 10.0)
    assert parts("paper", "cbct", "HN") == ("jacobian", {"TS730": (1.0, "01")}, 0.0, 10.0)
    assert parts("released", "mr", "TH") == ("static", {"TS850": (0.25, "0000001")} | mind, 0.5, 12.0)
    assert parts("released", "mr", "HN") == ("static", {"MIND R1D2": (1.0, "1")}, 0.5, 12.0)
    assert parts("released", "cbct", "AB") == ("jacobian", {"TS730": (1.0, "01")}, 0.5, 12.0)


def test_a_network_of_totalsegmentators_kind_takes_any_size_and_stops_at_its_layer(monkeypatch):
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    blocks = {"conv_bias": True, "norm_op": torch.nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}}
    blocks |= {"nonlin": torch.nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
    sizes = ([4, 6, 8, 8], torch.nn.Conv3d, 3, [1, 2, 2, 2], 2, 3, 2)
    network = PlainConvUNet(1, 4, *sizes, **blocks).eval()
    monkeypatch.setattr(extractors, "read_network", lambda place: (network, {"mean": 40.0, "std": 200.0}))
    stats, direction = torch.tensor([-900.0, 900.0, 0.0, 250.0]), torch.eye(3)
    image = torch.randn(1, 1, 17, 22, 19) * 300
    both = extractors.TotalSegmentator(Path("unused"), "01001", "291")
    second, last = both(image, stats, direction)
    assert second.shape == (1, 6, 9, 11, 10) and last.shape == (1, 4, 17, 22, 19)
    whole = torch.randn(1, 1, 16, 24, 16)
    flipped = ((whole - 40) / 200).flip([3, 4])  # no padding, so the network's own decoder says what is right
    features = torch.nn.functional.conv3d(
        both(whole, stats, direction)[1].flip([3, 4]), network.decoder.seg_layers[-1].weight
    )
    assert torch.allclose(features + network.decoder.seg_layers[-1].bias.view(-1, 1, 1, 1), network(flipped), atol=1e-4)
    patch = extractors.TotalSegmentator(Path("unused"), "01", "730")  # the deepest stage cannot hold 5 voxels
    assert patch(torch.randn(3, 1, 5, 5, 5), stats, direction)[0].shape == (3, 6, 3, 3, 3)
