"""MIND-SSC: twelve channels that say how a voxel's neighbours resemble one another, whatever the modality.

Heinrich et al., MICCAI 2013, in the variant that IMPACT uses ("R{r}D{d}", spec of vboussot/ImpactLoss): squared
differences of the six neighbours at distance d in pairs that are √2·d apart, averaged over a box of radius r.
"""

import functools
from itertools import combinations

import torch
import torch.nn.functional as F

_NEIGHBOURS = [(0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1)]
PAIRS = [
    (a, b)
    for a, b in combinations(range(6), 2)
    if sum((p - q) ** 2 for p, q in zip(_NEIGHBOURS[a], _NEIGHBOURS[b], strict=True)) == 2
]
CHANNELS = len(PAIRS)


def mind(image: torch.Tensor, radius: int = 1, dilation: int = 1) -> torch.Tensor:
    """Descriptors (..., 12, z, y, x) in 0..1 of images (..., z, y, x); invariant to offset and gain of the intensities.

    The variance that scales a voxel's distances is held within 0.001 and 1000 times its mean over the image.
    """
    size = image.shape[-3:]
    padded = _padded(image, [dilation] * 6)

    def shifted(k):
        z, y, x = (dilation * step for step in _NEIGHBOURS[k])
        return padded[..., z : z + size[0], y : y + size[1], x : x + size[2]]

    distances = torch.stack([_box((shifted(a) - shifted(b)) ** 2, radius) for a, b in PAIRS], -4)
    least = distances.amin(-4, keepdim=True)
    distances = distances - least if distances.requires_grad else distances.sub_(least)  # a whole volume's fit once
    variance = distances.mean(-4, keepdim=True)
    scale = variance.mean((-3, -2, -1), keepdim=True).clamp(min=1e-12)
    variance = torch.maximum(torch.minimum(variance, 1000 * scale), 0.001 * scale)
    return torch.exp(-distances / variance)


def _box(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a cube of side 2·radius+1, edges replicated; three passes of running sums."""
    if radius == 0:
        return image
    result = image
    for axis in (-3, -2, -1):
        side = [0] * 6
        side[-2 * axis - 2] = side[-2 * axis - 1] = radius
        padded, n = _padded(result, side), result.shape[axis]
        result = functools.reduce(torch.add, (padded.narrow(axis, k, n) for k in range(2 * radius + 1)))
    return result / (2 * radius + 1) ** 3


def _padded(image: torch.Tensor, side: list[int]) -> torch.Tensor:
    """`image` with its edge values continued by `side` voxels (torch's order: last axis first)."""
    padded = F.pad(image.reshape(-1, 1, *image.shape[-3:]), side, mode="replicate")
    return padded.reshape(*image.shape[:-3], *padded.shape[-3:])
