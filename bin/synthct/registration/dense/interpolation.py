"""Values between the voxels of images and feature maps: linear, or the cubic B-spline that ITK and Elastix use.

Positions are continuous voxel indices (x, y, z). The cubic spline passes through the voxels (its coefficients are
found first, Unser 1999) and is mirrored at the borders, as ``itk::BSplineInterpolateImageFunction``.
"""

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from synthct.registration.dense.bspline import evaluate, taps
from synthct.registration.dense.warp import sample

MANY = 4  # channels from which on they are kept side by side
CHUNK = 256  # points whose neighbours stay in a processor's cache


class Interpolated:
    """Maps (c, z, y, x) as a function of the position, differentiable with respect to it, not to the maps."""

    def __init__(self, maps: torch.Tensor, kind: str):
        self._cubic = kind == "cubic"
        inverses = [torch.as_tensor(_inverse(n), dtype=maps.dtype, device=maps.device) for n in maps.shape[1:]]
        self._maps = evaluate(maps, inverses) if self._cubic else maps
        self._channels_last = self._cubic and len(maps) >= MANY
        if (
            self._channels_last
        ):  # the channels of a voxel side by side: its 64 neighbours are 64 reads, whatever the channels
            self._maps = self._maps.movedim(0, -1).contiguous()
        self._last = torch.tensor([max(n - 1, 1) for n in maps.shape[:0:-1]], device=maps.device)

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        """Values (c, N) at indices (N, 3)."""
        if self._channels_last:
            return _CubicFeatures.apply(self._maps, index)
        return _Cubic.apply(self._maps, index) if self._cubic else sample(self._maps, 2 * index / self._last - 1)


def resampled(image: torch.Tensor, sizes: tuple[int, ...], kind: str) -> torch.Tensor:
    """An image (z, y, x) at `sizes` points an axis, n / size of its n voxels apart, from its first voxel on.

    Not smoothed: what a coarse grid cannot hold is folded into it, as in IMPACT.
    """
    matrices = []
    for n, size in zip(image.shape, sizes, strict=True):
        at = np.arange(size) * (n / size)
        matrix = _matrix(at, n, taps) @ _inverse(n) if kind == "cubic" else _matrix(at, n, _hat)
        matrices.append(torch.as_tensor(matrix, dtype=image.dtype, device=image.device))
    return evaluate(image[None], matrices)[0]


class _CubicFeatures(torch.autograd.Function):
    """The spline of coefficients (z, y, x, c) at indices (N, 3): a weighted sum of 64 rows of channels a point."""

    @staticmethod
    def forward(ctx, coefficients, index):
        shape, channels = coefficients.shape[:3], coefficients.shape[3]
        flat = coefficients.view(-1, channels)
        rows = index.new_zeros((len(index), 1), dtype=torch.long)
        weights, slopes = [], []
        for axis in (2, 1, 0):  # z, y, x
            n = shape[2 - axis]
            first = index[:, axis].floor()
            steps = _mirrored(first.long()[:, None] + torch.arange(-1, 3, device=index.device), n)
            rows = (rows[:, :, None] * n + steps[:, None]).flatten(1)
            weights.append(torch.stack(taps(index[:, axis] - first), -1))
            slopes.append(torch.stack(_slopes(index[:, axis] - first), -1))
        value = _outer(*weights)
        if not ctx.needs_input_grad[1]:
            ctx.save_for_backward(None)
            return functional.embedding_bag(rows, flat, mode="sum", per_sample_weights=value).T
        z, y, x = weights
        kernel = torch.stack((value, _outer(z, y, slopes[2]), _outer(z, slopes[1], x), _outer(slopes[0], y, x)), 1)
        found = [
            torch.bmm(kernel[k : k + CHUNK], flat[rows[k : k + CHUNK]]) for k in range(0, len(index), CHUNK)
        ]  # (N, value and slopes along x, y, z, c)
        found = torch.cat(found) if found else flat.new_zeros(0, 4, channels)
        ctx.save_for_backward(found[:, 1:])
        return found[:, 0].T

    @staticmethod
    def backward(ctx, gradient):
        (slopes,) = ctx.saved_tensors
        return None, torch.bmm(slopes, gradient.T[:, :, None])[:, :, 0] if slopes is not None else None


def _outer(z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Products (N, 64) of three axes' four weights (N, 4), x fastest."""
    return (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]).flatten(1)


class _Cubic(torch.autograd.Function):
    """The spline of coefficients (c, z, y, x) at indices (N, 3). Keeps the slopes only, not the 64 taps."""

    @staticmethod
    def forward(ctx, coefficients, index):
        wanted = ctx.needs_input_grad[1]
        places, weights, slopes = [], [], []
        step = 1
        for axis in range(3):  # x, y, z
            n = coefficients.shape[3 - axis]
            first = index[:, axis].floor()
            t = index[:, axis] - first
            places.append([_mirrored(first.long() + k, n) * step for k in (-1, 0, 1, 2)])
            weights.append(taps(t))
            slopes.append(_slopes(t))
            step *= n
        flat = coefficients.reshape(len(coefficients), -1)
        value = flat.new_zeros(len(flat), len(index))
        slope = flat.new_zeros(3, len(flat), len(index)) if wanted else None
        for kz in range(4):
            for ky in range(4):
                row = places[2][kz] + places[1][ky]
                four = [flat[:, row + place] for place in places[0]]
                across = sum(w * tap for w, tap in zip(weights[0], four, strict=True))
                value += weights[2][kz] * weights[1][ky] * across
                if slope is not None:
                    along = sum(s * tap for s, tap in zip(slopes[0], four, strict=True))
                    slope[0] += weights[2][kz] * weights[1][ky] * along
                    slope[1] += weights[2][kz] * slopes[1][ky] * across
                    slope[2] += slopes[2][kz] * weights[1][ky] * across
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx, gradient):
        (slope,) = ctx.saved_tensors
        return None, (slope * gradient).sum(1).T if slope is not None else None


def _slopes(t):
    return (-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2)


def _hat(t):
    return (0 * t, 1 - t, t, 0 * t)


def _mirrored(k, n: int):
    """Indices reflected about the first and the last voxel into 0..n-1."""
    if n == 1:
        return k * 0
    k = abs(k) % (2 * n - 2)
    return n - 1 - abs(n - 1 - k)


def _matrix(positions: np.ndarray, n: int, weights) -> np.ndarray:
    """Matrix (positions, n) of an axis' weights."""
    first = np.floor(positions)
    result = np.zeros((len(positions), n))
    for k, weight in zip((-1, 0, 1, 2), weights(positions - first), strict=True):
        np.add.at(result, (np.arange(len(positions)), _mirrored(first.astype(int) + k, n)), weight)
    return result


@lru_cache(maxsize=64)
def _inverse(n: int) -> np.ndarray:
    """Voxels to spline coefficients along an axis of n."""
    return np.linalg.inv(_matrix(np.arange(float(n)), n, taps))
