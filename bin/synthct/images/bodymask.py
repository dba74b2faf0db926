"""A body mask where the sheet gives none: threshold, largest pieces, holes filled, a rim of air kept.

The recipe is the SynthRAD2025 organisers' (preprocessing stage 2): threshold at a part of the range between two
percentiles, opening within slices, largest component, closing, hole filling in 3-D and then slice by slice, dilation
within slices by 10 mm. But of two legs both are kept, where theirs keeps one. Their radii are voxels of 1×1×3 mm; here
they are millimetres, so that they mean the same on any grid, and everything runs on blocks of about 2×2×3 mm: the rim
is five times wider than what that loses.
"""

import numpy as np
from scipy import ndimage

from synthct.core.errors import PairError
from synthct.images.checks import air_for_padding
from synthct.images.grid import Volume
from synthct.images.orientation import orientation_of
from synthct.images.totalsegmentator import segmented

PERCENTILES = (2.5, 97.5)
THRESHOLD = {"mr": 0.2, "cbct": 0.4, "ct": 0.4}  # part of the percentile range; organisers: MR 0.2, CBCT 0.2 to 0.6
WORKING = (2.0, 2.0, 3.0)  # mm (x, y, z) of the blocks that the mask is made of
LIMB = 0.5  # a piece with this part of the largest one's volume and thickness is body too: legs are about alike
OPENING, CLOSING, RIM = 10.0, 8.0, 10.0  # mm: width of the opening, radius of the closing, width of the rim


def body_mask(image: Volume, modality: str, threshold: float | None = None) -> Volume:
    """A uint8 mask (z, y, x; 1 inside) of the body and a 10 mm rim around it, on the image's own grid.

    `modality` is "mr", "cbct" or "ct"; `threshold` replaces its part of the percentile range (0 to 1). Axes may lie in
    any order. Raises `PairError` when nothing is above the threshold or hardly anything (under 10 ml) is left.
    """
    orientation = orientation_of(image.grid)
    array = orientation.turn(air_for_padding(image.array, modality))
    spacing = np.array(orientation.turn_grid(image.grid).spacing[::-1])
    block = np.maximum(1, np.rint(np.array(WORKING[::-1]) / spacing)).astype(int)
    coarse = _block_mean(array, block)
    step = spacing * block
    low, high = np.percentile(coarse, PERCENTILES)
    part = THRESHOLD[modality] if threshold is None else threshold
    body = coarse > low + part * (high - low)
    opening = _disc(OPENING / 2, step)
    body = ndimage.binary_opening(body, opening, iterations=1)
    body = _large(body, step)
    body = ndimage.binary_fill_holes(_closed(body, CLOSING, step))
    for z in range(body.shape[0]):
        body[z] = ndimage.binary_fill_holes(body[z])
    if body.sum() * step.prod() < 1e4:
        raise PairError("no body found in the image by threshold: give a mask")
    body = ndimage.binary_dilation(body, _disc(RIM, step))
    fine = body.repeat(block[0], 0).repeat(block[1], 1).repeat(block[2], 2)
    fine = fine[: array.shape[0], : array.shape[1], : array.shape[2]]
    return Volume(orientation.turn_back(np.ascontiguousarray(fine).astype(np.uint8)), image.grid)


def totalsegmentator_mask(image: Volume, modality: str, device: str = "cpu") -> Volume:
    """The mask of TotalSegmentator's task ``body`` (``body_mr`` for MR) on the image's grid; needs its weights.

    Raises `InputError` with what to fetch when the package or its weights are not there.
    """
    mask = segmented(image, "body_mr" if modality == "mr" else "body", device=device)
    return Volume((mask.array > 0).astype(np.uint8), image.grid)


def _block_mean(array: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Means of blocks as float32, edge blocks padded with the edge; slab by slab, so that no float copy is held."""
    pad = [(0, int(-n % b)) for n, b in zip(array.shape, block, strict=True)]
    slabs = []
    for z in range(0, array.shape[0], block[0]):
        slab = array[z : z + block[0]].astype(np.float32)
        slab = np.pad(slab.mean(0), pad[1:], mode="edge")
        slabs.append(slab.reshape(slab.shape[0] // block[1], block[1], -1, block[2]).mean((1, 3)))
    return np.stack(slabs)


def _disc(radius: float, step: np.ndarray) -> np.ndarray:
    """A flat structuring element of `radius` mm within slices: (1, h, w)."""
    reach = [max(1, int(np.rint(radius / s))) for s in step[1:]]
    y, x = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    return ((y / reach[0]) ** 2 + (x / reach[1]) ** 2 <= 1.0)[None]


def _closed(body: np.ndarray, radius: float, step: np.ndarray) -> np.ndarray:
    """Closing by a ball of `radius` mm, by two distance maps; the volume's ends neither close nor erode it."""
    reach = [int(np.ceil(radius / s)) for s in step]
    padded = np.pad(body, [(r, r) for r in reach])
    grown = ndimage.distance_transform_edt(~padded, sampling=step) <= radius
    closed = ndimage.distance_transform_edt(grown, sampling=step) > radius
    return closed[tuple(slice(r, -r) for r in reach)] | body


def _large(body: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The largest piece and those of about its size, without thin ones beside a thick one, as couches are; `step` in
    mm."""
    labels, count = ndimage.label(body)
    if count < 2:
        return body
    sizes = np.bincount(labels.ravel())[1:]
    chosen = 1 + np.flatnonzero(sizes >= LIMB * sizes.max())
    if len(chosen) > 1:
        depth = np.array(ndimage.maximum(ndimage.distance_transform_edt(body, sampling=step), labels, chosen))
        chosen = chosen[depth >= LIMB * depth.max()]
    return np.isin(labels, chosen)
