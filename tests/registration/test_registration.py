"""Registration finds a known deformation, never folds, says what it means, and refuses what it cannot do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import registration_phantom as phantom
import SimpleITK as sitk
import torch
from conftest import bad_input
from registration_phantom import GRID

from synthct.core.errors import InputError, PairError
from synthct.images.grid import Grid, Volume, to_sitk
from synthct.images.volume import write_volume
from synthct.registration import pairwise, quality
from synthct.registration.dense import sampled
from synthct.registration.dense.bspline import ControlGrid, Lattice, Smoothness
from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.pyramid import extents, positions
from synthct.registration.dense.similarity import DISTANCES, Distance
from synthct.registration.transform import displacements, tabulated, warp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def case():
    return phantom.pair()


@pytest.fixture(scope="module")
def found(case):
    return phantom.registered(case)


def likeness(fixed, moved, inside):
    (found,) = quality.likenesses(fixed, [moved], inside)
    return found.numbers


def test_a_tabulated_transform_warps_to_the_same_bits(case, found):
    fixed, moving, _, _ = case
    table = tabulated(found.transform, fixed.grid)
    for order in (0, 3):
        direct, looked_up = (warp(moving, t, fixed.grid, outside=-1024, order=order) for t in (found.transform, table))
        assert (direct.array == looked_up.array).all() and np.ptp(direct.array) > 1000


def test_dense_mind_recovers_a_known_deformation_below_a_voxel(case, found):
    _, _, mask, truth = case
    before = phantom.error(sitk.Transform(), truth, mask)
    after = phantom.error(found.transform, truth, mask)
    assert before > 2.0
    assert after < 1.0 and after < 0.35 * before


def test_nothing_folds_and_the_record_says_so(found):
    assert found.quality["folding_fraction"] == 0
    assert quality.jacobian(found.displacement).min() > 0
    assert found.quality["mutual_information_after"] > found.quality["mutual_information_before"]
    assert found.quality["mind_distance_after"] < found.quality["mind_distance_before"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("voxel_mm=[6.0, 4.0, 3.0, 2.0]", "expected 4 numbers"),
        ("voxel_mm=[6.0, 4.0]", "expected 2 numbers"),
        ("iterations=[20, 0, 10]", "expected 1 or more"),
        ("magnitude=[0.001, 0.0]", "magnitude .*expected 3 numbers, one a level"),
        ("bending=300", "bending: '300' is not of the type of its default"),
        ("grid_schedule=[4, 2, 2]", "expected 1 at its end"),
    ],
)
def test_settings_by_level_must_fit_one_another(case, told, expected):
    fixed, moving, mask, _ = case
    with pytest.raises(InputError, match=expected):
        section = phantom.section("cbct", f"registration.dense.{told}")
        pairwise.register(fixed, moving, mask, section, method="mind", modality="cbct")


def test_displacement_maps_fixed_points_to_moving_points(case, found):
    """SimpleITK's own reading of the field warps the moving image to what was written."""
    _, moving, mask, _ = case
    field = sitk.Cast(to_sitk(found.displacement), sitk.sitkVectorFloat64)
    warped = sitk.Resample(
        sitk.Cast(to_sitk(moving), sitk.sitkFloat32),
        to_sitk(found.image),
        sitk.DisplacementFieldTransform(field),
        sitk.sitkBSpline,
        -1024.0,
    )
    values = np.clip(sitk.GetArrayFromImage(warped), moving.array.min(), moving.array.max())  # splines overshoot
    assert np.percentile(np.abs(values - found.image.array)[mask.array > 0], 99) < 2


def test_mr_contrast_is_aligned_by_mutual_information(case):
    fixed, moving, mask, truth = case
    mr = fixed.with_array(np.where(fixed.array < -500, 0, 900 - 0.5 * fixed.array).astype(np.int16))
    result = pairwise.register(mr, moving, mask, phantom.section("mr"), method="mi", modality="mr")
    assert result.quality["moving_is"] == "ct"
    assert phantom.error(result.transform, truth, mask) < 0.6 * phantom.error(sitk.Transform(), truth, mask)


def test_none_leaves_the_image_where_it_is(case):
    _, moving, mask, _ = case
    result = pairwise.register(moving, moving, mask, phantom.section("cbct"), method="none", modality="cbct")
    assert np.array_equal(result.image.array, moving.array)
    assert not result.displacement.array.any()


def test_deformation_is_what_a_rigid_move_leaves_of_the_displacement(case):
    """Turned by 20 degrees and moved by 50 mm: nothing; half of the body bent by 8 mm on top of it: some of that."""
    fixed, _, mask, _ = case
    inside = mask.array > 0
    index = np.stack(np.meshgrid(*map(np.arange, fixed.array.shape), indexing="ij"), -1)[..., ::-1]
    points = index @ fixed.grid.matrix.T + np.array(fixed.grid.origin)
    move = sitk.Euler3DTransform(points.reshape(-1, 3).mean(0).tolist(), 0.2, -0.1, 0.35, (30.0, -20.0, 35.0))
    turn = np.reshape(move.GetMatrix(), (3, 3))
    field = (points - move.GetCenter()) @ turn.T + move.GetCenter() + move.GetTranslation() - points
    assert np.linalg.norm(field, axis=-1)[inside].min() > 20
    assert quality.deformation(Volume(field.astype(np.float32), fixed.grid), inside).max() < 1e-3
    half = np.median(points[inside][:, 2])
    bent = field + np.where(points[..., 2:] > half, (8.0, 0, 0), 0.0)
    left = quality.deformation(Volume(bent.astype(np.float32), fixed.grid), inside)
    assert 1 < left.mean() < 4.5  # a move and a turn take half of it and more


def test_the_worst_region_is_recorded_beside_the_mean(case):
    """A body whose one corner is another's: the mean hardly feels it, the worst cube does."""
    fixed, _, mask, _ = case
    inside = mask.array > 0
    spoilt = fixed.array.copy()
    z, y, x = (n // 2 for n in spoilt.shape)
    spoilt[:z, :y, :x] = spoilt[:z, :y, :x][::-1, ::-1, ::-1]
    found = likeness(fixed, fixed.with_array(spoilt), inside)
    assert likeness(fixed, fixed, inside)["mind_distance_worst"] == 0
    assert found["mind_distance_worst"] > 2 * found["mind_distance"]
    assert quality.bone_overlap(fixed, fixed, inside) in (1, None)


@pytest.mark.parametrize("spoilt", ["metal", "unit"])
def test_mutual_information_is_that_of_the_body_whatever_the_unit_and_a_piece_of_metal(case, spoilt):
    fixed, moving, mask, _ = case
    plain = likeness(fixed, moving, mask.array)["mutual_information"]
    array = moving.array.astype(np.float32)
    if spoilt == "metal":
        array[15, 20:22, 20:22] = 30000
    else:
        array = array * np.float32(1e-9)
    odd = likeness(fixed, moving.with_array(array), mask.array)["mutual_information"]
    assert odd > 0.6 * plain if spoilt == "metal" else odd == pytest.approx(plain, rel=1e-3)


def test_where_the_moving_image_ends_is_no_difference_between_the_images(case):
    """A scan of half the length, in its place: what is judged lies away from the cut, and is as like as the whole."""
    fixed, moving, mask, truth = case
    half = slice(0, GRID.shape[0] // 2)
    short = Volume(moving.array[half], Grid((*GRID.size[:2], half.stop), GRID.spacing, GRID.origin))
    found = {}
    for name, image in (("whole", moving), ("short", short)):
        made = pairwise.register(
            fixed, image, mask, phantom.section("cbct"), method="none", modality="cbct", moving_is="ct"
        )
        found[name] = made.quality
    assert found["short"]["mask_voxels"] < 0.6 * found["whole"]["mask_voxels"]
    inside = mask.array.copy()
    inside[half.stop - 4 :] = 0  # of the whole what the short one is judged by: 12 mm from its end
    (same,) = quality.likenesses(fixed, [pairwise.warp(moving, sitk.Transform(), GRID, outside=-1024)], inside)
    for key in ("mind_distance", "mind_distance_worst"):
        assert found["short"][f"{key}_after"] == pytest.approx(same.numbers[key], rel=0.03)
    (cut,) = quality.likenesses(
        fixed,
        [pairwise.warp(short, sitk.Transform(), GRID, outside=-1024)],
        mask.array * (np.arange(30) < 15)[:, None, None],
    )
    assert cut.numbers["mind_distance"] > 1.1 * found["short"]["mind_distance_after"]  # as it was


def test_a_pair_that_would_match_better_elsewhere_is_told_from_a_noisy_one(case):
    """Noise raises the MIND distance of a pair in place as a misalignment does; over what it is elsewhere it tells."""
    fixed, _, mask, _ = case
    inside = mask.array > 0
    noise = np.random.default_rng(7).normal(0, 600, fixed.array.shape)
    noisy = likeness(fixed, fixed.with_array((fixed.array + noise).astype(np.int16)), inside)
    away = likeness(fixed, fixed.with_array(np.roll(fixed.array, 3, 0)), inside)
    assert noisy["mind_distance"] > 0.5 * away["mind_distance"]
    assert noisy["mind_distance_moved"] < 1 < away["mind_distance_moved"]
    assert likeness(fixed, fixed, inside)["mind_distance_moved"] == 0
    one = Grid((3, 3, 2), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))  # nowhere to go: nothing said
    small = Volume(np.arange(18, dtype=np.int16).reshape(2, 3, 3), one)
    assert likeness(small, small, np.ones((2, 3, 3), bool))["mind_distance_moved"] is None


def test_the_sampled_engine_runs_static_and_jacobian(case, tmp_path):
    """A TorchScript extractor with IMPACT's signature, both modes, every distance: the distance falls."""
    fixed, moving, mask, truth = case

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv3d(1, 8, 3, padding=1)

        def forward(self, x, layers: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
            return [torch.tanh(self.conv((x - stats[2]) / stats[3]))]

    path = tmp_path / "net.pt"
    torch.jit.script(Net()).save(str(path))
    before = phantom.error(sitk.Transform(), truth, mask)
    for mode, distance in (("static", "L1"), ("static", "NCC"), ("jacobian", "L2")):
        section = phantom.section(
            "cbct",
            f"registration.arms.impact.settings.mode={mode}",
            f"registration.sampled.interpolation={'linear' if mode == 'jacobian' else 'cubic'}",
            f"registration.arms.impact.settings.mutual.weight={float(distance == 'L1')}",
            f"registration.arms.impact.settings.models.mind.weight={float(distance == 'NCC')}",
            f"registration.arms.impact.settings.models.network.distance={distance}",
            "registration.arms.impact.settings.models.network.layers=1",
            "registration.sampled.models.network.patch=5",
            "registration.sampled.iterations=[60, 40, 20]",
            "registration.sampled.samples=500",
            "registration.rigid.enabled=false",
        )
        section["sampled"]["models"]["network"]["extractor"] = str(path)
        result = pairwise.register(fixed, moving, mask, section, method="impact", modality="cbct", moving_is="ct")
        assert phantom.error(result.transform, truth, mask) < 0.9 * before, (mode, distance)


def test_the_sampled_engine_has_its_own_prior_and_no_narrow_range(case, monkeypatch):
    fixed, moving, mask, _ = case
    fixed = fixed.with_array(np.where(fixed.array < -500, 0, 900 - 0.5 * fixed.array).astype(np.int16))
    section = phantom.section(
        "mr",
        "registration.arms.impact.settings.models.network.weight=0",
        "registration.sampled.bending=7",
        "registration.sampled.iterations=[1, 1, 1]",
        "registration.sampled.samples=100",
        "registration.rigid.enabled=false",
    )
    seen, ranges = set(), set()

    def noted(self, coefficients, weights):
        seen.add(weights)
        return 0 * coefficients.sum()

    def built(settings, level, sides, extract):
        ranges.update(float(side.array.max()) for side in sides)
        return terms(settings, level, sides, extract)

    terms = sampled.build
    monkeypatch.setattr(Smoothness, "__call__", noted)
    monkeypatch.setattr(sampled, "build", built)
    pairwise.register(fixed, moving, mask, section, method="impact", modality="mr", moving_is="ct")
    assert seen == {(0.0, 0.0, 7.0)}
    assert ranges == {float(fixed.array.max()), float(moving.array.max())}


def test_each_level_has_its_own_prior(case):
    """Held where it is on all levels nothing moves; let go on the last one it goes there as far as that one leads."""
    fixed, moving, mask, truth = case
    apart = {}
    for held in ([1e4, 1e4, 1e4], [1e4, 1e4, 0.0], [0.0, 0.0, 0.0]):
        section = phantom.section("cbct", f"registration.dense.magnitude={held}", "registration.rigid.enabled=false")
        made = pairwise.register(fixed, moving, mask, section, method="mind", modality="cbct", moving_is="ct")
        apart[tuple(held)] = phantom.error(made.transform, truth, mask)
    still, last, free = apart.values()
    assert still > 0.99 * phantom.error(sitk.Transform(), truth, mask)
    assert free < 0.7 * last < 0.7 * 0.95 * still


def test_same_seed_same_bits(case):
    fixed, moving, mask, _ = case
    first, second = (
        pairwise.register(
            fixed, moving, mask, phantom.section("mr"), method="mind", modality="cbct", moving_is="ct"
        ).displacement.array
        for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_spline_equals_simpleitk_at_any_direction():
    turned = Grid(
        (20, 22, 18),
        (2.0, 1.5, 3.0),
        (5.0, -8.0, 30.0),
        tuple(sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.3).GetMatrix()),
    )
    control = ControlGrid.covering(turned, 12.0)
    coefficients = torch.tensor(np.random.default_rng(0).normal(size=(3, *control.size)))
    lattice = Lattice(control, positions(turned, 0.0), coefficients)
    ours = lattice.displacement(coefficients).permute(1, 2, 3, 0).numpy()
    theirs = displacements(tabulated(control.to_sitk(coefficients, turned), turned), turned).array
    assert np.abs(ours - theirs).max() < 1e-4
    ours = lattice.jacobian(coefficients, torch.tensor(turned.direction).double().view(3, 3)).numpy()
    assert np.abs(ours - quality.jacobian(Volume(theirs, turned)))[2:-2, 2:-2, 2:-2].max() < 0.1


def test_refining_the_grid_keeps_the_deformation_and_affine_bends_nothing():
    coarse, fine = ControlGrid.covering(GRID, 20.0), ControlGrid.covering(GRID, 10.0)
    coefficients = torch.tensor(np.random.default_rng(1).normal(size=(3, *coarse.size)))
    refined = coarse.refined(coefficients, fine, extents(GRID))
    at = positions(GRID, 0.0)
    change = Lattice(coarse, at, coefficients).displacement(coefficients) - Lattice(fine, at, refined).displacement(
        refined
    )
    assert change.abs().max() < 0.15  # the grids' cells need not share edges
    ramp = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in fine.size], indexing="ij")).double()
    smoothness = Smoothness(fine, extents(GRID), ramp)
    assert abs(float(smoothness(ramp, (0, 0, 1.0)))) < 1e-8 < float(smoothness(ramp, (0, 1.0, 0)))


def test_mind_ignores_gain_and_offset():
    image = torch.tensor(phantom.body(GRID), dtype=torch.float32)
    assert (mind(image) - mind(3 * image + 200)).abs().max() < 1e-3
    assert mind(image).shape == (12, *GRID.shape)


def test_a_joint_histogram_is_the_same_by_sums_and_by_a_product():
    """A GPU takes the product, whose sums have an order."""
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(5000, generator=draw, dtype=torch.float64) * 1.2 - 0.1  # beyond the range too
    moving = (values + 0.1 * torch.randn(5000, generator=draw, dtype=torch.float64)).requires_grad_()
    weights = torch.rand(5000, generator=draw, dtype=torch.float64)
    found = []
    for way in ("_sum", "_product"):
        information = MutualInformation(16, (0, 1), (0, 1))
        information._sum = getattr(information, way)
        loss = information(values, moving, weights)
        found.append((float(loss.detach()), *torch.autograd.grad(loss, moving)))
    assert found[0][0] < -0.5
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-12)


def test_mutual_information_of_independent_and_equal_values():
    values = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    other = torch.rand(20000, generator=torch.Generator().manual_seed(1))
    joint, ones = MutualInformation(16, (0, 1), (0, 1)), torch.ones(20000)
    assert -float(joint(values, values, ones)) > 1.2
    assert -float(joint(values, other, ones)) < 0.02


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_are_least_for_equal_features(name):
    features = torch.rand((6, 500), generator=torch.Generator().manual_seed(0)) + 0.1
    features = features / features.norm(dim=0)
    other = features[:, torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    ones, distance = torch.ones(500), Distance(name)
    apart = float(distance(features, other, ones))
    assert float(distance(features, features, ones)) < apart
    if name in ("L1", "L2"):
        assert apart == pytest.approx(1.0)


def _tool(tmp_path: Path, fixed: Volume, moving: Volume, mask: Volume | None = None, *more: str):
    write_volume(fixed, tmp_path / "fixed.mha")
    write_volume(moving, tmp_path / "moving.mha")
    command = [
        sys.executable,
        ROOT / "bin/register.py",
        "--method",
        "mind",
        "--modality",
        "cbct",
        "--preset",
        "test",
        "--fixed",
        tmp_path / "fixed.mha",
        "--moving",
        tmp_path / "moving.mha",
        "--out-image",
        tmp_path / "o.mha",
        "--out-displacement",
        tmp_path / "d.mha",
        "--qc",
        tmp_path / "qc.json",
        *more,
    ]
    if mask is not None:
        write_volume(mask, tmp_path / "mask.mha")
        command += ["--fixed-mask", tmp_path / "mask.mha"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_a_pair_at_fault_can_be_recorded_but_bad_settings_cannot(tmp_path, case):
    """--record-failure is for the cohort's curation: what is wrong with every pair must still stop the first."""
    fixed, moving, mask, _ = case
    far = Volume(moving.array, Grid(moving.grid.size, moving.grid.spacing, (5000.0, 0.0, 0.0)))
    done = _tool(tmp_path, fixed, far, mask, "--record-failure", "--no-rigid")
    assert done.returncode == 0 and "do not overlap" in done.stderr
    assert "do not overlap" in json.loads((tmp_path / "qc.json").read_text())["failed"]
    assert not (tmp_path / "o.mha").exists()
    (tmp_path / "qc.json").unlink()
    absent = ("--method", "impact", "--set", "registration.sampled.weights=nowhere")
    bad_input(
        _tool(tmp_path, fixed, moving, mask, "--record-failure", *absent),
        "M730 (Dataset730_",
        "bin/weights.py fetch M730",
    )
    assert not (tmp_path / "qc.json").exists()


def _bad(case):
    fixed, moving, mask, _ = case
    small = Grid((8, 8, 8), GRID.spacing, GRID.origin)
    flat = Grid(GRID.size, (1.0, 1.0, 10.0), GRID.origin)
    far = Grid(GRID.size, GRID.spacing, (5000.0, 0.0, 0.0))
    one = np.zeros_like(mask.array)
    one[10, 10, 10] = 1
    nan = moving.array.astype(np.float32)
    nan[5, 5, 5] = np.nan
    return {
        "overlap": (fixed, Volume(moving.array, far), mask),
        "no voxel above 0": (fixed, moving, mask.with_array(np.zeros_like(one))),
        "1 voxels inside": (fixed, moving, mask.with_array(one)),
        "anisotropic": (Volume(fixed.array, flat), Volume(moving.array, flat), Volume(mask.array, flat)),
        "8×8×8": (Volume(fixed.array[:8, :8, :8].copy(), small), moving, Volume(mask.array[9:17, 9:17, 9:17], small)),
        "constant": (fixed, moving.with_array(np.zeros_like(moving.array)), mask),
        "NaN": (fixed, moving.with_array(nan), mask),
    }


@pytest.mark.parametrize(
    "word", ["overlap", "no voxel above 0", "1 voxels inside", "anisotropic", "8×8×8", "constant", "NaN"]
)
def test_bad_input_is_one_line(case, tmp_path, word):
    result = _tool(tmp_path, *_bad(case)[word], "--no-rigid")
    assert result.returncode == 2 and word in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o.mha").exists()


def test_no_rigid_stage_is_advised_where_the_arm_moves_nothing(case):
    fixed, moving, mask, _ = case
    far = Volume(moving.array, Grid(GRID.size, GRID.spacing, (5000.0, 0.0, 0.0)))
    for started in (None, True):
        with pytest.raises(PairError, match="do not overlap.*this arm moves nothing$"):
            pairwise.register(fixed, far, mask, phantom.section("cbct"), method="none", modality="cbct", rigid=started)


def test_absent_weights_are_one_line_that_says_where_they_go(case, tmp_path):
    fixed, moving, mask, _ = case
    result = _tool(
        tmp_path,
        fixed,
        moving,
        mask,
        "--method",
        "impact",
        "--set",
        "registration.sampled.weights=nowhere",
    )
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "Dataset730" in result.stderr and "bin/weights.py fetch M730" in result.stderr and "nowhere" in result.stderr


def test_tool_writes_what_it_says(case, tmp_path):
    fixed, moving, mask, truth = case
    extra = ("--out-mask", "m.mha", "--out-fixed", "f.mha", "--out-transform", "t.h5", "--preview", "p.npz")
    extra = [str(tmp_path / part) if "." in part else part for part in extra]
    result = _tool(tmp_path, fixed, moving, mask, *extra)
    assert result.returncode == 0, result.stderr
    assert phantom.error(sitk.ReadTransform(str(tmp_path / "t.h5")), truth, mask) < phantom.error(
        sitk.Transform(), truth, mask
    )
    record = json.loads((tmp_path / "qc.json").read_text())
    assert (
        record["method"] == record["arm"] == "mind"
        and record["label"] == "dense MIND"
        and record["folding_fraction"] == 0
    )
    with np.load(tmp_path / "p.npz") as pictures:
        assert pictures["fixed"].shape == pictures["after"].shape == pictures["mask"].shape
        assert pictures["fixed"].dtype == np.int16 and max(pictures["fixed"].shape) <= 256
        inside = pictures["mask"] > 0
        before, after = (pictures[f"distance_{when}"][inside].mean() / 1000 for when in ("before", "after"))
        assert after < before < 1 and after == pytest.approx(record["mind_distance_after"], rel=0.3)
