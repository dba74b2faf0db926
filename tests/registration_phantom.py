"""A made-up body, moved by a known spline: what the tests of registration find again."""

import numpy as np
import SimpleITK as sitk
import torch

from synthct.core import presets
from synthct.images.grid import Grid, Volume
from synthct.registration import pairwise
from synthct.registration.dense.bspline import ControlGrid

GRID = Grid((44, 40, 30), (2.5, 2.5, 3.0), (-50.0, 12.0, 7.0))
FINE = ("registration.dense.voxel_mm=[6.0, 3.0, 2.0]", "registration.dense.iterations=[40, 30, 20]")


def body(grid: Grid, seed: int = 3) -> np.ndarray:
    """A body with bones and soft texture, HU, air around it."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in grid.shape], indexing="ij")
    texture = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(rng.normal(size=grid.shape)), 2.0))
    tissue = 40 + 60 * texture / texture.std()
    for cz, cy, cx, r in rng.uniform(-0.6, 0.6, (12, 4)):
        tissue[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < (0.1 + 0.15 * abs(r)) ** 2] += 500 * np.sign(r)
    return np.where((y**2 + x**2) < 0.8, tissue, -1000).clip(-1024).astype(np.int16)


def pair():
    """(fixed, moving, mask, transform fixed -> moving): the moving image and what a known spline makes of it."""
    moving = Volume(body(GRID), GRID)
    control = ControlGrid.covering(GRID, 45.0)
    coefficients = torch.tensor(np.random.default_rng(5).uniform(-14, 14, (3, *control.size)), dtype=torch.float32)
    transform = control.to_sitk(coefficients, GRID)
    fixed = pairwise.warp(moving, transform, GRID, outside=-1024)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[3:-3, 4:-4, 4:-4] = 1
    return fixed, moving, Volume(mask, GRID), transform


def error(found: sitk.Transform, truth: sitk.Transform, mask: Volume) -> float:
    """Mean distance (mm) of the mask's points under two transforms."""
    index = np.argwhere(mask.array > 0)[::37]
    points = (index[:, ::-1] @ mask.grid.matrix.T + mask.grid.origin).tolist()
    return float(
        np.mean([np.linalg.norm(np.subtract(found.TransformPoint(p), truth.TransformPoint(p))) for p in points])
    )


def section(modality: str, *overrides: str) -> dict:
    """The preset test's registration section."""
    return presets.resolve("test", modality, overrides)["registration"]


def registered(case):
    """What the dense recipe makes of `pair()` on finer levels than the preset's."""
    fixed, moving, mask, _ = case
    return pairwise.register(
        fixed, moving, mask, section("cbct", *FINE), method="mind", modality="cbct", moving_is="ct"
    )
