"""How far protons reach: the distal 80 % of every ray, and the water that a beam crosses on its way to the target."""

import math

import numpy as np
from scipy.ndimage import map_coordinates

from synthct.images.grid import Grid

STEP = 1.0  # mm along a ray
LEVEL = 0.8  # R80: where the dose has fallen to this part of the ray's maximum, behind it
WEAK = 0.5  # rays with less than this part of their beam's maximum have no range of their own


def range_shifts(rays, beams_ct, beams_sct, grid: Grid) -> list[np.ndarray]:
    """R80 on the sCT less R80 on the CT, mm, one array a beam; above 0 the beam reaches farther on the sCT.

    `rays` as of `Plan.rays`, `beams_ct` and `beams_sct` each beam's dose (z, y, x) on the planning `grid`. A ray
    counts whose largest dose on the CT is at least half that of its beam's rays.
    """
    shifts = []
    for (source, points), ct, sct in zip(rays, beams_ct, beams_sct, strict=True):
        places = _places(source, points, grid)
        on_ct, on_sct = _sampled(ct, places, grid), _sampled(sct, places, grid)
        strong = on_ct.max(1) >= WEAK * max(float(on_ct.max()), 1e-9)
        shift = np.array([_r80(b) - _r80(a) for a, b in zip(on_ct[strong], on_sct[strong], strict=True)])
        shifts.append(shift[np.isfinite(shift)])
    return shifts


def water_differences(rays, ct: np.ndarray, sct: np.ndarray, target: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """Water-equivalent path to the target's far side on the sCT less that on the CT, mm, one array a beam.

    `ct` and `sct` are densities relative to water, `target` bool, (z, y, x) on the planning `grid`. Rays that miss the
    target are left out.
    """
    found = []
    for source, points in rays:
        places = _places(source, points, grid)
        hit = _sampled(target.astype(np.uint8), places, grid, order=0) > 0
        last = hit.shape[1] - 1 - hit[:, ::-1].argmax(1)
        before = np.arange(hit.shape[1]) <= last[:, None]
        difference = _sampled(sct, places, grid) - _sampled(ct, places, grid)
        found.append((difference * before).sum(1)[hit.any(1)] * STEP)
    return found


def summary(values: list[np.ndarray]) -> dict:
    """{"mean", "mean_abs", "p95_abs"} (mm) over the rays of all beams, and their number; NaN without any."""
    array = np.concatenate(values) if values else np.zeros(0)
    if not array.size:
        return {"mean": math.nan, "mean_abs": math.nan, "p95_abs": math.nan, "rays": 0}
    size = np.abs(array)
    return {
        "mean": float(array.mean()),
        "mean_abs": float(size.mean()),
        "p95_abs": float(np.quantile(size, 0.95)),
        "rays": int(array.size),
    }


def _places(source: np.ndarray, points: np.ndarray, grid: Grid) -> np.ndarray:
    """Points every `STEP` mm along the rays, (ray, step, 3), over the whole grid."""
    corner = np.array(grid.origin) + np.array(grid.spacing) * (np.array(grid.size) - 1)
    reach = float(np.linalg.norm(corner - grid.origin)) + float(np.abs(points - (grid.origin + corner) / 2).max())
    steps = np.arange(-reach, reach, STEP)
    along = points - source
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return points[:, None] + steps[None, :, None] * along[:, None]


def _sampled(array: np.ndarray, places: np.ndarray, grid: Grid, order: int = 1) -> np.ndarray:
    index = (places - np.array(grid.origin)) / np.array(grid.spacing)
    return map_coordinates(array, index.reshape(-1, 3).T[::-1], order=order, mode="constant").reshape(places.shape[:2])


def _r80(profile: np.ndarray) -> float:
    """Where behind its maximum the profile falls through 80 % of it, in mm from its start; NaN without dose."""
    level = LEVEL * float(profile.max())
    if level <= 0:
        return math.nan
    last = int(np.flatnonzero(profile >= level)[-1])
    if last == len(profile) - 1:
        return math.nan
    high, low = float(profile[last]), float(profile[last + 1])
    return STEP * (last + (high - level) / (high - low))
