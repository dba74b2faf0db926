"""Images at a level of the multi-resolution: smoothed and resampled by one small Gaussian matrix an axis."""

import numpy as np
import torch

from synthct.registration.bspline import evaluate
from synthct.volume import Grid


def positions(grid: Grid, voxel_mm: float) -> list[np.ndarray]:
    """Positions (mm from the first voxel centre) of a level's points along (z, y, x).

    They are `voxel_mm` apart, or as the image where its voxels are larger, stretched so that first and last point lie
    on the image's first and last voxel centre: coordinates scaled to -1..1 are then the same on every level.
    """
    result = []
    for n, spacing in zip(grid.size[::-1], grid.spacing[::-1], strict=True):
        extent = (n - 1) * spacing
        count = n if voxel_mm <= spacing else max(2, int(round(extent / voxel_mm)) + 1)
        result.append(np.linspace(0, extent, count))
    return result


def extents(grid: Grid) -> tuple[float, float, float]:
    """Distance (mm) from first to last voxel centre along (z, y, x)."""
    return tuple((n - 1) * s for n, s in zip(grid.size[::-1], grid.spacing[::-1], strict=True))


def level_image(array: torch.Tensor, grid: Grid, points: list[np.ndarray], sigma_mm: float) -> torch.Tensor:
    """`array` (z, y, x) at the level's `points`, smoothed with a Gaussian of `sigma_mm` or the level's own half voxel.

    Down-sampling always smooths (no aliasing); at the image's own voxels and sigma 0 the image is returned as it is.
    """
    matrices = []
    for axis in range(3):
        n, spacing = grid.size[::-1][axis], grid.spacing[::-1][axis]
        step = points[axis][1] - points[axis][0]
        sigma = max(sigma_mm, 0.5 * step if step > 1.01 * spacing else 0.0)
        distance = (points[axis][:, None] - spacing * np.arange(n)[None]) / max(sigma, 0.05 * spacing)
        weights = np.exp(-0.5 * distance**2)
        matrices.append(torch.as_tensor(weights / weights.sum(1, keepdims=True), dtype=array.dtype,
                                        device=array.device))
    return evaluate(array[None], matrices)[0]
