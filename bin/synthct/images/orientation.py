"""Axis order and signs: volumes turned, without interpolation, so that their axes run left, posterior, superior.

Networks see slices. A volume whose file stores its axes in another order, or runs them the other way, is the same
volume; turned to LPS order it gives the network the same slices. An oblique direction stays oblique: only the 48
permutations and flips of axes are undone, never a rotation.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from synthct.images.grid import Grid, Volume, triple


@dataclass(frozen=True)
class Orientation:
    """How a file's axes lie: `axes[i]` is its index axis (x, y, z = 0, 1, 2) nearest to world axis i.

    `flip[i]` says whether that axis runs against the world's.
    """

    axes: tuple[int, int, int]
    flip: tuple[bool, bool, bool]

    @property
    def is_canonical(self) -> bool:
        """Whether nothing has to be turned."""
        return self.axes == (0, 1, 2) and not any(self.flip)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """An array (z, y, x) of the file as a contiguous array in LPS order; the same object when nothing turns."""
        if self.is_canonical:
            return array
        turned = np.transpose(array, [2 - self.axes[2 - k] for k in range(3)])
        return np.ascontiguousarray(np.flip(turned, tuple(2 - i for i in range(3) if self.flip[i])))

    def turn_back(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `turn`."""
        if self.is_canonical:
            return array
        array = np.flip(array, tuple(2 - i for i in range(3) if self.flip[i]))
        forward = [2 - self.axes[2 - k] for k in range(3)]
        return np.ascontiguousarray(np.transpose(array, np.argsort(forward)))

    def turn_grid(self, grid: Grid) -> Grid:
        """The grid that `turn`'s result lies on: the same voxels at the same places."""
        index = [0.0, 0.0, 0.0]  # of the file's voxel that becomes (0, 0, 0)
        direction = np.array(grid.direction).reshape(3, 3)
        turned = np.empty((3, 3))
        for i, axis in enumerate(self.axes):
            index[axis] = grid.size[axis] - 1.0 if self.flip[i] else 0.0
            turned[:, i] = -direction[:, axis] if self.flip[i] else direction[:, axis]
        origin = np.array(grid.origin) + grid.matrix @ index
        return Grid(
            triple(grid.size[a] for a in self.axes),
            triple(grid.spacing[a] for a in self.axes),
            triple(map(float, origin)),
            tuple(map(float, turned.ravel() + 0.0)),
        )


def orientation_of(grid: Grid) -> Orientation:
    """The permutation and flips of axes that bring `grid` nearest to LPS order (x to the left, y to the back, z up)."""
    direction = np.array(grid.direction).reshape(3, 3)
    axes = max(permutations(range(3)), key=lambda order: sum(abs(direction[i, a]) for i, a in enumerate(order)))
    return Orientation(triple(axes), triple(bool(direction[i, a] < 0) for i, a in enumerate(axes)))


def to_lps(volume: Volume) -> Volume:
    """`volume` with its axes in LPS order; no voxel is interpolated. Undo with ``orientation_of(grid).turn_back``."""
    orientation = orientation_of(volume.grid)
    return Volume(orientation.turn(volume.array), orientation.turn_grid(volume.grid))
