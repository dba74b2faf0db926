"""Cubic B-spline free-form deformation on a regular grid of control points, evaluated with three small matrices.

A displacement is u(x) = Σ c_ijk β((z−z_i)/h) β((y−y_j)/h) β((x−x_k)/h) (Rueckert et al. 1999). On a lattice of points
the sum separates: one dense basis matrix an axis, three matrix products, exact at any lattice and spacing,
differentiable by autograd, and equal to ``SimpleITK.BSplineTransform`` (order 3). Axes are ordered (z, y, x) and
positions along an axis are millimetres from the first voxel centre; displacement components are (x, y, z) in LPS
millimetres.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from synthct.images.grid import Grid, triple


def taps(t):
    """Cubic B-spline weights of the knots at -1, 0, 1, 2 for positions 0 <= t < 1 (numbers, arrays or tensors)."""
    return ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)


@dataclass(frozen=True)
class ControlGrid:
    """Control points along each axis (z, y, x): how many, the first one's position (mm) and the spacing (mm)."""

    size: tuple[int, int, int]
    start: tuple[float, float, float]
    spacing: tuple[float, float, float]

    @classmethod
    def covering(cls, grid: Grid, spacing_mm: float) -> "ControlGrid":
        """Control points every `spacing_mm` so that each voxel of `grid` lies inside the spline's support."""
        extents = [(n - 1) * s for n, s in zip(grid.size[::-1], grid.spacing[::-1], strict=True)]
        cells = [max(1, int(np.ceil(extent / spacing_mm + 1e-6))) for extent in extents]
        # The cells are centred on the volume; one control point before them, two after, make the cubic support whole.
        start = [(extent - cell * spacing_mm) / 2 - spacing_mm for extent, cell in zip(extents, cells, strict=True)]
        return cls(triple(cell + 3 for cell in cells), triple(start), (spacing_mm,) * 3)

    def basis(self, axis: int, positions: np.ndarray, derivative: int = 0) -> np.ndarray:
        """Matrix (positions, control points) of the cubic B-splines along `axis`, or of a derivative (1/mm, 1/mm²)."""
        spacing = self.spacing[axis]
        knots = self.start[axis] + spacing * np.arange(self.size[axis])
        t = (np.asarray(positions, float)[:, None] - knots[None]) / spacing
        return _cubic(t, derivative) / spacing**derivative

    def zeros(self, device="cpu") -> torch.Tensor:
        """Coefficients (3, z, y, x) of the identity."""
        return torch.zeros((3, *self.size), device=device)

    def refined(self, coefficients: torch.Tensor, finer: "ControlGrid", extents: tuple[float, ...]) -> torch.Tensor:
        """The same displacement on a finer grid (least squares along each axis over 0..extent mm)."""
        matrices = []
        for axis in range(3):
            points = np.linspace(0, extents[axis], 8 * finer.size[axis])
            fine, coarse = finer.basis(axis, points), self.basis(axis, points)
            ridge = 1e-8 * np.eye(finer.size[axis])  # control points outside the volume hardly touch it
            matrices.append(np.linalg.solve(fine.T @ fine + ridge, fine.T @ coarse))
        return evaluate(coefficients, tensors(matrices, coefficients))

    def to_sitk(self, coefficients: torch.Tensor, grid: Grid) -> sitk.Transform:
        """The transform x -> x + u(x) for SimpleITK; `grid` is the fixed image's."""
        origin = np.array(grid.origin) + np.array(grid.direction).reshape(3, 3) @ np.array(self.start[::-1])
        transform = sitk.BSplineTransform(3, 3)
        transform.SetFixedParameters([*map(float, self.size[::-1]), *origin, *self.spacing[::-1], *grid.direction])
        transform.SetParameters(coefficients.detach().double().cpu().numpy().ravel())
        return transform


class Lattice:
    """The control points' influence on a lattice of points: basis matrices (and their derivatives when asked)."""

    def __init__(self, control: ControlGrid, positions: list[np.ndarray], like: torch.Tensor):
        self.spacing = control.spacing
        self.matrices = tensors([control.basis(a, positions[a]) for a in range(3)], like)
        self._derivatives = [control.basis(a, positions[a], 1) for a in range(3)]
        self._like = like

    def displacement(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Displacements (3, z, y, x), mm, at the lattice."""
        return evaluate(coefficients, self.matrices)

    def jacobian(self, coefficients: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Determinant of d(x + u)/dx at the lattice, (z, y, x); `direction` is the fixed image's 3×3 cosines."""
        derivatives = tensors(self._derivatives, self._like)
        columns = []  # du/dx, du/dy, du/dz along the image's axes
        for axis in (2, 1, 0):
            matrices = list(self.matrices)
            matrices[axis] = derivatives[axis]
            columns.append(evaluate(coefficients, matrices))
        gradient = torch.einsum("acZYX,ba->cbZYX", torch.stack(columns), direction)  # along image axes -> along LPS
        rows = [[gradient[c, b] + float(b == c) for b in range(3)] for c in range(3)]
        (a, b, c), (d, e, f), (g, h, i) = rows
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


class Smoothness:
    """Mean over the volume of |u|² (mm²), |du|² (1) and |d²u|² (1/mm²), exact for the spline (Gram matrices).

    The last is Rueckert's bending energy, which is zero for any affine displacement.
    """

    def __init__(self, control: ControlGrid, extents: tuple[float, ...], like: torch.Tensor):
        self._gram = []
        for axis in range(3):
            points = (np.arange(6 * control.size[axis]) + 0.5) / (6 * control.size[axis]) * max(extents[axis], 1e-3)
            bases = [control.basis(axis, points, order) for order in range(3)]
            self._gram.append(tensors([b.T @ b / len(points) for b in bases], like))

    def __call__(self, coefficients: torch.Tensor, weights: tuple[float, float, float]) -> torch.Tensor:
        """The sum of the three means, weighted by derivative order, a scalar."""
        z, y, x = self._gram
        total = coefficients.new_zeros(())
        for order, weight in enumerate(weights):
            if weight == 0:
                continue
            for orders in np.ndindex(order + 1, order + 1, order + 1):
                if sum(orders) == order:
                    twice = 2 if order == 2 and max(orders) == 1 else 1  # mixed derivatives count in both orders
                    applied = evaluate(coefficients, [z[orders[0]], y[orders[1]], x[orders[2]]])
                    total = total + weight * twice * (coefficients * applied).sum()
        return total


def evaluate(coefficients: torch.Tensor, matrices) -> torch.Tensor:
    """Apply one matrix an axis: (c, z, y, x) -> (c, Z, Y, X), the smallest products first."""
    z, y, x = matrices
    result = torch.einsum("czyx,Zz->cZyx", coefficients, z)
    result = torch.einsum("cZyx,Yy->cZYx", result, y)
    return torch.einsum("cZYx,Xx->cZYX", result, x)


def tensors(matrices, like: torch.Tensor) -> list[torch.Tensor]:
    """Arrays as tensors of the type and on the device of `like`, for `evaluate`."""
    return [torch.as_tensor(m, dtype=like.dtype, device=like.device) for m in matrices]


def _cubic(t: np.ndarray, derivative: int) -> np.ndarray:
    a = np.abs(t)
    near, far = a < 1, (a >= 1) & (a < 2)
    if derivative == 0:
        return np.where(near, 2 / 3 - a**2 + a**3 / 2, np.where(far, (2 - a) ** 3 / 6, 0.0))
    if derivative == 1:
        return np.sign(t) * np.where(near, -2 * a + 1.5 * a**2, np.where(far, -((2 - a) ** 2) / 2, 0.0))
    return np.where(near, 3 * a - 2, np.where(far, 2 - a, 0.0))
