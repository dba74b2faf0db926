"""What a deformation may be: the prior's weights, level by level; a barrier before space folds; the last word if it
folded all the same."""

import numpy as np
import torch

from synthct.images.grid import Grid
from synthct.registration.dense.bspline import ControlGrid, Lattice
from synthct.registration.dense.pyramid import extents, positions
from synthct.registration.recipes import PRIOR


def at(settings: dict, level: int) -> dict[str, float]:
    """The prior's weights on one level: of a list its number there, else the one number of all levels.

    >>> at({"magnitude": 0.0, "stretching": [0.5, 0.0], "bending": [600.0, 300.0], "folding": 10.0}, 1)
    {'magnitude': 0.0, 'stretching': 0.0, 'bending': 300.0, 'folding': 10.0}
    """
    return {key: value[level] if isinstance(value := settings[key], list) else value for key in PRIOR}


class FoldingBarrier:
    """Mean of max(0, floor - det J)² at points half a control spacing apart; `direction` is the fixed 3×3 cosines."""

    def __init__(
        self, control: ControlGrid, grid: Grid, direction: torch.Tensor, like: torch.Tensor, floor: float = 0.3
    ):
        points = [
            np.linspace(0, e, max(2, int(np.ceil(2 * e / h)) + 1))
            for e, h in zip(extents(grid), control.spacing, strict=True)
        ]
        self._lattice, self._direction, self._floor = Lattice(control, points, like), direction, floor

    def __call__(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The penalty, a scalar; zero while every determinant is above the floor."""
        return (self._floor - self._lattice.jacobian(coefficients, self._direction)).clamp(min=0).square().mean()


def unfolded(
    control: ControlGrid,
    coefficients: torch.Tensor,
    grid: Grid,
    direction: torch.Tensor,
    floor: float = 0.05,
    rounds: int = 50,
) -> torch.Tensor:
    """`coefficients`, smoothed around every voxel whose Jacobian determinant is below `floor` until none is left.

    The determinant is the spline's own at the voxel centres. Almost always nothing is to do.
    """
    lattice = Lattice(control, positions(grid, 0.0), coefficients)
    for _ in range(rounds):
        bad = (lattice.jacobian(coefficients, direction) < floor).to(coefficients.dtype)
        if not bad.any():
            break
        near = bad[None]
        for axis, matrix in enumerate(lattice.matrices):
            near = torch.movedim(torch.tensordot(near, matrix, dims=([axis + 1], [0])), -1, axis + 1)
        smooth = torch.nn.functional.avg_pool3d(coefficients[None], 3, 1, 1, count_include_pad=False)[0]
        coefficients = torch.where(near > 0, smooth, coefficients)
    return coefficients
