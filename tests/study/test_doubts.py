"""Pairs beyond a limit that curation was not asked to leave out do not pass in silence."""

import csv

import pytest

from synthct.core.errors import InputError
from synthct.report.inputs import Inputs, read_inputs
from synthct.report.page import sentences
from synthct.study.doubts import doubts


def row(patient: str, score: float, verdict: str = "", reason: str = "") -> dict:
    said = f"measure of {patient}"
    return {
        "arm": "mi",
        "patient": patient,
        "reason": reason,
        "score": str(score),
        "verdict": verdict,
        "measure": said,
    }


def test_the_worst_are_named_and_those_a_human_kept_are_not():
    rows = [row("P1", 1.1), row("P2", 0.9), row("P3", 3.0, "keep"), *(row(f"Q{n}", 1.2 + n / 10) for n in range(5))]
    (said,) = doubts(rows)
    assert said.startswith("6 pairs were kept") and "--curate auto" in said
    assert said.endswith("Q4 (dense MI: measure of Q4), Q3 (dense MI: measure of Q3), "
                         "Q2 (dense MI: measure of Q2), Q1 (dense MI: measure of Q1), and 2 more.")  # fmt: skip
    assert doubts([row("P2", 1.0), row("P3", 3.0, "keep")]) == []


def test_the_report_says_so_at_its_top(tmp_path):
    """From the tables that curate.py writes; who was left out stands elsewhere."""
    for name, rows in (("kept", [row("P1", 1.5), row("P2", 0.2)]), ("excluded", [row("P3", 9.0, "", "failed")])):
        with open(tmp_path / f"{name}.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    inputs = read_inputs([tmp_path])
    assert [one["patient"] for one in inputs.excluded] == ["P3"]
    said = sentences(inputs)
    assert said[0] == "No synthetic CT was scored." and said[1].startswith("1 pair was kept") and "P1" in said[1]
    assert sentences(Inputs()) == ["No synthetic CT was scored."]


@pytest.mark.parametrize("score", ["", "high"])
def test_a_score_that_is_no_number_is_named_with_its_line(tmp_path, score):
    """In a table that was filled in by hand and given back."""
    table = tmp_path / "kept.csv"
    table.write_text(f"arm,patient,reason,score,verdict,measure\nmi,P1,,1.5,keep,far\nmi,P2,,{score},,far\n")
    with pytest.raises(InputError, match=f"kept.csv, line 3: score '{score}', expected a number"):
        read_inputs([tmp_path])
    table.write_text("arm,patient,reason,score\nmi,P1,,high\n")  # somebody else's, or of a release before
    assert read_inputs([tmp_path]).kept == []
