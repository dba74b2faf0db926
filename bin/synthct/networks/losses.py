"""What the network is trained on: L1, and any number of perceptual terms between features of fixed encoders."""

import torch
from torch import nn

from synthct.core.errors import InputError
from synthct.networks.terms import check_objective, perceptual_terms


class Objective(nn.Module):
    """l1_weight · L1 + Σ_e w_e · Σ_l w_el · mean|φ_el(prediction) − φ_el(target)|.

    `settings` is the training section; `encoders` gives for each perceptual term e that it chooses a batch (n, 1, y, x)
    in [-1, 1] as a list of feature maps (see `synthct.networks.perceptual`). The whole batch passes through an encoder
    at once, the target once and without gradient, and none of the encoders' own weights asks for one. Source: Boussot
    et al. 2025, section 3.3.

    >>> settings = {"loss_region": "mask", "l1_weight": 1.0, "perceptual": {"encoder": "none", "encoders": {}}}
    >>> target, body = torch.zeros(1, 1, 2, 2), torch.tensor([[[[True, True], [False, False]]]])
    >>> float(Objective(settings, {})(target + 0.5, target, body)["l1"])  # of the body's pixels alone
    0.5
    """

    def __init__(self, settings: dict, encoders: dict[str, nn.Module]):
        super().__init__()
        check_objective(settings)
        self.masked = settings["loss_region"] == "mask"
        self.l1_weight = settings["l1_weight"]
        self.perceptual = {term["name"]: term for term in perceptual_terms(settings["perceptual"])}
        self.encoders = nn.ModuleDict(encoders)
        if set(self.encoders) != set(self.perceptual):
            raise InputError(f"encoders {', '.join(self.encoders)}: expected {', '.join(self.perceptual) or 'none'}")

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what `forward` returns: "loss", "l1", "perceptual", and each perceptual term's own."""
        return ("loss", "l1", "perceptual", *self.encoders)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scalars by `terms` of a batch (n, 1, y, x); `inside` marks the body (bool).

        "loss" is what is minimised, "l1" is unweighted; a perceptual term's own value lacks its weight w_e, and
        "perceptual" is their weighted sum.
        """
        error = (prediction - target).abs()
        l1 = (error * inside).sum() / inside.sum().clamp(min=1) if self.masked else error.mean()
        if self.masked:
            prediction = torch.where(inside, prediction, target)
        found = {name: self._distance(name, prediction, target) for name in self.encoders}
        weighted = [self.perceptual[name]["weight"] * distance for name, distance in found.items()]
        perceptual = torch.stack(weighted).sum() if weighted else torch.zeros_like(l1)
        return {"loss": self.l1_weight * l1 + perceptual, "l1": l1, "perceptual": perceptual, **found}

    def _distance(self, name: str, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        encoder = self.encoders[name]
        with torch.no_grad():
            wanted = encoder(target, target)
        found = encoder(prediction, target)
        weights = self.perceptual[name]["layer_weights"] or [1.0] * len(found)
        if len(weights) != len(found):
            raise InputError(f"training.perceptual {name}: {len(weights)} layer_weights for {len(found)} layers")
        distances = [w * (f - g).abs().mean() for w, f, g in zip(weights, found, wanted, strict=True)]
        return torch.stack(distances).sum()
