"""The published metric: features of any extractors at random points, "Static" or "Jacobian" (spec of ImpactElastix).

Static: maps of both whole images once a level, interpolated; the moving maps are those of the un-warped image (the
released code computes them through the current transform and then looks them up through it again: a double warp from
the second level on). Jacobian: at every iteration patches around the points go through the network, the centre
features are compared, and the gradient flows back through the network to the moving coordinates.

The metric is a sum over the tables of ``models``, and Mattes' mutual information of the
intensities at the same points (``mutual``); a weight of 0 leaves a part out. Values and derivatives equal those of
PyPI itk-impact (benchmarks/impact_parity.py).
"""

import numpy as np
import torch
from torch import nn

from synthct.images.grid import Grid
from synthct.registration.dense.interpolation import Interpolated, resampled
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.points import patch_offsets
from synthct.registration.dense.similarity import Distance


def build(settings: dict, level: int, sides, extract: dict[str, nn.Module]) -> list:
    """The level's terms; `sides` are the fixed and the moving image, `extract` is what `extractors.extractors` made."""
    kind = {"static": Static, "jacobian": Jacobian}[settings["mode"]]
    voxel = settings["voxel_mm"][level]
    result = [kind(settings, settings["models"][name], voxel, sides, network) for name, network in extract.items()]
    if settings["mutual"]["weight"] > 0:
        result.append(MutualTerm(settings, sides))
    return result


class _Compared:
    """Distances of the kept layers, each over a random subset of channels drawn at every evaluation (0: all)."""

    def __init__(self, model: dict, layers: int):
        self._distances = [Distance(model["distance"]) for _ in range(layers)]
        self._subset, self._weights = model["subset"], model["layer_weights"]

    def __call__(self, fixed: list[torch.Tensor], moving: list[torch.Tensor], valid: torch.Tensor) -> torch.Tensor:
        total = valid.new_zeros(())
        for weight, distance, f, m in zip(self._weights, self._distances, fixed, moving, strict=True):
            if 0 < self._subset < len(f):
                chosen = torch.randperm(len(f))[: self._subset].to(f.device)
                f, m = f[chosen], m[chosen]
            total = total + weight * distance(f, m, valid)
        return total


class Static:
    """Feature maps of both images once a level, looked up at x and T(x); no gradient through the network.

    An axis gets its extent over `voxel_mm` points, rounded, as far apart as then fills the extent. A map's voxels lie
    where its network put them: at every point times the layer's stride. (itk-impact stretches each map over the image,
    which is the same unless a stride does not divide the number of points; the Elastix component samples the image
    `voxel_mm` apart and stretches the map, which moves features where the extent is not a multiple of `voxel_mm`.)
    """

    def __init__(self, settings: dict, model: dict, voxel_mm: float, sides, extract):
        self.weight, kind = model["weight"], settings["interpolation"]
        self._grids, maps, self._scales = [side.grid for side in sides], [], []
        with torch.no_grad():
            for side in sides:
                spacing = side.grid.spacing[::-1]
                sizes = [max(1, int(n * s / voxel_mm + 0.5)) for n, s in zip(side.array.shape, spacing, strict=True)]
                image = resampled(side.array, tuple(sizes), kind)
                layers = [layer[0] for layer in extract(image[None, None], side.statistics(), side.direction())]
                self._scales.append([_steps(side.array, image, layer) for layer in layers])
                maps.append(layers)
        if model["pca"] > 0:
            maps = list(zip(*(_principal(f, m, model["pca"]) for f, m in zip(*maps, strict=True)), strict=True))
        self._maps = [[Interpolated(layer, kind) for layer in layers] for layers in maps]
        self._compare = _Compared(model, len(self._maps[0]))

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return self._compare(self._features(0, part.fixed), self._features(1, coordinates), valid)

    def _features(self, side: int, coordinates: torch.Tensor) -> list[torch.Tensor]:
        index = _index(coordinates, self._grids[side])
        return [look_up(index / scale) for look_up, scale in zip(self._maps[side], self._scales[side], strict=True)]


class Jacobian:
    """Patches around x and T(x) through the network at every iteration; the centre's features are compared.

    ``patches`` "mapped" takes every voxel of a moving patch from T(x + offset), as the Elastix component does; "moved"
    takes the fixed offsets along with the centre, as itk-impact does. Either way the derivative is that of the patch's
    centre, T(x): neither lets a patch turn or stretch. A sample counts where its whole moving patch lies inside.
    """

    def __init__(self, settings: dict, model: dict, voxel_mm: float, sides, extract):
        self.weight, self._model = model["weight"], model
        self._compare: _Compared | None = None
        self._extract, self._sides, self._mapped = extract, sides, settings["patches"] == "mapped"
        self._look_up = [Interpolated(side.array[None], settings["interpolation"]) for side in sides]
        self._line = (np.arange(model["patch"]) - model["patch"] // 2) * voxel_mm
        offsets = patch_offsets(self._line)
        self._offsets = [side.array.new_tensor(offsets / np.array(side.grid.spacing)) for side in sides]

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        fixed_at = _index(part.fixed, self._sides[0].grid)[:, None] + self._offsets[0]
        with torch.no_grad():
            fixed = self._features(0, fixed_at)
        centres = _index(coordinates, self._sides[1].grid)[:, None]
        if self._mapped:
            moving_at = _index(part.around(self._line), self._sides[1].grid) + (centres - centres.detach())
        else:
            moving_at = centres + self._offsets[1]
        moving = self._features(1, moving_at)
        last = moving_at.new_tensor(self._sides[1].grid.size) - 0.5
        whole = ((moving_at.detach() >= -0.5) & (moving_at.detach() <= last)).all(-1).all(-1)
        if self._compare is None:
            self._compare = _Compared(self._model, len(fixed))
        return self._compare(fixed, moving, valid * whole)

    def _features(self, side: int, index: torch.Tensor) -> list[torch.Tensor]:
        """The patches' centre features, (channels, points) a kept layer; `index` (points, voxels of a patch, 3)."""
        image, patch = self._sides[side], self._model["patch"]
        patches = self._look_up[side](index.reshape(-1, 3))[0].reshape(-1, 1, patch, patch, patch)
        maps = self._extract(patches, image.statistics(), image.direction())
        return [layer[:, :, layer.shape[2] // 2, layer.shape[3] // 2, layer.shape[4] // 2].T for layer in maps]


class MutualTerm:
    """Negative mutual information (nats) of the intensities at the points, over each image's whole range."""

    def __init__(self, settings: dict, sides):
        self.weight = settings["mutual"]["weight"]
        self._grids = [side.grid for side in sides]
        self._look_up = [Interpolated(side.array[None], settings["interpolation"]) for side in sides]
        fixed, moving = ((float(low), float(high)) for low, high in (side.statistics()[:2] for side in sides))
        self._information = MutualInformation(settings["mutual"]["bins"], fixed, moving)

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        fixed, moving = (
            look_up(_index(at, grid))[0]
            for look_up, at, grid in zip(self._look_up, (part.fixed, coordinates), self._grids, strict=True)
        )
        return self._information(fixed, moving, valid)


def _index(coordinates: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Continuous voxel indices (..., 3) of coordinates -1..1, both ordered (x, y, z)."""
    return (coordinates + 1) * (0.5 * (coordinates.new_tensor(grid.size) - 1))


def _steps(array: torch.Tensor, image: torch.Tensor, layer: torch.Tensor) -> torch.Tensor:
    """Voxels of `array` between those of a layer's map (c, z, y, x) that was made from `image`, along (x, y, z)."""
    sizes = zip(array.shape, image.shape, layer.shape[1:], strict=True)
    return array.new_tensor([n / size * round(size / m) for n, size, m in sizes]).flip(0)


def _principal(fixed: torch.Tensor, moving: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both maps on the fixed map's first `count` principal components, each side's own mean removed."""
    flat = [v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1, keepdim=True) for v in (fixed, moving)]
    _, vectors = torch.linalg.eigh(flat[0] @ flat[0].T / flat[0].shape[1])
    axes = vectors[:, -min(count, len(fixed)) :].flip(1)
    return tuple((axes.T @ f).reshape(-1, *v.shape[1:]) for f, v in zip(flat, (fixed, moving), strict=True))
