"""Fixed encoders for the perceptual loss: MIND."""

import torch
from torch import nn
from torch.nn import functional

from synthct.errors import InputError


class Mind(nn.Module):
    """The modality-independent neighbourhood descriptor in the plane, at each of `distances` (pixels); needs no weights.

    For the four neighbours r: D_r = 3×3 mean of (I(x) − I(x + r))², MIND_r = exp(−D_r / (mean_r D_r + 1e-4)). The floor
    (in squared units of the [-1, 1] CT; 1e-4 is about 20 HU) keeps noise in flat tissue quiet. Source: Heinrich et al.
    2012.
    """

    def __init__(self, distances: list[int]):
        super().__init__()
        self.distances = distances or [1, 2]

    def forward(self, image: torch.Tensor, _reference: torch.Tensor) -> list[torch.Tensor]:
        """One map (n, 4, y, x) per distance for `image` (n, 1, y, x)."""
        image = image.float()
        return [self._descriptor(image, distance) for distance in self.distances]

    def _descriptor(self, image: torch.Tensor, d: int) -> torch.Tensor:
        height, width = image.shape[-2:]
        wide = functional.pad(image, (d, d, d, d), mode="replicate")
        shifts = ((0, d), (2 * d, d), (d, 0), (d, 2 * d))
        moved = torch.cat([wide[..., y:y + height, x:x + width] for y, x in shifts], 1)
        difference = functional.avg_pool2d(functional.pad((image - moved) ** 2, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return torch.exp(-difference / (difference.mean(1, keepdim=True) + 1e-4))


def encoder(settings: dict) -> nn.Module | None:
    """The encoder that ``training.perceptual`` names, weights loaded; None for "none" or a weight of 0."""
    kind = settings["encoder"]
    if kind == "none" or not settings["weight"]:
        return None
    if kind == "mind":
        return Mind(settings["layers"])
    raise InputError(f"training.perceptual.encoder {kind!r}: unknown")
