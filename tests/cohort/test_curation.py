"""bin/curate.py: who is left out of an arm's training, and why."""

import csv
import json

import numpy as np
import pytest
from conftest import bad_input

from synthct.cohort import curation
from synthct.core.errors import InputError
from synthct.core.presets import resolve

LIMITS = {  # measure: a value just inside and one just beyond what conf/presets/paper.toml allows, and what is said
    "folding_fraction": (0.0009, 0.0011, "folded"),
    "body_dice_after": (0.91, 0.89, "bodies overlap"),
    "displacement_mm": ({"p95": 29.0}, {"p95": 31.0}, "displacements"),
    "rigid_start": (
        {"better": True, "move_mm": 20.0, "apart_mm": 9.0},
        {"better": True, "move_mm": 20.0, "apart_mm": 11.0},
        "a rigid move of 20.0 mm would start it better",
    ),
    "rigid_start, mirrored": (
        {"move_mm": 2.0, "better": False, "mirror": "left to right", "mirror_ratio": 1.04},
        {"move_mm": 2.0, "better": False, "mirror": "left to right", "mirror_ratio": 1.06},
        "mirrored left to right the images match 1.06 times as well",
    ),
    "rigid_start, mirrored, which way is not said": (
        {"move_mm": 2.0, "mirror_ratio": 1.04},
        {"move_mm": 2.0, "mirror_ratio": "1.06"},
        "mirrored somehow the images match 1.06 times as well",
    ),
    "mind_distance_moved_after": (0.99, 1.01, "of what it is 9 mm away"),
    "mind_distance_after": (0.299, 0.301, "MIND distance"),
    "mind_distance_worst_after": (0.449, 0.451, "worst region"),
    "jacobian": ({"p1": 0.45, "p99": 1.1}, {"p1": 0.35, "p99": 1.1}, "volumes change"),
}


def good(number: int) -> dict:
    """The record of a well registered pair; similarity differs a little from pair to pair."""
    return {
        "method": "impact",
        "folding_fraction": 0.0,
        "body_dice_after": 0.97,
        "displacement_mm": {"p95": 8.0},
        "jacobian": {"p1": 0.8, "p99": 1.2},
        "mutual_information_after": 0.5 + 0.01 * np.sin(number),
        "mind_distance_after": 0.16 + 0.01 * np.cos(number),
        "mind_distance_worst_after": 0.22 + 0.01 * np.cos(number),
        "mind_distance_moved_after": 0.5,
        "bone_dice_before": None,
    }


@pytest.fixture
def curate(tmp_path, run_tool):
    """Run curate.py on records by patient; gives the process and {patient: reason}, "" for those that are kept."""

    def run(records: dict[str, dict], *more):
        for patient, record in records.items():
            place = tmp_path / "qc" / f"impact__{patient}.json"
            place.parent.mkdir(exist_ok=True)
            place.write_text(json.dumps({"patient": patient, **record}))
        kept, excluded = tmp_path / "kept.csv", tmp_path / "excluded.csv"
        process = run_tool("curate.py", "--qc", tmp_path / "qc", "--out-kept", kept, "--out-excluded", excluded, *more)
        reasons = {}
        for path in (kept, excluded) if process.returncode == 0 else ():
            with open(path, newline="") as handle:
                reasons |= {row["patient"]: row["reason"] for row in csv.DictReader(handle)}
        return process, reasons

    return run


AUTO = ("--set", "curation.mode=auto")


def test_a_patient_who_lay_elsewhere_is_no_worse_a_pair(curate):
    """What a rigid move brought together counts by what is left of the way, where the record has it."""
    far = {"displacement_mm": {"p95": 80.0}}
    records = {
        "MOVED": good(1) | far | {"deformation_mm": {"p95": 8.0}},
        "BENT": good(2) | far | {"deformation_mm": {"p95": 31.0}},
        "OLDER": good(3) | far,
    }
    _, reasons = curate(records, *AUTO)
    assert reasons["MOVED"] == ""
    assert "displacements up to 31.0 mm" in reasons["BENT"] and "up to 80.0 mm" in reasons["OLDER"]


@pytest.mark.parametrize("measure", LIMITS)
def test_a_pair_beyond_a_limit_is_left_out_with_its_reason(curate, measure):
    inside, beyond, said = LIMITS[measure]
    measure = measure.split(",")[0]
    _, reasons = curate({"A": good(0) | {measure: inside}, "B": good(1) | {measure: beyond}}, *AUTO)
    assert reasons["A"] == "" and said in reasons["B"]


def test_cbct_and_ct_are_of_one_kind_and_good_pairs_come_nearer(curate):
    """0.77 at most of registrations within 4.2 mm, 0.76 to 1 of pairs 5 to 7 mm off (simulated CBCT)."""
    key = "mind_distance_moved_after"
    records = {"A": good(0) | {key: 0.84}, "B": good(1) | {key: 0.86}}
    assert set(curate(records, *AUTO, "--modality", "cbct")[1].values()) == {
        "",
        "MIND distance 0.860 of what it is 9 mm away, limit 0.85",
    }
    assert set(curate(records, *AUTO)[1].values()) == {""}


def test_symmetry_is_no_fault_of_a_pair(curate, tmp_path):
    """A head that is nearly as like its mirror image stands where its registration puts it, not at the table's top."""
    head = good(0) | {"rigid_start": {"move_mm": 1.0, "mirror": "left to right", "mirror_ratio": 0.99}}
    rows = curation.curate(
        {"HEAD": head, "LEG": good(0) | {"mind_distance_after": 0.29}}, resolve("paper", "mr")["curation"]
    )
    assert [row["patient"] for row in rows] == ["LEG", "HEAD"] and "mirrored" not in rows[1]["measure"]


def test_what_is_said_of_a_pair_does_not_change_with_who_else_is_there(curate, tmp_path):
    """A limit taken from the cohort let one record more bring a wrong pair back."""
    cohort = {f"P{n}": good(n) for n in range(10)} | {"WRONG": good(0) | {"mind_distance_after": 0.35}}
    first, more = curate(cohort, *AUTO)[1], curate(cohort | {"ODD": good(0) | {"mind_distance_after": 0.9}}, *AUTO)[1]
    assert {patient for patient, reason in first.items() if reason} == {"WRONG"}
    assert more["WRONG"] == first["WRONG"] == "MIND distance 0.350, limit 0.3"


def test_a_humans_verdict_in_curations_own_table_is_obeyed_by_the_next_run(curate, tmp_path):
    """The worst pair stands first; keep and exclude are obeyed, an empty verdict decides nothing."""
    records = {name: good(0) for name in "ABC"} | {"D": good(0) | {"mind_distance_after": 0.31}}
    curate(records | {"E": good(0) | {"mind_distance_after": 0.4}}, *AUTO)
    with open(tmp_path / "excluded.csv", newline="") as handle:
        assert [row["patient"] for row in csv.DictReader(handle)] == ["E", "D"]
    with open(tmp_path / "kept.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["measure"] for row in rows} == {"MIND distance 0.170, limit 0.3"}
    listed = tmp_path / "list.csv"
    listed.write_text("patient,reason,verdict\nA,bone off,exclude\nB,,\nD,looked at: right,keep\nE,,\n")
    _, reasons = curate(records | {"E": good(0) | {"mind_distance_after": 0.4}}, "--exclude", listed, *AUTO)
    assert {name for name, reason in reasons.items() if reason} == {"A", "E"}
    assert reasons["A"] == "on the exclusion list: bone off"
    listed.write_text("patient,verdict\nA,perhaps\n")
    bad_input(curate(records, "--exclude", listed)[0], "list.csv", "patient A", "verdict 'perhaps'", "keep, exclude")


def test_without_auto_only_the_list_leaves_out(curate, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("A, moved during the scan\n# B\n\nC # no air\n")
    records = {name: good(0) | {"folding_fraction": 0.5} for name in "ABC"}
    assert {name for name, reason in curate(records, "--exclude", listed)[1].items() if reason} == {"A", "C"}


def test_a_list_from_a_spreadsheet_excludes_and_names_that_exclude_nobody_are_told(curate, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("A,moved\r\nP9,\r\n", encoding="utf-8-sig")
    process, reasons = curate({name: good(0) for name in "AB"}, "--exclude", listed)
    assert {name for name, reason in reasons.items() if reason} == {"A"}
    (line,) = process.stderr.splitlines()
    assert "list.csv: 1 of 2 names" in line and "P9" in line
    listed.write_text("A\n")
    assert not curate({}, "--exclude", listed)[0].stderr


def test_excluded_patients_are_left_out_of_the_folds(run_tool, tmp_path):
    """A table from a spreadsheet, with names the sheet has not; a list without a header is refused."""
    sheet, excluded = tmp_path / "sheet.csv", tmp_path / "excluded.csv"
    sheet.write_text("patient,region\n" + "".join(f"P{n},AB\n" for n in range(6)))
    told = ("folds.py", "--sheet", sheet, "--preset", "test", "--excluded", excluded, "--out", tmp_path / "folds.json")
    excluded.write_text("patient,reason\nP1,moved\nP9,\n", encoding="utf-8-sig")
    process = run_tool(*told)
    assert process.returncode == 0 and "1 of 2 names" in process.stderr and "P9" in process.stderr, process.stderr
    plan = json.loads((tmp_path / "folds.json").read_text())
    assert not any("P1" in fold[part] for fold in plan["folds"] for part in ("train", "validation"))
    excluded.write_text("P1\nP2\n")
    bad_input(run_tool(*told), "excluded.csv", "header 'P1'", "patient")


def test_a_pair_that_could_not_be_registered_is_never_kept(curate, tmp_path):
    """Left out with its reason, whatever the mode; a fault under --strict, a list's names excepted."""
    records = {"A": good(0), "B": {"method": "impact", "failed": "the images do not overlap"}}
    strict = ("--set", "curation.strict=true")
    bad_input(curate(records, *strict)[0], "1 of 2 patients could not be used", "B: the images do not overlap")
    assert not (tmp_path / "kept.csv").exists()
    for mode in ((), AUTO):
        assert curate(records, *mode)[1] == {"A": "", "B": "registration failed: the images do not overlap"}
    (tmp_path / "list.txt").write_text("B\n")
    assert curate(records, "--exclude", tmp_path / "list.txt", *strict)[1] == {"A": "", "B": "on the exclusion list"}


def test_more_than_a_share_of_failed_pairs_stops(curate):
    """Of ten patients two may go, by the preset's fifth; a third stops the study with one line that names them."""
    records = {f"P{i}": good(i) for i in range(10)}
    lost = {f"P{i}": {"method": "impact", "failed": "truncated"} for i in range(3)}
    assert sum(map(bool, curate(records | dict(list(lost.items())[:2]))[1].values())) == 2
    bad_input(curate(records | lost)[0], "3 of 10 patients", "--max_excluded 0.2 allows 2", "P2: truncated")
    assert sum(map(bool, curate(records | lost, "--set", "curation.max_excluded=0.3")[1].values())) == 3


def test_a_record_that_is_none(curate, tmp_path):
    (tmp_path / "qc").mkdir()
    bad_input(curate({})[0], "no quality record")
    (tmp_path / "qc" / "impact__A.json").write_text("{")
    bad_input(curate({})[0], "impact__A.json", "quality record")


@pytest.mark.parametrize(
    "measure", ["mutual_information_after", "folding_fraction", "body_dice_after", "mind_distance_after"]
)
def test_a_record_without_a_number_is_left_out_and_the_others_are_judged_by_the_rest(curate, measure):
    records = {f"P{k}": good(k) for k in range(9)} | {"NAN": good(9) | {measure: float("nan")}}
    records |= {"FAR": good(10) | {"mind_distance_worst_after": 0.5}}
    _, reasons = curate(records, *AUTO)
    assert {name for name, reason in reasons.items() if reason} == {"NAN", "FAR"}
    assert reasons["NAN"] == f"no number: {measure}" and "0.500 in the worst region" in reasons["FAR"]


@pytest.mark.parametrize("measure", LIMITS)
def test_a_measure_that_is_null_says_nothing_and_a_pair_without_any_is_not_kept_as_the_best(curate, measure):
    records = {
        "A": good(0),
        "NULL": good(1) | {measure.split(",")[0]: None},
        "FAR": good(2) | {"mind_distance_worst_after": 0.5},
    }
    process, reasons = curate(records | {"NOTHING": {"method": "impact"}}, *AUTO)
    assert process.returncode == 0, process.stderr
    assert {name for name, reason in reasons.items() if reason} == {"FAR", "NOTHING"}
    assert reasons["NOTHING"] == "nothing measured in its record"


def test_a_list_may_be_one_arms_own(curate, tmp_path):
    """A table of patient, arm and reason; an empty arm means all of them."""
    (tmp_path / "list.csv").write_text(
        'patient,arm,reason\nA,elastix,moved between scans\nB,impact,\nC,,"metal, both hips"\n# D,,\n'
    )
    records = {name: good(k) for k, name in enumerate("ABCD")}
    _, reasons = curate(records, "--exclude", tmp_path / "list.csv", "--arm", "elastix")
    left = "on the exclusion list"
    assert reasons == {"A": f"{left}: moved between scans", "B": "", "C": f"{left}: metal, both hips", "D": ""}
    _, reasons = curate(records, "--exclude", tmp_path / "list.csv", "--arm", "mine")
    assert {name for name, reason in reasons.items() if reason} == {"C"}


def test_a_limit_that_nothing_may_pass():
    """No folding at all, bodies that coincide: such a limit leaves no room to divide by."""
    records = {
        "P1": {"patient": "P1", "folding_fraction": 0.0, "body_dice_after": 1.0},
        "P2": {"patient": "P2", "folding_fraction": 0.0001, "body_dice_after": 1.0},
        "P3": {"patient": "P3", "folding_fraction": 0.0, "body_dice_after": 0.99},
    }
    changes = ["curation.mode=auto", "curation.limits.folding=0", "curation.limits.body_dice=1"]
    rows = curation.curate(records, resolve("paper", "mr", changes)["curation"])
    assert {row["patient"]: row["kept"] for row in rows} == {"P1": True, "P2": False, "P3": False}
    with pytest.raises(InputError, match=r"curation.limits.body_dice 1.5: expected a share, 0 to 1"):
        resolve("paper", "mr", ["curation.limits.body_dice=1.5"])
