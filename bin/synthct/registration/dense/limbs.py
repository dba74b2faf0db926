"""The limbs of a mask: two legs, arms beside a chest, legs below a pelvis – what can move on its own.

Told slice by slice along the body. In a slice, pieces that hang together by a neck thinner than they are count as two:
a mask has a rim, and the rims of two thighs touch. A piece that goes on in the next slice is the same part; where one
becomes two of about a size, or two become one, parts end and others begin, so that a pelvis is a part beside its legs.
A piece much larger than what it meets goes on through such a place: a chest stays one part where its arms end.
"""

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from synthct.images.grid import Grid, Volume, blank, resample, to_sitk, triple
from synthct.images.orientation import orientation_of

PITCH_MM = 4.0  # of the lattice that pieces are told on, where the mask's own is finer
NECK = 0.5  # a neck is thinner than this part of either piece, by the radius of the largest disc within
SMALLEST_MM = 15.0  # radius of the largest disc within a piece; a hand or a fold of skin has less
MAIN = 0.75  # of the pieces that meet, one with this part of their area goes on as the same part
BLEND_MM = 8.0  # pitch of the grid that the limbs' moves are blended on,
BEYOND_MM = 64.0  # and how far it reaches beyond the image: further than a deformation goes
SOFTEST_MM = (10.0, 15.0, 22.0, 33.0, 50.0)  # widths of the blend, the first that leaves the mask whole
LEAST_VOLUME = 0.3  # Jacobian determinant in the mask below which it is not whole; the barrier's floor too


def limbs(mask: Volume, least: float) -> list[np.ndarray]:
    """The parts of `mask` (uint8, z, y, x), boolean on its grid, of which each has at least `least` (0..1) of its
    voxels; what is in none of these is in the part nearest to it. An empty list where there are not two.

    >>> legs = np.zeros((40, 30, 60), np.uint8)
    >>> legs[:, 5:25, 5:25] = legs[:, 5:25, 35:55] = 1
    >>> grid = Grid((60, 30, 40), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> [int(part.sum()) for part in limbs(Volume(legs, grid), 0.1)]
    [16000, 16000]
    """
    orientation = orientation_of(mask.grid)
    inside = orientation.turn(mask.array) > 0
    spacing = np.array(orientation.turn_grid(mask.grid).spacing[::-1])
    steps = np.maximum(1, np.rint(PITCH_MM / spacing)).astype(int)
    coarse = inside[tuple(slice(step // 2, None, step) for step in steps)]
    labels = _parts([_pieces(one, (spacing * steps)[1:]) for one in coarse])
    sizes = np.bincount(labels.ravel())[1:]
    chosen = 1 + np.flatnonzero(sizes >= least * sizes.sum())
    if len(chosen) < 2:
        return []
    labels[~np.isin(labels, chosen)] = 0
    nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=spacing * steps, return_distances=False, return_indices=True
    )
    full = labels[tuple(nearest)]
    for axis, step in enumerate(steps):
        index = np.minimum(np.arange(inside.shape[axis]) // step, full.shape[axis] - 1)
        full = full.take(index, axis)
    return [orientation.turn_back(np.ascontiguousarray(inside & (full == one))) for one in chosen]


def _pieces(inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The pieces of a slice (y, x), numbered from 1; 0 outside the mask and for what is too thin."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)[1:-1, 1:-1]
    best, count = np.zeros(inside.shape, int), 0
    for neck in np.arange(0.0, NECK * depth.max(initial=0.0), spacing.min()):
        labels, found = ndimage.label(depth > neck)
        radii = ndimage.maximum(depth, labels, range(1, found + 1))
        whole = 1 + np.flatnonzero(np.array(radii) >= max(SMALLEST_MM, neck / NECK))
        if len(whole) > count:
            best, count = np.where(np.isin(labels, whole), labels, 0), len(whole)
    if count == 0:
        return best
    nearest = ndimage.distance_transform_edt(best == 0, return_distances=False, return_indices=True)
    whole, _ = ndimage.label(inside)
    kept = best[tuple(nearest)]
    return np.where(inside & (whole == whole[tuple(nearest)]), kept, 0)


def _parts(slices: list[np.ndarray]) -> np.ndarray:
    """The slices' pieces (z, y, x), numbered by the part that they belong to."""
    parts, last = np.zeros((len(slices), *slices[0].shape), int), 0
    for k, pieces in enumerate(slices):
        before = parts[k - 1] if k else np.zeros_like(pieces)
        names = {one: _continued(one, pieces, before) for one in _numbers(pieces)}
        for one, name in names.items():
            if not name:
                last += 1
            parts[k][pieces == one] = name or last
    return parts


def _continued(one: int, pieces: np.ndarray, before: np.ndarray) -> int:
    """The part of the slice before that the piece `one` goes on from; 0 where it begins another."""
    own = pieces == one
    above = {part: int((before == part).sum()) for part in _numbers(before[own])}
    if not above:
        return 0
    main = max(above, key=lambda part: above[part])
    beside = {other: int((pieces == other).sum()) for other in _numbers(pieces[before == main])}
    goes_on = above[main] >= MAIN * sum(above.values()) and own.sum() >= MAIN * sum(beside.values())
    return main if goes_on else 0


def _numbers(array: np.ndarray) -> Iterator[int]:
    return (int(one) for one in np.unique(array) if one)


def blend(mask: Volume, parts: list[np.ndarray], moves: list[tuple[np.ndarray, np.ndarray]], rest) -> Volume | None:
    """What the limbs' moves add to `rest`, the move of all, on a coarse grid around that of `mask` (z, y, x, 3; mm,
    LPS). A move is (3×3 matrix, offset), fixed to moving; `parts` are as `limbs` gives them.

    A point goes with the parts near it: each counts by the inverse fourth power of the distance from it (Shepard's
    interpolation), softened so that two parts that touch go over into each other. None where the moves differ so
    much that every width of the blend folds the mask.
    """
    grid = _around(mask.grid)
    points = grid.points(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3))
    beyond = [points @ (matrix - rest[0]).T + (offset - rest[1]) for matrix, offset in moves]
    distances = [_distance(mask.with_array(part.astype(np.uint8)), grid).ravel() for part in parts]
    inside = resample(mask, grid, order=0).array > 0
    for width in SOFTEST_MM:
        weights = np.stack([1 / (distance**4 + width**4) for distance in distances])
        weights /= weights.sum(0)
        field = sum(weight[:, None] * one for weight, one in zip(weights, beyond, strict=True))
        field = field.reshape(*grid.shape, 3).astype(np.float32)
        whole = points.reshape(field.shape) @ rest[0].T + field
        if _determinant(whole, grid)[inside].min(initial=1.0) >= LEAST_VOLUME:
            return Volume(field, grid)
    return None


def _around(grid: Grid) -> Grid:
    axes = np.array(grid.direction).reshape(3, 3)
    span = (np.array(grid.size) - 1) * grid.spacing + 2 * BEYOND_MM
    size = triple(int(n) for n in np.ceil(span / BLEND_MM) + 1)
    origin = triple(map(float, np.array(grid.origin) - axes @ np.full(3, BEYOND_MM)))
    return Grid(size, (BLEND_MM, BLEND_MM, BLEND_MM), origin, grid.direction)


def _distance(part: Volume, grid: Grid) -> np.ndarray:
    """Distance (mm; 0 inside) from `part` at the points of `grid`."""
    near = sitk.Resample(to_sitk(part), blank(grid), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    found = sitk.GetArrayFromImage(near) > 0
    return ndimage.distance_transform_edt(~found, sampling=grid.spacing[::-1])


def _determinant(moved: np.ndarray, grid: Grid) -> np.ndarray:
    """Jacobian determinant (z, y, x) of a map given by where it takes the grid's points (z, y, x, 3; mm)."""
    slopes = [np.gradient(moved, grid.spacing[2 - axis], axis=axis) for axis in (2, 1, 0)]
    return np.linalg.det(np.stack(slopes, -1) @ np.array(grid.direction).reshape(3, 3).T)
