"""The one image of a directory as a volume: found, chosen, stacked, read.

Single-frame and enhanced objects alike; values are rescaled slice by slice. Messages name files and never patients.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import InputError
from synthct.images.dicom import headers
from synthct.images.dicom.choice import Choice, chosen
from synthct.images.dicom.folder import image_contents
from synthct.images.dicom.headers import Frame
from synthct.images.dicom.pixels import check_pixels, voxels
from synthct.images.dicom.stack import Stack, stacked
from synthct.images.grid import Grid, Volume, triple

ONCE = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")  # of a series


@dataclass(frozen=True)
class Series:
    """A chosen image series: its frames along the normal, and the grid that `read` puts them on."""

    path: object
    stack: Stack
    grid: Grid

    @property
    def frames(self) -> list[Frame]:
        """The frames, along the normal."""
        return self.stack.frames

    @property
    def modality(self) -> str:
        """MR, CT, PT, ... as the chosen slices say, "" where they do not."""
        return headers.modality(self.frames[0].header)

    def read(self) -> Volume:
        """The voxels: int16 when all values are whole and fit, else float32; a tilted stack is made straight."""
        array = voxels(self.frames)
        if self.stack.tilted:
            array = _straight(array, self.stack, self.grid)
        whole = array.astype(np.int16, copy=True) if np.abs(array).max() <= 32767 else array
        return Volume(whole if np.array_equal(whole, array) else array, self.grid)


def open_series(path, choice: Choice | None = None) -> Series:
    """The image series that `choice` means (None: the only one) in directory `path`; pixels are not read yet.

    Raises `InputError` for a directory without images, with several and no choice, with files that cannot be read,
    with slices missing, doubled, of another size or unevenly spaced, tilted ones unless `straighten`, and for colour.
    """
    choice = choice or Choice()
    found = image_contents(path, deep=choice.series is not None)
    frames = chosen(found, choice)
    kinds = sorted({headers.modality(frame.header) for frame in frames})
    if len(kinds) > 1:
        raise InputError(f"DICOM {path}: slices of modalities {' and '.join(kinds)} in one series, expected one")
    check_same(frames, path)
    stack = stacked(frames, path)
    check_pixels(stack.frames)
    if stack.tilted and not choice.straighten:
        raise InputError(
            f"DICOM {path}: slices are shifted along their plane (gantry tilt, {_tilt(stack):.1f} degrees), expected a "
            "straight stack; --straighten resamples it onto one"
        )
    return Series(path, stack, _straight_grid(stack))


def check_same(frames: list[Frame], path, keywords: tuple[str, ...] = ONCE):
    """Raise `InputError` where frames differ in one of `keywords`: a fault of an export or archive, or two people."""
    for keyword in keywords:
        seen: dict[str, Frame] = {}
        for frame in frames:
            if found := headers.text(frame.header, keyword).strip():
                seen.setdefault(found, frame)
        if len(seen) > 1:
            names = " and ".join(frame.name for frame in list(seen.values())[:2])
            raise InputError(f"DICOM {path}: {len(seen)} values of {keyword} ({names}), expected one")


def read_series(path, choice: Choice | None = None) -> Volume:
    """The image in directory `path` as a volume: float32, or int16 when all rescaled values are whole and fit.

    The grid's z axis is the slices' normal. Raises `InputError` as `open_series` does, and for pixels that cannot be
    decoded.
    """
    return open_series(path, choice).read()


def modality_of(path, choice: Choice | None = None) -> str:
    """The Modality tag ("MR", "CT", ...) of the image in directory `path`, or ""."""
    return open_series(path, choice).modality


def _tilt(stack: Stack) -> float:
    rise = stack.grid.spacing[2] * (len(stack.frames) - 1)
    return float(np.degrees(np.arctan2(np.linalg.norm(stack.shift[-1]), rise)))


def _straight_grid(stack: Stack) -> Grid:
    """The stack's own grid; for a tilted one as wide as the shifts lead."""
    if not stack.tilted:
        return stack.grid
    spacing = np.array(stack.grid.spacing[:2])
    low, high = np.minimum(stack.shift.min(0), 0) / spacing, np.maximum(stack.shift.max(0), 0) / spacing
    start, more = np.floor(low).astype(int), np.ceil(high).astype(int) - np.floor(low).astype(int)
    axes = np.array(stack.grid.direction).reshape(3, 3)
    origin = np.array(stack.grid.origin) + axes[:, :2] @ (start * spacing)
    size = (stack.grid.size[0] + int(more[0]), stack.grid.size[1] + int(more[1]), stack.grid.size[2])
    return replace(stack.grid, size=size, origin=triple(map(float, origin)))


def _straight(array: np.ndarray, stack: Stack, grid: Grid) -> np.ndarray:
    """Each slice moved within its plane to where it lies (linear), beyond it the lowest value of all."""
    spacing = stack.grid.spacing[:2]
    axes = np.array(grid.direction).reshape(3, 3)
    start = (np.array(grid.origin) - stack.grid.origin) @ axes[:, :2]  # mm along row and column
    outside, planes = float(array.min()), []
    for plane, shift in zip(array, stack.shift, strict=True):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(spacing)
        image.SetOrigin([float(one) for one in shift])
        place = sitk.Image(*grid.size[:2], sitk.sitkUInt8)
        place.SetSpacing(spacing)
        place.SetOrigin([float(one) for one in start])
        planes.append(
            sitk.GetArrayFromImage(
                sitk.Resample(image, place, sitk.Transform(2, sitk.sitkIdentity), sitk.sitkLinear, outside)
            )
        )
    return np.stack(planes)
