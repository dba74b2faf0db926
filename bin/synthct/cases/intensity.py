"""Intensities in and out of the network: HU and [-1, 1], and the normalisation of MR and CBCT inside the mask.

Every rule is one affine map after an optional clip: x = clip(v) · scale + offset; voxels outside the mask become
`outside`. Rules: Boussot et al. 2025, section 3.2, and the authors' released Data.py.
"""

from dataclasses import asdict, dataclass

import numpy as np

from synthct.core.errors import PatientError
from synthct.images.checks import air_for_padding

CT_RANGE = (-1024.0, 3071.0)  # HU


@dataclass(frozen=True)
class Normalisation:
    """x = clip(v, *clip) · scale + offset inside the mask, `outside` beyond it; `clip` None leaves v as it is."""

    scale: float
    offset: float
    clip: tuple[float, float] | None
    outside: float

    def __call__(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Normalise `values` (any shape) to float32; `inside` (bool, same shape) marks the body."""
        x = values.astype(np.float32)
        if self.clip is not None:
            np.clip(x, *self.clip, out=x)
        x *= np.float32(self.scale)
        x += np.float32(self.offset)
        x[~inside] = self.outside
        return x

    def as_json(self) -> dict:
        """Plain values, for case.json."""
        return asdict(self) | {"clip": list(self.clip) if self.clip else None}

    @staticmethod
    def from_json(data: dict) -> "Normalisation":
        """The inverse of `as_json`."""
        clip = data["clip"]
        return Normalisation(data["scale"], data["offset"], tuple(clip) if clip else None, data["outside"])


def measure(values: np.ndarray, modality: str, rules: dict) -> Normalisation:
    """The rule for one image from its `values` inside the mask (1-D), per the `preprocessing` settings `rules`.

    mr: zero mean and unit standard deviation, not clipped. cbct: [minimum, `cbct_percentile`-th percentile] clipped
    and mapped to [-1, 1]. Raises `PatientError` for an image that is constant inside its mask, a stray voxel apart.
    """
    values = air_for_padding(np.asarray(values, np.float64), modality)
    darkest, brightest = np.percentile(values[:: max(1, values.size // 200_000)], [1, 99])
    if not brightest > darkest:
        raise PatientError(f"image is constant ({darkest:g}) inside its mask, expected tissue contrast")
    outside = float(rules["outside"])
    if modality == "mr":
        mean, deviation = float(values.mean()), float(values.std())
        return Normalisation(1 / deviation, -mean / deviation, None, outside)
    low, high = float(values.min()), float(np.percentile(values, rules["cbct_percentile"]))
    if not high > low:
        raise PatientError(f"image is constant ({low:g}) inside its mask, expected tissue contrast")
    scale = 2 / (high - low)
    return Normalisation(scale, -1 - low * scale, (low, high), outside)


def ct_normalisation(ct_range=CT_RANGE) -> Normalisation:
    """HU clipped to `ct_range` and mapped to [-1, 1]; outside the mask -1, the value of air.

    >>> ct_normalisation((-1000, 1000))(np.array([0, 500, 4000]), np.array([True, True, False]))
    array([ 0. ,  0.5, -1. ], dtype=float32)
    """
    low, high = map(float, ct_range)
    scale = 2 / (high - low)
    return Normalisation(scale, -1 - low * scale, (low, high), -1.0)


def to_hu(x, ct_range=CT_RANGE):
    """Network output in [-1, 1] (array or tensor) to Hounsfield units: HU = (x + 1)/2 · (high - low) + low.

    >>> to_hu(np.array([-1.0, 0.0, 1.0]))
    array([-1024. ,  1023.5,  3071. ])
    """
    low, high = map(float, ct_range)
    return (x + 1) * ((high - low) / 2) + low
