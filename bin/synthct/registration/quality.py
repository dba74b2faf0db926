"""Judging a registration without truth: folding, Jacobian, similarity before and after, overlap of the bodies."""

import numpy as np
import SimpleITK as sitk
import torch

from synthct.core.errors import PairError
from synthct.images.grid import Grid, Volume, resample, triple
from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.pyramid import level_image, positions

VOXEL_MM = 3.0  # the judged images are brought to this (or their own, if coarser), so that judging stays cheap
REGION_MM = 30.0  # side of the cubes whose worst is recorded: a wrong bone does not vanish in the mean of a whole body
MOVED_MM = 9.0  # how far a pair is moved to see whether it would match better: three voxels, more than a small error
BONE_HU = 250.0
LEAST_BONE_MM3 = 2000.0  # with less in either image its overlap says nothing


def jacobian(displacement: Volume) -> np.ndarray:
    """det(d(p + u)/dp) at every voxel (z, y, x), by central differences; 0 or less means folded space."""
    spacing = displacement.grid.spacing[::-1]
    directions = np.array(displacement.grid.direction).reshape(3, 3)
    along = [list(np.gradient(displacement.array[..., c].astype(np.float64), *spacing)) for c in range(3)]
    gradient = np.stack([np.stack(rows[::-1], -1) for rows in along], -2)  # [..., component, image axis x, y, z]
    return np.linalg.det(gradient @ directions.T + np.eye(3))


def measures(
    fixed: Volume,
    before: Volume,
    after: Volume,
    mask: np.ndarray,
    displacement: Volume,
    bodies: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> dict:
    """The numbers of ``qc.json``. `before` and `after` are the moving image on the fixed grid; `mask` (z, y, x) is the
    fixed mask where the moving image gives support; `bodies` are body masks of fixed, before and after, if known."""
    inside = mask > 0
    determinant = jacobian(displacement)[inside]
    length = np.linalg.norm(displacement.array, axis=-1)[inside]
    result = {
        "folding_fraction": float((determinant <= 0).mean()),
        "jacobian": {f"p{q:g}": float(np.percentile(determinant, q)) for q in (0, 1, 5, 50, 95, 99, 100)},
        "jacobian_log_std": float(np.log(determinant.clip(1e-3)).std()),
        "displacement_mm": {
            "mean": float(length.mean()),
            "p95": float(np.percentile(length, 95)),
            "max": float(length.max()),
        },
        "mask_voxels": int(inside.sum()),
    }
    for name, moved in (("before", before), ("after", after)):
        result |= {f"{key}_{name}": value for key, value in similarity(fixed, moved, inside).items()}
    if bodies:
        for name, body in (("before", bodies[1]), ("after", bodies[2])):
            result[f"body_dice_{name}"] = _dice(bodies[0] & inside, body & inside)
    return result


def inverse_consistency(there: sitk.Transform, back: sitk.Transform, mask: np.ndarray, grid: Grid) -> dict[str, float]:
    """How far (mm) a point of the mask lands from itself after `there` and `back`, over 2000 points."""
    index = np.argwhere(mask)
    index = index[np.linspace(0, len(index) - 1, min(2000, len(index))).astype(int)]
    points = index[:, ::-1] @ grid.matrix.T + np.array(grid.origin)
    again = np.array([back.TransformPoint(there.TransformPoint(p)) for p in points.tolist()])
    error = np.linalg.norm(again - points, axis=1)
    return {"mean": float(error.mean()), "p95": float(np.percentile(error, 95))}


def distance_map(fixed: Volume, moved: Volume) -> Volume:
    """Local MIND distance (R2D2, mean over channels, 0..1) of two images on one grid, float32 on that grid.

    Computed at `VOXEL_MM` and interpolated: where the structure of the images disagrees.
    """
    points = positions(fixed.grid, VOXEL_MM)
    maps = [
        mind(level_image(torch.from_numpy(v.array.astype(np.float32)), fixed.grid, points, 1.0), 2, 2)
        for v in (fixed, moved)
    ]
    distance = (maps[0] - maps[1]).abs().mean(0).numpy()
    spacing = triple(float(p[1] - p[0]) for p in points[::-1])
    coarse = Grid(distance.shape[::-1], spacing, fixed.grid.origin, fixed.grid.direction)
    return resample(Volume(distance, coarse), fixed.grid, order=1)


def similarity(fixed: Volume, moved: Volume, inside: np.ndarray) -> dict[str, float | None]:
    """Mutual information (nats, 48 bins) and MIND distance (R2D2, 0..1) of two images on one grid in a mask: its mean,
    "worst", the largest mean over a cube of `REGION_MM` that is half filled by the mask or more, and "moved" (see
    `_moved`)."""
    points = positions(fixed.grid, VOXEL_MM)
    weight = level_image(torch.from_numpy(inside.astype(np.float32)), fixed.grid, points, 0.0)
    chosen = weight.reshape(-1) > 0.5
    if not chosen.any():
        raise PairError(f"mask: nothing of it is left at {VOXEL_MM:g} mm voxels; is it a contour that is not filled?")
    images = [
        level_image(torch.from_numpy(v.array.astype(np.float32)), fixed.grid, points, 1.0) for v in (fixed, moved)
    ]
    first, second = (image.reshape(-1)[chosen] for image in images)
    ranges = [(float(v.min()), max(float(v.max()), float(v.min()) + 1e-3)) for v in (first, second)]
    joint = MutualInformation(48, *ranges)
    maps = [mind(image, 2, 2) for image in images]
    distance = (maps[0] - maps[1]).abs().mean(0)
    spacing = [float(p[1] - p[0]) for p in points]
    return {
        "mutual_information": -float(joint(first, second, torch.ones_like(first))),
        "mind_distance": float(distance.reshape(-1)[chosen].mean()),
        "mind_distance_worst": _worst(distance, (weight > 0.5).to(distance.dtype), spacing),
        "mind_distance_moved": _moved(maps, distance, weight > 0.5, spacing),
    }


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
