"""What the parity with itk-impact is measured on: images, points, a deformation, extractors; and our side of it.

Nothing is random: the phantom and the network's weights are sums of sines, so that reference numbers stay valid.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from synthct.images.grid import Grid, Volume
from synthct.images.volume import read_volume
from synthct.registration.dense import extractors, sampled
from synthct.registration.dense.bspline import ControlGrid
from synthct.registration.dense.freeform import Side
from synthct.registration.dense.points import RandomPart, RandomPoints
from synthct.registration.dense.warp import PointMap

POINTS = 60
LAYER_WEIGHTS = (1.0, 0.5)
OFFSET = {"Cosine": 1.0, "L1Cosine": 1.0, "Dice": 1.0, "NCC": 1.0}  # itk-impact 0.1.6 adds it: 0 for equal features


TURNED = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)  # direction cosines


@dataclass(frozen=True)
class Case:
    """One comparison. `normalised`: the value at the deformation over that at the identity (L1, L2)."""

    mode: str
    distance: str
    extractor: str = "network"  # or "mind", or "m730": the real network's first two blocks
    interpolation: str = "cubic"
    patches: str = "moved"
    normalised: bool = False
    voxel_mm: float = 2.0
    patch: int = 7
    pca: int = 0
    direction: tuple[float, ...] = Grid.direction
    layers: str = ""  # the layers compared, a character an output; "": all of the extractor

    @property
    def mask(self) -> str:
        """The layers compared, a character an output."""
        return self.layers or ("1" if self.extractor == "mind" else "11")

    @property
    def layer_weights(self) -> list[float]:
        """One each of the layers compared."""
        return list(LAYER_WEIGHTS[: self.mask.count("1")])

    @property
    def name(self) -> str:
        more = {
            "MIND": self.extractor == "mind",
            f"M730 layers {self.layers}": self.extractor == "m730",
            "turned": self.direction == TURNED,
            "normalised": self.normalised,
        }
        more["PCA"] = self.pca > 0
        more |= {self.interpolation: self.interpolation != "cubic", f"{self.voxel_mm:g} mm": self.voxel_mm != 2.0}
        return " ".join([self.mode, self.distance, *(word for word, said in more.items() if said)])


def cases(voxel_mm: float = 2.0) -> list[Case]:
    """Both modes with every distance, MIND, L1 and L2 normalised, linear patches, turned images, PCA."""
    distances = ("L1", "L2", "Cosine", "L1Cosine", "Dice", "NCC")
    result = [Case(mode, name) for mode in ("static", "jacobian") for name in distances]
    for mode in ("static", "jacobian"):
        result += [Case(mode, name, "mind") for name in ("L1", "NCC")]
        result += [Case(mode, name, normalised=True) for name in ("L1", "L2")]
    result += [Case("jacobian", name, interpolation="linear") for name in ("L1", "L2")]
    result += [Case(mode, "L2", direction=TURNED) for mode in ("static", "jacobian")]
    result += [Case("static", "L2", pca=3)]
    result = [replace(case, voxel_mm=voxel_mm) for case in result]
    return [*result, Case("static", "L1", "mind", voxel_mm=1.5 * voxel_mm)]  # does not divide the extent


def real_cases() -> list[Case]:
    """The paper's CBCT metric (M730, layer 2, Jacobian, patches of 11) with both distances, both layers, and Static."""
    real = Case("jacobian", "L1", "m730", patch=11, layers="01")
    return [replace(real, **more) for more in ({}, {"distance": "L2"}, {"layers": "11"}, {"mode": "static"})]


def crop(directory: Path, size: tuple[int, int, int], standard: bool = False) -> tuple[Volume, Volume]:
    """The middle of a case's fixed and moving image, `size` voxels (x, y, z).

    `standard`: less their means, over their sigmas, as exports that do not normalise themselves are given them.
    """
    fixed = next(directory / name for name in ("cbct.mha", "mr.mha") if (directory / name).is_file())
    result = []
    for volume in (read_volume(fixed), read_volume(directory / "ct.mha")):
        grid = volume.grid
        first = [(n - kept) // 2 for n, kept in zip(grid.size, size, strict=True)]
        x, y, z = (slice(a, a + kept) for a, kept in zip(first, size, strict=True))
        origin = tuple(map(float, np.array(grid.origin) + grid.matrix @ np.array(first)))
        array = volume.array[z, y, x].astype(np.float32) if standard else volume.array[z, y, x].copy()
        array = (array - array.mean()) / array.std() if standard else array
        result.append(Volume(array, Grid(size, grid.spacing, origin, grid.direction)))
    return tuple(result)


class Network(torch.nn.Module):
    """Two layers of 6 and 8 channels in 0..1, strides 1 and 2, with IMPACT's call signature; sines for weights."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv3d(1, 6, 3, padding=1)
        self.second = torch.nn.Conv3d(6, 8, 3, padding=1, stride=2)
        with torch.no_grad():
            for parameter in self.parameters():
                values = torch.sin(0.37 * torch.arange(1, parameter.numel() + 1, dtype=torch.float64) ** 2)
                parameter.copy_(values.view_as(parameter) * 0.35)

    def forward(self, x, layers: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
        first = torch.sigmoid(self.first((x - stats[2]) / stats[3]))
        return [first, torch.sigmoid(2 * self.second(first))]


class Mind(torch.nn.Module):
    """MIND R1D2 as a TorchScript module, written apart from ours: differences by rolling, the box by pooling."""

    def forward(self, x, layers: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
        x = (x - stats[0]) / (stats[1] - stats[0] + 1e-6)
        wide = torch.nn.functional.pad(x, [2, 2, 2, 2, 2, 2], mode="replicate")
        size = x.shape
        shifted: list[torch.Tensor] = []
        for axis in (2, 3, 4):
            for step in (0, 4):
                part = wide
                for other in (2, 3, 4):
                    part = part.narrow(other, step if other == axis else 2, size[other])
                shifted.append(part)
        distances: list[torch.Tensor] = []
        for a in range(6):
            for b in range(a + 1, 6):
                if a // 2 != b // 2:
                    square = (shifted[a] - shifted[b]).pow(2)
                    square = torch.nn.functional.pad(square, [1, 1, 1, 1, 1, 1], mode="replicate")
                    distances.append(torch.nn.functional.avg_pool3d(square, 3, stride=1))
        every = torch.cat(distances, 1)
        every = every - every.min(1, keepdim=True)[0]
        variance = every.mean(1, keepdim=True)
        mean = variance.mean([1, 2, 3, 4], keepdim=True)
        return [torch.exp(-every / torch.max(torch.min(variance, mean * 1000.0), mean * 0.001))]


def phantom(direction: tuple[float, ...] = Grid.direction) -> tuple[Volume, Volume]:
    """A fixed and a moving image (int16) of smooth texture on two grids that overlap."""
    fixed = Grid((32, 28, 24), (2.0, 2.0, 2.5), (-30.0, 10.0, 5.0), direction)
    matrix = fixed.matrix @ np.array([-2.0, -1.6, 0.4])
    moving = Grid((36, 32, 24), (2.0, 2.0, 2.5), tuple(map(float, np.array(fixed.origin) + matrix)), direction)
    return tuple(Volume(_texture(grid, fixed, moved), grid) for grid, moved in ((fixed, 0.0), (moving, 1.3)))


def _texture(grid: Grid, frame: Grid, moved: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1)
    world = index @ grid.matrix.T + grid.origin - np.array(frame.origin)
    x, y, z = np.moveaxis(world @ np.array(grid.direction).reshape(3, 3), -1, 0)
    x, y = x + moved * np.sin(y / 11), y + moved * np.cos(z / 9)
    values = 300 * np.sin(x / 4.1 + y / 13) + 250 * np.cos(y / 5.3 - z / 7) + 200 * np.sin(z / 3.7 + x * y / 170)
    return np.round(values + 20 * moved).astype(np.int16).T


class Scene:
    """The two images with a control grid, coefficients (mm) of a deformation and points well inside."""

    def __init__(self, fixed: Volume, moving: Volume, spacing_mm: float = 24.0, reach_mm: float = 12.0):
        self.fixed, self.moving = fixed, moving
        self.control = ControlGrid.covering(fixed.grid, spacing_mm)
        k = torch.arange(3 * int(np.prod(self.control.size)), dtype=torch.float64)
        self.coefficients = (3.0 * torch.sin(2.3 * k)).float().view(3, *self.control.size)
        low = reach_mm / np.array(fixed.grid.spacing[::-1])
        part = 0.5 + 0.5 * np.sin(np.outer(np.arange(1.0, POINTS + 1), (12.9, 7.7, 5.3)))
        self.index = low + part * (np.array(fixed.grid.shape) - 1 - 2 * low)  # (z, y, x)

    def world(self) -> np.ndarray:
        """The points in LPS mm."""
        return self.index[:, ::-1] @ self.fixed.grid.matrix.T + np.array(self.fixed.grid.origin)

    def sides(self) -> list:
        """The two images as the registration prepares them, unclipped."""
        clip = {"clip_ct": (-np.inf, np.inf), "image_is_ct_like": False}
        return [Side(volume, clip, "image", "cpu") for volume in (self.fixed, self.moving)]

    def part(self) -> tuple[RandomPart, PointMap]:
        """The points, and the map to the moving image's coordinates."""
        everywhere, box = torch.ones(self.fixed.grid.shape), tuple((0, n) for n in self.moving.grid.shape)
        point_map = PointMap(self.fixed.grid, self.moving.grid, np.eye(3), np.zeros(3), box)
        points = RandomPoints(self.control, self.fixed, everywhere, POINTS, point_map, np.random.default_rng(0))
        return points.at(self.index), point_map

    def ours(self, case: Case, scripts: dict[str, Path]) -> dict:
        """Value and derivative with respect to the coefficients, through the classes that the registration uses."""
        settings = settings_of(case, scripts)
        (term,) = sampled.build(settings, 0, self.sides(), extractors.extractors(settings, "cpu"))
        part, point_map = self.part()
        coefficients = self.coefficients.clone().requires_grad_()
        for tried in (torch.zeros_like(coefficients), coefficients):  # L1 and L2 divide by their first value
            coordinates = point_map.moved(part.base, part.displacement(tried))
            value = term(part, coordinates, part.weight * point_map.inside(coordinates))
            for distance in [] if case.normalised else term._compare._distances:
                distance._first = torch.ones(())
        value.backward()
        return {"value": float(value), "derivative": coefficients.grad.ravel().tolist()}


def settings_of(case: Case, scripts: dict[str, Path]) -> dict:
    """The sampled engine's settings with the case's extractor alone."""
    model = {
        "extractor": "MIND R1D2" if case.extractor == "mind" else str(scripts[case.extractor]),
        "layers": case.mask,
        "layer_weights": case.layer_weights,
        "distance": case.distance,
        "patch": case.patch,
        "pca": case.pca,
        **{"weight": 1.0, "channels": 1, "subset": 0},
    }
    return {
        "mode": case.mode,
        "interpolation": case.interpolation,
        "patches": case.patches,
        "voxel_mm": [case.voxel_mm],
        "weights": "",
        "models": {"only": model},
        "mutual": {"weight": 0.0},
    }


def write_scripts(place: Path) -> dict[str, Path]:
    """The extractors as TorchScript files, by name."""
    result = {"network": place / "network.pt", "mind": place / "mind.pt"}
    torch.jit.script(Network()).save(str(result["network"]))
    torch.jit.script(Mind()).save(str(result["mind"]))
    return result
