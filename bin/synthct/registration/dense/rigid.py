"""A rigid move by mutual information: from a search over shifts on coarse images to the best of a few refinements.

What is found is a proposal: `start` decides whether a registration begins there. The same search on the mirrored image
says whether one of the two files is flipped, which no deformation mends and hardly any measure shows.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from synthct.images.orientation import orientation_of
from synthct.registration.dense.adam import Adam
from synthct.registration.dense.mutual import MutualInformation, value_range
from synthct.registration.dense.pyramid import level_image, positions
from synthct.registration.dense.warp import PointMap, sample

BINS = 32
ENOUGH = 0.5  # part of the mask that must stay inside the moving image; of what is covered at rest, where that is less
FEWEST = 50  # points of the mask on a level: fewer match anything
MIRRORS = {  # world axes (x, y, z of LPS) along which a converter may write voxels the wrong way round
    "left to right": (0,),
    "front to back": (1,),
    "head to feet": (2,),
    "left to right and front to back": (0, 1),
}
STEP_MM = 1.5  # Adam's; with a third of it 8 degrees are not reached


@dataclass(frozen=True)
class Move:
    """T(x) = matrix x + offset (3×3; mm, LPS), fixed to moving, how far it takes the mask (mm, mean), and the mutual
    information (nats, times the part of the mask that is covered) of the best move on the first level."""

    matrix: np.ndarray
    offset: np.ndarray
    length: float
    information: float


def find(sides, mask: torch.Tensor, settings: dict, device: str, beside=None) -> Move | None:
    """The best move found; None for a mask so small or thin that the levels have fewer than `FEWEST` points of it.

    `sides` are the prepared fixed and moving images, `mask` floats on the fixed grid. The search tries shifts of up to
    `settings["search_mm"]` along each axis, `settings["search_step_mm"]` apart; where less than `ENOUGH` of the mask is
    covered, as many about the shift of one centre onto the other too. Beside no shift the best ones of them, `starts`
    in all, are refined; turning costs `turning`, because a limb of round section says little of it. `beside`, the
    (matrix, offset) of what the mask is a part of: the shifts are then tried about that, and the length is what is
    added to it; a mask that is hardly shown there (less than `ENOUGH` of it) may be anything, and gets None too.
    """
    fixed, moving = sides
    if any(_chosen(fixed, mask, voxel).sum() < FEWEST for voxel in settings["voxel_mm"]):
        return None
    levels = [_Level(fixed, moving, mask, voxel, settings["turning"], device) for voxel in settings["voxel_mm"]]
    own = levels[0].shift_by(beside)
    about = [own] if beside else [own, levels[0].to_centre]
    if (rest := levels[0].covered(own)) < ENOUGH and beside:
        return None
    if rest < ENOUGH:
        for level in levels:
            level.enough = ENOUGH * rest
    else:
        about = about[:1]
    shift = _searched(levels[0], about, settings["search_mm"], settings["search_step_mm"], settings["starts"])[1]
    best = _refine(levels[0], np.array([0.0, 0, 0, *shift]), settings["iterations"], STEP_MM)
    information = levels[0].information(best)
    for level in levels[1:]:
        best = _refine(level, best, settings["iterations"], STEP_MM)
    parameters = torch.as_tensor(best, dtype=torch.float64)
    matrix = _rotation(parameters[:3] / levels[0].radius).numpy()
    centre = levels[0].centre.double().cpu().numpy()
    return Move(matrix, centre + best[3:] - matrix @ centre, levels[-1].length(best, beside), information)


def mirrored(sides, mask: torch.Tensor, settings: dict, device: str) -> tuple[str, float]:
    """Along which of `MIRRORS` the moving image matches best when it is mirrored in its own middle, and the mutual
    information of its best move, as a `Move` has it; for a mask that is large enough for one.

    A file that is flipped lies in its place once it is flipped back, so shifts are tried about that place alone. From
    the best one it is turned too: of two heads, one leaning left and one right, a mirror would else be the better turn.
    """
    fixed, moving = sides
    found, own = [], orientation_of(moving.grid).axes
    for name, axes in MIRRORS.items():
        other = functools.reduce(lambda side, axis: side.mirrored(2 - own[axis]), axes, moving)
        level = _Level(fixed, other, mask, settings["voxel_mm"][0], settings["turning"], device)
        level.enough = min(ENOUGH, ENOUGH * level.covered(np.zeros(3)))
        loss, shift = _searched(level, [np.zeros(3)], settings["search_mm"], 1.5 * settings["search_step_mm"], 1)
        found.append((loss, name, level, shift))
    _, name, level, shift = min(found, key=lambda one: one[0])
    best = _refine(level, np.array([0.0, 0, 0, *shift]), settings["iterations"], STEP_MM)
    return name, level.information(best)


def _searched(level: "_Level", about, reach: float, step: float, starts: int) -> tuple[float, np.ndarray]:
    """The cost and the best of the shifts (mm) up to `reach` along each axis from each of the places `about`, `step`
    apart; from `starts` of them, no shift and the best (1: the best alone), nearer ones are tried."""
    line = np.arange(-int(reach // step), int(reach // step) + 1) * step
    shifts = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    shifts = shifts[np.argsort((shifts**2).sum(1), kind="stable")]  # nearest first: ties go to the smaller move
    shifts = np.concatenate([shifts + place for place in about])
    losses = [level.of_shift(shift) for shift in shifts]
    chosen = [0, *[k for k in np.argsort(losses, kind="stable") if k][: starts - 1]]
    if starts == 1:
        chosen = [int(np.argmin(losses))]
    return min((_nearest(level, losses[k], shifts[k], step / 2) for k in chosen), key=lambda pair: pair[0])


class _Level:
    """What a rigid move costs: six parameters in mm (rotations: arc length at the mask's edge)."""

    def __init__(self, fixed, moving, mask: torch.Tensor, voxel_mm: float, turning: float, device: str):
        points, chosen = positions(fixed.grid, voxel_mm), _chosen(fixed, mask, voxel_mm)
        # on a moving lattice as coarse as the fixed one, moves of whole voxels would blur nothing and so look better
        self.moving_image = moving.at(voxel_mm / 2, voxel_mm / 4)[None]
        self._values = fixed.at(voxel_mm, 0.0).reshape(-1)[chosen]
        mesh = np.stack(np.meshgrid(*points, indexing="ij")[::-1], -1).reshape(-1, 3)[chosen.cpu().numpy()]
        world = mesh @ np.array(fixed.grid.direction).reshape(3, 3).T + np.array(fixed.grid.origin)
        self.centre = torch.tensor(world.mean(0), dtype=torch.float32, device=device)
        self._points = torch.tensor(world, dtype=torch.float32, device=device) - self.centre
        self.radius = float(self._points.norm(dim=1).quantile(0.9)) if len(world) < 10**6 else 100.0
        self._map = PointMap(fixed.grid, moving.grid, np.eye(3), np.zeros(3), moving.box, device, moving.known)
        self._information = MutualInformation(BINS, value_range(self._values), value_range(self.moving_image))
        middle = [(first + past - 1) / 2 for first, past in moving.box[::-1]]
        self.to_centre = np.array(moving.grid.origin) + moving.grid.matrix @ middle - self.centre.cpu().numpy()
        self._turning, self.enough = turning, ENOUGH

    def __call__(self, parameters: torch.Tensor) -> torch.Tensor:
        turned = self._points @ _rotation(parameters[:3] / self.radius).T + self.centre + parameters[3:]
        coordinates = self._map.unit(turned)
        valid = self._map.inside(coordinates)
        if valid.mean() < self.enough:
            return 10.0 + 0.0 * parameters.sum()
        # per point of the mask: a move that lets hard-to-match parts leave the moving image must not gain by it
        matched = self._information(self._values, sample(self.moving_image, coordinates)[0], valid) * valid.mean()
        return matched + self._turning * parameters[:3].square().sum()

    @torch.no_grad()
    def of_shift(self, shift: np.ndarray) -> float:
        """What a shift (mm) costs."""
        return float(self(torch.tensor([0.0, 0, 0, *shift], device=self.centre.device).float()))

    @torch.no_grad()
    def information(self, move: np.ndarray) -> float:
        """The mutual information (nats, times the part of the mask that is covered) after a move."""
        parameters = torch.tensor(move, device=self.centre.device).float()
        return float(self._turning * parameters[:3].square().sum() - self(parameters))

    def covered(self, shift: np.ndarray) -> float:
        """Part of the mask that lies inside the moving image after a shift (mm)."""
        moved = self._points + self.centre + torch.tensor(shift, device=self.centre.device).float()
        return float(self._map.inside(self._map.unit(moved)).mean())

    def shift_by(self, move) -> np.ndarray:
        """By how much (mm) `move`, (matrix, offset) or None for no move, shifts the mask's middle."""
        centre = self.centre.double().cpu().numpy()
        return move[0] @ centre + move[1] - centre if move else np.zeros(3)

    def length(self, move: np.ndarray, beside=None) -> float:
        """How far (mm, mean) from where the mask's points lie, or from where `beside` takes them, `move` does."""
        parameters = torch.tensor(move, device=self.centre.device).float()
        turned = self._points @ _rotation(parameters[:3] / self.radius).T + parameters[3:]
        rest = self._points
        if beside:
            matrix, shift = (
                torch.as_tensor(one, device=rest.device).float() for one in (beside[0], self.shift_by(beside))
            )
            rest = rest @ matrix.T + shift
        return float((turned - rest).norm(dim=1).mean())


def _chosen(fixed, mask: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    """Which of a level's points, in their indices' order, lie in the mask."""
    return level_image(mask, fixed.grid, positions(fixed.grid, voxel_mm), 0.0).reshape(-1) > 0.5


def _nearest(level: _Level, loss: float, shift: np.ndarray, step: float) -> tuple[float, np.ndarray]:
    """From `shift` to the best of its 26 neighbours, over and over, in steps that are halved down to 2 mm or so.

    A limb says little along its axis: gradients lose their way there.
    """
    around = np.array([offset for offset in np.ndindex(3, 3, 3) if offset != (1, 1, 1)]) - 1.0
    while step >= 2.0:
        near = shift + step * around
        losses = [level.of_shift(place) for place in near]
        if min(losses) < loss:
            loss, shift = min(losses), near[int(np.argmin(losses))]
        else:
            step /= 2
    return loss, shift


def _refine(level: _Level, start: np.ndarray, iterations: int, step_mm: float) -> np.ndarray:
    parameters = torch.tensor(start, dtype=torch.float32, device=level.centre.device, requires_grad=True)
    adam = Adam(parameters)
    best = (float("inf"), start)
    for step in range(iterations):
        loss = level(parameters)
        if float(loss.detach()) < best[0]:
            best = (float(loss.detach()), parameters.detach().double().cpu().numpy().copy())
        adam.step(loss, step_mm * 0.05 ** (step / iterations))
    return best[1]


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """Rodrigues' formula: rotation matrix of a rotation vector (radians)."""
    zero = angles.new_zeros(())
    x, y, z = angles
    cross = torch.stack([torch.stack([zero, -z, y]), torch.stack([z, zero, -x]), torch.stack([-y, x, zero])])
    return torch.linalg.matrix_exp(cross)
