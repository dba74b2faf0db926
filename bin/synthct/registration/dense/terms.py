"""The dense engine's terms, a weighted sum: maps of networks, MIND maps, and mutual information, at every voxel."""

import math

import torch
from torch import nn

from synthct.registration.dense.jacobian import JacobianTerm, Reach
from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.points import WholeLevel
from synthct.registration.dense.pyramid import pitch
from synthct.registration.dense.shading import gain
from synthct.registration.dense.similarity import Distance
from synthct.registration.dense.warp import sample


def build(
    settings: dict,
    level: int,
    sides,
    extract: dict[str, nn.Module],
    points: WholeLevel,
    coefficients: torch.Tensor,
) -> list:
    """The level's terms with a positive weight; `sides` are the fixed and the moving image, `extract` is what
    `extractors.extractors` made, `points` all of the level's, and `coefficients` (3, z, y, x) the deformation's where
    it begins."""
    voxel = settings["voxel_mm"][level]
    result: list = []
    for name, network in extract.items():
        model = settings["models"][name]
        if model["mode"] == "jacobian":
            result.append(JacobianTerm(model, voxel, sides, network, points.weight))
        else:
            result.append(FeatureTerm(model, voxel, sides, network))
    if settings["mind"]["weight"] > 0:
        result.append(MindTerm(settings["mind"], voxel, sides))
    if settings["mi"]["weight"] > 0:
        start = points.at(coefficients) if settings["mi"]["shading_mm"] > 0 else None
        result.append(MutualInformationTerm(settings["mi"], voxel, sides, start))
    return result


class FeatureTerm:
    """IMPACT's distance of a network's maps of both images, made once a level (no gradient through the network).

    A map's voxel k lies at the level's point k × stride of its layer. The distance is summed over the kept layers.
    Images go through the network with their edges continued by as much as it sees: padded with zeros, an end slice
    of one image would look like no slice of the other.
    """

    def __init__(self, model: dict, voxel_mm: float, sides, extract: nn.Module):
        self.weight = model["weight"]
        steps = tuple(max(voxel_mm, spacing) for spacing in sides[0].grid.spacing[::-1])
        maps, scales = [], []
        reach = Reach.of(extract, sides[0], 0)
        for side in sides:
            image = side.at(steps, 0.0)
            layers = _maps(extract, side, image, reach)
            maps.append([_standardised(layer) for layer in layers] if model["standardise"] else layers)
            scales.append([_scale(image, layer) for layer in layers])
            if side is sides[0]:
                own = lattice(image.shape).to(image)
        self._fixed = [_at(layer, own, scale) for layer, scale in zip(maps[0], scales[0], strict=True)]
        self._moving = list(zip(maps[1], scales[1], strict=True))
        self._terms = [(weight, Distance(model["distance"])) for weight in model["layer_weights"]]

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        total = valid.new_zeros(())
        for fixed, (moving, scale), (weight, distance) in zip(self._fixed, self._moving, self._terms, strict=True):
            total = total + weight * distance(fixed[:, part.index], _at(moving, coordinates, scale), valid)
        return total


def _maps(extract: nn.Module, side, image: torch.Tensor, reach: Reach) -> list[torch.Tensor]:
    """The kept layers' maps (c, z, y, x) of a side's whole image (z, y, x)."""
    more = reach.overlap or 0
    continued = nn.functional.pad(image[None, None], [more] * 6, mode="replicate")
    with torch.no_grad():
        layers = extract(continued, side.statistics(), side.direction())
    inner = []
    for layer, stride in zip(layers, reach.strides, strict=True):
        z, y, x = (slice(more // s, more // s + -(-n // s)) for n, s in zip(image.shape, stride, strict=True))
        inner.append(layer[0, :, z, y, x])
    return inner


def _at(layer: torch.Tensor, coordinates: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Values (c, N) of a map at coordinates (N, 3) of the image it was made from."""
    return sample(layer, (coordinates + 1) * scale - 1)


def _standardised(layer: torch.Tensor) -> torch.Tensor:
    """Every channel of a map (c, z, y, x) less its mean, over its sigma."""
    return (layer - layer.mean((1, 2, 3), keepdim=True)) / layer.std((1, 2, 3), keepdim=True).clamp(min=1e-6)


def _scale(image: torch.Tensor, layer: torch.Tensor) -> torch.Tensor:
    """What coordinates of `image` from its first voxel on (0..2 along x, y, z) are multiplied with on `layer`."""
    sizes = zip(image.shape, layer.shape[1:], strict=True)
    return image.new_tensor([(n - 1) / max(1, round(n / m) * (m - 1)) for n, m in sizes]).flip(0)


def lattice(shape: tuple[int, ...]) -> torch.Tensor:
    """Coordinates -1..1 (N, 3) along (x, y, z) of a level's points of `shape` (z, y, x), in their indices' order."""
    index = torch.arange(math.prod(shape))
    _, height, width = shape
    places = torch.stack([index % width, index // width % height, index // (width * height)], 1).float()
    return 2 * places / (places.new_tensor(list(shape)[::-1]) - 1).clamp(min=1) - 1


class MindTerm:
    """Mean absolute difference of MIND descriptors (0..1)."""

    def __init__(self, settings: dict, voxel_mm: float, sides):
        self.weight = settings["weight"]
        # neighbours must be as far apart in both images: where the fixed one's voxels are larger, by those
        steps = tuple(max(voxel_mm, spacing) for spacing in sides[0].grid.spacing[::-1])
        fixed, self._moving = (
            mind(side.at(steps, settings[f"sigma_{side.role}_mm"]), settings["radius"], settings["dilation"])
            for side in sides
        )
        self._fixed = fixed.reshape(len(fixed), -1)

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        difference = (sample(self._moving, coordinates) - self._fixed[:, part.index]).abs().mean(0)
        return (difference * valid).sum() / valid.sum().clamp(min=1.0)


class MutualInformationTerm:
    """Negative mutual information of the smoothed intensities.

    With `start`, moving coordinates (N, 3) of all the level's points as it begins and their weights (z, y, x), the
    MR's are those without its shading, in windows of `settings["shading_mm"]`.
    """

    def __init__(self, settings: dict, voxel_mm: float, sides, start=None):
        self.weight = settings["weight"]
        fixed, moving = (side.at(voxel_mm, settings[f"sigma_{side.role}_mm"]) for side in sides)
        self._moving, self._gain, seen = moving[None], None, moving
        if start is not None:
            coordinates, weight = start
            steps = pitch(sides[0].grid, weight.shape)
            warped = sample(self._moving, coordinates)[0].view_as(fixed)
            if sides[0].role == "image":
                fixed = fixed / gain(fixed, warped, weight, steps, settings["shading_mm"])
            else:  # of the moving image, where it lies now
                found = gain(warped, fixed, weight, steps, settings["shading_mm"])
                self._gain, seen = found.reshape(-1), warped / found
        self._fixed = fixed.reshape(-1)
        self._information = MutualInformation(settings["bins"], _range(fixed), _range(seen))

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        moving = sample(self._moving, coordinates)[0]
        if self._gain is not None:
            moving = moving / self._gain[part.index]
        return self._information(self._fixed[part.index], moving, valid)


def _range(image: torch.Tensor) -> tuple[float, float]:
    """The range that holds all but the thousandth part at either end."""
    values = image.reshape(-1)
    values = values[:: max(1, len(values) // 200000)].sort().values
    low, high = float(values[len(values) // 1000]), float(values[-1 - len(values) // 1000])
    return (low, high) if high > low else (low, low + 1.0)
