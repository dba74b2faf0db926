"""The moving image on the fixed image's axes, so that what looks along axes compares like with like.

A channel of MIND is "the neighbour on the left against the one above", and a network has seen bodies upright. The same
anatomy may be stored with its axes in another order or direction, oblique, or in thicker slices: each of these would
set other neighbours against one another, silently.
"""

import numpy as np
import SimpleITK as sitk

from synthct.images.grid import Grid, Volume, array_of, blank, to_sitk, triple
from synthct.images.orientation import orientation_of

LARGEST_ANGLE = 2.0  # degrees between the axes that neighbours one voxel apart do not feel
COARSER = 1.01  # a spacing this much larger than wanted is interpolated


def on_axes_of(fixed: Grid, moving: Volume, finest_mm: float) -> tuple[Volume, np.ndarray | None]:
    """`moving` with the axes of `fixed` and voxels no larger than the finest level compares.

    Axes are turned without interpolation where that is enough. Otherwise the volume is interpolated (linearly, its
    edge values continued outwards) and, where its box no longer fills the new one, the second value says which voxels
    (z, y, x, boolean) it knows. `finest_mm` is the smallest voxel of any level.
    """
    own = np.array(fixed.direction).reshape(3, 3)
    relative = own.T @ np.array(moving.grid.direction).reshape(3, 3)
    seen = Grid(moving.grid.size, moving.grid.spacing, moving.grid.origin, tuple(relative.ravel()))
    orientation = orientation_of(seen)
    turned = Volume(orientation.turn(moving.array), orientation.turn_grid(moving.grid))
    grid = turned.grid
    wanted = np.maximum(fixed.spacing, finest_mm)
    spacing = np.where(np.array(grid.spacing) > COARSER * wanted, wanted, grid.spacing)
    turns = np.degrees(np.arccos(np.clip((np.trace(own.T @ np.array(grid.direction).reshape(3, 3)) - 1) / 2, -1, 1)))
    if turns > LARGEST_ANGLE:
        covering = _covering(grid, own, spacing)
        known = np.ones(grid.shape, np.uint8)
        return (
            _interpolated(turned, covering, sitk.sitkLinear, edge=True),
            _interpolated(Volume(known, grid), covering, sitk.sitkNearestNeighbor, edge=False).array > 0,
        )
    if (spacing != grid.spacing).any():
        extent = (np.array(grid.size) - 1) * grid.spacing
        count = np.where(spacing == grid.spacing, grid.size, np.rint(extent / spacing) + 1).astype(int)
        spacing = extent / (count - 1)  # first and last voxel centres stay where they are
        finer = Grid(triple(map(int, count)), triple(map(float, spacing)), grid.origin, grid.direction)
        return _interpolated(turned, finer, sitk.sitkLinear, edge=True), None
    return turned, None


def _covering(grid: Grid, axes: np.ndarray, spacing: np.ndarray) -> Grid:
    """The grid along `axes` (3×3, columns) whose box holds that of `grid`."""
    index = np.array([[(n - 1) * part for n, part in zip(grid.size, one, strict=True)] for one in np.ndindex(2, 2, 2)])
    corners = (index @ grid.matrix.T + np.array(grid.origin)) @ axes
    low, high = corners.min(0), corners.max(0)
    size = np.ceil((high - low) / spacing).astype(int) + 1
    return Grid(
        triple(map(int, size)),
        triple(map(float, spacing)),
        triple(map(float, axes @ low)),
        tuple(map(float, axes.ravel())),
    )


def _interpolated(volume: Volume, grid: Grid, interpolator: int, *, edge: bool) -> Volume:
    kind = sitk.sitkFloat32 if interpolator == sitk.sitkLinear else sitk.sitkUInt8
    image = sitk.Cast(to_sitk(volume), kind)
    done = sitk.Resample(image, blank(grid), sitk.Transform(), interpolator, 0.0, kind, edge)
    return Volume(array_of(done), grid)
