"""However an image is stored, wherever it lies and whatever it has seen: the same registration, mask and picture."""

import numpy as np
import pytest
import registration_phantom as phantom
import SimpleITK as sitk
from registration_phantom import GRID
from scipy import ndimage

from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.registration import pairwise
from synthct.registration.preview import write_preview
from synthct.registration.quality import likenesses
from synthct.registration.transform import write_transform


@pytest.fixture(scope="module")
def case():
    return phantom.pair()


@pytest.fixture(scope="module")
def found(case):
    return phantom.registered(case)


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
def test_dense_mind_finds_the_same_however_the_moving_image_is_stored(case, found, stored, worse):
    """Descriptors look along axes: those of the moving image must be the fixed one's, whatever its file says."""
    fixed, moving, mask, truth = case
    section = phantom.section("cbct", *phantom.FINE)
    other = pairwise.register(
        fixed, STORED[stored](moving), mask, section, method="mind", modality="cbct", moving_is="ct"
    )
    assert phantom.error(other.transform, truth, mask) < phantom.error(found.transform, truth, mask) + worse


@pytest.mark.parametrize("method", ["mind", "elastix"])
def test_a_rigid_stage_brings_two_frames_of_reference_together(case, method, tmp_path):
    """Another scanner, another zero: the images' centres are where it starts; field and file hold the way between."""
    fixed, moving, mask, _ = case
    away = np.array([310.0, -95.0, -820.0])
    grid = Grid(GRID.size, GRID.spacing, tuple(np.array(GRID.origin) + away))
    section = phantom.section(
        "cbct", "registration.elastix.erode_mask=false", "registration.elastix.sample_step=[2, 2, 2]"
    )
    result = pairwise.register(
        fixed, Volume(moving.array, grid), mask, section, method=method, modality="cbct", moving_is="ct", rigid=True
    )
    straight = pairwise.register(
        fixed, moving, mask, section, method=method, modality="cbct", moving_is="ct", rigid=True
    )
    there = sitk.CompositeTransform([sitk.TranslationTransform(3, away.tolist()), straight.transform])
    assert phantom.error(result.transform, there, mask) < 2.0
    middle = tuple(n // 2 for n in GRID.shape)
    assert np.abs(result.displacement.array[middle] - away).max() < 15
    assert np.corrcoef(result.image.array[mask.array > 0], fixed.array[mask.array > 0])[0, 1] > 0.8
    write_transform(result.transform, str(tmp_path / "found.h5"))
    assert phantom.error(sitk.ReadTransform(str(tmp_path / "found.h5")), result.transform, mask) < 1e-6


def test_unsigned_voxels_keep_their_meaning_beyond_the_image(case):
    """A CBCT stored as HU + 1024 has no -1024; outside its field of view it must not wrap around to 64512."""
    _, moving, mask, _ = case
    part = Grid((GRID.size[0] - 12, *GRID.size[1:]), GRID.spacing, GRID.origin)
    stored = Volume((moving.array[:, :, :-12] + 1024).astype(np.uint16), part)
    section = phantom.section("cbct")
    result = pairwise.register(moving, stored, mask, section, method="none", modality="cbct", moving_is="image")
    assert result.image.array[:, :, -6:].max() < 0 and result.image.array.max() <= stored.array.max()


def test_a_mask_made_from_the_ct_ends_where_the_input_ends(case):
    """The CT's body goes on beyond a CBCT's field of view; the pair's mask must not."""
    _, moving, _, _ = case
    z, y, x = np.ogrid[: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    seen = (((y - 20) * 2.5) ** 2 + ((x - 22) * 2.5) ** 2 < 30**2) & (z > 4) & (z < 25)
    cbct = moving.with_array(np.where(seen, moving.array, -1000).astype(np.int16))
    result = pairwise.register(
        moving, cbct, None, phantom.section("cbct"), method="none", modality="cbct", moving_is="image"
    )
    inside = result.mask.array > 0
    assert inside.sum() > 0.5 * seen.sum()
    beyond = ndimage.distance_transform_edt(~seen, sampling=GRID.spacing[::-1])
    assert beyond[inside].max() < 13  # the mask's rim is 10 mm


def test_a_body_too_small_for_a_threshold_is_registered_in_its_mask(case):
    fixed, moving, mask, truth = case
    small = Grid(GRID.size, (0.5, 0.5, 0.6), GRID.origin)  # a few millilitres
    result = pairwise.register(
        Volume(fixed.array, small), Volume(moving.array, small), Volume(mask.array, small), phantom.section("cbct"),
        method="none", modality="cbct",
    )  # fmt: skip
    assert "body_dice_after" not in result.quality and result.quality["folding_fraction"] == 0


def drawn(path, fixed, moving, mask):
    (likeness,) = likenesses(fixed, [moving], mask.array)
    write_preview(path, fixed, moving, moving, mask.array, apart=[likeness.distance] * 2)


def test_previews_show_the_head_up_whatever_the_files_axes(case, tmp_path):
    """And an MR scaled to 0..1 is as visible as one in thousands."""
    fixed, moving, mask, _ = case
    shapes = []
    for order in ("LPS", "RAI", "PIL"):
        images = [from_sitk(sitk.DICOMOrient(to_sitk(volume), order)) for volume in (fixed, moving, mask)]
        drawn(tmp_path / "p.npz", *images)
        with np.load(tmp_path / "p.npz") as pictures:
            shapes.append({name: pictures[name] for name in pictures.files if name != "about"})
    for other in shapes[1:]:
        for name, picture in shapes[0].items():
            assert np.abs(picture.astype(float) - other[name]).mean() < 0.02 * np.ptp(picture) + 1e-9, name
    faint = fixed.with_array((fixed.array + 1024) / np.float32(4000))
    drawn(tmp_path / "p.npz", faint, moving, mask)
    with np.load(tmp_path / "p.npz") as pictures:
        assert len(np.unique(pictures["fixed"])) > 100


def test_cubes_turned_about_their_diagonal_lie_on_two_grids():
    cube = Grid((50, 50, 50), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    turned = Grid(cube.size, cube.spacing, cube.origin, (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0))
    assert "direction" in cube.differs_from(turned) and not cube.differs_from(cube)
