"""Registration finds a known deformation, never folds, says what it means, and refuses what it cannot do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import bad_input
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct import settings  # noqa: E402
from synthct.errors import InputError  # noqa: E402
from synthct.registration import elastix, pairwise, quality, sampled  # noqa: E402
from synthct.registration.bspline import ControlGrid, Lattice, Smoothness  # noqa: E402
from synthct.registration.mind import mind  # noqa: E402
from synthct.registration.mutual import MutualInformation  # noqa: E402
from synthct.registration.preview import write_preview  # noqa: E402
from synthct.registration.pyramid import extents, positions  # noqa: E402
from synthct.registration.similarity import DISTANCES, Distance  # noqa: E402
from synthct.volume import Grid, Volume, from_sitk, to_sitk, write_volume  # noqa: E402

GRID = Grid((44, 40, 30), (2.5, 2.5, 3.0), (-50.0, 12.0, 7.0))


def _phantom(grid: Grid, seed: int = 3) -> np.ndarray:
    """A body with bones and soft texture, HU, air around it."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in grid.shape], indexing="ij")
    texture = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(rng.normal(size=grid.shape)), 2.0))
    body = 40 + 60 * texture / texture.std()
    for cz, cy, cx, r in rng.uniform(-0.6, 0.6, (12, 4)):
        body[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < (0.1 + 0.15 * abs(r)) ** 2] += 500 * np.sign(r)
    return np.where((y**2 + x**2) < 0.8, body, -1000).astype(np.int16)


@pytest.fixture(scope="module")
def case():
    """(fixed, moving, mask, transform fixed -> moving): the moving image and what a known spline makes of it."""
    moving = Volume(_phantom(GRID), GRID)
    control = ControlGrid.covering(GRID, 45.0)
    coefficients = torch.tensor(np.random.default_rng(5).uniform(-14, 14, (3, *control.size)), dtype=torch.float32)
    transform = control.to_sitk(coefficients, GRID)
    fixed = pairwise.warp(moving, transform, GRID, outside=-1024)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[3:-3, 4:-4, 4:-4] = 1
    return fixed, moving, Volume(mask, GRID), transform


def _error(found: sitk.Transform, truth: sitk.Transform, mask: Volume) -> float:
    index = np.argwhere(mask.array > 0)[::37]
    points = (index[:, ::-1] @ GRID.matrix.T + GRID.origin).tolist()
    return float(
        np.mean([np.linalg.norm(np.subtract(found.TransformPoint(p), truth.TransformPoint(p))) for p in points])
    )


FINE = ("registration.impact.voxel_mm=[6.0, 3.0, 2.0]", "registration.impact.iterations=[40, 30, 20]")


def _section(modality: str, *overrides: str) -> dict:
    return settings.resolve("test", modality, overrides)["registration"]


@pytest.fixture(scope="module")
def found(case):
    fixed, moving, mask, _ = case
    section = _section("cbct", *FINE)
    return pairwise.register(fixed, moving, mask, section, method="impact", modality="cbct", moving_is="ct")


def test_impact_recovers_a_known_deformation_below_a_voxel(case, found):
    _, _, mask, truth = case
    before = _error(sitk.Transform(), truth, mask)
    after = _error(found.transform, truth, mask)
    assert before > 2.0
    assert after < 1.0 and after < 0.35 * before


def test_nothing_folds_and_the_record_says_so(found):
    assert found.quality["folding_fraction"] == 0
    assert quality.jacobian(found.displacement).min() > 0
    assert found.quality["mutual_information_after"] > found.quality["mutual_information_before"]
    assert found.quality["mind_distance_after"] < found.quality["mind_distance_before"]


def _oblique(volume: Volume) -> Volume:
    """The same anatomy on a grid turned by 15 to 20 degrees about two axes."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.25, 0.0, 0.35)
    axes = np.array(turn.GetMatrix()).reshape(3, 3)
    size, spacing = (np.array(volume.grid.size) * 1.3).astype(int), np.array(volume.grid.spacing)
    middle = volume.grid.matrix @ (np.array(volume.grid.size) - 1) / 2 + volume.grid.origin
    origin = middle - axes @ (spacing * (size - 1) / 2)
    grid = Grid(tuple(map(int, size)), volume.grid.spacing, tuple(origin), tuple(axes.ravel()))
    return pairwise.warp(volume, sitk.Transform(), grid, outside=-1024)


def _thick(volume: Volume) -> Volume:
    """Every second slice, each the mean of three."""
    smooth = sitk.GetArrayFromImage(sitk.BoxMean(sitk.GetImageFromArray(volume.array.astype(np.float32)), (0, 0, 1)))
    grid = volume.grid
    grid = Grid((*grid.size[:2], (grid.size[2] + 1) // 2), (*grid.spacing[:2], 2 * grid.spacing[2]), grid.origin)
    return Volume(np.rint(smooth[::2]).astype(np.int16), grid)


STORED = {
    "RAS": lambda volume: from_sitk(sitk.DICOMOrient(to_sitk(volume), "RAS")),
    "PIL": lambda volume: from_sitk(sitk.DICOMOrient(to_sitk(volume), "PIL")),
    "oblique": _oblique,
    "thick slices": _thick,
}


@pytest.mark.parametrize(("stored", "worse"), [("RAS", 0.02), ("PIL", 0.02), ("oblique", 0.4), ("thick slices", 0.4)])
def test_impact_finds_the_same_however_the_moving_image_is_stored(case, found, stored, worse):
    """Descriptors look along axes: those of the moving image must be the fixed one's, whatever its file says."""
    fixed, moving, mask, truth = case
    section = _section("cbct", *FINE)
    other = pairwise.register(
        fixed, STORED[stored](moving), mask, section, method="impact", modality="cbct", moving_is="ct"
    )
    assert _error(other.transform, truth, mask) < _error(found.transform, truth, mask) + worse


@pytest.mark.parametrize("method", ["impact", "elastix"])
def test_a_rigid_stage_brings_two_frames_of_reference_together(case, method):
    """Another scanner, another zero: the images' centres are where it starts, and the field holds the way between."""
    fixed, moving, mask, _ = case
    away = np.array([310.0, -95.0, -820.0])
    grid = Grid(GRID.size, GRID.spacing, tuple(np.array(GRID.origin) + away))
    section = _section("cbct", "registration.elastix.erode_mask=false", "registration.elastix.sample_step=[2, 2, 2]")
    result = pairwise.register(
        fixed, Volume(moving.array, grid), mask, section, method=method, modality="cbct", moving_is="ct", rigid=True
    )
    straight = pairwise.register(
        fixed, moving, mask, section, method=method, modality="cbct", moving_is="ct", rigid=True
    )
    there = sitk.CompositeTransform([sitk.TranslationTransform(3, away.tolist()), straight.transform])
    assert _error(result.transform, there, mask) < 2.0
    middle = tuple(n // 2 for n in GRID.shape)
    assert np.abs(result.displacement.array[middle] - away).max() < 15
    assert np.corrcoef(result.image.array[mask.array > 0], fixed.array[mask.array > 0])[0, 1] > 0.8


def test_unsigned_voxels_keep_their_meaning_beyond_the_image(case):
    """A CBCT stored as HU + 1024 has no -1024; outside its field of view it must not wrap around to 64512."""
    _, moving, mask, _ = case
    part = Grid((GRID.size[0] - 12, *GRID.size[1:]), GRID.spacing, GRID.origin)
    stored = Volume((moving.array[:, :, :-12] + 1024).astype(np.uint16), part)
    result = pairwise.register(moving, stored, mask, _section("cbct"), method="none", modality="cbct")
    assert result.image.array[:, :, -6:].max() < 0 and result.image.array.max() <= stored.array.max()


def test_a_mask_made_from_the_ct_ends_where_the_input_ends(case):
    """The CT's body goes on beyond a CBCT's field of view; the pair's mask must not."""
    _, moving, _, _ = case
    z, y, x = np.ogrid[: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    seen = (((y - 20) * 2.5) ** 2 + ((x - 22) * 2.5) ** 2 < 30**2) & (z > 4) & (z < 25)
    cbct = moving.with_array(np.where(seen, moving.array, -1000).astype(np.int16))
    result = pairwise.register(moving, cbct, None, _section("cbct"), method="none", modality="cbct", moving_is="image")
    inside = result.mask.array > 0
    assert inside.sum() > 0.5 * seen.sum()
    beyond = ndimage.distance_transform_edt(~seen, sampling=GRID.spacing[::-1])
    assert beyond[inside].max() < 13  # the mask's rim is 10 mm


def test_a_body_too_small_for_a_threshold_is_registered_in_its_mask(case):
    fixed, moving, mask, truth = case
    small = Grid(GRID.size, (0.5, 0.5, 0.6), GRID.origin)  # a few millilitres
    result = pairwise.register(
        Volume(fixed.array, small), Volume(moving.array, small), Volume(mask.array, small), _section("cbct"),
        method="none", modality="cbct",
    )  # fmt: skip
    assert "body_dice_after" not in result.quality and result.quality["folding_fraction"] == 0


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("voxel_mm=[6.0, 4.0, 3.0, 2.0]", "expected 4 numbers"),
        ("voxel_mm=[6.0, 4.0]", "expected 2 numbers"),
        ("iterations=[20, 0, 10]", "above 0"),
        ("grid_schedule=[4, 2, 2]", "expected 1 at its end"),
    ],
)
def test_settings_by_level_must_fit_one_another(case, told, expected):
    fixed, moving, mask, _ = case
    section = _section("cbct", f"registration.impact.{told}")
    with pytest.raises(InputError, match=expected):
        pairwise.register(fixed, moving, mask, section, method="impact", modality="cbct")


def test_previews_show_the_head_up_whatever_the_files_axes(case, tmp_path):
    """And an MR scaled to 0..1 is as visible as one in thousands."""
    fixed, moving, mask, _ = case
    shapes = []
    for order in ("LPS", "RAI", "PIL"):
        images = [from_sitk(sitk.DICOMOrient(to_sitk(volume), order)) for volume in (fixed, moving, mask)]
        write_preview(tmp_path / "p.npz", images[0], images[1], images[1], images[2].array)
        with np.load(tmp_path / "p.npz") as pictures:
            shapes.append({name: pictures[name] for name in pictures.files})
    for other in shapes[1:]:
        for name, picture in shapes[0].items():
            assert np.abs(picture.astype(float) - other[name]).mean() < 0.02 * np.ptp(picture) + 1e-9, name
    faint = fixed.with_array((fixed.array + 1024) / np.float32(4000))
    write_preview(tmp_path / "p.npz", faint, moving, moving, mask.array)
    with np.load(tmp_path / "p.npz") as pictures:
        assert len(np.unique(pictures["fixed"])) > 100


def test_cubes_turned_about_their_diagonal_lie_on_two_grids():
    cube = Grid((50, 50, 50), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    turned = Grid(cube.size, cube.spacing, cube.origin, (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0))
    assert "direction" in cube.differs_from(turned) and not cube.differs_from(cube)


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
    result = pairwise.register(mr, moving, mask, _section("mr"), method="impact", modality="mr")
    assert result.quality["moving_is"] == "ct"
    assert _error(result.transform, truth, mask) < 0.6 * _error(sitk.Transform(), truth, mask)


def test_elastix_beats_doing_nothing(case):
    fixed, moving, mask, truth = case
    section = _section(
        "cbct",
        "registration.elastix.erode_mask=false",  # the phantom is too small to erode
        "registration.elastix.sample_step=[2, 2, 2]",
    )
    result = pairwise.register(fixed, moving, mask, section, method="elastix", modality="cbct")
    assert _error(result.transform, truth, mask) < 0.9 * _error(sitk.Transform(), truth, mask)


def test_elastix_finds_a_rigid_start_where_air_and_body_cancel(case):
    """Its start is a centre of gravity, and the HU of a closely cropped CT add up to nothing."""
    _, moving, _, _ = case
    crop = moving.array[:, 8:-8, 6:-6].astype(np.float32)
    crop += -crop.mean() * (crop > -900) / (crop > -900).mean()  # body just heavy enough to balance the air
    crop[:, :, 0] -= 3.0  # all but balanced: the centre of gravity of these HU lies outside the image
    still = Grid(crop.shape[::-1], GRID.spacing, (0.0, 0.0, 0.0))
    fixed = Volume(np.where(crop > -900, 400 - crop / 2, 0).astype(np.int16), still)
    away = Grid(crop.shape[::-1], GRID.spacing, (6.0, -5.0, 3.0))
    mask = fixed.with_array(np.ones(crop.shape, np.uint8))
    fewer = (
        "registration.elastix.iterations=[50, 30, 20]",
        "registration.elastix.rigid.iterations=[200, 200, 100, 100]",
    )
    section = _section("mr", "registration.elastix.sample_step=[2, 2, 2]", *fewer)
    found = pairwise.register(
        fixed, Volume(crop, away), mask, section, method="elastix", modality="mr", moving_is="ct", rigid=True
    )
    inside = mask.with_array((crop > -900).astype(np.uint8))
    points = (np.argwhere(inside.array > 0)[::53][:, ::-1] @ fixed.grid.matrix.T).tolist()
    off = [np.linalg.norm(np.subtract(found.transform.TransformPoint(p), np.add(p, (6.0, -5.0, 3.0)))) for p in points]
    assert np.mean(off) < 2.5


def test_a_small_image_gets_enough_samples_for_a_rigid_start_and_a_large_one_the_organisers_numbers():
    rules = _section("mr")["elastix"]["rigid"]
    large = elastix.rigid_map(rules, 1, (512, 400, 80))
    assert large["ImagePyramidSchedule"] == [str(f) for f in (8, 4, 2, 1) for _ in range(3)]
    assert large["SampleGridSpacing"] == [str(s) for s in (4, 4, 4, 2) for _ in range(3)]
    small = elastix.rigid_map(rules, 1, (75, 55, 25))
    factors, steps = ([int(v) for v in small[key][::3]] for key in ("ImagePyramidSchedule", "SampleGridSpacing"))
    for factor, step in zip(factors, steps, strict=True):
        assert np.prod([n // (factor * step) for n in (75, 55, 25)]) >= 200


def test_none_leaves_the_image_where_it_is(case):
    _, moving, mask, _ = case
    result = pairwise.register(moving, moving, mask, _section("cbct"), method="none", modality="cbct")
    assert np.array_equal(result.image.array, moving.array)
    assert not result.displacement.array.any()


def test_a_rigid_start_finds_a_large_shift(case):
    fixed, moving, mask, truth = case
    away = Grid(moving.grid.size, moving.grid.spacing, tuple(np.array(moving.grid.origin) + (16.0, -9.0, 6.0)))
    section = _section("cbct")
    result = pairwise.register(
        fixed, Volume(moving.array, away), mask, section, method="impact", modality="cbct", moving_is="ct", rigid=True
    )
    shifted = sitk.CompositeTransform([sitk.TranslationTransform(3, (16.0, -9.0, 6.0)), truth])
    assert _error(result.transform, shifted, mask) < 2.5


def test_published_recipe_runs_static_and_jacobian(case, tmp_path):
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
    before = _error(sitk.Transform(), truth, mask)
    for mode, distance in (("static", "L1"), ("static", "NCC"), ("jacobian", "L2")):
        section = _section(
            "cbct",
            "registration.impact.recipe=published",
            f"registration.impact.published.mode={mode}",
            f"registration.impact.published.interpolation={'linear' if mode == 'jacobian' else 'cubic'}",
            f"registration.impact.published.mutual.weight={float(distance == 'L1')}",
            f"registration.impact.published.models.mind.weight={float(distance == 'NCC')}",
            f"registration.impact.published.models.network.distance={distance}",
            "registration.impact.published.models.network.layers=1",
            "registration.impact.published.models.network.patch=5",
            "registration.impact.published.iterations=[60, 40, 20]",
            "registration.impact.published.samples=500",
            "registration.impact.rigid.enabled=false",
        )
        section["impact"]["published"]["models"]["network"]["extractor"] = str(path)
        result = pairwise.register(fixed, moving, mask, section, method="impact", modality="cbct", moving_is="ct")
        assert _error(result.transform, truth, mask) < 0.9 * before, (mode, distance)


def test_the_published_recipe_has_its_own_prior_and_no_narrow_range(case, monkeypatch):
    fixed, moving, mask, _ = case
    section = _section(
        "mr",
        "registration.impact.recipe=published",
        "registration.impact.published.models.network.weight=0",
        "registration.impact.published.bending=7",
        "registration.impact.published.iterations=[1, 1, 1]",
        "registration.impact.published.samples=100",
        "registration.impact.rigid.enabled=false",
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


def test_same_seed_same_bits(case):
    fixed, moving, mask, _ = case
    first, second = (
        pairwise.register(
            fixed, moving, mask, _section("mr"), method="impact", modality="cbct", moving_is="ct"
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
    theirs = pairwise.displacement_field(control.to_sitk(coefficients, turned), turned).array
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
    image = torch.tensor(_phantom(GRID), dtype=torch.float32)
    assert (mind(image) - mind(3 * image + 200)).abs().max() < 1e-3
    assert mind(image).shape == (12, *GRID.shape)


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
        "impact",
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
    absent = ("--set", "registration.impact.recipe=published", "--set", "registration.impact.published.weights=nowhere")
    bad_input(_tool(tmp_path, fixed, moving, mask, "--record-failure", *absent), "totalseg_download_weights")
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


def test_absent_weights_are_one_line_that_says_where_they_go(case, tmp_path):
    fixed, moving, mask, _ = case
    result = _tool(
        tmp_path,
        fixed,
        moving,
        mask,
        "--set",
        "registration.impact.recipe=published",
        "--set",
        "registration.impact.published.weights=nowhere",
    )
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "Dataset730" in result.stderr and "totalseg_download_weights" in result.stderr


def test_tool_writes_what_it_says(case, tmp_path):
    fixed, moving, mask, truth = case
    extra = ("--out-mask", "m.mha", "--out-fixed", "f.mha", "--out-transform", "t.h5", "--preview", "p.npz")
    extra = [str(tmp_path / part) if "." in part else part for part in extra]
    result = _tool(tmp_path, fixed, moving, mask, *extra)
    assert result.returncode == 0, result.stderr
    assert _error(sitk.ReadTransform(str(tmp_path / "t.h5")), truth, mask) < _error(sitk.Transform(), truth, mask)
    record = json.loads((tmp_path / "qc.json").read_text())
    assert record["method"] == "impact" and record["folding_fraction"] == 0
    with np.load(tmp_path / "p.npz") as pictures:
        assert pictures["fixed"].shape == pictures["after"].shape == pictures["mask"].shape
        assert pictures["fixed"].dtype == np.int16 and max(pictures["fixed"].shape) <= 256
