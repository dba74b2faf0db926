"""MIND-SSC: twelve channels that say how a voxel's neighbours resemble one another, whatever the modality.

Heinrich et al., MICCAI 2013, in the variant that IMPACT uses ("R{r}D{d}", spec of vboussot/ImpactLoss): squared
differences of the six neighbours at distance d in pairs that are √2·d apart, averaged over a box of radius r.
"""

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
    """Descriptors (12, z, y, x) in 0..1 of an image (z, y, x); invariant to offset and gain of the intensities.

    The variance that scales a voxel's distances is held within 0.001 and 1000 times its mean over the image.
    """
    size = image.shape
    padded = F.pad(image[None, None], [dilation] * 6, mode="replicate")[0, 0]

    def shifted(k):
        z, y, x = (dilation * step for step in _NEIGHBOURS[k])
        return padded[z : z + size[0], y : y + size[1], x : x + size[2]]

    distances = torch.stack([_box((shifted(a) - shifted(b)) ** 2, radius) for a, b in PAIRS])
    distances -= distances.amin(0)
    variance = distances.mean(0)
    scale = variance.mean().clamp(min=1e-12)
    variance = variance.clamp(0.001 * scale, 1000 * scale)
    return torch.exp(-distances / variance)


def _box(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a cube of side 2·radius+1, edges replicated; three passes of running sums."""
    if radius == 0:
        return image
    result = image
    for axis in range(3):
        side = [0] * 6
        side[2 * (2 - axis)] = side[2 * (2 - axis) + 1] = radius
        padded = F.pad(result[None, None], side, mode="replicate")[0, 0]
        n = result.shape[axis]
        result = sum(padded.narrow(axis, k, n) for k in range(2 * radius + 1))
    return result / (2 * radius + 1) ** 3
