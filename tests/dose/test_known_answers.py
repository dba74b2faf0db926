"""Dose comparisons whose answer is known beforehand: a block of water, and what HU errors do to a proton's range."""

import numpy as np
import pytest

from synthct.core import presets
from synthct.dose.case import about, compare, plan_case
from synthct.dose.density import relative_to_water
from synthct.images.grid import Grid, Volume

GRID = Grid((26, 20, 16), (5.0, 5.0, 5.0), (-62.5, -47.5, -37.5))
WATER = 0


def block(shape, low, high) -> np.ndarray:
    """True from index `low` to before `high`, (z, y, x)."""
    inside = np.zeros(shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return inside


BODY = block(GRID.shape, (0, 2, 3), (16, 18, 23))  # 100 mm wide for the beams from both sides
TARGET = block(GRID.shape, (6, 8, 11), (10, 12, 15))  # 20 mm cube, its far side 60 mm deep for both


def volume(array, kind=np.int16) -> Volume:
    return Volume(array.astype(kind), GRID)


def hu_of(body_hu, where=None, there=0) -> Volume:
    array = np.where(BODY, body_hu, -1000)
    if where is not None:
        array[where] = there
    return volume(array)


@pytest.fixture(scope="module")
def rules():
    """The paper preset's dose section with two photon beams, which is enough here."""
    section = presets.resolve("paper", "mr", ["dose.photon.gantry_degrees=[0.0,180.0]"])["dose"]
    return presets.for_region(section, None)


@pytest.fixture(scope="module")
def case(rules):
    organ = block(GRID.shape, (6, 8, 16), (10, 12, 18)) * 7
    return plan_case(
        hu_of(WATER),
        volume(BODY, np.uint8),
        rules,
        target=volume(TARGET, np.uint8),
        structures=volume(organ, np.uint8),
    )


def test_the_plan_treats_its_target(case):
    planned = about(case)
    for kind in ("photon", "proton"):
        assert planned["plans"][kind]["target_mean"] == pytest.approx(1.0, abs=0.01)
        assert planned["plans"][kind]["target_d98"] > 0.95
    assert planned["target"]["volume_ml"] == pytest.approx(8.0)
    assert planned["organs"] == ["label 7"]


def test_the_same_image_gives_zero_zero_and_a_hundred(case):
    found, _ = compare(case, hu_of(WATER))
    for kind in ("photon", "proton"):
        assert found[kind]["mae_dose"] == 0
        assert found[kind]["dvh_metric"] == pytest.approx(0, abs=1e-9)
        assert found[kind]["gamma_pass_percent"] == 100
    assert found["proton"]["range_shift_mm"] == 0


def test_a_uniform_error_moves_the_range_as_the_table_says(case, rules):
    error = 60
    power = float(relative_to_water(np.array([error]), rules["proton"]["hu_table"])[0])
    depth = 60.0
    expected = depth / power - depth
    found, _ = compare(case, hu_of(error))
    assert expected == pytest.approx(-3.2, abs=0.1)
    assert found["proton"]["range_shift_mm"] == pytest.approx(expected, abs=0.75)
    assert found["proton"]["range_shift_abs_mm"] == pytest.approx(-expected, abs=0.75)
    # rays along the target's edge leave it early, the others cross all of it
    assert found["proton"]["water_path_mm"]["p95_abs"] == pytest.approx(depth * (power - 1), rel=0.02)
    assert found["proton"]["gamma_pass_percent"] < 95
    # photons pass the same water with less of their dose
    assert 0.003 < found["photon"]["mae_dose"] < found["proton"]["mae_dose"]
    assert found["photon"]["target_mean_change"] < 0


def test_bone_in_the_way_pulls_the_range_back_by_its_extra_water(case, rules):
    bone, thickness = 800, 10.0
    power = float(relative_to_water(np.array([bone]), rules["proton"]["hu_table"])[0])
    sides = block(GRID.shape, (0, 2, 5), (16, 18, 7)) | block(GRID.shape, (0, 2, 19), (16, 18, 21))
    found, _ = compare(case, hu_of(WATER, sides, bone))
    expected = -thickness * (power - 1)
    assert expected == pytest.approx(-4.2, abs=0.1)
    assert found["proton"]["range_shift_mm"] == pytest.approx(expected, abs=1.0)
    assert found["proton"]["water_path_mm"]["mean"] == pytest.approx(-expected, abs=0.3)


def test_a_scanner_s_own_table_is_what_counts(case):
    """Under a table for which 60 HU is water too, an error of 60 HU is none."""
    kept = case.settings["proton"]["hu_table"]
    case.settings["proton"]["hu_table"] = [[-1000, 0.0], [-100, 1.0], [100, 1.0], [3000, 2.5]]
    try:
        found, _ = compare(case, hu_of(60))
    finally:
        case.settings["proton"]["hu_table"] = kept
    assert abs(found["proton"]["range_shift_mm"]) < 0.05
    assert found["photon"]["mae_dose"] > 0.003


def test_what_lies_outside_the_body_is_in_neither_plan(case):
    """A couch in one image only changes nothing."""
    couch = block(GRID.shape, (0, 18, 3), (16, 20, 23))
    found, _ = compare(case, hu_of(WATER, couch, 300))
    assert found["photon"]["mae_dose"] == 0
    assert found["proton"]["mae_dose"] == 0
