"""A mask that is a contour is filled and that is said; a solid one, holes and all, is left alone."""

import numpy as np
import pytest
import registration_phantom as phantom
from scipy import ndimage

from synthct.core.errors import PairError
from synthct.images.contours import filled
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume
from synthct.registration.quality import likenesses

GRID = Grid((44, 40, 30), (2.5, 2.5, 3.0), (0.0, 0.0, 0.0))


def disc(inner: float = 0.0) -> np.ndarray:
    z, y, x = np.ogrid[: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    r = np.hypot(y - 20, x - 22)
    return ((r < 16) & (r >= inner) & (z > 3) & (z < 27)).astype(np.uint8)


def rim(mask: np.ndarray) -> np.ndarray:
    return mask * ~np.stack([ndimage.binary_erosion(plane) for plane in mask])


def test_contours_are_filled_and_solid_masks_are_not():
    found, was_contour = filled(Volume(rim(disc()).astype(np.uint8), GRID))
    assert was_contour and np.array_equal(found.array, disc())
    for solid in (disc(), disc(inner=8)):
        found, was_contour = filled(Volume(solid, GRID))
        assert not was_contour and np.array_equal(found.array, solid)


def test_register_fills_a_contour_with_a_word(run_tool, tmp_path):
    fixed, moving, _, _ = phantom.pair()
    images = {"f": fixed, "m": moving, "c": Volume(rim(disc()).astype(np.uint8), fixed.grid)}
    place = {name: tmp_path / f"{name}.mha" for name in (*images, "w", "d")}
    for name, volume in images.items():
        write_volume(volume, place[name])
    given = ["--method", "none", "--modality", "cbct", "--fixed", place["f"], "--moving", place["m"]]
    given += ["--fixed-mask", place["c"], "--out-image", place["w"], "--out-displacement", place["d"]]
    done = run_tool("register.py", *given)
    assert done.returncode == 0 and "c.mha is a contour and was filled" in done.stderr, done.stderr


def test_an_open_contour_is_too_thin_to_judge_in():
    fine = Grid((44, 40, 30), (0.5, 0.5, 3.0), (0.0, 0.0, 0.0))
    opened = rim(disc()).astype(bool)
    opened[:, 20:] = False
    assert not filled(Volume(opened.astype(np.uint8), fine))[1]
    image = Volume(np.random.default_rng(0).normal(size=fine.shape).astype(np.float32), fine)
    with pytest.raises(PairError, match="a contour that is not filled"):
        likenesses(image, [image], opened)
