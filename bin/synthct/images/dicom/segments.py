"""A segment of a DICOM SEG as a mask: its frames put where they lie, those left out between them empty."""

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset

from synthct.core.errors import PatientError
from synthct.images.dicom.filling import planes_of
from synthct.images.dicom.headers import Frame, number, numbers
from synthct.images.dicom.identity import ds
from synthct.images.dicom.regions import Drawing, Region, readable, text_of, whole_of
from synthct.images.dicom.stack import EVEN, ROUNDED, stacked
from synthct.images.grid import Grid, Volume, resample

LEFT_OUT = -1  # the number of a frame that a SEG does not hold
LONGEST = 10_000  # slices of a SEG; a spacing that asks for more is no spacing


def segment_on(drawing: Drawing, region: Region, grid: Grid) -> np.ndarray:
    """Boolean (z, y, x) on `grid`: the nearest voxel is of the segment. Raises `PatientError` for damaged frames."""
    where = drawing.at(region)
    with readable(where, "its pixels"):
        planes = drawing.data.pixel_array
    planes = planes if planes.ndim == 3 else planes[None]
    least = _least(drawing.data, where)
    frames = _with_empty(region.parts, _step(drawing, region, grid))
    if len(frames) == 1:
        raise PatientError(f"{where} has one frame, and nothing says how thick it is (SpacingBetweenSlices)")
    stack = stacked(frames, drawing.path)
    if stack.tilted:
        raise PatientError(f"{where}: frames are shifted along their plane (gantry tilt), expected a straight stack")
    inside = np.zeros(stack.grid.shape, np.uint8)
    for z, frame in enumerate(stack.frames):
        if frame.number != LEFT_OUT:
            inside[z] = planes[frame.number or 0] >= least
    return resample(Volume(inside, stack.grid), grid, order=0).array > 0


def _least(data: Dataset, where: str) -> float:
    """The lowest value that is inside: half of the largest where values are probabilities or parts of a voxel."""
    if text_of(data, "SegmentationType", where).upper() != "FRACTIONAL":
        return 1
    most = whole_of(data, "MaximumFractionalValue", where)
    if most < 1:
        raise PatientError(f"{where}: MaximumFractionalValue is {most}, expected 1 or more")
    return most / 2


def _heights(frames: list[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Where frames lie along the normal of the first one's plane (mm), and that normal."""
    turn = np.array(numbers(frames[0], "ImageOrientationPatient", 6))
    normal = np.cross(turn[:3], turn[3:])
    return np.array([numbers(frame, "ImagePositionPatient", 3) for frame in frames]) @ normal, normal


def _step(drawing: Drawing, region: Region, grid: Grid) -> float | None:
    """The distance of a segment's slices (mm), of which some may be left out; None where nothing fits its frames."""
    heights, normal = _heights(region.parts)
    steps = _steps(drawing, region.parts[0], normal, grid)
    return next((step for step in steps if step > 0 and _fits(heights, step)), None)


def _steps(drawing: Drawing, frame: Frame, normal: np.ndarray, grid: Grid) -> Iterator[float]:
    """What the object says; the image's where it was drawn on its slices; the least between frames of any segment."""
    yield abs(number(frame.header, "SpacingBetweenSlices", 0.0))
    along = np.array(grid.direction).reshape(3, 3)[:, 2]
    if abs(along @ normal) > 0.999 and np.allclose(numbers(frame, "PixelSpacing", 2), grid.spacing[1::-1], rtol=1e-3):
        yield grid.spacing[2]
    every, _ = _heights([one for region in drawing.regions for one in region.parts])
    gaps = np.diff(planes_of(every))
    yield float(gaps.min()) if len(gaps) else number(frame.header, "SliceThickness", 0.0)


def _fits(heights: np.ndarray, step: float) -> bool:
    """Whether slices at these heights are different ones of an even stack."""
    places = np.sort(heights - heights.min()) / step
    away = np.abs(places - places.round()).max()
    apart = np.diff(places.round()).min(initial=1)
    return bool(away <= min(max(EVEN, ROUNDED / step), 0.25) and apart >= 1 and places[-1] < LONGEST)


def _with_empty(frames: list[Frame], step: float | None) -> list[Frame]:
    """The frames, and those that were left out between them; a frame alone gets one beside it, to be a stack."""
    if step is None:
        return frames
    heights, normal = _heights(frames)
    first = frames[int(heights.argmin())]
    start = np.array(numbers(first, "ImagePositionPatient", 3))
    there = set(((heights - heights.min()) / step).round().astype(int))
    return [*frames, *(_empty(first, start + z * step * normal) for z in range(max(*there, 1) + 1) if z not in there)]


def _empty(frame: Frame, place: np.ndarray) -> Frame:
    """A frame like `frame` at another place, with nothing in it."""
    header = Dataset()
    header.update(frame.header)
    del header.ImagePositionPatient  # a value set in its place would be set in `frame` too
    header.ImagePositionPatient = [ds(one) for one in place]
    return Frame(frame.file, LEFT_OUT, header)
