"""The free-form deformation behind the engines `dense` and `sampled`: levels, control points, steps.

Level after level (coarse to fine): what the engine compares, prepared from the fixed and the un-warped moving image; a
cubic B-spline free-form deformation carried over from the level before; Adam on its control points, minimising

    sum of weighted terms at fixed points x and moving points T(x)
    + prior on the displacement (size, stretching, bending energy) + barrier on the Jacobian determinant.

`dense` looks at one of the interleaved sub-lattices of the mask an iteration, so that a pass sees each voxel once;
`sampled` at random points.
"""

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from synthct.images.grid import Grid, Volume
from synthct.registration.dense import prior, sampled, terms
from synthct.registration.dense.axes import on_axes_of
from synthct.registration.dense.bspline import ControlGrid
from synthct.registration.dense.descent import Descent
from synthct.registration.dense.extractors import extractors
from synthct.registration.dense.points import RandomPoints, SubLattices
from synthct.registration.dense.pyramid import content, extents, level_image, positions
from synthct.registration.dense.start import STILL, Start, settled
from synthct.registration.dense.warp import PointMap
from synthct.registration.transform import as_composite

EVERY = 20  # seconds between two lines on a level


@dataclass
class Outcome:
    """What a registration found: the transform (fixed to moving, mm, LPS), the loss level by level, and what was found
    of a rigid start, where one was looked for."""

    transform: sitk.Transform
    losses: list[dict]
    start: Start | None = None


def register(
    fixed: Volume,
    moving: Volume,
    mask: Volume,
    settings: dict,
    *,
    engine: str,
    moving_is: str,
    seed: int,
    rigid: dict | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Register `moving` to `fixed` inside `mask` (uint8 on the fixed grid).

    `settings` are those of a recipe with the `engine` "dense" or "sampled"; `moving_is` is "ct" or "image" and says
    which side gets the CT's smoothing; `rigid`, the section ``registration.rigid``, puts a rigid start before the
    levels; `say` hears how far it is, a line a level and one every `EVERY` seconds of a long one. The same seed gives
    the same bits on a CPU.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    extract = extractors(settings, device)
    sides = sides_of(fixed, moving, settings, moving_is, device)
    inside = torch.as_tensor(mask.array, device=device).float()
    found = None
    if rigid:
        found = start_of(fixed, moving, mask, settings, rigid, moving_is=moving_is, sides=sides, device=device, say=say)
    start = found if found and found.better else STILL
    there = sides[1]
    point_map = PointMap(fixed.grid, there.grid, start.matrix, start.offset, there.box, device, there.known, start.bend)
    grids = [ControlGrid.covering(fixed.grid, settings["grid_mm"] * finer) for finer in settings["grid_schedule"]]
    control, losses = grids[0], []
    coefficients = control.zeros(device)
    for level, voxel in enumerate(settings["voxel_mm"]):
        if level:
            control, coefficients = grids[level], control.refined(coefficients, grids[level], extents(fixed.grid))
        if engine == "sampled":
            points = RandomPoints(control, fixed, inside, settings["samples"], point_map, generator)
            compared = sampled.build(settings, level, sides, extract)
        else:
            points = SubLattices(control, fixed, inside, voxel, settings["stride"][level], point_map, generator)
            compared = terms.build(settings, level, sides, extract, points.level, coefficients)
        steps = settings["iterations"][level]
        weights = prior.at(settings, level)
        coefficients, first, last = Descent(fixed, control, points, point_map, compared, weights).run(
            coefficients,
            steps,
            settings["step_mm"][level],
            functools.partial(_cooling, steps=steps),
            _teller(f"level {level + 1} of {len(settings['voxel_mm'])}, {voxel:g} mm", steps, say),
        )
        losses.append({"level": level, "voxel_mm": voxel, "first": first, "last": last})
    direction = torch.tensor(fixed.grid.direction, device=device).float().view(3, 3)
    coefficients = prior.unfolded(control, coefficients, fixed.grid, direction)
    return Outcome(as_composite(control.to_sitk(coefficients, fixed.grid), *start.transforms()), losses, found)


def start_of(
    fixed: Volume,
    moving: Volume,
    mask: Volume,
    settings: dict,
    rigid: dict,
    *,
    moving_is: str,
    sides: list["Side"] | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Start:
    """The rigid start that is found by the section ``registration.rigid``; `settings` are an engine's, of which its
    images are prepared but for the CT's range: other numbers would move the limits of its verdict. `sides` are the
    images as prepared by `settings` themselves, for where the range is the same."""
    own = settings | {"clip_ct": rigid["clip_ct"]}
    if sides is None or own != settings:
        sides = sides_of(fixed, moving, own, moving_is, device)
    return settled(fixed, sides, torch.as_tensor(mask.array, device=device).float(), rigid, device, say)


def sides_of(fixed: Volume, moving: Volume, settings: dict, moving_is: str, device: str) -> list["Side"]:
    """The fixed and the moving image, prepared."""
    return [
        Side(fixed, settings, "image" if moving_is == "ct" else "ct", device),
        Side(moving, settings, moving_is, device, fixed.grid),
    ]


def _teller(level: str, steps: int, say: Callable[[str], None]) -> Callable[[int, float, torch.Tensor], None]:
    """Tells `say` how far a level is, every `EVERY` seconds and at its end."""
    started = told = time.monotonic()

    def hear(step: int, first: float, last: torch.Tensor):
        nonlocal told
        if time.monotonic() - told > EVERY or step == steps - 1:
            told = time.monotonic()
            say(
                f"{level}: iteration {step + 1} of {steps}, "
                f"metric {first:.4f} at first, {float(last):.4f} now, {told - started:.0f} s"
            )

    return hear


def _cooling(step: int, steps: int) -> float:
    """Step size over a level: half a cosine from 1 down to 0.05."""
    return 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * (step / steps)))


class Side:
    """One of the two images, prepared once: clipped, on the device; `at` smooths and resamples it for a level.

    With `like`, the fixed image's grid, it lies on that image's axes; `known` are then its voxels, None for all.
    """

    def __init__(self, volume: Volume, settings: dict, role: str, device: str, like: Grid | None = None):
        low, high = settings["clip_ct"] if role == "ct" or settings["image_is_ct_like"] else (-np.inf, np.inf)
        stored, known = volume, None
        if like is not None:
            volume, known = on_axes_of(like, stored, min(settings["voxel_mm"]))
        array = np.clip(volume.array.astype(np.float32), low, high)
        self.array, self.grid, self.role = torch.as_tensor(array, device=device), volume.grid, role
        self.box = content(volume.array)
        self.known = None if known is None else torch.as_tensor(known[None], device=device).float()
        self._stored = self.array if known is None else torch.as_tensor(stored.array, device=device).clip(low, high)

    def at(self, voxel_mm: float | tuple[float, float, float], sigma_mm: float) -> torch.Tensor:
        """The image (z, y, x) at a level's points."""
        return level_image(self.array, self.grid, positions(self.grid, voxel_mm), sigma_mm, self.box)

    def mirrored(self, axis: int) -> "Side":
        """The same image with its content turned about along one axis of (z, y, x)."""
        other = copy.copy(self)
        other.array = self.array.flip(axis)
        other.known = None if self.known is None else self.known.flip(axis + 1)
        count, (first, past) = self.array.shape[axis], self.box[axis]
        other.box = (*self.box[:axis], (count - past, count - first), *self.box[axis + 1 :])
        return other

    def statistics(self) -> torch.Tensor:
        """[min, max, mean, sigma] of the whole image, as IMPACT hands them to an extractor."""
        whole = self._stored.float()
        return torch.stack([whole.min(), whole.max(), whole.mean(), whole.std()])

    def direction(self) -> torch.Tensor:
        """The 3×3 direction cosines."""
        return torch.tensor(self.grid.direction, device=self.array.device).float().view(3, 3)
