"""The body mask made by threshold: what of an image is body."""

import numpy as np
import pytest

from synthct.images.bodymask import body_mask
from synthct.images.grid import Grid, Volume

GRID = Grid((80, 50, 20), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))


def _round(middle: float, radius: float) -> np.ndarray:
    """A limb along z (z, y, x) about x = `middle`, mm."""
    y, x = np.meshgrid(4.0 * np.arange(50) - 100, 4.0 * np.arange(80) - middle, indexing="ij")
    return np.broadcast_to(x**2 + y**2 < radius**2, GRID.shape)


@pytest.mark.parametrize("radius", [60.0, 45.0])
def test_of_two_legs_both_are_body(radius):
    """The second one has all or a bit more than half of the first one's volume."""
    legs = _round(75.0, 60.0), _round(240.0, radius)
    mask = body_mask(Volume(np.where(legs[0] | legs[1], 40.0, -1000.0), GRID), "ct").array > 0
    assert all(mask[leg].mean() > 0.99 for leg in legs)
    assert mask.sum() < 1.6 * (legs[0] | legs[1]).sum()


@pytest.mark.parametrize("radius, thick", [(60.0, 4), (45.0, 4), (60.0, 6), (36.0, 4)])
def test_a_couch_is_no_body(radius, thick):
    """However large beside a slender leg: it is thin, and thick enough to outlast the opening."""
    leg, couch = _round(160.0, radius), np.zeros(GRID.shape, bool)
    couch[:, 42 : 42 + thick, 5:75] = True
    mask = body_mask(Volume(np.where(leg | couch, 40.0, -1000.0), GRID), "ct").array > 0
    assert mask[leg].mean() > 0.99 and mask[couch].mean() < 0.1
