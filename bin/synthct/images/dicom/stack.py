"""From frames in any order to one stack: sorted along the normal of their planes, evenly spaced, on a grid."""

from dataclasses import dataclass

import numpy as np

from synthct.core.errors import InputError
from synthct.images.dicom.headers import Frame, numbers, text, whole
from synthct.images.grid import Grid, triple

PARALLEL = 1e-4  # largest difference of direction cosines between slices of one series
EVEN = 0.1  # largest distance of a slice from its place on an even stack, as a part of the step
ROUNDED = 0.06  # mm, what is allowed in any case: positions may be written with one decimal


@dataclass(frozen=True)
class Stack:
    """`frames` along the normal, the `grid` they make, and each one's `shift` (row, column; mm) within its plane.

    The shifts are zero but for a tilted gantry, whose slices climb along the table and not along their normal.
    """

    frames: list[Frame]
    grid: Grid
    shift: np.ndarray

    @property
    def tilted(self) -> bool:
        """Whether the slices are shifted against each other."""
        return bool(self.shift.any())


def stacked(frames: list[Frame], path) -> Stack:
    """The frames as one stack. Raises `InputError`, naming files, for slices that do not make one."""
    for frame in frames:
        if (samples := whole(frame.header, "SamplesPerPixel", 1)) != 1:
            raise InputError(f"DICOM {frame.file}: {samples} values per pixel (colour), expected one")
        if frame.number is None and whole(frame.header, "NumberOfFrames", 1) > 1:
            raise InputError(f"DICOM {frame.file}: a multi-frame object without a place for each frame; convert it")
    positions = np.array([numbers(frame, "ImagePositionPatient", 3) for frame in frames])
    turns = np.array([numbers(frame, "ImageOrientationPatient", 6) for frame in frames])
    pixels = np.array([numbers(frame, "PixelSpacing", 2) for frame in frames])
    row, column, normal = _axes(frames[0], turns[0])
    _alike(frames, turns, pixels)
    if len(frames) < 2:
        raise InputError(f"DICOM {path}: one slice, expected a 3-D series")
    order = np.argsort(positions @ normal, kind="stable")
    frames, positions = [frames[i] for i in order], positions[order]
    heights = positions @ normal
    _evenly(frames, heights, path)
    step = float((heights[-1] - heights[0]) / (len(frames) - 1))
    away = positions - positions[0] - np.outer(heights - heights[0], normal)
    shift = np.stack([away @ row, away @ column], axis=1)
    if np.abs(shift).max() <= max(0.1 * float(pixels.min()), 2 * ROUNDED):
        shift[:] = 0
    grid = Grid(
        (whole(frames[0].header, "Columns"), whole(frames[0].header, "Rows"), len(frames)),
        (float(pixels[0, 1]), float(pixels[0, 0]), step),
        triple(map(float, positions[0])),
        tuple(map(float, np.stack([row, column, normal], axis=1).ravel() + 0.0)),
        next(filter(None, (text(frame.header, "FrameOfReferenceUID").strip() for frame in frames)), ""),
    )
    return Stack(frames, grid, shift)


def _axes(frame: Frame, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = turn[:3], turn[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(np.dot(row, column)) > 0.01:
        shown = "\\".join(f"{one:g}" for one in turn)
        raise InputError(
            f"DICOM {frame.file}: ImageOrientationPatient {shown} is no direction, expected two unit vectors at a "
            "right angle"
        )
    row, column = row / lengths[0], column / lengths[1]
    return row, column, np.cross(row, column)


def _alike(frames: list[Frame], turns: np.ndarray, pixels: np.ndarray):
    """All slices have the first one's size, direction and spacing."""
    first = frames[0]
    if (pixels <= 0).any():
        raise InputError(f"DICOM {first.file}: PixelSpacing {pixels.min():g}, expected millimetres above 0")
    size = whole(first.header, "Columns"), whole(first.header, "Rows")
    for frame, turn, spacing in zip(frames, turns, pixels, strict=True):
        other = whole(frame.header, "Columns"), whole(frame.header, "Rows")
        if other != size:
            raise InputError(f"DICOM {frame.file}: {other[0]}×{other[1]} pixels, {first.name} has {size[0]}×{size[1]}")
        if np.abs(turn - turns[0]).max() > PARALLEL:
            raise InputError(f"DICOM {frame.file}: not parallel to {first.name}, expected one stack of slices")
        if np.abs(spacing - pixels[0]).max() > 1e-4:
            raise InputError(f"DICOM {frame.file}: another pixel spacing than {first.name}")


def _evenly(frames: list[Frame], heights: np.ndarray, path):
    """No slice is missing or doubled, and none lies off an even stack."""
    steps = np.diff(heights)
    step = float(np.median(steps))
    if steps.min() < 1e-3:
        at = int(steps.argmin())
        raise InputError(f"DICOM {path}: {frames[at].name} and {frames[at + 1].name} lie at the same position")
    number = np.arange(len(heights))
    away = np.abs(heights - np.polyval(np.polyfit(number, heights, 1), number))
    wide = steps > 1.5 * max(step, float(steps.mean()))
    uneven = np.abs(steps - step) > max(EVEN * step, 2 * ROUNDED)
    if not wide.any() and not uneven.any() and away.max() <= min(max(EVEN * step, ROUNDED), 0.25 * step):
        return
    off = wide if wide.any() else np.abs(steps - step) == np.abs(steps - step).max()
    step = float(steps[~off].mean()) if not off.all() else step
    at = int(off.argmax())
    multiple = steps[off] / step
    gap = f"{steps[at]:.4g} mm from {frames[at].name} to {frames[at + 1].name}, {step:.4g} mm elsewhere"
    if np.abs(multiple - np.rint(multiple)).max() < 0.25 and np.rint(multiple).min() >= 2:
        missing = int((np.rint(multiple) - 1).sum())
        raise InputError(f"DICOM {path}: {missing} slice{'s' * (missing > 1)} missing ({gap})")
    raise InputError(f"DICOM {path}: slices are not evenly spaced ({gap})")
