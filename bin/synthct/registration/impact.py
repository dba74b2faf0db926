"""IMPACT: align two modalities by what networks or descriptors see in them (Boussot et al., 2025), made dense.

Level after level (coarse to fine): feature maps of the fixed and of the un-warped moving image; a cubic B-spline
free-form deformation carried over from the level before; Adam on its control points, minimising

    sum of weighted distances between fixed features at x and moving features at T(x)
    + prior on the displacement (size, stretching, bending energy) + barrier on the Jacobian determinant.

Every iteration looks at one of the interleaved sub-lattices of the mask, so that a pass sees each voxel once.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from synthct.errors import InputError
from synthct.registration import terms
from synthct.registration.bspline import ControlGrid, Lattice, Smoothness
from synthct.registration.pyramid import content, extents, level_image, positions
from synthct.registration.rigid import align
from synthct.registration.transform import as_composite
from synthct.registration.warp import PointMap
from synthct.volume import Volume


@dataclass
class Outcome:
    """What a registration found: the transform (fixed to moving, mm, LPS) and the loss level by level."""

    transform: sitk.Transform
    losses: list[dict]


def register(fixed: Volume, moving: Volume, mask: Volume, settings: dict, *, moving_is: str, seed: int,
             rigid: bool | None = None, device: str = "cpu") -> Outcome:
    """Register `moving` to `fixed` inside `mask` (uint8 on the fixed grid).

    `settings` is the section ``registration.impact`` of a preset, resolved for modality and region; `moving_is` is
    "ct" or "image" and says which side gets the CT's smoothing; `rigid` overrides the settings' rigid start. The same
    seed gives the same bits on a CPU.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    sides = [_Side(fixed, settings, "image" if moving_is == "ct" else "ct", device),
             _Side(moving, settings, moving_is, device)]
    inside = torch.as_tensor(mask.array, device=device).float()
    matrix, offset = np.eye(3), np.zeros(3)
    if settings["rigid"]["enabled"] if rigid is None else rigid:
        matrix, offset = align(sides, inside, settings["rigid"], device)
    point_map = PointMap(fixed.grid, moving.grid, matrix, offset, sides[1].box, device)
    direction = torch.tensor(fixed.grid.direction, device=device).float().view(3, 3)
    prior = (settings["magnitude"], settings["stretching"], settings["bending"])
    control, coefficients, losses = None, None, []
    for level in range(len(settings["voxel_mm"])):
        voxel = settings["voxel_mm"][level]
        finer = ControlGrid.covering(fixed.grid, settings["grid_mm"] * settings["grid_schedule"][level])
        coefficients = (finer.zeros(device) if control is None
                        else control.refined(coefficients, finer, extents(fixed.grid)))
        control = finer
        lattice = _SubLattices(control, fixed, inside, voxel, settings["stride"][level], point_map, generator)
        compared = terms.build(settings, level, sides, lattice.points)
        smoothness = Smoothness(control, extents(fixed.grid), coefficients)
        barrier = _FoldingBarrier(control, fixed.grid, direction, coefficients)
        coefficients.requires_grad_()
        steps = settings["iterations"][level]
        optimiser = torch.optim.Adam([coefficients], lr=settings["step_mm"][level], betas=(0.9, 0.99))
        slower = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k, n=steps: _cooling(k / n))
        first = last = None
        for _ in range(steps):
            part = lattice.next()
            coordinates = point_map.moved(part.base, part.displacement(coefficients))
            valid = part.weight * point_map.inside(coordinates)
            loss = sum(term.weight * term(part, coordinates, valid) for term in compared)
            first, last = first if first is not None else float(loss.detach()), loss.detach()
            loss = loss + smoothness(coefficients, prior) + settings["folding"] * barrier(coefficients)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            slower.step()
        coefficients = coefficients.detach()
        losses.append({"level": level, "voxel_mm": voxel, "first": first, "last": float(last)})
    coefficients = _unfolded(control, coefficients, fixed, direction)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix.ravel().tolist())
    affine.SetTranslation(offset.tolist())
    return Outcome(as_composite(control.to_sitk(coefficients, fixed.grid), affine), losses)


def _cooling(part: float) -> float:
    """Step size over a level: half a cosine from 1 down to 0.05."""
    return 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * part))


class _Side:
    """One of the two images, prepared once: clipped, on the device; `at` smooths and resamples it for a level."""

    def __init__(self, volume: Volume, settings: dict, role: str, device: str):
        low, high = settings["clip_ct"] if role == "ct" or settings["image_is_ct_like"] else (-np.inf, np.inf)
        array = np.clip(volume.array.astype(np.float32), low, high)
        self.array, self.grid, self.role = torch.as_tensor(array, device=device), volume.grid, role
        self.box = content(volume.array)

    def at(self, voxel_mm: float, sigma_mm: float) -> torch.Tensor:
        return level_image(self.array, self.grid, positions(self.grid, voxel_mm), sigma_mm, self.box)


@dataclass
class _Part:
    """One sub-lattice: which points (flat indices into the level's lattice), their base coordinates and weights."""

    index: torch.Tensor
    base: torch.Tensor
    weight: torch.Tensor
    lattice: Lattice
    chosen: torch.Tensor

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        return self.lattice.displacement(coefficients).reshape(3, -1)[:, self.chosen]


class _SubLattices:
    """The level's points inside the mask, dealt out into stride³ interleaved sub-lattices in a random order."""

    def __init__(self, control, fixed: Volume, inside: torch.Tensor, voxel_mm, stride, point_map, generator):
        self.points = positions(fixed.grid, voxel_mm)
        weight = level_image(inside, fixed.grid, self.points, 0.0)
        base = point_map.base(self.points)
        shape = weight.shape
        flat = torch.arange(weight.numel(), device=weight.device).view(shape)
        self.parts, self._generator, self._order = [], generator, []
        for z, y, x in np.ndindex(*(min(stride, n) for n in shape)):
            cut = (slice(z, None, stride), slice(y, None, stride), slice(x, None, stride))
            own = weight[cut].reshape(-1)
            chosen = torch.nonzero(own > 0.5)[:, 0]
            if not len(chosen):
                continue
            lattice = Lattice(control, [p[c] for p, c in zip(self.points, cut, strict=True)], weight)
            self.parts.append(_Part(flat[cut].reshape(-1)[chosen], base[cut].reshape(-1, 3)[chosen], own[chosen],
                                    lattice, chosen))
        if not self.parts:
            raise InputError(f"mask: nothing of it is left at {voxel_mm:g} mm voxels; it is too small to register in")

    def next(self) -> _Part:
        if not self._order:
            self._order = list(self._generator.permutation(len(self.parts)))
        return self.parts[self._order.pop()]


class _FoldingBarrier:
    """Mean of max(0, floor - det J)² at points half a control spacing apart: a wall long before space folds."""

    def __init__(self, control: ControlGrid, grid, direction, like, floor: float = 0.3):
        points = [np.linspace(0, e, max(2, int(np.ceil(2 * e / h)) + 1))
                  for e, h in zip(extents(grid), control.spacing, strict=True)]
        self._lattice, self._direction, self._floor = Lattice(control, points, like), direction, floor

    def __call__(self, coefficients: torch.Tensor) -> torch.Tensor:
        return (self._floor - self._lattice.jacobian(coefficients, self._direction)).clamp(min=0).square().mean()


def _unfolded(control: ControlGrid, coefficients: torch.Tensor, fixed: Volume, direction, floor=0.05, rounds=50):
    """Smooth the control points around any voxel whose Jacobian determinant is below `floor` until none is left."""
    lattice = Lattice(control, positions(fixed.grid, 0.0), coefficients)
    for _ in range(rounds):
        bad = (lattice.jacobian(coefficients, direction) < floor).to(coefficients.dtype)
        if not bad.any():
            break
        near = torch.stack([bad]).to(coefficients.dtype)
        for axis, matrix in enumerate(lattice.matrices):
            near = torch.movedim(torch.tensordot(near, matrix, dims=([axis + 1], [0])), -1, axis + 1)
        smooth = torch.nn.functional.avg_pool3d(coefficients[None], 3, 1, 1, count_include_pad=False)[0]
        coefficients = torch.where(near > 0, smooth, coefficients)
    return coefficients
