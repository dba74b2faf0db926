"""Mutual information of two images, differentiable (Mattes et al. 2003): soft joint histogram, cubic Parzen window."""

import torch

from synthct.registration.dense.bspline import taps

STRAY = 1.5  # times the span of all but a thousandth at either end, beyond it: 48 bodies' MR, CT and CBCT reach 1.1


def value_range(values: torch.Tensor) -> tuple[float, float]:
    """Lowest and highest of `values` for a histogram, in whatever unit; what strays further than `STRAY` is left out.

    Metal at 30000 HU would else leave a whole body two bins of 48.
    """
    flat = values.reshape(-1)
    low, high = float(flat.min()), float(flat.max())
    count, cut = len(flat), len(flat) // 1000
    first, last = (float(flat.kthvalue(place).values) for place in (1 + cut, count - cut))
    if last > first:
        low, high = max(low, first - STRAY * (last - first)), min(high, last + STRAY * (last - first))
    return (low, high) if high > low else (low, low + 1.0)


class MutualInformation:
    """Negative mutual information (nats) between fixed values, given once, and the moving values found at T(x).

    Fixed values fall into the two nearest bins (linear weights, constant), moving values into four (cubic B-spline
    weights, which carry the gradient). Both are clipped to the range given.
    """

    def __init__(self, bins: int, fixed_range: tuple[float, float], moving_range: tuple[float, float]):
        if bins < 6:
            raise ValueError(f"{bins} bins: expected at least 6")
        self.bins, self.fixed_range, self.moving_range = bins, fixed_range, moving_range

    def histogram(self, fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Joint probabilities (bins, bins) of values (N,) with weights (N,)."""
        low, high = self.fixed_range
        a = (fixed.clamp(low, high) - low) / (high - low) * (self.bins - 1.001)
        a0 = a.floor()
        low, high = self.moving_range
        b = 1 + (moving.clamp(low, high) - low) / (high - low) * (self.bins - 3.001)
        b0 = b.detach().floor()
        shares = (1 - (a - a0)) * weights, (a - a0) * weights
        # on a GPU a sum by places has no order, so other bits each time; on a CPU the product takes three times as long
        joint = (self._product if moving.is_cuda else self._sum)(a0.long(), shares, b, b0)
        return joint / weights.sum().clamp(min=1e-6)

    def _sum(self, rows, shares, place, floor) -> torch.Tensor:
        """Shares of the bins from `rows` on (N,) times the taps around `place`, added up bin by bin."""
        start = rows * self.bins + floor.long() - 1
        total = place.new_zeros(self.bins * self.bins)
        for row, share in enumerate(shares):
            for step, tap in enumerate(taps(place - floor)):
                total = total.index_add(0, start + (row * self.bins + step), tap * share)
        return total.view(self.bins, self.bins)

    def _product(self, rows, shares, place, floor) -> torch.Tensor:
        """The same as a product of two tables (N, bins)."""
        tables = []
        for first, parts in ((rows, shares), (floor.long() - 1, taps(place - floor))):
            parts = torch.stack(tuple(parts), 1)
            places = first[:, None] + torch.arange(parts.shape[1], device=first.device)
            tables.append(parts.new_zeros(len(parts), self.bins).scatter(1, places, parts))
        return tables[0].T @ tables[1]

    def __call__(self, fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """-MI of values (N,), a scalar."""
        joint = self.histogram(fixed, moving, weights)
        independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return -(joint * torch.log((joint + 1e-10) / (independent + 1e-10))).sum()
