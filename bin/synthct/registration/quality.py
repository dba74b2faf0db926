"""Judging a registration without truth: folding, Jacobian, similarity before and after, overlap of the bodies."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from synthct.core.errors import PairError
from synthct.images.grid import Grid, Volume, triple
from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation, value_range
from synthct.registration.dense.pyramid import level_image, positions

VOXEL_MM = 3.0  # the judged images are brought to this (or their own, if coarser), so that judging stays cheap
REGION_MM = 30.0  # side of the cubes whose worst is recorded: a wrong bone does not vanish in the mean of a whole body
MOVED_MM = 9.0  # how far a pair is moved to see whether it would match better: three voxels, more than a small error
REACH = 4  # voxels from a point that its descriptor looks at (R2D2: two away, and a patch of two about each)
LEAST_CLEAR = 0.1  # part of the points that must be left, else a thin overlap would be judged by nothing
FITTED = 100_000  # points of a body that a rigid move is fitted to
BONE_HU = 250.0
LEAST_BONE_MM3 = 2000.0  # with less in either image its overlap says nothing


@dataclass(frozen=True)
class Likeness:
    """How like the fixed image one image on its grid is: numbers by name, and `distance`, the local MIND distance
    (R2D2, mean over channels, 0..1; float32) at `VOXEL_MM`: where the structure of the images disagrees."""

    numbers: dict[str, float | None]
    distance: Volume


def jacobian(displacement: Volume, inside: np.ndarray | None = None) -> np.ndarray:
    """det(d(p + u)/dp) at every voxel (z, y, x), or at those `inside` (N), by central differences; 0 or less means
    folded space."""
    spacing = displacement.grid.spacing[::-1]
    directions = np.array(displacement.grid.direction).reshape(3, 3)
    chosen = slice(None) if inside is None else inside
    rows = []
    for component in range(3):
        along = np.gradient(displacement.array[..., component].astype(np.float64), *spacing)[::-1]  # image axis x, y, z
        along = [slope[chosen] for slope in along]
        row = [sum(weight * slope for weight, slope in zip(axis, along, strict=True)) for axis in directions]
        row[component] = row[component] + 1
        rows.append(row)
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def measures(
    displacement: Volume,
    mask: np.ndarray,
    before: Likeness,
    after: Likeness,
    bodies: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> dict:
    """The numbers of ``qc.json``. `before` and `after` are of the moving image on the fixed grid; `mask` (z, y, x) is
    the fixed mask where the moving image gives support; `bodies` are body masks of fixed, before and after, if known.
    """
    inside = mask > 0
    determinant = jacobian(displacement, inside)
    length = np.linalg.norm(displacement.array, axis=-1)[inside]
    result = {
        "folding_fraction": float((determinant <= 0).mean()),
        "jacobian": {f"p{q:g}": float(np.percentile(determinant, q)) for q in (0, 1, 5, 50, 95, 99, 100)},
        "jacobian_log_std": float(np.log(determinant.clip(1e-3)).std()),
        "displacement_mm": _spread(length),
        "deformation_mm": _spread(deformation(displacement, inside)),
        "mask_voxels": int(inside.sum()),
    }
    for name, likeness in (("before", before), ("after", after)):
        result |= {f"{key}_{name}": value for key, value in likeness.numbers.items()}
    if bodies:
        for name, body in (("before", bodies[1]), ("after", bodies[2])):
            result[f"body_dice_{name}"] = _dice(bodies[0] & inside, body & inside)
    return result


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "p95": float(np.percentile(values, 95)), "max": float(values.max())}


def deformation(displacement: Volume, inside: np.ndarray) -> np.ndarray:
    """How far (mm) the field takes points `inside` (z, y, x) beyond the rigid move nearest to it (Kabsch): what is left
    of a patient who lay elsewhere. Of a large body some `FITTED` points."""
    index = np.argwhere(inside)[:: max(1, int(inside.sum()) // FITTED)]
    points = displacement.grid.points(index)
    mapped = points + displacement.array[tuple(index.T)]
    first, second = points - points.mean(0), mapped - mapped.mean(0)
    left, _, right = np.linalg.svd(second.T @ first)
    turn = left @ np.diag([1, 1, -1 if np.linalg.det(left @ right) < 0 else 1]) @ right
    return np.linalg.norm(second - first @ turn.T, axis=1)


def inverse_consistency(there: sitk.Transform, back: sitk.Transform, mask: np.ndarray, grid: Grid) -> dict[str, float]:
    """How far (mm) a point of the mask lands from itself after `there` and `back`, over 2000 points."""
    index = np.argwhere(mask)
    index = index[np.linspace(0, len(index) - 1, min(2000, len(index))).astype(int)]
    points = grid.points(index)
    again = np.array([back.TransformPoint(there.TransformPoint(p)) for p in points.tolist()])
    error = np.linalg.norm(again - points, axis=1)
    return {"mean": float(error.mean()), "p95": float(np.percentile(error, 95))}


def likenesses(
    fixed: Volume, others: Iterable[Volume], mask: np.ndarray, unseen: np.ndarray | None = None
) -> list[Likeness]:
    """How like `fixed` each of `others`, on its grid, is where `mask` (z, y, x) is above 0.

    Mutual information (nats, 48 bins) and MIND distance (R2D2, 0..1): its mean, "worst", the largest mean over a cube
    of `REGION_MM` that is half filled by the mask or more, and "moved" (see `_moved`). `unseen` (bool) is where the
    others end though the body goes on: descriptors that reach there see the cut, which says nothing of the pair.
    """
    points = positions(fixed.grid, VOXEL_MM)
    weight = level_image(torch.from_numpy((mask > 0).astype(np.float32)), fixed.grid, points, 0.0)
    inside = weight > 0.5
    if not inside.any():
        raise PairError(f"mask: nothing of it is left at {VOXEL_MM:g} mm voxels; is it a contour that is not filled?")
    clear = inside if unseen is None else _clear(inside, unseen, fixed.grid, points)
    spacing = [float(p[1] - p[0]) for p in points]
    coarse = Grid(triple(weight.shape[::-1]), triple(spacing[::-1]), fixed.grid.origin, fixed.grid.direction)

    def described(volume: Volume) -> tuple[torch.Tensor, torch.Tensor]:
        image = level_image(torch.from_numpy(volume.array.astype(np.float32)), fixed.grid, points, 1.0)
        return image[inside], mind(image, 2, 2)

    found = []
    first, own = described(fixed)
    for volume in others:
        second, maps = described(volume)
        joint = MutualInformation(48, value_range(first), value_range(second))
        distance = (own - maps).abs().mean(0)
        numbers = {
            "mutual_information": -float(joint(first, second, torch.ones_like(first))),
            "mind_distance": float(distance[clear].mean()),
            "mind_distance_worst": _worst(distance, clear.to(distance.dtype), spacing),
            "mind_distance_moved": _moved([own, maps], distance, clear, spacing),
        }
        found.append(Likeness(numbers, Volume(distance.numpy(), coarse)))
    return found


def _clear(inside: torch.Tensor, unseen: np.ndarray, grid: Grid, points: list[np.ndarray]) -> torch.Tensor:
    """The points `inside` whose descriptors see nothing of what is `unseen`; all, where these are hardly any."""
    cut = level_image(torch.from_numpy(unseen.astype(np.float32)), grid, points, 0.0) > 0.5
    near = cut[None].float()
    for axis in np.eye(3, dtype=int) * REACH:  # one after the other: a cube of nine voxels would look at 729
        near = torch.nn.functional.max_pool3d(near, (2 * axis + 1).tolist(), 1, axis.tolist())
    clear = inside & (near[0] == 0)
    return clear if clear.sum() >= LEAST_CLEAR * inside.sum() else inside


def _moved(
    maps: list[torch.Tensor], distance: torch.Tensor, inside: torch.Tensor, spacing: list[float]
) -> float | None:
    """The mean distance over what it would be with the second image moved by `MOVED_MM`, the largest of six directions.

    The distance itself rises with noise and with tissue that has no structure, here as there: their ratio does not.
    Above 1 the pair would match better elsewhere. None where there is no room to move.
    """
    ratios = []
    for axis, (step, size) in enumerate(zip(spacing, inside.shape, strict=True)):
        count = max(1, round(MOVED_MM / step))
        if count >= size:
            continue
        here, there = ([m.narrow(axis + 1, start, size - count) for m in maps] for start in (0, count))
        ends = [part.narrow(axis, start, size - count) for start in (0, count) for part in (inside, distance)]
        both = ends[0] & ends[2]
        if not both.any():
            continue
        (fixed, second), (fixed_far, second_far) = here, there
        for still, one, other in ((ends[1], fixed, second_far), (ends[3], fixed_far, second)):
            ratios.append(float(still[both].mean() / (one - other).abs().mean(0)[both].mean().clamp(min=1e-6)))
    return max(ratios, default=None)


def _worst(values: torch.Tensor, weight: torch.Tensor, spacing: list[float]) -> float:
    """The largest weighted mean of `values` (z, y, x) over cubes of `REGION_MM`; over all where none is half filled."""
    sides = [min(n, max(1, round(REGION_MM / step))) for n, step in zip(values.shape, spacing, strict=True)]
    steps = [max(1, side // 2) for side in sides]
    pooled = torch.nn.functional.avg_pool3d(torch.stack([values * weight, weight])[None], sides, steps)[0]
    filled = pooled[1] >= 0.5
    if not filled.any():
        return float((values * weight).sum() / weight.sum())
    return float((pooled[0] / pooled[1].clamp(min=1e-6))[filled].max())


def bone_overlap(fixed: Volume, moved: Volume, inside: np.ndarray) -> float | None:
    """Dice of the voxels (z, y, x) above `BONE_HU` inside a mask, for two images in HU on one grid; None where either
    has too little bone to say anything."""
    first, second = ((v.array > BONE_HU) & inside for v in (fixed, moved))
    voxel = float(np.prod(fixed.grid.spacing))
    if min(first.sum(), second.sum()) * voxel < LEAST_BONE_MM3:
        return None
    return _dice(first, second)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else 1.0
