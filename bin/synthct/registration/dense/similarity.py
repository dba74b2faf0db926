"""IMPACT's distances between feature vectors at sampled points, with IMPACT's signs and normalisation.

Features are (channels, points), weights (points) are 1 for a valid sample and 0 else. Formulae: ImpactLoss metric,
spec of vboussot/ImpactElastix @d9cf16e. All are smaller for better agreement.
"""

import torch

from synthct.core.limits import DISTANCES


class Distance:
    """One of `DISTANCES`. L1 and L2 divide by their own first value, so a level starts at 1 (a new object a level)."""

    def __init__(self, name: str):
        if name not in DISTANCES:
            raise ValueError(f"distance {name!r}: expected one of {', '.join(DISTANCES)}")
        self.name = name
        self._first: torch.Tensor | None = None

    def __call__(self, fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The distance, a scalar."""
        return self.scaled(self.value(fixed, moving, weights))

    @property
    def ready(self) -> bool:
        """Whether the first value, where it counts, is known."""
        return self._first is not None or self.name not in ("L1", "L2")

    def value(self, fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The distance before it is divided by anything, a scalar."""
        return getattr(self, f"_{self.name.lower()}")(fixed, moving, weights)

    def scaled(self, value: torch.Tensor) -> torch.Tensor:
        """A value of `value`, of L1 and L2 over the first one that came here."""
        if self.name not in ("L1", "L2"):
            return value
        if self._first is None:
            self._first = value.detach().clamp(min=1e-12)
        return value / self._first

    @staticmethod
    def _l1(f, m, w):
        return _mean((f - m).abs().mean(0), w)

    @staticmethod
    def _l2(f, m, w):
        return _mean((f - m).square().mean(0), w)

    @staticmethod
    def _cosine(f, m, w):
        return -_mean(torch.nn.functional.cosine_similarity(f, m, dim=0), w)

    @staticmethod
    def _l1cosine(f, m, w):
        cosine = torch.nn.functional.cosine_similarity(f, m, dim=0)
        return -_mean(cosine * torch.exp(-0.1 * (f - m).abs()).mean(0), w)

    @staticmethod
    def _dotproduct(f, m, w):
        return -_mean((f * m).sum(0), w)

    @staticmethod
    def _dice(f, m, w):
        both, either = 2 * (f * m).sum(0), (f + m).sum(0)
        overlap = torch.where(either.abs() > 1e-6, both / torch.where(either.abs() > 1e-6, either, 1.0), 1.0)
        return -_mean(overlap, w)

    @staticmethod
    def _ncc(f, m, w):
        total = w.sum().clamp(min=1.0)
        f, m = (v - (v * w).sum(1, keepdim=True) / total for v in (f, m))
        scale = ((f.square() * w).sum(1) * (m.square() * w).sum(1)).sqrt().clamp(min=1e-9)
        return -((f * m * w).sum(1) / scale).mean()


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1.0)
