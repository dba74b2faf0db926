"""Which of two places a deformation should start from, told by where it ends.

From either a short, coarse deformation by mutual information is run, and MIND descriptors, which have no say in it,
compare the ends.
"""

from dataclasses import dataclass

import numpy as np
import torch

from synthct.images.grid import Volume
from synthct.registration.dense import prior, rigid
from synthct.registration.dense.bspline import ControlGrid
from synthct.registration.dense.descent import Descent
from synthct.registration.dense.mind import CHANNELS, mind
from synthct.registration.dense.points import SubLattices
from synthct.registration.dense.pyramid import extents, pitch
from synthct.registration.dense.terms import MutualInformationTerm
from synthct.registration.dense.warp import PointMap, sample

COMPARABLE = 0.2  # part of what is covered after the move that must be covered without it, for the two to be compared;
LIKE = 0.75  # for their ways to be: of six pairs 40 to 60 mm off it is 0.6 to 0.7, of pairs as they are above 0.95
INFORMATION = {"weight": 1.0, "bins": rigid.BINS, "sigma_ct_mm": 0.0, "sigma_image_mm": 0.0}
STEP = 1 / 40  # Adam's, of a control spacing
SMOOTHED_MM = 1.0  # before descriptors


@dataclass
class End:
    """Where a trial ended: MIND distance to the fixed image (R1D1) and weight (0 outside of mask or moving image),
    (z, y, x), on a lattice with voxels of `spacing` mm; `way` is how far (mm, mean) the deformation went."""

    distance: torch.Tensor
    weight: torch.Tensor
    spacing: list[float]
    way: float

    @property
    def mean(self) -> torch.Tensor:
        """The mean distance over what is covered; 1, the largest there is, where nothing is."""
        covered = self.weight.sum()
        return (self.distance * self.weight).sum() / covered if covered else torch.ones(())


def better(still: End, moved: End, rules: dict) -> bool:
    """Whether `moved` is worth it: a mean distance smaller by `margin` (a part of it), and either no region worse at
    all, or a way that is shorter by `ease` (a part of it; not longer, where the mean is smaller by `sure`) and no
    region worse by more than `loss` or by `loss_of_gain` of that part. Where much of what it covers was not covered
    before, a mean smaller by `ease` is enough, for a way is shorter where there is less to match; where hardly anything
    was, nothing else is known."""
    gain, worst = compared(still, moved, rules["region_mm"])
    spared = worst <= max(rules["loss"], rules["loss_of_gain"] * gain)
    before = covered_before(still, moved)
    if before < COMPARABLE or (before < LIKE and gain >= rules["ease"]):
        return gain >= rules["ease"] and spared
    eased = moved.way <= (1 - rules["ease"] * (gain < rules["sure"])) * still.way
    return gain >= rules["margin"] and (worst <= 0 or (eased and spared))


def covered_before(still: End, moved: End) -> float:
    """The part of what is covered after the move that was covered without it."""
    return float((still.weight * moved.weight).sum() / moved.weight.sum().clamp(min=1e-6))


def compared(still: End, moved: End, region_mm: float) -> tuple[float, float]:
    """By which part of it the mean distance fell, and by how much (0..1) it rose in the cube that lost most, over cubes
    of `region_mm` that are half filled or more; both over what either end covers. Where that is too little, each mean
    is over what its end covers, and nothing is known of cubes."""
    both = still.weight * moved.weight
    if covered_before(still, moved) < COMPARABLE:
        return float(1 - moved.mean / still.mean.clamp(min=1e-9)), 0.0
    first, second = ((end.distance * both).sum() / both.sum().clamp(min=1e-6) for end in (still, moved))
    sides = [min(n, max(1, round(region_mm / step))) for n, step in zip(both.shape, still.spacing, strict=True)]
    steps = [max(1, side // 2) for side in sides]
    rise = (moved.distance - still.distance) * both
    pooled = torch.nn.functional.avg_pool3d(torch.stack([rise, both])[None], sides, steps)[0]
    filled = pooled[1] >= 0.5
    worst = float((pooled[0] / pooled[1].clamp(min=1e-6))[filled].max()) if filled.any() else 0.0
    return float(1 - second / first.clamp(min=1e-9)), worst


class Trial:
    """A short deformation by mutual information on one coarse level, two control grids, and its witness."""

    def __init__(self, fixed: Volume, sides, rules: dict, device: str):
        self._fixed, self._sides, self._device = fixed, sides, device
        self._rules, self._voxel = rules, rules["trial_voxel_mm"]
        self._information = MutualInformationTerm(INFORMATION, self._voxel, sides)
        # neighbours must be as far apart in both images: where the fixed one's voxels are larger, by those
        steps = tuple(max(self._voxel, spacing) for spacing in fixed.grid.spacing[::-1])
        self._maps = [mind(side.at(steps, SMOOTHED_MM), 1, 1) for side in sides]

    def end(self, matrix: np.ndarray, offset: np.ndarray, inside: torch.Tensor) -> End:
        """Where the deformation of what is `inside` (floats on the fixed grid) ends that starts at a rigid move, matrix
        x + offset."""
        grid, moving, rules = self._fixed.grid, self._sides[1], self._rules
        point_map = PointMap(grid, moving.grid, matrix, offset, moving.box, self._device, moving.known)
        spacings, steps, weights = rules["trial_grid_mm"], rules["trial_iterations"], prior.at(rules, 0)
        control = ControlGrid.covering(grid, spacings[0])
        coefficients = control.zeros(self._device)
        for spacing in spacings:
            finer = ControlGrid.covering(grid, spacing)
            coefficients, control = control.refined(coefficients, finer, extents(grid)), finer
            everything = np.random.default_rng(0)  # one lattice: nothing is drawn
            points = SubLattices(control, self._fixed, inside, self._voxel, 1, point_map, everything)
            descent = Descent(self._fixed, control, points, point_map, [self._information], weights)
            coefficients = descent.run(coefficients, steps, STEP * spacing, lambda step: 0.05 ** (step / steps))[0]
        part = points.next()
        with torch.no_grad():
            coordinates, weight = part.level.at(coefficients)
            way = float((part.displacement(coefficients).norm(dim=0) * part.weight).sum() / part.weight.sum())
            found = sample(self._maps[1], coordinates).view(CHANNELS, *weight.shape)
        return End((found - self._maps[0]).abs().mean(0), weight, pitch(grid, weight.shape), way)
