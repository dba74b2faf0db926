"""The axial grid over a volume: what planning systems take, whatever way the volume itself was scanned."""

from itertools import product

import numpy as np

from synthct.core.errors import InputError
from synthct.images.grid import Grid, triple

LARGEST = 1024  # pixels along a side, a planning system takes no more


def axial_grid(grid: Grid, step: float) -> Grid:
    """Slices across the body's axis, `step` mm apart, that cover all of `grid`; pixels square and as fine as its own.

    Directions are those of the patient (LPS). Raises `InputError` for a step that is no slice's.
    """
    if not 0.1 <= step <= 20:
        raise InputError(f"--axial {step:g}: expected the distance of slices in mm, 0.1 to 20")
    ends = [(0, size - 1) for size in grid.size]
    corners = np.array([np.array(grid.origin) + grid.matrix @ index for index in product(*ends)])
    low, high = corners.min(0), corners.max(0)
    straight = np.allclose(np.abs(grid.direction), np.eye(3).ravel(), atol=1e-4)
    fine = min(grid.spacing[:2]) if straight else min(grid.spacing)
    fine = max(fine, float((high - low)[:2].max()) / (LARGEST - 1))
    spacing = np.array([fine, fine, step])
    size = np.ceil((high - low) / spacing - 1e-3).astype(int) + 1
    return Grid(triple(size.tolist()), triple(spacing.tolist()), triple(map(float, low)))
