"""Closed contours filled: which voxels of a grid lie inside of them."""

import numpy as np

from synthct.core.errors import PatientError
from synthct.images.dicom.stack import EVEN
from synthct.images.grid import Grid, Volume, resample, triple

ONE_PLANE = 0.02  # contours whose heights differ less (voxels, or mm) lie in one plane
BRIDGED = 2.1  # times the usual distance of the planes around: so far a slice may be left out within one part


def filled(polygons: list[np.ndarray], grid: Grid, what: str) -> np.ndarray:
    """Boolean (z, y, x) on `grid`: inside an odd number of the `polygons` (points x 3, mm) of the nearest plane.

    The polygons lie in planes parallel to the grid's slices, or the grid is turned until they do.
    """
    axes = np.array(grid.direction).reshape(3, 3)
    index = [(points - grid.origin) @ axes / grid.spacing for points in polygons]  # x, y, z in voxels
    flat = [float(np.ptp(points[:, 2])) for points in index]
    if max(flat) > 0.5:
        return _in_their_own_planes(polygons, grid, what)
    heights = np.array([points[:, 2].mean() for points in index])
    planes = planes_of(heights)
    plane = np.abs(heights[:, None] - planes).argmin(1)  # of each polygon
    reach = _reach(planes)
    inside = np.zeros(grid.shape, bool)
    for z in range(grid.shape[0]):
        nearest = int(np.abs(planes - z).argmin())
        if abs(planes[nearest] - z) <= reach[nearest]:
            inside[z] = _odd(_distinct([index[i] for i in np.flatnonzero(plane == nearest)]), grid)
    return inside


def planes_of(heights: np.ndarray) -> np.ndarray:
    """The heights of the planes that contours of these heights lie in, ascending."""
    ordered = np.sort(heights)
    return ordered[np.diff(ordered, prepend=-np.inf) > ONE_PLANE]


def _reach(planes: np.ndarray) -> np.ndarray:
    """How far (slices) each of the planes (heights in slices) stands for the region: half the way to its neighbours.

    A distance is bridged where it is about twice the usual one or less (a contour was left out, or every second slice
    was drawn from there on), or a neighbour's too (every third slice). Any other ends a part of the region.
    """
    gaps = np.diff(planes)
    bridged = np.zeros(len(gaps) + 2)  # with what lies beyond both ends
    for i, gap in enumerate(gaps):
        around = np.sort(gaps[max(i - 2, 0) : i + 3])
        usual = around[(len(around) - 1) // 2]  # of two in the middle the smaller: parts stay apart
        beside = [gaps[j] for j in (i - 1, i + 1) if 0 <= j < len(gaps)]
        if gap <= BRIDGED * usual or any(abs(gap - other) <= EVEN * gap for other in beside):
            bridged[i + 1] = gap
    return 0.5 * np.maximum(1.0, np.maximum(bridged[:-1], bridged[1:])) + 0.01


def _distinct(polygons: list[np.ndarray]) -> list[np.ndarray]:
    """Each polygon once, whatever point it starts from: systems export contours twice, and two would cancel out."""
    return list({(np.unique(points.round(3), axis=0) + 0.0).tobytes(): points for points in polygons}.values())


def _odd(polygons: list[np.ndarray], grid: Grid) -> np.ndarray:
    """Voxel centres inside an odd number of polygons (points x, y, .. in voxels): crossings to the left, counted."""
    width, height = grid.size[:2]
    crossed = np.zeros((height, width + 1), bool)
    for points in polygons:
        start, end = points[:, :2], np.roll(points[:, :2], -1, axis=0)
        start, end = np.where(start[:, 1:] <= end[:, 1:], start, end), np.where(start[:, 1:] <= end[:, 1:], end, start)
        first = np.clip(np.ceil(start[:, 1]), 0, height).astype(int)  # rows that an edge crosses: from y0 on, below y1
        count = np.clip(np.ceil(end[:, 1]), 0, height).astype(int) - first
        edge = np.repeat(np.arange(len(points)), count)
        rows = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        (x0, y0), (x1, y1) = start[edge].T, end[edge].T
        columns = np.clip(np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0)), 0, width).astype(int)
        np.logical_xor.at(crossed, (rows, columns), True)
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]


def _in_their_own_planes(polygons: list[np.ndarray], grid: Grid, what: str) -> np.ndarray:
    """Polygons that cut the grid's slices: filled on a fine grid of their own planes, then resampled (nearest)."""
    normal = _normal(max(polygons, key=len))
    across = np.eye(3)[np.abs(normal).argmin()]
    row = np.cross(across, normal) / np.linalg.norm(np.cross(across, normal))
    axes = np.stack([row, np.cross(normal, row), normal], axis=1)
    points = np.concatenate(polygons) @ axes
    heights = planes_of(np.array([(polygon @ normal).mean() for polygon in polygons]))
    if max(np.ptp(polygon @ normal) for polygon in polygons) > 0.5:
        raise PatientError(f"{what}: its contours lie in planes of several directions")
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else max(grid.spacing)
    fine = min(grid.spacing)
    low, high = points.min(0), points.max(0)
    size = (*(int(np.ceil((high - low)[i] / fine)) + 3 for i in (0, 1)), int(round((high - low)[2] / step)) + 1)
    origin = axes @ np.array([low[0] - fine, low[1] - fine, low[2]])
    own = Grid(triple(size), (fine, fine, step), triple(map(float, origin)), tuple(map(float, axes.ravel())))
    inside = Volume(filled(polygons, own, what).astype(np.uint8), own)
    return resample(inside, grid, order=0).array > 0


def _normal(points: np.ndarray) -> np.ndarray:
    normal = np.linalg.svd(points - points.mean(0))[2][2]
    return normal * np.sign(normal[np.abs(normal).argmax()])
