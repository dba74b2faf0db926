"""The published metric: features of any extractor at random points, "Static" or "Jacobian" (spec of ImpactElastix).

Static: maps of both whole images once a level, interpolated; the moving maps are those of the un-warped image (the
released code computes them through the current transform and then looks them up through it again: a double warp from
the second level on). Jacobian: at every iteration patches around the points go through the network, the centre
features are compared, and the gradient flows back through the network to the moving coordinates.
"""

import numpy as np
import torch

from synthct.errors import InputError
from synthct.registration.pyramid import extents
from synthct.registration.similarity import Distance
from synthct.registration.warp import sample


def term(settings: dict, level: int, sides, extract, device: str):
    """The level's `Static` or `Jacobian` term for ``registration.impact.published``."""
    kind = {"static": Static, "jacobian": Jacobian}.get(settings["mode"])
    if kind is None:
        raise InputError(f"mode {settings['mode']!r}: expected static or jacobian")
    return kind(settings, settings["voxel_mm"][level], sides, extract, device)


class _Compared:
    """Distances of the kept layers, each over a random subset of channels drawn at every evaluation."""

    def __init__(self, settings: dict, layers: int):
        self._distances = [Distance(settings["distance"]) for _ in range(layers)]
        self._subset, self._weights = settings["subset"], settings["layer_weights"]
        if len(self._weights) != layers:
            raise InputError(f"layer_weights: {len(self._weights)} for {layers} kept layers")

    def __call__(self, fixed: list[torch.Tensor], moving: list[torch.Tensor], valid: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for weight, distance, f, m in zip(self._weights, self._distances, fixed, moving, strict=True):
            if 0 < self._subset < len(f):
                chosen = torch.randperm(len(f))[: self._subset].to(f.device)
                f, m = f[chosen], m[chosen]
            total = total + weight * distance(f, m, valid)
        return total


class Static:
    """Feature maps of both images once a level; trilinear look-up at x and T(x); no gradient through the network."""

    def __init__(self, settings: dict, voxel_mm: float, sides, extract, device: str):
        with torch.no_grad():
            maps = [extract(side.at(voxel_mm, 0.0)[None, None], side.statistics(), side.direction()) for side in sides]
        self._fixed, self._moving = ([layer[0] for layer in own] for own in maps)
        if settings["pca"] > 0:
            reduced = [_principal(f, m, settings["pca"]) for f, m in zip(self._fixed, self._moving, strict=True)]
            self._fixed, self._moving = ([pair[k] for pair in reduced] for k in (0, 1))
        self.weight, self._compare = settings["weight"], _Compared(settings, len(self._fixed))

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return self._compare(
            [sample(f, part.fixed) for f in self._fixed], [sample(m, coordinates) for m in self._moving], valid
        )


class Jacobian:
    """Patches around x and T(x) through the network at every iteration; the centre's features are compared.

    The moving patch is the fixed one's voxel offsets moved along with its centre; a sample counts only where its whole
    moving patch lies inside the image.
    """

    def __init__(self, settings: dict, voxel_mm: float, sides, extract, device: str):
        if settings["patch"] < 2:
            raise InputError("registration.impact.published.patch: expected at least 2 voxels in Jacobian mode")
        self._extract, self._sides, self._patch = extract, sides, settings["patch"]
        self.weight, self._settings, self._compare = settings["weight"], settings, None
        line = (np.arange(self._patch) - self._patch // 2) * voxel_mm
        offsets = np.stack(np.meshgrid(line, line, line, indexing="ij")[::-1], -1).reshape(-1, 3)
        self._offsets = [
            torch.tensor(2 * offsets / np.array(extents(side.grid)[::-1]), dtype=torch.float32, device=device)
            for side in sides
        ]

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            fixed = self._features(0, part.fixed)
        moving = self._features(1, coordinates)
        reach = self._offsets[1].abs().amax(0)
        whole = ((coordinates.detach().abs() + reach) <= 1).all(-1).to(valid.dtype)
        if self._compare is None:
            self._compare = _Compared(self._settings, len(fixed))
        return self._compare(fixed, moving, valid * whole)

    def _features(self, side: int, centres: torch.Tensor) -> list[torch.Tensor]:
        image = self._sides[side]
        spots = (centres[:, None] + self._offsets[side]).reshape(-1, 3)
        patches = sample(image.array[None], spots)[0].reshape(-1, 1, *(self._patch,) * 3)
        maps = self._extract(patches, image.statistics(), image.direction())
        return [layer[:, :, layer.shape[2] // 2, layer.shape[3] // 2, layer.shape[4] // 2].T for layer in maps]


def _principal(fixed: torch.Tensor, moving: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both maps on the fixed map's first `count` principal components, each side's own mean removed."""
    flat = [v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1, keepdim=True) for v in (fixed, moving)]
    _, vectors = torch.linalg.eigh(flat[0] @ flat[0].T / flat[0].shape[1])
    axes = vectors[:, -min(count, len(fixed)) :].flip(1)
    return tuple((axes.T @ f).reshape(-1, *v.shape[1:]) for f, v in zip(flat, (fixed, moving), strict=True))
