"""Mutual information of two images, differentiable (Mattes et al. 2003): soft joint histogram, cubic Parzen window."""

import torch

from synthct.registration.dense.bspline import taps


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
        start = (a0 * self.bins + b0 - 1).long()
        total = torch.zeros(self.bins * self.bins, dtype=moving.dtype, device=moving.device)
        for row, share in ((0, 1 - (a - a0)), (self.bins, a - a0)):
            for step, tap in enumerate(taps(b - b0)):
                total = total.index_add(0, start + (row + step), tap * (share * weights))
        return (total / weights.sum().clamp(min=1e-6)).view(self.bins, self.bins)

    def __call__(self, fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """-MI of values (N,), a scalar."""
        joint = self.histogram(fixed, moving, weights)
        independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return -(joint * torch.log((joint + 1e-10) / (independent + 1e-10))).sum()
