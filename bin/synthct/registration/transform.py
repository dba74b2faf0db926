"""Applying a transform: displacement field, warped image, and where the moving image gave support."""

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import InputError
from synthct.core.files import atomic
from synthct.images.grid import Grid, Volume, array_of, blank, to_sitk
from synthct.registration.dense.pyramid import content


def tabulated(transform: sitk.Transform, grid: Grid) -> sitk.DisplacementFieldTransform:
    """`transform` looked up once at every voxel of `grid`, for which it is the same and far cheaper to warp through."""
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, list(map(int, grid.size)), grid.origin, grid.spacing, grid.direction
    )
    return sitk.DisplacementFieldTransform(field)


def displacements(table: sitk.DisplacementFieldTransform, grid: Grid) -> Volume:
    """Of a transform `tabulated` on `grid`: displacements (z, y, x, 3), float32 mm, components (x, y, z) in LPS, so
    that fixed point p maps to p + u(p)."""
    return Volume(sitk.GetArrayViewFromImage(table.GetDisplacementField()).astype(np.float32), grid)


def warp(moving: Volume, transform: sitk.Transform, grid: Grid, *, outside: float, order: int = 3) -> Volume:
    """`moving` on `grid` through `transform`: B-spline order 3, held to the moving range; order 0 for labels.

    The voxel type is kept (integers are rounded) where it can hold `outside`, which fills what lies beyond the moving
    image; else the smallest signed one takes its place.
    """
    kind = _kind_for(moving.array, outside)
    image = to_sitk(moving)
    if order:
        image = sitk.Cast(image, sitk.sitkFloat32)
    interpolator = sitk.sitkBSpline if order else sitk.sitkNearestNeighbor
    result = array_of(sitk.Resample(image, blank(grid), transform, interpolator, float(outside)))
    if order:
        low, high = float(moving.array.min()), float(moving.array.max())
        result = np.clip(result, min(low, outside), max(high, outside))
        result = np.rint(result) if np.issubdtype(kind, np.integer) else result
    return Volume(result.astype(kind), grid)


def support(moving: Volume, transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """Boolean (z, y, x): fixed voxels whose partner lies inside the moving image's content (no empty border slices)."""
    shown = np.zeros(moving.grid.shape, np.uint8)
    shown[tuple(slice(*ends) for ends in content(moving.array))] = 1
    return warp(Volume(shown, moving.grid), transform, grid, outside=0, order=0).array > 0


def as_composite(*transforms: sitk.Transform) -> sitk.CompositeTransform:
    """The transforms as one, the first applied first."""
    composite = sitk.CompositeTransform(3)
    for transform in reversed(transforms):  # SimpleITK applies the last added first
        composite.AddTransform(transform)
    composite.FlattenTransform()  # one within another cannot be written
    return composite


def _kind_for(array: np.ndarray, outside: float) -> np.dtype:
    kind = array.dtype
    if not np.issubdtype(kind, np.integer) or np.iinfo(kind).min <= outside <= np.iinfo(kind).max:
        return kind
    return np.dtype(np.int16 if array.max() <= np.iinfo(np.int16).max else np.int32)


def write_transform(transform: sitk.Transform, path: str):
    """Write a transform for SimpleITK atomically; `InputError` for a name that is neither .h5 nor .tfm."""
    if not str(path).endswith((".h5", ".tfm")):
        raise InputError(f"--out-transform {path}: expected .h5 or .tfm")
    with atomic(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))
