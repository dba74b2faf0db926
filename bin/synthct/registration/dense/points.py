"""Where the images are compared: the mask's voxels in interleaved sub-lattices (dense), or random points (sampled)."""

from dataclasses import dataclass

import numpy as np
import torch

from synthct.core.errors import PairError
from synthct.images.grid import Volume
from synthct.registration.dense.bspline import ControlGrid, Lattice
from synthct.registration.dense.pyramid import extents, level_image, positions
from synthct.registration.dense.warp import PointMap


@dataclass
class WholeLevel:
    """All points of a level, also those outside the mask: weights (z, y, x), 0 there, and base coordinates."""

    weight: torch.Tensor
    base: torch.Tensor
    lattice: Lattice
    map: PointMap

    def at(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Moving coordinates (N, 3) of all points, and their weights (z, y, x), 0 where those lie outside."""
        coordinates = self.map.moved(self.base, self.lattice.displacement(coefficients).reshape(3, -1))
        return coordinates, self.weight * self.map.inside(coordinates).view(self.weight.shape)


@dataclass
class LatticePart:
    """One sub-lattice: flat indices into the level's lattice, base coordinates (N, 3) and weights (N,)."""

    index: torch.Tensor
    base: torch.Tensor
    weight: torch.Tensor
    lattice: Lattice
    chosen: torch.Tensor
    level: WholeLevel
    _latest: torch.Tensor | None = None  # the coefficients of the last `displacement`

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Displacements (3, N) in mm; `everywhere` then knows the coefficients."""
        self._latest = coefficients
        return self.lattice.displacement(coefficients).reshape(3, -1)[:, self.chosen]

    def everywhere(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Moving coordinates and weights of the whole level (see `WholeLevel.at`), displaced as at the last call of
        `displacement`."""
        assert self._latest is not None
        return self.level.at(self._latest)


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
        self.level = WholeLevel(
            weight * (weight > 0.5), base.reshape(-1, 3), Lattice(control, points, weight), point_map
        )
        self._parts: list[LatticePart] = []
        self._order: list[int] = []
        self._generator = generator
        for z, y, x in np.ndindex(*(min(stride, n) for n in weight.shape)):
            cut = (slice(z, None, stride), slice(y, None, stride), slice(x, None, stride))
            own = weight[cut].reshape(-1)
            chosen = torch.nonzero(own > 0.5)[:, 0]
            if len(chosen):
                lattice = Lattice(control, [p[c] for p, c in zip(points, cut, strict=True)], weight)
                self._parts.append(
                    LatticePart(
                        flat[cut].reshape(-1)[chosen],
                        base[cut].reshape(-1, 3)[chosen],
                        own[chosen],
                        lattice,
                        chosen,
                        self.level,
                    )
                )
        if not self._parts:
            raise PairError(f"mask: nothing of it is left at {voxel_mm:g} mm voxels; it is too small to register in")

    def next(self) -> LatticePart:
        """The next part; a new random order once all were seen."""
        if not self._order:
            self._order = list(self._generator.permutation(len(self._parts)))
        return self._parts[self._order.pop()]


def patch_offsets(line: np.ndarray) -> np.ndarray:
    """Offsets (P³, 3), (x, y, z), of a patch's voxels, `line` (P) being those along each axis; x varies fastest."""
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    return np.stack((x, y, z), -1).reshape(-1, 3)


class RandomPart:
    """Points off the lattice: coordinates in fixed and (undisplaced) moving -1..1 units (N, 3) and weights (N,)."""

    def __init__(self, points: "RandomPoints", index: np.ndarray):
        self._points, self._index = points, index
        grid, device = points.grid, points.device
        self._latest = torch.empty(0, device=device)  # the coefficients of the last `displacement`
        world = torch.tensor(grid.points(index), dtype=torch.float32, device=device)
        self.fixed, self.base = points.own.unit(world), points.map.unit(world)
        self.weight = torch.ones(len(index), device=device)
        self._bases = points.bases(index * np.array(grid.spacing[::-1]))

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Displacements (3, N) in mm; `around` then knows the coefficients."""
        self._latest = coefficients.detach()
        z, y, x = self._bases
        rows = torch.einsum("nz,czyx->ncyx", z, coefficients)
        return torch.einsum("ncyx,ny,nx->cn", rows, y, x)

    def around(self, line: np.ndarray) -> torch.Tensor:
        """Moving coordinates (N, P³, 3), without gradient, of the voxels of a patch around each point.

        `line` (P) holds the offsets of `patch_offsets` in mm along each of the fixed image's axes. The spline is that
        of the last `displacement`; beyond the image it keeps the value at the edge.
        """
        grid, device = self._points.grid, self._points.device
        side, extent = len(line), np.array(extents(grid))
        offsets = patch_offsets(line) @ np.array(grid.direction).reshape(3, 3).T
        offsets = torch.tensor(offsets, dtype=torch.float32, device=device)
        result = []
        for first in range(0, len(self._index), 256):  # the products of all points at once would not fit
            along = self._index[first : first + 256, None] * np.array(grid.spacing[::-1]) + line[:, None]
            bases = self._points.bases(along.clip(0, extent).reshape(-1, 3))
            z, y, x = (b.reshape(len(along), side, -1) for b in bases)
            moved = torch.einsum("npz,czyx->npcyx", z, self._latest)
            moved = torch.einsum("npcyx,nqy->npqcx", moved, y)
            moved = torch.einsum("npqcx,nrx->npqrc", moved, x).reshape(len(along), -1, 3)
            base = self.base[first : first + 256, None]
            result.append(self._points.map.bent(base + (offsets + moved) @ self._points.map.linear.T))
        return torch.cat(result)


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
        self._control, self._count, self._generator = control, count, generator
        self.map, self.grid, self.device = point_map, fixed.grid, inside.device
        self._voxels = torch.nonzero(inside > 0.5).cpu().numpy()
        everything = tuple((0, n) for n in fixed.grid.shape)
        self.own = PointMap(fixed.grid, fixed.grid, np.eye(3), np.zeros(3), everything, inside.device)

    def next(self) -> RandomPart:
        """The next points."""
        rows = self._generator.integers(len(self._voxels), size=self._count)
        index = self._voxels[rows] + self._generator.uniform(-0.5, 0.5, (self._count, 3))
        return self.at(index.clip(0, np.array(self.grid.shape) - 1))

    def at(self, index: np.ndarray) -> RandomPart:
        """Points at continuous voxel indices (N, 3), ordered (z, y, x), of the fixed image."""
        return RandomPart(self, index)

    def bases(self, along: np.ndarray) -> list[torch.Tensor]:
        """Spline weights (N, control points) along (z, y, x) at positions (N, 3) in mm from the first voxel."""
        return [
            torch.tensor(self._control.basis(a, along[:, a]), dtype=torch.float32, device=self.device) for a in range(3)
        ]
