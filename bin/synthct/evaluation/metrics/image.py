"""MAE, PSNR and MS-SSIM inside the mask, as the SynthRAD2025 leaderboard computes them.

The definitions follow the organisers' evaluation container (SynthRAD2025/evaluation, May 2025), traps included; they
are written down in docs/metrics.md. All arrays are (z, y, x) of one shape; images in HU, any integer or floating
type; the mask is inside where > 0. Everything is float64 and goes plane by plane, so that no whole-volume temporary
is made.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

HU_RANGE = (-1024.0, 3071.0)  # HU; the leaderboard's. The organisers' documentation repository has 3000.
HU_BINS = {"air": (-math.inf, -850.0), "lung": (-850.0, -200.0), "soft": (-200.0, 200.0), "bone": (200.0, math.inf)}
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of the five scales
WINDOW = 7  # voxels, side of the uniform window
REACH = WINDOW // 2
SHORTEST = 97  # voxels; a shorter axis is padded to this by its edge, so that five scales fit
BLOCK = 2 ** (len(WEIGHTS) - 1)  # crops start at its multiples, so that decimation keeps the same voxels


def image_scores(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=HU_RANGE) -> dict[str, float]:
    """{"mae" (HU), "psnr" (dB), "ms_ssim" (0…1)}; NaN for an empty mask, PSNR +inf for identical images."""
    return {
        "mae": mae(sct, ct, mask),
        "psnr": psnr(sct, ct, mask, hu_range),
        "ms_ssim": ms_ssim(sct, ct, mask, hu_range),
    }


def mae(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute error in HU over the mask's voxels, values NOT clipped; NaN for an empty mask.

    >>> mae(np.array([[[10, 500]]]), np.array([[[0, 0]]]), np.array([[[1, 0]]]))
    10.0
    """
    _same_shape(sct, ct, mask)
    sums = [(np.abs(a - b).sum(), a.size) for a, b in _inside(sct, ct, mask)]
    return _ratio(sums)


def psnr(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=HU_RANGE) -> float:
    """10·log10(Q² / MSE) in dB, both images clipped to `hu_range` (HU) and Q its width; +inf when they are equal.

    >>> psnr(np.full((1, 1, 2), 100), np.zeros((1, 1, 2)), np.ones((1, 1, 2)), hu_range=(-500, 500))
    20.0
    """
    _same_shape(sct, ct, mask)
    low, high = map(float, hu_range)
    error = _ratio(
        [(np.square(np.clip(a, low, high) - np.clip(b, low, high)).sum(), a.size) for a, b in _inside(sct, ct, mask)]
    )
    return math.inf if error == 0 else 10 * math.log10((high - low) ** 2 / error) if error == error else math.nan


def hu_bin_scores(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray, bins: dict | None = None) -> dict[str, dict]:
    """Per bin of the CT's own value {"mae" (HU), "bias" (mean sCT − CT, HU), "voxels"}; bins are [low, high) in HU."""
    _same_shape(sct, ct, mask)
    bins = bins or HU_BINS
    sums = {name: np.zeros(3) for name in bins}
    for a, b in _inside(sct, ct, mask):
        for name, (low, high) in bins.items():
            error = (a - b)[(b >= low) & (b < high)]
            sums[name] += np.abs(error).sum(), error.sum(), error.size
    return {
        name: {"mae": float(total / n) if n else math.nan, "bias": float(bias / n) if n else math.nan, "voxels": int(n)}
        for name, (total, bias, n) in sums.items()
    }


def ms_ssim(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=HU_RANGE) -> float:
    """Masked multi-scale SSIM: the product of the five scales' values; NaN when one scale has no mask voxel left."""
    value = 1.0
    for mean in ms_ssim_scales(sct, ct, mask, hu_range):
        value *= min(max(mean, 0.0), 1.0) if mean == mean else math.nan
    return value


def ms_ssim_scales(sct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=HU_RANGE) -> list[float]:
    """The mean of the SSIM map over the mask at each of the five scales, exponents inside the map; NaN where none is
    left.

    Images are clipped to `hu_range` (HU), shifted to [0, Q] and set to 0 outside the mask. The map at a voxel is
    (L·C·S)^w with the luminance L at EVERY scale. C·S is taken as one fraction: with C3 = C2/2 the deviations cancel,
    (2σxσy + C2)/(vx + vy + C2) · (cov + C3)/(σxσy + C3) = (2 cov + C2)/(vx + vy + C2), and clipping S below at 0 is
    clipping the fraction.
    """
    _same_shape(sct, ct, mask)
    low, high = map(float, hu_range)
    scale = _first_scale(sct, ct, mask, low, high)
    means: list[float] = []
    for weight in WEIGHTS:
        if scale is None:
            return [math.nan] * len(WEIGHTS)
        mean, scale = _score_and_halve(scale, weight, high - low, last=len(means) == len(WEIGHTS) - 1)
        means.append(mean)
    return means


@dataclass(frozen=True)
class _Scale:
    """Both images of one scale inside a box: every voxel that is not zero lies in it.

    `plane(k)` gives (x, y, inside) of the box's k-th plane; `start` is the box's first voxel in the volume of shape
    `full`.
    """

    shape: tuple[int, ...]
    start: tuple[int, ...]
    full: tuple[int, ...]
    plane: Callable


def _first_scale(sct, ct, mask, low: float, high: float) -> _Scale | None:
    # Outside the mask both images are zero, so a box around it is enough; only a padded axis is taken whole, since its
    # padding repeats the border, mask included. Voxels near the volume's end are left out of the mean (see _interior),
    # thus nothing beyond it is ever looked at and zeros beyond the box are exact.
    inside_z = [k for k in range(mask.shape[0]) if (mask[k] > 0).any()]
    if not inside_z:
        return None
    flat = np.zeros(mask.shape[1:], bool)
    for k in inside_z:
        flat |= mask[k] > 0
    spans, pads, starts, shape, full = [], [], [], [], []
    for n, used in zip(
        mask.shape, (np.array(inside_z), np.flatnonzero(flat.any(1)), np.flatnonzero(flat.any(0))), strict=True
    ):
        short = max(SHORTEST - n, 0)
        first, end = (0, n) if short else (int(used[0]) // BLOCK * BLOCK, int(used[-1]) + 1)
        spans.append(slice(first, end))
        pads.append((short // 2, short - short // 2))
        starts.append(first)
        shape.append(end - first + short)
        full.append(n + short)

    def plane(k: int):
        k = spans[0].start + min(max(k - pads[0][0], 0), spans[0].stop - spans[0].start - 1)
        inside = mask[k, spans[1], spans[2]] > 0
        x, y = (
            (np.clip(image[k, spans[1], spans[2]].astype(np.float64), low, high) - low) * inside for image in (sct, ct)
        )
        return (
            [np.pad(array, pads[1:], mode="edge") for array in (x, y, inside)]
            if any(map(any, pads[1:]))
            else [x, y, inside]
        )

    return _Scale(tuple(shape), tuple(starts), tuple(full), plane)


def _score_and_halve(scale: _Scale, weight: float, data_range: float, last: bool) -> tuple[float, _Scale | None]:
    """The masked mean of this scale's SSIM map, and the next scale; one pass over the planes, seven kept at a time."""
    depth, height, width = scale.shape
    fields = np.zeros((4, height + 2 * REACH, width + 2 * REACH))
    middle = fields[:, REACH:-REACH, REACH:-REACH]
    window: deque[np.ndarray | None] = deque()
    masks: deque[np.ndarray] = deque()
    sums = np.zeros((4, height, width))
    smaller = None if last else _Halving(scale)
    total, count = [], 0
    for k in range(depth + REACH):
        if k < depth:
            x, y, inside = scale.plane(k)
            np.copyto(middle[0], x)
            np.copyto(middle[1], y)
            np.add(x * x, y * y, out=middle[2])
            np.multiply(x, y, out=middle[3])
            boxes = _box(_box(fields, 1), 2)
            sums += boxes
            masks.append(inside)
            if smaller:
                smaller.add(k, x, y, inside)
        else:
            boxes = None
        window.append(boxes)
        if len(window) > WINDOW and (old := window.popleft()) is not None:
            sums -= old
        if k >= REACH:
            chosen = masks.popleft() & _interior(scale, k - REACH)
            if chosen.any():
                total.append(_map(sums[:, chosen], weight, data_range).sum())
                count += int(chosen.sum())
    mean = math.fsum(total) / count if count else math.nan
    return mean, smaller.done() if smaller else None


def _map(sums: np.ndarray, weight: float, data_range: float) -> np.ndarray:
    """(L·C·S)^weight from the window sums of x, y, x² + y² and xy (rows), with sample (co)variances."""
    n = WINDOW**3
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y, squares, product = sums / n
    unbiased = n / (n - 1)
    both = mean_x * mean_x + mean_y * mean_y
    cross = mean_x * mean_y
    value = (2 * cross + c1) / (both + c1)
    value *= (2 * unbiased * (product - cross) + c2) / (unbiased * (squares - both) + c2)
    return np.maximum(value, 0) ** weight


def _box(fields: np.ndarray, axis: int) -> np.ndarray:
    """Sums of 7 neighbours along one axis, valid part only: four additions a voxel instead of six."""
    a = np.moveaxis(fields, axis, 0)
    pairs = a[:-1] + a[1:]
    fours = pairs[:-2] + pairs[2:]
    fours = fours[:-3]
    fours += pairs[4:-1]
    fours += a[6:]
    return np.moveaxis(fours, 0, axis)


def _interior(scale: _Scale, k: int) -> np.ndarray | bool:
    """Which voxels of the box's plane k lie at least 3 voxels from every side of the whole volume."""
    z, y, x = (np.arange(n) + first for n, first in zip(scale.shape, scale.start, strict=True))
    if not REACH <= z[k] < scale.full[0] - REACH:
        return np.zeros(scale.shape[1:], bool)
    rows, columns = ((index >= REACH) & (index < n - REACH) for index, n in zip((y, x), scale.full[1:], strict=True))
    return rows[:, None] & columns


class _Halving:
    """The next scale: means of voxels i and i − 1 along each axis (−1 counts as zero), even i kept; the mask is
    decimated.
    """

    def __init__(self, scale: _Scale):
        self.start = tuple(first // 2 for first in scale.start)
        self.full = tuple((n + 1) // 2 for n in scale.full)
        # An odd last voxel still weighs on the next even one, if the volume has that one.
        self.shape = tuple(
            min((first + n) // 2 + 1, whole) - half
            for first, n, whole, half in zip(scale.start, scale.shape, self.full, self.start, strict=True)
        )
        self.images = np.zeros((2, *self.shape))
        self.mask = np.zeros(self.shape, bool)

    def add(self, k: int, x: np.ndarray, y: np.ndarray, inside: np.ndarray):
        target = (k + 1) // 2
        if target >= self.shape[0]:
            return
        for image, plane in zip(self.images, (x, y), strict=True):
            image[target] += _halved(_halved(plane, self.shape[1]).T, self.shape[2]).T / 8
        if k % 2 == 0:
            kept = inside[::2, ::2]
            self.mask[target, : kept.shape[0], : kept.shape[1]] = kept

    def done(self) -> _Scale:
        return _Scale(self.shape, self.start, self.full, lambda k: (self.images[0, k], self.images[1, k], self.mask[k]))


def _halved(rows: np.ndarray, n: int) -> np.ndarray:
    """Sums of rows 2i and 2i − 1 for i < n."""
    result = np.zeros((n, *rows.shape[1:]))
    even, odd = rows[::2], rows[1::2][: n - 1]
    result[: len(even)] = even
    result[1 : 1 + len(odd)] += odd
    return result


def _inside(sct, ct, mask):
    for k in range(mask.shape[0]):
        inside = mask[k] > 0
        if inside.any():
            yield sct[k][inside].astype(np.float64), ct[k][inside].astype(np.float64)


def _ratio(sums: list[tuple[float, int]]) -> float:
    count = sum(n for _, n in sums)
    return math.fsum(total for total, _ in sums) / count if count else math.nan


def _same_shape(sct, ct, mask):
    if not sct.shape == ct.shape == mask.shape or sct.ndim != 3:
        raise ValueError(f"shapes {sct.shape}, {ct.shape} and {mask.shape} of sCT, CT and mask differ or are not 3-D")
