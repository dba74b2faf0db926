"""The moving side at T(x): where fixed points fall in the moving image, and fast trilinear sampling there."""

import numpy as np
import torch
import torch.nn.functional as F

from synthct.images.grid import Grid, Volume
from synthct.registration.dense.pyramid import extents


class PointMap:
    """Fixed points + displacement (mm, LPS) to the moving image's coordinates, -1..1 along (x, y, z).

    `matrix` and `offset` (LPS mm) are an affine map applied after the displacement: T(x) = matrix (x + u) + offset, and
    where `bend` is given (z, y, x, 3; mm, LPS, components x, y, z; on a coarse grid with the fixed image's axes) + bend
    at x + u. `box` is the moving image's content, index ranges along (z, y, x); `known` (z, y, x), where it is given,
    says which of its voxels are of the image.
    """

    def __init__(
        self,
        fixed: Grid,
        moving: Grid,
        matrix: np.ndarray,
        offset: np.ndarray,
        box,
        device="cpu",
        known: torch.Tensor | None = None,
        bend: Volume | None = None,
    ):
        self.fixed, self._known = fixed, known
        to_unit, span = _to_unit(moving), np.array(extents(moving)[::-1])
        self._shift = to_unit @ (np.asarray(offset) - np.array(moving.origin)) - 1
        self._to_unit = to_unit @ np.asarray(matrix)
        self.linear = torch.tensor(self._to_unit, dtype=torch.float32, device=device)
        ends = np.array([(first - 0.5, past - 0.5) for first, past in box[::-1]]).T * np.array(moving.spacing)
        self._start = torch.tensor(self._shift, dtype=torch.float32, device=device)
        self._low, self._high = torch.tensor(2 * ends / span - 1, dtype=torch.float32, device=device)
        self._bend = None
        if bend is not None:  # in moving coordinates, and the way to its grid's from those of the affine map
            self._bend = torch.tensor(np.moveaxis(bend.array @ to_unit.T, -1, 0).copy(), device=device).float()
            to_bend = _to_unit(bend.grid)
            back = to_bend @ np.linalg.inv(self._to_unit)
            start = -back @ self._shift - to_bend @ np.array(bend.grid.origin) - 1
            self._to_bend = [torch.tensor(part, dtype=torch.float32, device=device) for part in (back, start)]

    def base(self, positions: list[np.ndarray]) -> torch.Tensor:
        """Moving coordinates (z, y, x, 3), not bent, of points `positions` (mm) along the fixed axes (z, y, x)."""
        direction = np.array(self.fixed.direction).reshape(3, 3)
        axes = self._to_unit @ direction
        corner = self._to_unit @ np.array(self.fixed.origin) + self._shift
        z, y, x = (torch.tensor(p[:, None] * axes[:, 2 - a], dtype=torch.float32) for a, p in enumerate(positions))
        start = torch.tensor(corner, dtype=torch.float32)
        return (start + z[:, None, None] + y[None, :, None] + x[None, None, :]).to(self.linear.device)

    def unit(self, points: torch.Tensor) -> torch.Tensor:
        """Moving coordinates (N, 3) of points (N, 3) in LPS mm, not bent."""
        return points @ self.linear.T + self._start

    def moved(self, base: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Moving coordinates (N, 3) of points with `base` (N, 3) displaced by (3, N) mm."""
        return self.bent(base + displacement.T @ self.linear.T)

    def bent(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Moving coordinates (..., 3) with the bend, where there is one, of those of the affine map alone."""
        if self._bend is None:
            return coordinates
        back, start = self._to_bend
        bend = sample(self._bend, coordinates.reshape(-1, 3) @ back.T + start)
        return coordinates + bend.T.reshape(coordinates.shape)

    def inside(self, coordinates: torch.Tensor) -> torch.Tensor:
        """1.0 where coordinates (N, 3) lie in the moving image's content (half a voxel around it), else 0.0."""
        coordinates = coordinates.detach()
        within = ((coordinates >= self._low) & (coordinates <= self._high)).all(-1).to(coordinates.dtype)
        return within if self._known is None else within * (sample(self._known, coordinates)[0] > 0.5)


def _to_unit(grid: Grid) -> np.ndarray:
    """3×3: steps in mm (LPS) to steps in the coordinates that run from -1 to 1 over a grid, along (x, y, z)."""
    return (2 / np.array(extents(grid)[::-1]))[:, None] * np.linalg.inv(np.array(grid.direction).reshape(3, 3))


def sample(maps: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Trilinear values (c, N) of maps (c, z, y, x) at coordinates (N, 3) in -1..1; the edge value outside.

    The points go as one batch element a thread, because torch's CPU kernel shares out batch elements only.
    """
    count = len(coordinates)
    parts = 1 if coordinates.is_cuda else max(1, torch.get_num_threads())
    padding = -count % parts
    if padding:
        coordinates = torch.cat([coordinates, coordinates[-1:].expand(padding, 3)])
    grid = coordinates.reshape(parts, 1, 1, -1, 3)
    values = F.grid_sample(maps.expand(parts, *maps.shape), grid, align_corners=True, padding_mode="border")
    return values.reshape(parts, maps.shape[0], -1).transpose(0, 1).reshape(maps.shape[0], -1)[:, :count]
