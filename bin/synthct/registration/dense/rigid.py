"""A rigid start: mutual information on coarse images, from a search over shifts to the best of a few refinements.

For pairs that were not aligned before (another table, another day); a few millimetres of error are left to the
deformation. What mutual information finds is taken only where MIND descriptors, which had no say in the search, agree
that it is better by a margin, and where it is more than the deformation finds by itself: a pair that was in place
stays where it is.
"""

import numpy as np
import torch

from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.pyramid import level_image, positions
from synthct.registration.dense.warp import PointMap, sample

BINS = 32
ENOUGH = 0.5  # part of the mask that must stay inside the moving image
COMPARABLE = 0.2  # part of the mask that must be inside before and after for the two to be compared


def align(sides, mask: torch.Tensor, settings: dict, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotation matrix (3×3) and offset (mm): T(x) = matrix x + offset, LPS, fixed to moving.

    `sides` are the prepared fixed and moving images, `mask` floats on the fixed grid. The search tries shifts of up to
    `settings["search_mm"]` along each axis, `settings["search_step_mm"]` apart, and refines the best `starts` of them.
    """
    fixed, moving = sides
    levels = [_Level(fixed, moving, mask, voxel, device) for voxel in settings["voxel_mm"]]
    reach, step = settings["search_mm"], settings["search_step_mm"]
    line = np.arange(-int(reach // step), int(reach // step) + 1) * step
    shifts = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    shifts = shifts[np.argsort((shifts**2).sum(1), kind="stable")]  # nearest first: ties go to the smaller move
    with torch.no_grad():
        losses = [float(levels[0](torch.tensor([0.0, 0, 0, *shift], device=device).float())) for shift in shifts]
    chosen = [0, *[k for k in np.argsort(losses, kind="stable") if k][: settings["starts"] - 1]]
    found = [_refine(levels[0], np.array([0.0, 0, 0, *shifts[k]]), settings["iterations"], 2.0) for k in chosen]
    for level in levels[1:]:
        found = [_refine(level, start, settings["iterations"], 0.5) for _loss, start in found]
    # what looks best on the coarsest images can be worse than no move at all
    found.append(_refine(levels[-1], np.zeros(6), settings["iterations"], 0.5))
    best = min(found, key=lambda pair: pair[0])[1]
    small = levels[-1].length(best) < settings["least_mm"]
    if small or _Witness(levels[-1]).ratio(best) > 1 - settings["margin"]:
        return np.eye(3), np.zeros(3)
    parameters = torch.as_tensor(best, dtype=torch.float64)
    matrix = _rotation(parameters[:3] / levels[0].radius).numpy()
    centre = levels[0].centre.double().cpu().numpy()
    return matrix, centre + best[3:] - matrix @ centre


class _Level:
    """Negative mutual information of a rigid move: six parameters in mm (rotations: arc length at the mask's edge)."""

    def __init__(self, fixed, moving, mask: torch.Tensor, voxel_mm: float, device: str):
        points = positions(fixed.grid, voxel_mm)
        chosen = level_image(mask, fixed.grid, points, 0.0).reshape(-1) > 0.5
        self.moving_image = moving.at(voxel_mm, 0.0)[None]
        self.fixed_image, self.chosen = fixed.at(voxel_mm, 0.0), chosen
        self._values = self.fixed_image.reshape(-1)[chosen]
        mesh = np.stack(np.meshgrid(*points, indexing="ij")[::-1], -1).reshape(-1, 3)[chosen.cpu().numpy()]
        world = mesh @ np.array(fixed.grid.direction).reshape(3, 3).T + np.array(fixed.grid.origin)
        self.centre = torch.tensor(world.mean(0), dtype=torch.float32, device=device)
        self._points = torch.tensor(world, dtype=torch.float32, device=device) - self.centre
        self.radius = float(self._points.norm(dim=1).quantile(0.9)) if len(world) < 10**6 else 100.0
        self._map = PointMap(fixed.grid, moving.grid, np.eye(3), np.zeros(3), moving.box, device, moving.known)
        self._information = MutualInformation(BINS, _ends(self._values), _ends(self.moving_image))

    def __call__(self, parameters: torch.Tensor) -> torch.Tensor:
        coordinates, valid = self.moved(parameters)
        if valid.mean() < ENOUGH:
            return 10.0 + 0.0 * parameters.sum()
        # per point of the mask: a move that lets hard-to-match parts leave the moving image must not gain by it
        return self._information(self._values, sample(self.moving_image, coordinates)[0], valid) * valid.mean()

    def moved(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the mask's points fall in the moving image (N, 3), and whether that is inside (N,)."""
        turned = self._points @ _rotation(parameters[:3] / self.radius).T + self.centre + parameters[3:]
        coordinates = self._map.unit(turned)
        return coordinates, self._map.inside(coordinates)

    def length(self, move: np.ndarray) -> float:
        """How far (mm, mean) `move` takes the mask's points."""
        parameters = torch.tensor(move, device=self.centre.device).float()
        turned = self._points @ _rotation(parameters[:3] / self.radius).T + parameters[3:]
        return float((turned - self._points).norm(dim=1).mean())


class _Witness:
    """The mean MIND distance (R1D1) of a rigid move, on the points that lie inside before and after it."""

    def __init__(self, level: _Level):
        self._level = level
        self._fixed = mind(level.fixed_image).reshape(12, -1)[:, level.chosen]
        self._moving = mind(level.moving_image[0])

    @torch.no_grad()
    def ratio(self, move: np.ndarray) -> float:
        """The distance after `move` (six parameters) over that without one: below 1 is better."""
        places = [self._level.moved(torch.tensor(p, device=self._fixed.device).float()) for p in (np.zeros(6), move)]
        both = places[0][1] * places[1][1]
        if both.mean() < COMPARABLE:  # too little was covered before: there is nothing that could be harmed
            return 0.0
        still, moved = (((sample(self._moving, at) - self._fixed).abs().mean(0) * both).sum() for at, _ in places)
        return float(moved / still.clamp(min=1e-9))


def _refine(level: _Level, start: np.ndarray, iterations: int, step_mm: float) -> tuple[float, np.ndarray]:
    parameters = torch.tensor(start, dtype=torch.float32, device=level.centre.device, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=step_mm)
    slower = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.05 ** (1 / iterations))
    best = (float("inf"), start)
    for _ in range(iterations):
        loss = level(parameters)
        if float(loss.detach()) < best[0]:
            best = (float(loss.detach()), parameters.detach().double().cpu().numpy().copy())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
    return best


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """Rodrigues' formula: rotation matrix of a rotation vector (radians)."""
    zero = angles.new_zeros(())
    x, y, z = angles
    cross = torch.stack([torch.stack([zero, -z, y]), torch.stack([z, zero, -x]), torch.stack([-y, x, zero])])
    return torch.linalg.matrix_exp(cross)


def _ends(values: torch.Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, max(high, low + 1e-3)
