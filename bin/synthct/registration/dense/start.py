"""Where a registration starts: where the images lie, or at a rigid move that a trial of both has shown to be better.

A deformation finds several millimetres by itself, so what counts is where it ends. From either start a short, coarse
deformation by mutual information is run. The move is taken where it leaves the deformation a shorter way, and where
MIND descriptors, which had a say neither in the search nor in the trial, find its end no worse: not in the mean, and
not in the region that lost most, because a bone that is lost does not show in the mean where much skin was won. A move
that matches one part at the cost of another fails by the way that it leaves to go; one along the axis of a limb, where
MIND sees little change, is told by it.
"""

from collections.abc import Callable
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
class Start:
    """A rigid move T(x) = matrix x + offset (3×3; mm, LPS), fixed to moving, that a search proposed; `told` is for the
    record: "move_mm" (mean over the mask) and whether the move is "better". Of a trial also, in pairs without and with
    it, "way_mm", and by which part the MIND distance changed ("mind_change") and how much it rose in the region that
    lost most ("worst_region")."""

    matrix: np.ndarray
    offset: np.ndarray
    told: dict

    @property
    def better(self) -> bool:
        """Whether a registration is to begin there."""
        return self.told.get("better", False)

    def apart(self, displacement: Volume, inside: np.ndarray) -> float:
        """How far (mm, mean over `inside`, z, y, x) a displacement field (mm, LPS) ends from where the move does."""
        index = np.argwhere(inside)
        points = displacement.grid.points(index)
        moved = points @ self.matrix.T + self.offset
        return float(np.linalg.norm(points + displacement.array[tuple(index.T)] - moved, axis=1).mean())


STILL = Start(np.eye(3), np.zeros(3), {})


def settled(fixed: Volume, sides, inside: torch.Tensor, rules: dict, device: str, say: Callable[[str], None]) -> Start:
    """The move that the search proposes, and whether it is better by `rules`, the section ``registration.rigid``.
    `sides` are the prepared images, `inside` the mask as floats on the fixed grid; `say` hears what was found."""
    proposed = rigid.find(sides, inside, rules, device)
    if proposed is None:
        say(f"rigid start: none sought, of the mask hardly a point is left at {rules['voxel_mm'][0]:g} mm")
        return STILL
    found = f"rigid start: a move of {proposed.length:.1f} mm (mean)"
    start = Start(proposed.matrix, proposed.offset, {"move_mm": round(proposed.length, 2), "better": False})
    start.told |= _mirror(proposed, *rigid.mirrored(sides, inside, rules, device))
    if proposed.length < rules["least_mm"]:
        say(f"{found}, left to the deformation")
        return start
    trial = Trial(fixed, sides, inside, rules, device)
    still, moved = trial.end(STILL), trial.end(start)
    gain, worst = compared(still, moved, rules["region_mm"])
    start.told["better"] = better(still, moved, rules)
    say(
        f"{found}, {'better' if start.better else 'not better'}: the deformation's way {still.way:.1f} mm without "
        f"it, {moved.way:.1f} with it, MIND distance {-gain:+.1%}, worst region {worst:+.3f}"
    )
    start.told |= {"way_mm": [round(still.way, 2), round(moved.way, 2)]}
    start.told |= {"mind_change": round(-gain, 4), "worst_region": round(worst, 4)}
    return start


def _mirror(proposed: rigid.Move, name: str, information: float) -> dict:
    """For the record: along which direction the mirrored image matches best, and its mutual information over that of
    the image as it is, each moved rigidly to its best."""
    return {"mirror": name, "mirror_ratio": round(information / max(proposed.information, 1e-6), 3)}


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

    def __init__(self, fixed: Volume, sides, inside: torch.Tensor, rules: dict, device: str):
        self._fixed, self._sides, self._inside, self._device = fixed, sides, inside, device
        self._rules, self._voxel = rules, rules["trial_voxel_mm"]
        self._information = MutualInformationTerm(INFORMATION, self._voxel, sides)
        # neighbours must be as far apart in both images: where the fixed one's voxels are larger, by those
        steps = tuple(max(self._voxel, spacing) for spacing in fixed.grid.spacing[::-1])
        self._maps = [mind(side.at(steps, SMOOTHED_MM), 1, 1) for side in sides]

    def end(self, start: Start) -> End:
        """Where the deformation ends that starts at a rigid move."""
        grid, moving, rules = self._fixed.grid, self._sides[1], self._rules
        point_map = PointMap(grid, moving.grid, start.matrix, start.offset, moving.box, self._device, moving.known)
        spacings, steps, weights = rules["trial_grid_mm"], rules["trial_iterations"], prior.at(rules, 0)
        control = ControlGrid.covering(grid, spacings[0])
        coefficients = control.zeros(self._device)
        for spacing in spacings:
            finer = ControlGrid.covering(grid, spacing)
            coefficients, control = control.refined(coefficients, finer, extents(grid)), finer
            everything = np.random.default_rng(0)  # one lattice: nothing is drawn
            points = SubLattices(control, self._fixed, self._inside, self._voxel, 1, point_map, everything)
            descent = Descent(self._fixed, control, points, point_map, [self._information], weights)
            coefficients = descent.run(coefficients, steps, STEP * spacing, lambda step: 0.05 ** (step / steps))[0]
        part = points.next()
        with torch.no_grad():
            coordinates, weight = part.level.at(coefficients)
            way = float((part.displacement(coefficients).norm(dim=0) * part.weight).sum() / part.weight.sum())
            found = sample(self._maps[1], coordinates).view(CHANNELS, *weight.shape)
        return End((found - self._maps[0]).abs().mean(0), weight, pitch(grid, weight.shape), way)
