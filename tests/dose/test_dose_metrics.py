"""The challenge's dose metrics on numbers that can be worked out by hand, and gamma against a search of our own."""

import math

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from synthct.dose import metrics


def test_mae_is_taken_where_the_ct_gets_nine_tenths_of_the_prescription():
    ct = np.array([2.0, 1.8, 1.7, 0.0]).reshape(1, 2, 2)
    sct = np.array([1.9, 2.0, 0.0, 2.0]).reshape(1, 2, 2)
    assert metrics.mae_dose(ct, sct, 2.0) == pytest.approx((0.1 + 0.2) / 2 / 2)
    assert math.isnan(metrics.mae_dose(ct * 0.1, sct, 2.0))


def test_dvh_metric_by_hand():
    """Ten voxels a structure, so that each quantile is one line of arithmetic."""
    shape = (1, 6, 10)
    target = np.zeros(shape, bool)
    target[0, 0] = True
    organs = {}
    for row, name in enumerate(("low", "high", "middle", "lowest"), 1):
        organs[name] = np.zeros(shape, bool)
        organs[name][0, row] = True
    ct = np.zeros(shape)
    ct[0, 0] = 2.0
    ct[0, 1], ct[0, 2], ct[0, 3], ct[0, 4] = 0.4, 1.0, 0.8, 0.1
    sct = ct.copy()
    sct[0, 0, 0] = 1.0  # D98 between the two lowest voxels: 1.0 + 0.18 * 1.0
    sct[0, 4] = 5.0  # of the fourth organ, which does not count
    sct[0, 2] = 1.1
    sct[0, 1] = 0.2
    found = metrics.dvh_metric(ct, sct, target, organs, 2.0)
    assert found["organs"] == ["high", "middle", "low"]
    assert found["d98_sct"] == pytest.approx(1.18)
    # conformity on the CT: 10 treated, all in the target; on the sCT 9 in the target, and the fourth organ's 10 beside
    assert found["conformity_ct"] == 1
    assert found["conformity_sct"] == pytest.approx(81 / (10 * 19))
    assert found["target_term"] == pytest.approx(0.82 / 2 + (1 - 81 / 190), abs=1e-9)
    assert found["organ_term"] == pytest.approx(2 * (0.1 + 0 + 0.5) / 3, abs=1e-9)
    assert found["dvh_metric"] == pytest.approx(found["target_term"] + found["organ_term"])


def test_without_organs_the_target_alone_counts():
    ct = np.full((1, 2, 5), 2.0)
    found = metrics.dvh_metric(ct, ct * 0.99, np.ones(ct.shape, bool), {}, 2.0)
    assert found["organ_term"] == 0
    assert found["dvh_metric"] == pytest.approx(0.01, abs=1e-6)


def test_dvh_points_fall_from_all_to_none():
    dose = np.array([0.5, 1.0, 1.5, 2.0]).reshape(1, 2, 2)
    assert metrics.dvh_points(dose, dose > 0, np.array([0.0, 0.5, 0.75, 2.0, 2.1])) == [1.0, 1.0, 0.75, 0.25, 0.0]


def searched_gamma(ct, sct, spacing, percent=2.0, distance=2.0, cutoff=10.0):
    """Gamma by looking at every point of a fine lattice around each voxel: nothing in common with the package's way."""
    axes = [np.arange(n) * spacing for n in ct.shape]
    dose_at = RegularGridInterpolator(axes, sct, bounds_error=False, fill_value=np.inf)
    fine = np.arange(-20, 21) * distance / 10
    offsets = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[(offsets**2).sum(1) <= (2 * distance) ** 2 + 1e-9]
    far = (offsets**2).sum(1) / distance**2
    found = np.full(ct.shape, np.nan)
    for place in np.ndindex(ct.shape):
        if ct[place] >= cutoff / 100 * ct.max():
            there = dose_at(np.array(place) * spacing + offsets)
            apart = (there - ct[place]) / (percent / 100 * ct.max())
            found[place] = min(2.0, math.sqrt(np.min(far + apart**2)))
    return found


def field(seed: int) -> np.ndarray:
    """A dose of 0 to 2 Gy that changes slowly: in steep places the 0.2 mm between two points are a part of gamma."""
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(24, 24, 24)), 5)
    return 2.0 * ((smooth - smooth.min()) / np.ptp(smooth))[8:13, 7:13, 6:13]


@pytest.mark.parametrize("change", ["moved", "scaled", "noisy"])
def test_gamma_agrees_with_a_search_of_every_point(change):
    ct = field(4)
    sct = {
        "moved": np.stack([ct[:, :, max(0, i - 1)] for i in range(ct.shape[2])], axis=2),
        "scaled": ct * 1.03,
        "noisy": ct + 0.05 * np.random.default_rng(5).normal(size=ct.shape),
    }[change]
    found = metrics.gamma_index(ct, sct, 2.5)
    expected = searched_gamma(ct, sct, 2.5)
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    both = np.isfinite(found)
    assert np.abs(found[both] - expected[both]).max() < 0.1  # of two lattices of 0.2 mm
    rates = [100 * float((each[both] <= 1).mean()) for each in (found, expected)]
    assert rates[0] == pytest.approx(rates[1], abs=1.0)
    assert 5 < rates[0] < 100  # some voxels pass and some fail
    assert metrics.passed(found, np.ones(ct.shape, bool)) == pytest.approx(rates[0])
