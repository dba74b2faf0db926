"""From Hounsfield units to what a beam sees: relative electron density (photons), relative stopping power (protons).

A table is pairs (HU, value relative to water), joined by straight lines and held at its ends. Everything is averaged
into the voxels of one planning grid, which lies along the patient's axes whatever the images' orientation: a dose
engine then needs no oblique frames, and noise below the size of a dose voxel does not enter.
"""

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import InputError
from synthct.core.tables import read_cells
from synthct.images.grid import Grid, Volume, array_of, blank, to_sitk, triple

FINEST = 3  # samples a planning voxel along each axis, at most
AIR = 0.0  # density outside the body


def read_table(path) -> list[list[float]]:
    """A scanner's HU table from a CSV with two columns, HU and value relative to water; a header line is allowed.

    Raises `InputError` for anything but at least two rows of numbers with HU rising and values of at least 0.
    """
    rows = []
    for number, line in read_cells(path, "HU table"):
        try:
            low, value = map(float, line)
        except ValueError:
            if number == 1:
                continue  # the header
            raise InputError(f"HU table {path}: line {number} is {','.join(line)!r}, expected HU,value") from None
        rows.append([low, value])
    return check_table(rows, f"HU table {Path(path)}")


def check_table(table, what: str = "HU table") -> list[list[float]]:
    """`table` as it is, or `InputError`: two columns, HU strictly rising, values finite and not below 0."""
    array = np.array(table, np.float64) if all(len(row) == 2 for row in table) else np.zeros((0, 2))
    if array.shape[0] < 2 or not np.isfinite(array).all():
        raise InputError(f"{what}: expected at least two rows of two numbers, HU and value relative to water")
    if (np.diff(array[:, 0]) <= 0).any():
        raise InputError(f"{what}: HU must rise from row to row")
    if array[:, 1].min() < 0:
        raise InputError(f"{what}: value {array[:, 1].min():g}, expected 0 or more")
    return table


def relative_to_water(hu: np.ndarray, table) -> np.ndarray:
    """float32 density (or stopping power) relative to water of `hu`, by straight lines between the table's points.

    >>> relative_to_water(np.array([-1000, 0, 500]), [[-1000, 0.0], [0, 1.0], [1000, 1.5]])
    array([0.  , 1.  , 1.25], dtype=float32)
    """
    table = np.asarray(table, np.float64)
    return np.interp(hu, table[:, 0], table[:, 1]).astype(np.float32)


def planning_grid(image: Grid, spacing: float) -> Grid:
    """Cubes of `spacing` mm along the patient's axes over the whole extent of `image`, corner on its lowest corner.

    >>> planning_grid(Grid(size=(10, 10, 4), spacing=(1.0, 1.0, 3.0), origin=(0.0, 0.0, 0.0)), 2.0).size
    (5, 5, 6)
    """
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in image.size], indexing="ij"), -1).reshape(-1, 3)
    points = np.array(image.origin) + corners @ image.matrix.T
    low, high = points.min(0), points.max(0)
    size = triple(int(n) for n in np.maximum(1, np.ceil((high - low) / spacing - 1e-6)))
    return Grid(size, (float(spacing),) * 3, triple(float(each) for each in low + spacing / 2))


def averaged(volume: Volume, grid: Grid, outside: float = 0.0) -> np.ndarray:
    """float32 means of `volume` over the voxels of the (coarser) planning `grid`; `outside` beyond the volume."""
    finer = min(FINEST, max(1, math.ceil(grid.spacing[0] / min(volume.grid.spacing) - 1e-6)))
    step = grid.spacing[0] / finer
    start = triple(each - grid.spacing[0] / 2 + step / 2 for each in grid.origin)
    fine = Grid(triple(n * finer for n in grid.size), (step,) * 3, start)
    image = sitk.Cast(to_sitk(volume), sitk.sitkFloat32)
    sampled = array_of(
        sitk.Resample(image, blank(fine), sitk.Transform(), sitk.sitkLinear, float(outside), sitk.sitkFloat32, True)
    )
    inside = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    inside.CopyInformation(image)
    seen = array_of(
        sitk.Resample(inside, blank(fine), sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8, False)
    )
    sampled = np.where(seen > 0, sampled, np.float32(outside))  # up to the voxels' own edges, no further
    return _block_means(sampled, finer)


def share(mask: Volume, grid: Grid) -> np.ndarray:
    """float32 share (0…1) of every planning voxel that `mask` (inside > 0) fills."""
    return averaged(mask.with_array((mask.array > 0).astype(np.float32)), grid)


def densities(hu: Volume, body: Volume, grid: Grid, table) -> np.ndarray:
    """float32 densities relative to water on the planning `grid`: `hu` through `table` inside `body`, none outside.

    `hu` (HU) and `body` (inside > 0) may lie on different grids; the body is what counts as patient in both images, so
    that couch, mask and cables outside it are in neither plan.
    """
    inside = share(body, grid)
    values = averaged(hu.with_array(relative_to_water(hu.array, table)), grid, AIR)
    return np.where(inside >= 0.5, values, np.float32(AIR))


def _block_means(array: np.ndarray, n: int) -> np.ndarray:
    if n == 1:
        return array
    z, y, x = (size // n for size in array.shape)
    return array.reshape(z, n, y, n, x, n).mean((1, 3, 5), dtype=np.float64).astype(np.float32)
