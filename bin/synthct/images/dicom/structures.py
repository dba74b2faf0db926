"""A region drawn in a planning system as a mask: closed contours of an RTSTRUCT, or a segment of a DICOM SEG.

A voxel is inside where its centre is inside an odd number of a plane's contours, so that a hole drawn as a contour of
its own, or reached through a keyhole, is a hole. Slices between two contour planes take the nearer one.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.images.dicom.headers import Frame, class_name, frames_of, read_header, text, value
from synthct.images.dicom.stack import stacked
from synthct.images.grid import Grid, Volume, resample, triple

OUTLINE = ("BODY", "EXTERNAL", "SKIN", "OUTLINE", "BODY CONTOUR")  # what planning systems call the patient's outline


def is_dicom(path) -> bool:
    """Whether a file is a DICOM object (with a preamble, or called .dcm)."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"


def mask_of(path, grid: Grid, roi: str | None = None) -> Volume:
    """The region `roi` of an RTSTRUCT or SEG file as a uint8 mask on `grid`.

    Without a name it is the patient's outline: the region marked EXTERNAL, one called BODY and the like, or the only
    one. Raises `InputError` that names the regions there are, for a region without closed contours, and for one that
    lies outside the grid.
    """
    inside = _draw(_opened(path), path, grid, roi)
    if not inside.any():
        raise InputError(f"mask {path}: the region lies outside the image, another frame of reference?")
    return Volume(inside.astype(np.uint8), grid)


def drawn(path, grid: Grid) -> Iterator[tuple[str, Volume]]:
    """Every region of an RTSTRUCT or SEG with something on `grid`, by name, as uint8 masks; the outline is none."""
    data = _opened(path)
    outline = {name for _, name, kind in regions(data) if kind == "EXTERNAL" or name.upper() in OUTLINE}
    for name in regions_in(path):
        if name not in outline:
            inside = _draw(data, path, grid, name)
            if inside.any():
                yield name, Volume(inside.astype(np.uint8), grid)


def target_of(path, grid: Grid, roi: str | None = None) -> tuple[str, Volume]:
    """The region to treat: `roi`, else the only one of type PTV, called PTV..., or there at all; its name and mask."""
    named = regions_in(path)
    if roi is None:
        types = {name: kind for _, name, kind in regions(_opened(path))}
        rules = (lambda name: types.get(name) == "PTV", lambda name: name.upper().startswith("PTV"), lambda name: True)
        found = next((fits for rule in rules if (fits := [name for name in named if rule(name)])), [])
        if len(found) != 1:
            raise InputError(
                f"target {path}: which region is to be treated? name it with --target-roi; the regions are "
                f"{', '.join(named) or 'none'}"
            )
        roi = found[0]
    return roi, mask_of(path, grid, roi)


def regions_in(path) -> list[str]:
    """Names of the regions of an RTSTRUCT that have a closed contour, or of a SEG's segments.

    Raises `InputError` for any other file.
    """
    data = _opened(path)
    if "Segmentation Storage" in class_name(data):
        return [text(item, "SegmentLabel").strip() for item in value(data, "SegmentSequence", [])]
    closed = _closed(data)
    return [name for number, name, _ in regions(data) if closed.get(number)]


def _opened(path):
    try:
        data = read_header(Path(path), pixels=True)
    except ValueError as fault:
        raise InputError(f"mask {path}: {fault}, expected an RTSTRUCT or SEG") from None
    kind = class_name(data)
    if kind != "RT Structure Set Storage" and "Segmentation Storage" not in kind:
        raise InputError(f"mask {path}: {kind}, expected an RTSTRUCT or a SEG")
    return data


def _draw(data, path, grid: Grid, roi: str | None) -> np.ndarray:
    of_kind = _of_segment if "Segmentation Storage" in class_name(data) else _of_contours
    return of_kind(data, path, grid, roi)


def regions(data) -> list[tuple[int, str, str]]:
    """Number, name and type ("EXTERNAL", "ORGAN", "") of each region of an RTSTRUCT."""
    types = {
        value(item, "ReferencedROINumber"): text(item, "RTROIInterpretedType").upper()
        for item in value(data, "RTROIObservationsSequence", [])
    }
    return [
        (item.ROINumber, text(item, "ROIName").strip(), types.get(item.ROINumber, ""))
        for item in value(data, "StructureSetROISequence", [])
    ]


def _closed(data) -> dict[int, list]:
    """The closed contours of each region, by its number."""
    return {
        value(item, "ReferencedROINumber"): [
            contour
            for contour in value(item, "ContourSequence", [])
            if text(contour, "ContourGeometricType") in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
        ]
        for item in value(data, "ROIContourSequence", [])
    }


def _of_contours(data, path, grid: Grid, roi: str | None) -> np.ndarray:
    known, closed = regions(data), _closed(data)
    number, name = _meant([(n, name, kind, bool(closed.get(n))) for n, name, kind in known], path, roi)
    polygons = []
    for contour in closed[number]:
        try:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
        except ValueError:
            raise InputError(f"mask {path}: a contour of {name} is no list of points x, y, z") from None
        polygons.append(points)
    return filled(polygons, grid, f"mask {path}: {name}")


def _meant(known: list[tuple[int, str, str, bool]], path, roi: str | None) -> tuple[int, str]:
    """Number and name of the region that is asked for; `known` says of each whether it has closed contours."""
    names = ", ".join(f"{name}{'' if closed else ' (no closed contour)'}" for _, name, _, closed in known) or "none"
    usable = [(number, name, kind) for number, name, kind, closed in known if closed]
    if roi is not None:
        fits = [one for one in known if one[1] == roi] or [one for one in known if one[1].lower() == roi.lower()]
        if not fits:
            raise InputError(f"mask {path}: no region {roi!r}; it has {names}")
        if not fits[0][3]:
            raise InputError(f"mask {path}: region {roi} has no closed contour; the regions are {names}")
        return fits[0][0], fits[0][1]
    for rule in (lambda one: one[2] == "EXTERNAL", lambda one: one[1].upper() in OUTLINE, lambda one: True):
        fits = [one for one in usable if rule(one)]
        if len(fits) == 1:
            return fits[0][0], fits[0][1]
        if fits:
            break
    raise InputError(f"mask {path}: which region is the body? name it with --roi; the regions are {names}")


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
    planes = np.unique(np.round(heights, 2))
    reach = 0.5 * max(1.0, float(np.median(np.diff(planes))) if len(planes) > 1 else 1.0) + 0.01
    inside = np.zeros(grid.shape, bool)
    for z in range(grid.shape[0]):
        nearest = planes[np.abs(planes - z).argmin()]
        if abs(nearest - z) <= reach:
            inside[z] = _odd(
                [points for points, h in zip(index, heights, strict=True) if abs(h - nearest) < 0.02], grid
            )
    return inside


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
    heights = np.unique(np.round([(polygon @ normal).mean() for polygon in polygons], 2))
    if max(np.ptp(polygon @ normal) for polygon in polygons) > 0.5:
        raise InputError(f"{what}: its contours lie in planes of several directions")
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


def _of_segment(data, path, grid: Grid, roi: str | None) -> np.ndarray:
    segments = value(data, "SegmentSequence", [])
    known = [(item.SegmentNumber, text(item, "SegmentLabel").strip(), "", True) for item in segments]
    number, name = _meant(known, path, roi)
    frames: list[Frame] = [
        frame
        for frame in frames_of(data, Path(path))
        if value(frame.header, "ReferencedSegmentNumber", number) == number
    ]
    if not frames:
        raise InputError(f"mask {path}: segment {name} has no frames")
    planes = data.pixel_array if data.pixel_array.ndim == 3 else data.pixel_array[None]
    if len(frames) == 1:
        raise InputError(f"mask {path}: segment {name} has one frame, expected a stack")
    stack = stacked(frames, path)
    whole = np.stack([planes[frame.number] > 0 for frame in stack.frames]).astype(np.uint8)
    return resample(Volume(whole, stack.grid), grid, order=0).array > 0
