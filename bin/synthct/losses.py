"""What the network is trained on: L1, and a perceptual loss between features of a fixed encoder."""

from collections.abc import Callable

import torch
from torch import nn

from synthct.errors import InputError


class Objective(nn.Module):
    """l1_weight · L1 + perceptual.weight · Σ_l w_l · mean|φ_l(prediction) − φ_l(target)|.

    `settings` is the training section; `encoder` gives a batch (n, 1, y, x) in [-1, 1] as a list of feature maps (see
    `synthct.perceptual`) or is None. The whole batch passes through it at once, the target without gradient, and none
    of its own weights asks for one. Source: Boussot et al. 2025, section 3.3.
    """

    def __init__(self, settings: dict, encoder: Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]] | None):
        super().__init__()
        if settings["loss_region"] not in ("patch", "mask"):
            raise InputError(f"training.loss_region {settings['loss_region']!r}: expected patch or mask")
        self.masked = settings["loss_region"] == "mask"
        self.l1_weight = settings["l1_weight"]
        self.perceptual_weight = settings["perceptual"]["weight"]
        self.layer_weights = settings["perceptual"]["layer_weights"]
        self.encoder = encoder

    def forward(self, prediction: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scalars "loss", "l1" and "perceptual" of a batch (n, 1, y, x); `inside` marks the body (bool)."""
        error = (prediction - target).abs()
        l1 = (error * inside).sum() / inside.sum().clamp(min=1) if self.masked else error.mean()
        if self.encoder is None:
            return {"loss": self.l1_weight * l1, "l1": l1, "perceptual": torch.zeros_like(l1)}
        if self.masked:
            prediction = torch.where(inside, prediction, target)
        with torch.no_grad():
            wanted = self.encoder(target, target)
        found = self.encoder(prediction, target)
        weights = self.layer_weights or [1.0] * len(found)
        if len(weights) != len(found):
            raise InputError(f"training.perceptual.layer_weights: {len(weights)} weights for {len(found)} layers")
        distances = [w * (f - g).abs().mean() for w, f, g in zip(weights, found, wanted, strict=True)]
        perceptual = torch.stack(distances).sum()
        return {"loss": self.l1_weight * l1 + self.perceptual_weight * perceptual, "l1": l1, "perceptual": perceptual}
