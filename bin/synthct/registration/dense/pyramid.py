"""Images at a level of the multi-resolution: smoothed and resampled by one small Gaussian matrix an axis."""

import numpy as np
import torch

from synthct.images.grid import Grid, triple
from synthct.registration.dense.bspline import evaluate, tensors


def positions(grid: Grid, voxel_mm: float | tuple[float, float, float]) -> list[np.ndarray]:
    """Positions (mm from the first voxel centre) of a level's points along (z, y, x).

    They are `voxel_mm` apart (one number, or one along each of z, y, x), or as the image where its voxels are larger,
    stretched so that first and last point lie on the image's first and last voxel centre: coordinates scaled to -1..1
    are then the same on every level.
    """
    result = []
    for n, spacing, step in zip(grid.size[::-1], grid.spacing[::-1], np.broadcast_to(voxel_mm, 3), strict=True):
        extent = (n - 1) * spacing
        count = n if step <= spacing else max(2, int(round(extent / step)) + 1)
        result.append(np.linspace(0, extent, count))
    return result


def extents(grid: Grid) -> tuple[float, float, float]:
    """Distance (mm) from first to last voxel centre along (z, y, x)."""
    return triple((n - 1) * s for n, s in zip(grid.size[::-1], grid.spacing[::-1], strict=True))


def pitch(grid: Grid, shape: tuple[int, ...]) -> list[float]:
    """Distance (mm) along (z, y, x) between the points of a level of `shape`."""
    return [extent / max(1, n - 1) for extent, n in zip(extents(grid), shape, strict=True)]


def content(array: np.ndarray) -> tuple[tuple[int, int], ...]:
    """First and past-the-last index along (z, y, x) of what an image shows: whole border planes of one value are not
    content (slices that a scanner or a resampling left empty). An image of one value keeps its whole extent."""
    box = []
    for axis in range(3):
        planes = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        shown = np.flatnonzero(planes.max(1) > planes.min(1))
        box.append((int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, array.shape[axis]))
    return tuple(box)


def level_image(array: torch.Tensor, grid: Grid, points: list[np.ndarray], sigma_mm: float, box=None) -> torch.Tensor:
    """`array` (z, y, x) at the level's `points`, smoothed with a Gaussian of `sigma_mm` or the level's own half voxel.

    Down-sampling always smooths (no aliasing); at the image's own voxels and sigma 0 the image is returned as it is.
    With `box` (see `content`) nothing outside it is mixed in: its edge values continue outwards.
    """
    matrices = []
    for axis in range(3):
        n, spacing = grid.size[::-1][axis], grid.spacing[::-1][axis]
        step = points[axis][1] - points[axis][0]
        sigma = max(sigma_mm, 0.5 * step if step > 1.01 * spacing else 0.0)
        first, past = box[axis] if box else (0, n)
        centre = points[axis].clip(first * spacing, (past - 1) * spacing)
        distance = (centre[:, None] - spacing * np.arange(n)[None]) / max(sigma, 0.1 * spacing)
        weights = np.where(np.abs(distance) > 4, 0.0, np.exp(-0.5 * distance**2))
        weights[:, :first], weights[:, past:] = 0.0, 0.0
        weights[weights.sum(1) == 0, first:past] = 1.0  # no voxel within reach: cannot happen but for odd boxes
        matrices.append(weights / weights.sum(1, keepdims=True))
    return evaluate(array[None], tensors(matrices, array))[0]
