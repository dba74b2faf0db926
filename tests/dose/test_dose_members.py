"""Dose intervals: the lowest and highest over an ensemble's networks, each planned on by itself."""

import json
import shutil

import numpy as np
import pytest
from conftest import bad_input

from synthct.core import presets
from synthct.dose.case import compare, plan_case
from synthct.dose.members import members_in, over_members
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume

GRID = Grid((24, 20, 14), (5.0, 5.0, 5.0), (-57.5, -47.5, -32.5))
SIGNED = ("range_shift_mm", "target_mean_change", "target_d98_change", "target_d2_change")


def block(low, high) -> np.ndarray:
    """True from index `low` to before `high`, (z, y, x)."""
    inside = np.zeros(GRID.shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return inside


BODY, TARGET = block((0, 2, 2), (14, 18, 22)), block((5, 8, 10), (9, 12, 14))


def water(hu: int) -> Volume:
    return Volume(np.where(BODY, hu, -1000).astype(np.int16), GRID)


@pytest.fixture(scope="module")
def case():
    rules = presets.resolve("paper", "mr", ["dose.photon.gantry_degrees=[0.0,180.0]"])["dose"]
    mask, target = (Volume(array.astype(np.uint8), GRID) for array in (BODY, TARGET))
    return plan_case(water(0), mask, rules, target=target)


def test_members_that_agree_leave_no_width(case):
    for scores in over_members(case, [water(20), water(20)]).values():
        assert scores["low"] == pytest.approx(scores["high"], abs=0) and scores["low"]["mae_dose"] > 0
        assert scores["dose_sd"] == {name: {"mean": 0.0, "p95": 0.0} for name in ("body", "target")}
        assert scores["dvh"]["target"]["low"] == scores["dvh"]["target"]["high"]


def test_members_on_both_sides_hold_the_ensemble_between_them(case):
    """30 HU too low and too high, their mean the CT itself: what has a sign lies between, errors cancel."""
    found = over_members(case, [water(-30), water(30)])
    ensemble, _ = compare(case, water(0))
    alone, doses = zip(*(compare(case, water(hu)) for hu in (-30, 30)), strict=True)
    for kind, scores in found.items():
        for key in scores["low"]:
            ends = sorted(record[kind][key] for record in alone)
            assert [scores["low"][key], scores["high"][key]] == ends, key
        for key in SIGNED if kind == "proton" else SIGNED[1:2]:
            assert scores["low"][key] < ensemble[kind][key] < scores["high"][key], key
        assert ensemble[kind]["mae_dose"] == 0 < scores["low"]["mae_dose"]
        spread = np.stack([each[kind].total for each in doses]).std(0)[TARGET] / case.settings["prescription_gy"]
        assert scores["dose_sd"]["target"]["mean"] == pytest.approx(spread.mean(), rel=1e-4) and spread.mean() > 0.001
        assert scores["dose_sd"]["target"]["p95"] == pytest.approx(np.quantile(spread, 0.95), rel=1e-4)
        low, high = (np.array(scores["dvh"]["target"][end]) for end in ("low", "high"))
        middle = np.array(ensemble[kind]["dvh"]["target"]["sct"])
        assert (low <= high).all() and (low < high).any()
        assert (low <= middle)[middle == 1].all()
    assert found["proton"]["low"]["range_shift_mm"] < -1 < 0.2 < found["proton"]["high"]["range_shift_mm"]


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    place = tmp_path_factory.mktemp("patient")
    for name, volume in {
        "ct": water(0),
        "sct": water(5),
        "mask": Volume(BODY.astype(np.uint8), GRID),
        "target": Volume(TARGET.astype(np.uint8), GRID),
        "own/fold0": water(-30),
        "own/fold1": water(30),
        "one/fold0": water(-30),
    }.items():
        write_volume(volume, place / f"{name}.mha")
    (place / "empty").mkdir()
    return place


def dose_of(run_tool, patient, *arguments):
    given = [part for name in ("ct", "mask", "target") for part in (f"--{name}", patient / f"{name}.mha")]
    return run_tool("dose.py", *given, "--beams", "proton", *arguments)


def test_the_tool_s_interval_ends_where_each_member_s_own_run_does(patient, tmp_path, run_tool):
    a, b, low, high = (tmp_path / f"{name}.json" for name in ("a", "b", "low", "high"))
    sct, own = patient / "sct.mha", patient / "own"
    arguments = ["--sct", sct, "--members", own, "--out", a, "--sct", sct, "--members", patient / "one", "--out", b]
    done = dose_of(run_tool, patient, *arguments)
    assert done.returncode == 0, done.stderr
    done = dose_of(
        run_tool, patient, "--sct", own / "fold0.mha", "--out", low, "--sct", own / "fold1.mha", "--out", high
    )
    assert done.returncode == 0, done.stderr
    found, single, *alone = (json.loads(path.read_text()) for path in (a, b, low, high))
    assert found["members"] == ["fold0", "fold1"]
    over = found["proton"].pop("over_members")
    for key in ("mae_dose", "gamma_pass_percent", *SIGNED):
        assert [over["low"][key], over["high"][key]] == sorted(record["proton"][key] for record in alone), key
    assert "members" not in single and single["proton"] == found["proton"]  # one network disagrees with nobody


def test_members_that_are_not_there_are_one_line(patient, tmp_path, run_tool):
    out = ["--sct", patient / "sct.mha", "--out", tmp_path / "o.json"]
    bad_input(dose_of(run_tool, patient, *out, "--members", patient / "empty"), "no .mha in it")
    two = ["--members", patient / "own", "--members", patient / "own"]
    bad_input(dose_of(run_tool, patient, *out, *two), "one for each of 1 --sct")


def test_a_member_that_cannot_be_read_costs_its_own_synthetic_ct(patient, tmp_path, run_tool):
    """The one after it is judged, and the failure says which file."""
    a, b, broken = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "broken"
    shutil.copytree(patient / "own", broken)
    (broken / "fold1.mha").write_bytes((broken / "fold1.mha").read_bytes()[:400])
    sct = ["--sct", patient / "sct.mha"]
    arguments = [*sct, "--members", broken, "--out", b, *sct, "--members", patient / "one", "--out", a]
    done = dose_of(run_tool, patient, *arguments, "--record-failure")
    assert done.returncode == 0 and "fold1.mha" in done.stderr, done.stderr
    assert json.loads(a.read_text())["proton"]["mae_dose"] > 0 and "fold1.mha" in json.loads(b.read_text())["failed"]


def test_members_stand_in_the_order_of_their_folds(tmp_path):
    for number in (10, 9, 1):
        (tmp_path / f"fold{number}.mha").touch()
    assert list(members_in(tmp_path)) == ["fold1", "fold9", "fold10"]
