"""A volume and the grid it lives on: an array (z, y, x), placed in LPS millimetres.

>>> grid = Grid(size=(4, 3, 2), spacing=(1.0, 1.0, 3.0), origin=(0.0, 0.0, 0.0))
>>> grid.shape
(2, 3, 4)
>>> volume = Volume(np.arange(24, dtype=np.float32).reshape(grid.shape), grid)
>>> resample(volume, Grid((4, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))).array[1, 0, 0]
np.float32(4.0)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import SimpleITK as sitk

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: size, spacing (mm) and origin (mm, LPS) as (x, y, z); direction, 9 numbers row by row.

    `frame` is the UID of the frame of reference that the millimetres are counted in; only DICOM says it.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    frame: str = field(default="", compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an array on this grid: (z, y, x)."""
        return self.size[::-1]

    @property
    def matrix(self) -> np.ndarray:
        """3×3: index steps (x, y, z) to millimetres; point = origin + matrix @ index."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing)

    def points(self, index: np.ndarray) -> np.ndarray:
        """The places (N, 3; mm, LPS) of voxels given by index (N, 3; z, y, x)."""
        return index[:, ::-1] @ self.matrix.T + np.array(self.origin)

    def index(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `points`: indices (N, 3; z, y, x), between voxels too, of places (N, 3; mm, LPS)."""
        return ((points - np.array(self.origin)) @ np.linalg.inv(self.matrix).T)[:, ::-1]

    def differs_from(self, other: "Grid", tolerance: float = 1e-3) -> str:
        """What differs from `other` beyond `tolerance` (a part of a voxel over the whole extent), or "" if nothing."""
        if self.size != other.size:
            return f"size {numbers(self.size)} against {numbers(other.size)}"
        corner = np.array(self.size) - 1
        step = tolerance * min(self.spacing)
        # the ends of the three edges: two cubes turned about their diagonal share its two ends
        far = np.array(self.origin) - other.origin + ((self.matrix - other.matrix) * corner).T
        if np.abs(np.array(self.spacing) - other.spacing).max() * corner.max() > 10 * step:
            return f"spacing {numbers(self.spacing)} against {numbers(other.spacing)} mm"
        if np.abs(np.array(self.origin) - other.origin).max() > 10 * step:
            return f"origin {numbers(self.origin)} against {numbers(other.origin)} mm"
        if np.abs(far).max() > 20 * step:
            return f"direction {numbers(self.direction)} against {numbers(other.direction)}"
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


class _Voxels:
    """The memory of an image as numpy asks for it; the array that is made of it keeps the image alive."""

    def __init__(self, image: sitk.Image):
        self.image = image
        view = sitk.GetArrayViewFromImage(image).__array_interface__
        self.__array_interface__ = {**view, "data": (view["data"][0], False)}  # not read-only: the image is ours


def array_of(image: sitk.Image) -> np.ndarray:
    """The image's voxels (z, y, x) without a copy, to be written to: for an image that nobody else goes on using."""
    return np.asarray(_Voxels(image))


def from_sitk(image: sitk.Image) -> Volume:
    """A `Volume` that takes over the voxels of an image, see `array_of`."""
    return Volume(array_of(image), grid_of(image))


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
    result = array_of(sitk.Resample(image, blank(grid), sitk.Transform(), interpolator, float(outside)))
    if order:
        low, high = min(float(volume.array.min()), outside), max(float(volume.array.max()), outside)
        result = np.clip(result, low, high)
        result = np.rint(result).astype(kind) if np.issubdtype(kind, np.integer) else result.astype(kind)
    return Volume(result, grid)


def within(volume: Volume, grid: Grid) -> np.ndarray:
    """bool (z, y, x): which voxels of `grid` lie inside `volume`, where a `resample` has values of its own."""
    return resample(volume.with_array(np.ones(volume.grid.shape, np.uint8)), grid, order=0).array > 0


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """One value for each axis, as a tuple whose length is known; `ValueError` for another number of them."""
    first, second, third = values
    return first, second, third


def numbers(values) -> str:
    """Numbers for a message: `1×1×3`."""
    return "×".join(f"{value:g}" for value in values)
