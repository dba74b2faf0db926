"""Small pictures of a registration for the report: fixed, moving before and after, on three planes."""

from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk

from synthct.core.records import KIND, write_arrays
from synthct.images.grid import Volume, resample
from synthct.images.orientation import orientation_of, to_lps

LARGEST = 256  # pixels


def write_preview(
    path,
    fixed: Volume,
    before: Volume,
    after: Volume,
    mask: np.ndarray,
    apart: Iterable[Volume],
    about: dict | None = None,
):
    """Write an .npz with int16 arrays ``fixed``, ``before``, ``after``, uint8 ``mask``, and ``distance_before`` and
    ``distance_after``, the local MIND distance to the fixed image in thousandths (int16), each (3, h, w); `apart` are
    the latter as `synthct.registration.quality` finds them, on a coarser grid.

    The planes (axial, coronal, sagittal) pass through the mask's middle, have square pixels, head up, and are padded
    to a common h × w of at most 256 pixels, whatever order the file keeps its axes in. Values that are not whole
    numbers, or too large ones, are stretched to 0…1000, before and after alike. `about` says whose they are.
    """
    mask = orientation_of(fixed.grid).turn(mask)
    apart = [resample(distance, fixed.grid, order=1) for distance in apart]
    fixed, before, after, *apart = (to_lps(volume) for volume in (fixed, before, after, *apart))
    centre = (
        [int(round(float(np.median(axis)))) for axis in np.nonzero(mask)]
        if mask.any()
        else [n // 2 for n in mask.shape]
    )
    extent = np.array(fixed.grid.size) * np.array(fixed.grid.spacing)
    pixel = max(float(extent.max()) / LARGEST, min(fixed.grid.spacing))
    stacks = {}
    for name, volume, order in (
        ("fixed", fixed, 1),
        ("before", before, 1),
        ("after", after, 1),
        ("distance_before", apart[0], 1),
        ("distance_after", apart[1], 1),
        ("mask", Volume(mask.astype(np.uint8), fixed.grid), 0),
    ):
        planes = [_plane(volume, axis, centre[axis], pixel, order) for axis in range(3)]
        height, width = (max(plane.shape[k] for plane in planes) for k in (0, 1))
        low = min(float(plane.min()) for plane in planes)
        stack = np.full((3, height, width), low)
        for k, plane in enumerate(planes):
            top, left = (height - plane.shape[0]) // 2, (width - plane.shape[1]) // 2
            stack[k, top : top + plane.shape[0], left : left + plane.shape[1]] = plane
        stacks[name] = stack
    stacks["mask"] = stacks["mask"].astype(np.uint8)
    for name in ("distance_before", "distance_after"):
        stacks[name] = np.rint(1000 * stacks[name]).astype(np.int16)
    for names in (("fixed",), ("before", "after")):
        low, scale = _stretch([stacks[name] for name in names])
        for name in names:
            stacks[name] = np.rint(np.clip((stacks[name] - low) * scale, -32768, 32767)).astype(np.int16)
    write_arrays(path, {**(about or {}), KIND: "preview"}, stacks)


def _stretch(stacks: list[np.ndarray]) -> tuple[float, float]:
    """Offset and factor that fit values of any scale into int16; 0 and 1 where they fit already."""
    low, high = np.percentile(np.stack(stacks), (0.1, 99.9))
    if high - low > 100 and low >= -32768 and high <= 32767:
        return 0.0, 1.0
    return float(low), 1000.0 / max(float(high - low), 1e-12)


def _plane(volume: Volume, axis: int, index: int, pixel: float, order: int) -> np.ndarray:
    plane = np.take(volume.array, index, axis=axis).astype(np.float32)
    spacing = [s for a, s in enumerate(volume.grid.spacing[::-1]) if a != axis]
    image = sitk.GetImageFromArray(plane if axis == 0 else plane[::-1].copy())  # z grows upwards on the page
    image.SetSpacing(spacing[::-1])
    size = [max(1, int(n * s / pixel)) for n, s in zip(image.GetSize(), spacing[::-1], strict=True)]
    return sitk.GetArrayFromImage(
        sitk.Resample(
            image,
            size,
            sitk.Transform(),
            sitk.sitkLinear if order else sitk.sitkNearestNeighbor,
            [(pixel - s) / 2 for s in spacing[::-1]],
            [pixel, pixel],
            [1.0, 0.0, 0.0, 1.0],
            float(plane.min()),
        )
    )
