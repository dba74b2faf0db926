"""TotalSegmentator's label map of a CT or sCT, as the SynthRAD2025 leaderboard makes it for Dice and HD95."""

import numpy as np

from synthct.core.errors import InputError
from synthct.images.grid import Volume
from synthct.images.totalsegmentator import segmented

LARGEST = 117  # the highest id of task "total"


def label_map(image: Volume, device: str = "cpu", program: str | None = None) -> Volume:
    """uint8 labels (z, y, x; TotalSegmentator v2 ids, 0 background) on the grid of `image` (HU).

    Task "total" with its 3 mm model (``--fast``), without mirroring, as on the leaderboard. `device` and `program` as
    in `synthct.images.totalsegmentator.segmented`, whose `InputError` it passes on; another one for labels out of
    range.
    """
    labels = segmented(image, "total", fast=True, device=device, program=program)
    if labels.array.min() < 0 or labels.array.max() > LARGEST:
        raise InputError(
            f"segmentation by TotalSegmentator: labels up to {labels.array.max():g}, expected 0 to {LARGEST}"
        )
    return Volume(labels.array.astype(np.uint8), image.grid)
