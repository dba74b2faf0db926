"""What must hold before two images can be registered; each fault is one line that says what was found."""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import PairError
from synthct.images.contours import FILLED, filled
from synthct.images.grid import Volume, resample
from synthct.images.volume import is_drawn, read_mask
from synthct.registration.transform import support

SMALLEST_SIDE = 10  # voxels: fewer cannot carry descriptors and a control grid
SMALLEST_MASK = 200  # voxels
SMALLEST_OVERLAP = 0.05  # part of the fixed mask that lies inside the moving image
LARGEST_ANISOTROPY = 8.0  # longest over shortest voxel edge


def check_images(fixed: Volume, moving: Volume):
    """Raise `PairError` for images that no registration can use: too small, constant, too anisotropic."""
    for volume, name in ((fixed, "fixed image"), (moving, "moving image")):
        size, spacing = volume.grid.size, volume.grid.spacing
        if min(size) < SMALLEST_SIDE:
            raise PairError(
                f"{name}: {'×'.join(map(str, size))} voxels, registration needs at least "
                f"{SMALLEST_SIDE} along every axis"
            )
        if max(spacing) / min(spacing) > LARGEST_ANISOTROPY:
            raise PairError(
                f"{name}: voxels of {'×'.join(f'{s:g}' for s in spacing)} mm are "
                f"{max(spacing) / min(spacing):.1f}:1 anisotropic, registration takes up to "
                f"{LARGEST_ANISOTROPY:g}:1; resample the image first"
            )
        if volume.array.max() == volume.array.min():
            raise PairError(f"{name}: constant (every voxel is {volume.array.flat[0]}), nothing to align")


def check_mask(fixed: Volume, mask: Volume):
    """Raise `PairError` for a mask (on the fixed grid) with too little in it."""
    inside = mask.array > 0
    if inside.sum() < SMALLEST_MASK:
        raise PairError(f"fixed mask: {int(inside.sum())} voxels inside, registration needs at least {SMALLEST_MASK}")
    if np.ptp(fixed.array[inside]) == 0:
        raise PairError("fixed image: constant inside the mask, nothing to align")


def overlap(fixed: Volume, moving: Volume, mask: Volume) -> float:
    """Part of the mask (on the fixed grid) that lies inside the moving image as it is."""
    inside = mask.array > 0
    return float((support(moving, sitk.Transform(), fixed.grid) & inside).sum() / inside.sum())


def check_overlap(fixed: Volume, moving: Volume, mask: Volume, deforms: bool = True):
    """Raise `PairError` for images that lie apart; where nothing `deforms`, a rigid stage would not help."""
    shared = overlap(fixed, moving, mask)
    if shared < SMALLEST_OVERLAP:
        raise PairError(
            f"the images do not overlap: {shared:.1%} of the fixed mask lies inside the moving image "
            f"(fixed {_box(fixed)}; moving {_box(moving)}); "
            + ("a rigid stage (--rigid) would start from their centres" if deforms else "this arm moves nothing")
        )


def moving_role(fixed: Volume, moving: Volume, modality: str, direction: str) -> str:
    """ "ct" or "image": what the moving image is. For MR the one with air far below zero is the CT; where that does not
    tell (CBCT), the arm's `direction` does: "ct_to_image" or "image_to_ct"."""
    if modality == "mr":
        ct_like = [float(np.percentile(v.array[::2, ::4, ::4], 2)) < -300 for v in (fixed, moving)]
        if ct_like[0] != ct_like[1]:
            return "ct" if ct_like[1] else "image"
    return "ct" if direction == "ct_to_image" else "image"


def _box(volume: Volume) -> str:
    grid = volume.grid
    ends = [np.array(grid.origin) + grid.matrix @ ((np.array(grid.size) - 1) * part) for part in (0, 1)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return " ".join(f"{axis} {a:.0f}..{b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True)) + " mm"


def mask_on(path: str, image: Volume, warn: Callable[[str], None]) -> Volume:
    """The mask of a file on the image's grid, resampled (nearest) where that is another; `warn` hears of contours."""
    mask = read_mask(path, image.grid if is_drawn(path) else None, what="fixed mask")
    mask, was_contour = filled(mask)
    if was_contour:
        warn(f"fixed mask {path} {FILLED}")
    mask = resample(mask, image.grid, order=0)
    if not mask.array.any():
        raise PairError(f"fixed mask {path}: nothing of it lies inside the fixed image")
    return mask
