"""The dense engine's terms: MIND maps under a mean absolute difference, and mutual information, as a weighted sum."""

import torch

from synthct.core.errors import InputError
from synthct.registration.dense.mind import mind
from synthct.registration.dense.mutual import MutualInformation
from synthct.registration.dense.warp import sample


def build(settings: dict, level: int, sides) -> list:
    """The level's terms with a positive weight; `sides` are the fixed and the moving image."""
    voxel = settings["voxel_mm"][level]
    result: list = []
    if settings["mind"]["weight"] > 0:
        result.append(MindTerm(settings["mind"], voxel, sides))
    if settings["mi"]["weight"] > 0:
        result.append(MutualInformationTerm(settings["mi"], voxel, sides))
    if not result:
        raise InputError("registration.dense: nothing to compare, the weights of mind and mi are 0")
    return result


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
    """Negative mutual information of the smoothed intensities."""

    def __init__(self, settings: dict, voxel_mm: float, sides):
        self.weight = settings["weight"]
        fixed, moving = (side.at(voxel_mm, settings[f"sigma_{side.role}_mm"]) for side in sides)
        self._fixed, self._moving = fixed.reshape(-1), moving[None]
        self._information = MutualInformation(settings["bins"], _range(fixed), _range(moving))

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return self._information(self._fixed[part.index], sample(self._moving, coordinates)[0], valid)


def _range(image: torch.Tensor) -> tuple[float, float]:
    """The range that holds all but the thousandth part at either end."""
    values = image.reshape(-1)
    values = values[:: max(1, len(values) // 200000)].sort().values
    low, high = float(values[len(values) // 1000]), float(values[-1 - len(values) // 1000])
    return (low, high) if high > low else (low, low + 1.0)
