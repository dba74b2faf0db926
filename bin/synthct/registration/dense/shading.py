"""An MR's shading, found with the CT's help: coils make one tissue brighter here than there, which no histogram of the
whole image understands. Where both images lie about in one place the CT tells the tissues apart, and the MR's gain is
the smooth field that makes each of them equally bright everywhere.
"""

import numpy as np
import torch

from synthct.registration.dense.bspline import evaluate, tensors

BINS = 48  # of the CT's range
ROUNDS = 4
APART = 3.0  # times brighter or darker than its tissue, a voxel is of another, or without signal, and says nothing
SPARSE_MM = 6.0  # between the points that are looked at
LEAST, MOST = 0.25, 4.0  # of the mean gain: beyond, it is no coil's


def gain(image: torch.Tensor, ct: torch.Tensor, weight: torch.Tensor, spacing_mm, sigma_mm: float) -> torch.Tensor:
    """The gain (z, y, x), about 1, of `image`, whose points are `spacing_mm` apart along (z, y, x).

    `ct` holds the CT's values at the same points, `weight` says how much each counts (0 outside the body). In turns: a
    tissue's signal, the mean of what is left of the image in a bin of CT values; and the smooth field b with the least
    squares of what is left - b · signal in a Gaussian window of `sigma_mm`, by which the gain is multiplied. Of the
    points every few are looked at (`SPARSE_MM`): so smooth a field needs no more.
    """
    steps = [min(n, max(1, int(SPARSE_MM / step))) for n, step in zip(image.shape, spacing_mm, strict=True)]
    z, y, x = (slice(None, None, step) for step in steps)
    seen = image[z, y, x]
    apart = [step * spacing for step, spacing in zip(steps, spacing_mm, strict=True)]
    windows = [_window(n, sigma_mm / step) for n, step in zip(seen.shape, apart, strict=True)]
    found = _gain(seen, ct[z, y, x], weight[z, y, x], tensors(windows, image))
    between = [_between(n, step) for n, step in zip(image.shape, steps, strict=True)]
    return evaluate(found[None], tensors(between, image))[0]


def _gain(image: torch.Tensor, ct: torch.Tensor, weight: torch.Tensor, windows: list[torch.Tensor]) -> torch.Tensor:
    low, high = ct.min(), ct.max()
    place = ((ct - low) / (high - low).clamp(min=1e-6) * (BINS - 1)).round().long().reshape(-1)
    result, counted = torch.ones_like(image), weight
    for number in range(ROUNDS):
        rest = image / result
        sums = [_summed(values, place) for values in (counted * rest, counted)]
        signal = (sums[0] / sums[1].clamp(min=1e-6))[place].view(image.shape)
        if number:  # the first signal is of tissues that the shading has mixed
            counted = weight * ((rest > signal / APART) & (rest < signal * APART))
        above, below = evaluate(torch.stack([counted * rest * signal, counted * signal * signal]), windows)
        known = 1e-4 * below.max() + 1e-12  # where next to nothing of it is seen the gain stays as it was
        result = result * ((above + known) / (below + known)).clamp(min=1e-6)
        middle = ((result.log() * weight).sum() / weight.sum().clamp(min=1e-6)).exp()
        result = (result / middle).clamp(LEAST, MOST)
    return result


def _summed(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Sums of `values` by bin; in float64 on a CPU, whose sums have an order."""
    sums = torch.zeros(BINS, dtype=torch.float64).index_add(0, place.cpu(), values.reshape(-1).cpu().double())
    return sums.to(values)


def _window(count: int, sigma: float) -> np.ndarray:
    """A Gaussian about each of `count` points (count, count), `sigma` in points."""
    distance = np.subtract.outer(np.arange(count), np.arange(count)) / max(sigma, 1e-3)
    return np.exp(-0.5 * distance**2)


def _between(count: int, step: int) -> np.ndarray:
    """Linear interpolation to `count` points from every `step`th of them; the last value goes on."""
    knots = np.arange(0, count, step)
    return np.stack([np.interp(np.arange(count), knots, one) for one in np.eye(len(knots))], 1)
