"""What is to be treated: a drawn target, or the standard one where nobody drew any; and whether it can be planned on.

The standard target is no tumour: an ellipsoid at the place in the body that is farthest from the skin and from the
edges of the field of view, so that every beam reaches it through tissue that was imaged. It asks the same question of
every patient: what does the error of the synthetic CT in a beam's way do to the dose at depth?
"""

import numpy as np
from scipy import ndimage

from synthct.core.errors import PairError

STANDARD = "standard ellipsoid"
SMALLEST = 3  # planning voxels across which a target must be, along each axis


def standard_target(body: np.ndarray, spacing: float, semi_axes, clearance: float) -> np.ndarray:
    """bool (z, y, x): an ellipsoid of `semi_axes` (x, y, z, mm) where the body is thickest.

    `body` is bool on a planning grid of `spacing` mm. Depth is the distance (mm) to the nearest voxel outside the
    body, holes filled, where beyond the grid counts as outside. The centre is, of the voxels at least 95 % as deep as
    the deepest, the one nearest to the body's centroid. The ellipsoid shrinks evenly until its longest semi-axis is at
    most the depth less `clearance` mm. Raises `PairError` where it would be smaller than can be planned on.
    """
    filled = ndimage.binary_fill_holes(body)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in filled])  # airways open at the ends of the stack
    depth = ndimage.distance_transform_edt(np.pad(filled, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    deepest = float(depth.max())
    places = np.argwhere(depth >= 0.95 * deepest)
    centroid = np.argwhere(filled).mean(0) if filled.any() else np.zeros(3)
    centre = places[np.linalg.norm(places - centroid, axis=1).argmin()]
    axes = np.array(semi_axes, np.float64)[::-1]  # (z, y, x)
    room = deepest - clearance
    axes *= min(1.0, room / axes.max())
    if 2 * axes.min() < SMALLEST * spacing:
        raise PairError(
            f"body: {2 * deepest:.0f} mm at its thickest place inside the field of view, too little for a target "
            f"{clearance:g} mm from every edge; expected more slices or a larger body, or a target of your own"
        )
    offset = (np.indices(body.shape).reshape(3, -1).T - centre) * spacing / axes
    return ((offset**2).sum(1) <= 1).reshape(body.shape)


def require_plannable(target: np.ndarray, body: np.ndarray, hu: np.ndarray, drawn: float, air: float) -> None:
    """Raise `PairError`, one line that says why, when a target cannot be planned on.

    Arrays (z, y, x) on the planning grid: `target` and `body` bool, `hu` the CT's mean HU a voxel; `drawn` is the
    target's volume (mm³) as drawn, against which what the grid holds of it is measured (by `within`).
    """
    if not target.any():
        raise PairError("target: no voxel of it inside the CT's field of view")
    if drawn < 0.95:
        raise PairError(f"target: {1 - drawn:.0%} of it outside the CT's field of view, expected all of it inside")
    away = float((target & ~body).sum() / target.sum())
    if away > 0.05:
        raise PairError(f"target: {away:.0%} of it outside the body mask, expected all of it inside")
    across = [int(np.ptp(np.nonzero(target)[axis])) + 1 for axis in range(3)]
    if min(across) < SMALLEST:
        raise PairError(
            f"target: {'×'.join(map(str, across[::-1]))} voxels of the dose grid, expected at least {SMALLEST} along "
            "each axis; use a finer grid (dose.grid_mm) or a larger target"
        )
    mean = float(hu[target].mean())
    if mean < air:
        raise PairError(f"target: its mean is {mean:.0f} HU on the CT, which is air (below {air:g} HU)")
