"""The way down of one level: Adam on the control points of a free-form deformation."""

import math
from collections.abc import Callable

import torch

from synthct.images.grid import Volume
from synthct.registration.dense.adam import Adam
from synthct.registration.dense.bspline import ControlGrid, Smoothness
from synthct.registration.dense.prior import FoldingBarrier
from synthct.registration.dense.pyramid import extents
from synthct.registration.dense.warp import PointMap


class Descent:
    """What a level minimises: the weighted sum of `terms` over the parts that `points` hands out, the prior on the
    displacement and the barrier on its Jacobian determinant, by the weights `magnitude`, `stretching`, `bending` and
    `folding` of `weights` (see `prior.at`)."""

    def __init__(self, fixed: Volume, control: ControlGrid, points, point_map: PointMap, terms: list, weights: dict):
        grid, device = fixed.grid, point_map.linear.device
        direction = torch.tensor(grid.direction, device=device).float().view(3, 3)
        like = torch.empty(0, device=device)
        self._points, self._map, self._terms = points, point_map, terms
        self._prior = (weights["magnitude"], weights["stretching"], weights["bending"])
        self._folding = weights["folding"]
        self._smoothness = Smoothness(control, extents(grid), like)
        self._barrier = FoldingBarrier(control, grid, direction, like)

    def run(
        self,
        coefficients: torch.Tensor,
        steps: int,
        step_mm: float,
        cooling: Callable[[int], float],
        hear: Callable[[int, float, torch.Tensor], None] = lambda step, first, last: None,
    ) -> tuple[torch.Tensor, float, float]:
        """The coefficients (3, z, y, x) after `steps`, and the terms' sum at the first and at the last of them.

        A step's size is `step_mm` times its `cooling`; `hear` is told each step's number and the first and latest sum.
        """
        coefficients = coefficients.clone().requires_grad_()
        adam = Adam(coefficients, betas=(0.9, 0.99))
        first, last = math.nan, torch.empty(0)
        for step in range(steps):
            part = self._points.next()
            coordinates = self._map.moved(part.base, part.displacement(coefficients))
            valid = part.weight * self._map.inside(coordinates)
            loss = sum(term.weight * term(part, coordinates, valid) for term in self._terms)
            last = loss.detach()
            first = first if step else float(last)
            loss = loss + self._smoothness(coefficients, self._prior) + self._folding * self._barrier(coefficients)
            adam.step(loss, step_mm * cooling(step))
            hear(step, first, last)
        return coefficients.detach(), first, float(last)
