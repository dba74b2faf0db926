"""Images at the edge: reading, checking and writing volumes, and the grids they live on.

A `Volume` is an array (z, y, x) with the `Grid` that places it in LPS millimetres. SimpleITK stays behind this door:
the other rooms see arrays and grids. A DICOM series is read by `synthct.dicom`, through the same `read_volume`.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthct.errors import InputError
from synthct.files import atomic
from synthct.nifti import shortfall

SUFFIXES = (".mha", ".mhd", ".nii", ".nii.gz", ".nrrd", ".nhdr")


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: size, spacing (mm) and origin (mm, LPS) as (x, y, z); direction, 9 numbers row by row."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an array on this grid: (z, y, x)."""
        return self.size[::-1]

    @property
    def matrix(self) -> np.ndarray:
        """3×3: index steps (x, y, z) to millimetres; point = origin + matrix @ index."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing)

    def differs_from(self, other: "Grid", tolerance: float = 1e-3) -> str:
        """What differs from `other` beyond `tolerance` (a part of a voxel over the whole extent), or "" if nothing."""
        if self.size != other.size:
            return f"size {_numbers(self.size)} against {_numbers(other.size)}"
        corner = np.array(self.size) - 1
        step = tolerance * min(self.spacing)
        # the ends of the three edges: two cubes turned about their diagonal share its two ends
        far = np.array(self.origin) - other.origin + ((self.matrix - other.matrix) * corner).T
        if np.abs(np.array(self.spacing) - other.spacing).max() * corner.max() > 10 * step:
            return f"spacing {_numbers(self.spacing)} against {_numbers(other.spacing)} mm"
        if np.abs(np.array(self.origin) - other.origin).max() > 10 * step:
            return f"origin {_numbers(self.origin)} against {_numbers(other.origin)} mm"
        if np.abs(far).max() > 20 * step:
            return f"direction {_numbers(self.direction)} against {_numbers(other.direction)}"
        return ""


@dataclass(frozen=True)
class Volume:
    """An image: `array` (z, y, x) on `grid`. Displacement fields have a last axis of 3 (x, y, z in mm, LPS)."""

    array: np.ndarray
    grid: Grid

    def with_array(self, array: np.ndarray) -> "Volume":
        """Another array on the same grid."""
        if array.shape[:3] != self.grid.shape:
            raise ValueError(f"array {array.shape} does not fit the grid {self.grid.shape}")
        return Volume(array, self.grid)


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a SimpleITK image."""
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def to_sitk(volume: Volume) -> sitk.Image:
    """A SimpleITK image (vector when the array has a fourth axis)."""
    image = sitk.GetImageFromArray(volume.array, isVector=volume.array.ndim == 4)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction)
    return image


def blank(grid: Grid) -> sitk.Image:
    """An image of zeros (uint8) on `grid`: what SimpleITK takes for the place of a result."""
    image = sitk.Image(*map(int, grid.size), sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def from_sitk(image: sitk.Image) -> Volume:
    """A `Volume` with a copy of the image's voxels."""
    return Volume(sitk.GetArrayFromImage(image), grid_of(image))


def read_volume(path, what: str = "image") -> Volume:
    """Read a scalar 3-D volume: MHA, NIfTI, NRRD, or a directory with one DICOM series.

    Raises `InputError` for a file that is missing, truncated, not 3-D, not scalar, or that holds NaN or infinities.
    `what` names the image in the message ("CT", "mask"). File names, not patient names, appear in messages.
    """
    path = Path(path)
    if path.is_dir():
        from synthct.dicom import read_series  # the only reader that needs pydicom

        return _checked(read_series(path), path, what)
    if not path.is_file():
        raise InputError(f"{what} {path}: no such file")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{what} {path}: unknown format, expected {', '.join(SUFFIXES)} or a DICOM series directory")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    try:
        with _quiet():
            reader.ReadImageInformation()
        dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
        if dimension == 4 and reader.GetSize()[3] == 1:
            dimension = 3
            reader.SetExtractSize([*reader.GetSize()[:3], 0])
        if dimension != 3:
            raise InputError(f"{what} {path}: {dimension}-dimensional, expected a 3-D volume")
        if components != 1:
            raise InputError(f"{what} {path}: {components} values per voxel (RGB or vector), expected one")
        if nifti and (lack := shortfall(path)):
            raise InputError(f"{what} {path}: truncated ({lack})")
        with _quiet():
            image = reader.Execute()
    except RuntimeError as fault:
        raise InputError(f"{what} {path}: cannot be read ({_reason(fault)}); is the file truncated?") from None
    return _checked(from_sitk(image), path, what)


def read_mask(path, grid: Grid | None = None, what: str = "mask") -> Volume:
    """Read a mask as uint8 0/1 (any value above 0 is inside); it must not be empty and, with `grid`, must lie on it."""
    mask = read_volume(path, what)
    if grid is not None and (difference := mask.grid.differs_from(grid)):
        raise InputError(f"{what} {path}: another grid than its image ({difference})")
    inside = mask.array > 0
    if not inside.any():
        raise InputError(f"{what} {path}: empty, no voxel above 0")
    return Volume(inside.astype(np.uint8), grid or mask.grid)


def read_displacement(path) -> Volume:
    """Read a displacement field: float32 (z, y, x, 3), mm, LPS, mapping fixed points to moving points."""
    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat32)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(f"displacement field {path}: expected 3 components on a 3-D grid")
    return from_sitk(image)


def write_volume(volume: Volume, path, compress: bool = True):
    """Write a volume atomically; the suffix chooses the format. The same volume gives the same bytes."""
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"output {path}: unknown format, expected one of {', '.join(SUFFIXES)}")
    with atomic(path) as temporary:
        try:
            with _quiet():
                sitk.WriteImage(to_sitk(volume), str(temporary), compress)
        except RuntimeError as fault:
            raise InputError(
                f"output {path}: cannot be written ({_reason(fault)}); is there room on the disk?"
            ) from None
        if temporary.name.endswith((".nii", ".nii.gz")) and (lack := shortfall(temporary)):
            raise InputError(f"output {path}: cannot be written ({lack}); is there room on the disk?")


def resample(volume: Volume, grid: Grid, *, order: int = 1, outside: float = 0.0) -> Volume:
    """`volume` on another grid (identity transform): order 0 nearest, 1 linear, 3 cubic B-spline; `outside` beyond it.

    The voxel type is kept; values are rounded for integer types and a cubic result is held to the input's range.
    """
    if not volume.grid.differs_from(grid):
        return Volume(volume.array, grid)
    image = to_sitk(volume)
    interpolator = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}[order]
    kind = volume.array.dtype
    if order:
        image = sitk.Cast(image, sitk.sitkFloat32)
    result = sitk.GetArrayFromImage(sitk.Resample(image, blank(grid), sitk.Transform(), interpolator, float(outside)))
    if order:
        low, high = min(float(volume.array.min()), outside), max(float(volume.array.max()), outside)
        result = np.clip(result, low, high)
        result = np.rint(result).astype(kind) if np.issubdtype(kind, np.integer) else result.astype(kind)
    return Volume(result, grid)


@contextlib.contextmanager
def _quiet():
    """Keep what ITK's C and C++ code prints to stderr from the user: the exception says it in one line."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _checked(volume: Volume, path, what: str) -> Volume:
    array = volume.array
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise InputError(
            f"{what} {path}: {int((~np.isfinite(array)).sum())} voxels are NaN or infinite, expected numbers"
        )
    if min(array.shape) < 2:
        raise InputError(f"{what} {path}: size {_numbers(volume.grid.size)}, expected a 3-D volume of several slices")
    return volume


def _reason(fault: Exception) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1].split("ERROR:")[-1].strip()[:160] if lines else type(fault).__name__


def _numbers(values) -> str:
    return "×".join(f"{value:g}" for value in values)
