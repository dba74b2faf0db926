"""Masks that were drawn and not filled: contours a voxel or two thick, as a structure set is drawn."""

import numpy as np
from scipy import ndimage

from synthct.images.grid import Volume
from synthct.images.orientation import orientation_of

THIN = 0.05  # part of the voxels that an in-plane erosion leaves of a contour, at most
GAIN = 2.0  # how much larger filling makes a mask that was a contour, at least
FILLED = "is a contour and was filled slice by slice"


def filled(mask: Volume) -> tuple[Volume, bool]:
    """The mask (uint8) with its axial slices filled where it is a contour, and whether it was one.

    A mask of solid parts is returned as it is, holes and all.
    """
    orientation = orientation_of(mask.grid)
    body = orientation.turn(mask.array) > 0
    core = ndimage.binary_erosion(body, ndimage.generate_binary_structure(2, 1)[None])
    if core.sum() > THIN * body.sum():
        return mask, False
    whole = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    if whole.sum() < GAIN * body.sum():
        return mask, False
    return Volume(orientation.turn_back(np.ascontiguousarray(whole).astype(np.uint8)), mask.grid), True
