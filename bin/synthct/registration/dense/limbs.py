"""The limbs of a mask: two legs, arms beside a chest, legs below a pelvis – what can move on its own.

Told slice by slice along the body. In a slice, pieces that hang together by a neck thinner than they are count as two:
a mask has a rim, and the rims of two thighs touch. A piece that goes on in the next slice is the same part; where one
becomes two of about a size, or two become one, parts end and others begin, so that a pelvis is a part beside its legs.
A piece much larger than what it meets goes on through such a place: a chest stays one part where its arms end.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from synthct.images.grid import Grid, Volume, resample, triple
from synthct.images.orientation import orientation_of

PITCH_MM = 4.0  # of the lattice that pieces are told on, where the mask's own is finer
GAP_MM = 16.0  # along the body, up to about this is bridged: a slice or two without mask cut nobody in two
NECK = 0.5  # a neck is thinner than this part of either piece, by the radius of the largest disc within;
SAME_NECK = 0.7  # where the slice before has the pieces already, than this part: no flicker along touching thighs
SMALLEST_MM = 15.0  # radius of the largest disc within a piece; a hand or a fold of skin has less
MAIN = 0.75  # of what two slices share, a piece with this part of it goes on as the same part
BLEND_MM = 8.0  # pitch of the grid that the limbs' moves are blended on,
BEYOND_MM = 64.0  # and how far it reaches beyond the image: further than a deformation goes
WIDTHS_MM = (10.0, 15.0, 22.0, 33.0, 50.0)  # of the blend; the first that keeps volumes is taken
VOLUMES = (0.3, 3.3)  # Jacobian determinants that a blend may have in the mask; the barrier's floor, and its inverse
OFF_MM = 2.0  # mean distance from its own move that the blend may take a limb: what a deformation mends easily


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
    first = np.minimum(steps // 2, (np.array(inside.shape) - 1) // 2)
    coarse = inside[tuple(slice(start, None, step) for start, step in zip(first, steps, strict=True))]
    pitch = spacing * steps
    labels = _parts(_whole(coarse, pitch[0]), pitch[1:])
    sizes = np.bincount(labels[coarse])[1:]
    chosen = 1 + np.flatnonzero(sizes >= least * coarse.sum())
    if len(chosen) < 2:
        return []
    labels[~np.isin(labels, chosen)] = 0
    full = labels[tuple(_nearest(labels == 0, pitch))].astype(np.int16)  # of it there is one for every voxel next
    for axis, step in enumerate(steps):
        index = np.minimum(np.arange(inside.shape[axis]) // step, full.shape[axis] - 1)
        full = full.take(index, axis)
    return [orientation.turn_back(np.ascontiguousarray(inside & (full == one))) for one in chosen]


def _whole(inside: np.ndarray, step: float) -> np.ndarray:
    """The mask (z, y, x) without holes in its slices and without gaps between them."""
    line = np.zeros((3, 3, 3), bool)
    line[:, 1, 1] = True
    bridged = max(1, round(GAP_MM / step / 2))
    closed = ndimage.binary_dilation(inside, line, bridged)
    closed = ndimage.binary_erosion(closed, line, bridged, border_value=1)
    return np.stack([ndimage.binary_fill_holes(one) for one in closed])


def _nearest(outside: np.ndarray, spacing) -> np.ndarray:
    return ndimage.distance_transform_edt(outside, sampling=spacing, return_distances=False, return_indices=True)


def _pieces(inside: np.ndarray, spacing: np.ndarray, before: int) -> np.ndarray:
    """The pieces of a slice (y, x), numbered from 1; 0 outside the mask and for what is too thin. `before` is how many
    the slice before has."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)[1:-1, 1:-1]
    best, count = _cut(depth, spacing, NECK)
    if count < before:
        again, same = _cut(depth, spacing, SAME_NECK)
        best, count = (again, same) if same == before else (best, count)
    if count == 0:
        return best
    nearest = tuple(_nearest(best == 0, spacing))
    whole, _ = ndimage.label(inside)
    return np.where(inside & (whole == whole[nearest]), best[nearest], 0)


def _cut(depth: np.ndarray, spacing: np.ndarray, ratio: float) -> tuple[np.ndarray, int]:
    """The cores of a slice's pieces and how many there are: as many as necks thinner than `ratio` of them give."""
    best, count = np.zeros(depth.shape, int), 0
    for neck in np.arange(0.0, ratio * depth.max(initial=0.0), spacing.min()):
        labels, found = ndimage.label(depth > neck)
        radii = np.array(ndimage.maximum(depth, labels, range(1, found + 1)))
        thick = 1 + np.flatnonzero(radii >= max(SMALLEST_MM, neck / ratio))
        if len(thick) > count:
            best, count = np.where(np.isin(labels, thick), labels, 0), len(thick)
    return best, count


def _parts(inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The pieces of a mask's slices (z, y, x), numbered by the part that they belong to."""
    parts, last = np.zeros(inside.shape, int), 0
    for k, one_slice in enumerate(inside):
        before = parts[k - 1] if k else parts[k]
        pieces = _pieces(one_slice, spacing, len(list(_numbers(before))))
        names = {one: _continued(one, pieces, before) for one in _numbers(pieces)}
        for one, name in names.items():
            if not name:
                last += 1
            parts[k][pieces == one] = name or last
    return parts


def _continued(one: int, pieces: np.ndarray, before: np.ndarray) -> int:
    """The part of the slice before that the piece `one` goes on from; 0 where it begins another."""
    above = np.bincount(before[pieces == one], minlength=1)
    above[0] = 0
    if not above.any():
        return 0
    main = int(above.argmax())
    beside = np.bincount(pieces[before == main])
    beside[0] = 0
    return main if min(above[main] / above.sum(), beside[one] / beside.sum()) >= MAIN else 0


def _numbers(array: np.ndarray) -> Iterator[int]:
    return (int(one) for one in np.unique(array) if one)


def blend(mask: Volume, parts: list[np.ndarray], moves: list[tuple[np.ndarray, np.ndarray]], rest) -> Volume | None:
    """What the limbs' moves add to `rest`, the move of all, on a coarse grid around that of `mask` (z, y, x, 3; mm,
    LPS; 0 at its edge). A move is (3×3 matrix, offset), fixed to moving; `parts` are as `limbs` gives them.

    A point goes with the parts near it: each counts by the inverse fourth power of the distance from it (Shepard's
    interpolation), softened so that two parts that touch go over into each other. The softening is the least that
    leaves every volume in the mask between `VOLUMES` of it; None where there is none, or where it takes a limb by more
    than `OFF_MM` from its own move.
    """
    grid = _around(mask.grid)
    points = grid.points(np.argwhere(np.ones(grid.shape, bool)))
    beyond = [points @ (matrix - rest[0]).T + (offset - rest[1]) for matrix, offset in moves]
    near = [_at(mask.with_array(part.astype(np.uint8)), grid) for part in parts]
    distances = [ndimage.distance_transform_edt(~one, sampling=grid.spacing[::-1]).ravel() for one in near]
    steps = [max(1, round(BLEND_MM / 2 / spacing)) for spacing in mask.grid.spacing[::-1]]
    where = np.argwhere(mask.array[tuple(slice(None, None, step) for step in steps)] > 0) * steps
    inside = grid.index(mask.grid.points(where)).T
    edge = np.pad(np.zeros([n - 2 for n in grid.shape], bool), 1, constant_values=True).ravel()
    for width in WIDTHS_MM:
        weights = np.stack([1 / (distance**4 + width**4) for distance in distances])
        weights /= weights.sum(0)
        field = sum(weight[:, None] * one for weight, one in zip(weights, beyond, strict=True))
        off = [np.linalg.norm(field - one, axis=1)[part.ravel()].mean() for one, part in zip(beyond, near, strict=True)]
        if max(off) > OFF_MM:
            return None  # wider ones take them further
        field[edge] = 0.0
        moved = (points @ rest[0].T + field).reshape(*grid.shape, 3)
        volumes = _volumes(moved, grid, inside)
        if VOLUMES[0] <= volumes.min() and volumes.max() <= VOLUMES[1]:
            return Volume(field.reshape(moved.shape).astype(np.float32), grid)
    return None


def _around(grid: Grid) -> Grid:
    axes = np.array(grid.direction).reshape(3, 3)
    span = (np.array(grid.size) - 1) * grid.spacing + 2 * BEYOND_MM
    size = triple(int(n) for n in np.ceil(span / BLEND_MM) + 1)
    origin = triple(map(float, np.array(grid.origin) - axes @ np.full(3, BEYOND_MM)))
    return Grid(size, (BLEND_MM, BLEND_MM, BLEND_MM), origin, grid.direction)


def _at(mask: Volume, grid: Grid) -> np.ndarray:
    """Which points of `grid` lie in `mask`."""
    return resample(mask, grid, order=0).array > 0


def _volumes(moved: np.ndarray, grid: Grid, index: np.ndarray) -> np.ndarray:
    """Jacobian determinants, at `index` (3, N; z, y, x, between points), of a map that is linear between the points of
    `grid` and takes them to `moved` (z, y, x, 3; mm)."""
    cell = np.minimum(np.floor(index).astype(int), np.array(grid.shape)[:, None] - 2)
    part = index - cell
    slopes = []
    for axis in (2, 1, 0):  # along x, y, z: the differences along the cell's four edges, by how near they are
        difference = np.diff(moved, axis=axis) / grid.spacing[2 - axis]
        others = [other for other in range(3) if other != axis]
        slope = np.zeros((index.shape[1], 3))
        for corner in np.ndindex(2, 2):
            at, weight = cell.copy(), np.ones(index.shape[1])
            for other, side in zip(others, corner, strict=True):
                at[other] += side
                weight *= part[other] if side else 1 - part[other]
            slope += weight[:, None] * difference[tuple(at)]
        slopes.append(slope)
    return np.linalg.det(np.stack(slopes, -1) @ np.array(grid.direction).reshape(3, 3).T)
