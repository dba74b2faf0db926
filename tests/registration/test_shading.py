"""An MR's shading is found with the CT's help, whichever of the images is the MR, and no longer misleads."""

import numpy as np
import pytest
import registration_phantom as phantom
import torch

from synthct.images.grid import Volume
from synthct.registration import pairwise
from synthct.registration.dense.shading import gain

SPACING = phantom.GRID.spacing[::-1]


def shading(strength: float) -> np.ndarray:
    """A coil's field over the grid (z, y, x), its logarithm up to `strength` either way."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in phantom.GRID.shape], indexing="ij")
    return np.exp(strength * (0.7 * y - 0.5 * x * x + 0.4 * z * x))


def signal(hu: np.ndarray, field, noise: float = 0.02) -> np.ndarray:
    """An MR of CT values: soft tissue by its HU, bone and air dark, shaded, with noise."""
    tissue = np.interp(hu, [-1024, -300, -100, 100, 300, 700], [0.02, 0.1, 1.0, 0.4, 0.3, 0.08])
    rng = np.random.default_rng(1)
    return (1000 * np.abs(field * tissue + noise * rng.normal(size=hu.shape))).astype(np.float32)


def left(found: torch.Tensor, true: np.ndarray, where: np.ndarray) -> float:
    """The spread of what the found gain (a factor apart) leaves of the true one."""
    return float(np.std(np.log(found.numpy()[where] / true[where])))


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.8])
def test_the_field_is_found_where_the_tissues_are_known(strength):
    hu, true = phantom.body(phantom.GRID), shading(strength)
    weight = (hu > -900).astype(np.float32)
    image = signal(hu, true)
    found = gain(*(torch.as_tensor(a, dtype=torch.float32) for a in (image, hu, weight)), SPACING, 25.0)
    where = weight > 0
    assert left(found, true, where) < 0.01 + 0.2 * np.std(np.log(true[where]))
    assert float((found.log() * torch.as_tensor(weight)).sum() / weight.sum()) == pytest.approx(0, abs=0.02)


def test_a_region_without_signal_has_no_say():
    """Slices beyond the coil, a metal's hole: as dark as air where the CT shows tissue."""
    hu, true = phantom.body(phantom.GRID), shading(0.4)
    weight, image = (hu > -900).astype(np.float32), signal(hu, true)
    image[:, 14:24, 10:24] = 5.0
    image[-3:] = 5.0
    found = gain(*(torch.as_tensor(a, dtype=torch.float32) for a in (image, hu, weight)), SPACING, 25.0)
    where = (weight > 0) & (image > 10)
    assert left(found, true, where) < 0.3 * np.std(np.log(true[where]))
    assert found.min() > 0.4 and found.max() < 2.5


def test_where_nothing_is_seen_the_gain_is_one():
    hu, true = phantom.body(phantom.GRID), shading(0.4)
    image, none = torch.as_tensor(signal(hu, true)), torch.zeros(hu.shape)
    assert torch.equal(gain(image, torch.as_tensor(hu).float(), none, SPACING, 25.0), torch.ones(hu.shape))
    part = none.clone()
    part[:, :12] = 1.0  # far from it nothing is known, and nothing is made up
    found = gain(image, torch.as_tensor(hu).float(), part, SPACING, 12.0)
    assert found.min() > 0.7 and found.max() < 1.4


@pytest.mark.parametrize("moving_is", ["ct", "image"])
def test_a_shaded_mr_is_registered_better(moving_is):
    fixed, moving, mask, truth = phantom.pair()
    field = shading(1.0)
    if moving_is == "ct":
        fixed = Volume(signal(fixed.array, field), fixed.grid)
    else:
        moving = Volume(signal(moving.array, field), moving.grid)
    errors = []
    for sigma in (0.0, 40.0):
        section = phantom.section("mr", f"registration.dense.mi.shading_mm={sigma}")
        found = pairwise.register(fixed, moving, mask, section, method="mi", modality="mr", moving_is=moving_is)
        errors.append(phantom.error(found.transform, truth, mask))
    assert errors[1] < 0.8 * errors[0], errors
