"""Where the images are compared: the mask's voxels in interleaved sub-lattices (dense), or random points (sampled)."""

from dataclasses import dataclass

import numpy as np
import torch

from synthct.errors import InputError
from synthct.registration.bspline import ControlGrid, Lattice
from synthct.registration.pyramid import level_image, positions
from synthct.registration.warp import PointMap
from synthct.volume import Volume


@dataclass
class LatticePart:
    """One sub-lattice: flat indices into the level's lattice, base coordinates (N, 3) and weights (N,)."""

    index: torch.Tensor
    base: torch.Tensor
    weight: torch.Tensor
    lattice: Lattice
    chosen: torch.Tensor

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Displacements (3, N) in mm."""
        return self.lattice.displacement(coefficients).reshape(3, -1)[:, self.chosen]


class SubLattices:
    """The level's points inside the mask, dealt out into stride³ interleaved sub-lattices in a random order.

    A pass over all parts sees each point once. `inside` is the mask as floats on the fixed grid.
    """

    def __init__(
        self,
        control: ControlGrid,
        fixed: Volume,
        inside: torch.Tensor,
        voxel_mm: float,
        stride: int,
        point_map: PointMap,
        generator: np.random.Generator,
    ):
        points = positions(fixed.grid, voxel_mm)
        weight = level_image(inside, fixed.grid, points, 0.0)
        base = point_map.base(points)
        flat = torch.arange(weight.numel(), device=weight.device).view(weight.shape)
        self._parts, self._generator, self._order = [], generator, []
        for z, y, x in np.ndindex(*(min(stride, n) for n in weight.shape)):
            cut = (slice(z, None, stride), slice(y, None, stride), slice(x, None, stride))
            own = weight[cut].reshape(-1)
            chosen = torch.nonzero(own > 0.5)[:, 0]
            if len(chosen):
                lattice = Lattice(control, [p[c] for p, c in zip(points, cut, strict=True)], weight)
                self._parts.append(
                    LatticePart(
                        flat[cut].reshape(-1)[chosen], base[cut].reshape(-1, 3)[chosen], own[chosen], lattice, chosen
                    )
                )
        if not self._parts:
            raise InputError(f"mask: nothing of it is left at {voxel_mm:g} mm voxels; it is too small to register in")

    def next(self) -> LatticePart:
        """The next part; a new random order once all were seen."""
        if not self._order:
            self._order = list(self._generator.permutation(len(self._parts)))
        return self._parts[self._order.pop()]


@dataclass
class RandomPart:
    """Random points: their coordinates in fixed and (undisplaced) moving -1..1 units, weights, spline weights."""

    fixed: torch.Tensor
    base: torch.Tensor
    weight: torch.Tensor
    bases: list[torch.Tensor]

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Displacements (3, N) in mm."""
        z, y, x = self.bases
        rows = torch.einsum("nz,czyx->ncyx", z, coefficients)
        return torch.einsum("ncyx,ny,nx->cn", rows, y, x)


class RandomPoints:
    """`count` points drawn anew at each iteration, uniformly in the mask's voxels (Elastix's RandomCoordinate)."""

    def __init__(
        self,
        control: ControlGrid,
        fixed: Volume,
        inside: torch.Tensor,
        count: int,
        point_map: PointMap,
        generator: np.random.Generator,
    ):
        self._control, self._count, self._map, self._generator = control, count, point_map, generator
        self._grid, self._device = fixed.grid, inside.device
        self._voxels = torch.nonzero(inside > 0.5).cpu().numpy()
        self._own = PointMap(
            fixed.grid, fixed.grid, np.eye(3), np.zeros(3), tuple((0, n) for n in fixed.grid.shape), inside.device
        )

    def next(self) -> RandomPart:
        """The next points."""
        rows = self._generator.integers(len(self._voxels), size=self._count)
        index = self._voxels[rows] + self._generator.uniform(-0.5, 0.5, (self._count, 3))
        index = index.clip(0, np.array(self._grid.shape) - 1)
        world = torch.tensor(
            index[:, ::-1] @ self._grid.matrix.T + np.array(self._grid.origin), dtype=torch.float32, device=self._device
        )
        along = index * np.array(self._grid.spacing[::-1])
        bases = [
            torch.tensor(self._control.basis(a, along[:, a]), dtype=torch.float32, device=self._device)
            for a in range(3)
        ]
        return RandomPart(
            self._own.unit(world), self._map.unit(world), torch.ones(self._count, device=self._device), bases
        )
