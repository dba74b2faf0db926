"""What a report is made of: the records of one run, each once, and no score by a model of a patient it learnt from."""

import pytest

from synthct.core.errors import InputError
from synthct.core.files import write_json
from synthct.report.context_sections import cohort
from synthct.report.inputs import read_inputs

SCORE = {"record": "metrics", "trained_on": "mi", "tested_on": "mi", "checkpoint": "best", "region": "AB"}


def score(place, patient, mae, **more):
    write_json(place / f"{patient}.json", {**SCORE, "patient": patient, "mae": mae, "psnr": 30, "ms_ssim": 0.9, **more})


@pytest.fixture
def run(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    score(tmp_path / "one", "P1", 50.0)
    score(tmp_path / "one", "P2", 60.0)
    return tmp_path


def test_a_record_that_lies_there_twice_counts_once(run):
    score(run / "two", "P2", 60.0)
    rows = read_inputs([run, run / "one"]).rows
    assert [(row["patient"], row["mae"]) for row in rows] == [("P1", 50.0), ("P2", 60.0)]


def test_two_scores_of_one_patient_and_cell_are_of_two_runs(run):
    score(run / "two", "P2", 61.0)
    with pytest.raises(InputError, match=r"another record of patient P2, trained_on mi.* than .*P2.json"):
        read_inputs([run])
    score(run / "two", "P2", 61.0, checkpoint="final")
    assert len(read_inputs([run]).rows) == 3


def test_who_was_kept_is_not_left_out_and_nobody_is_so_twice(run):
    """As a run's results hold them: curate.py's two tables, and the one of a report that was made before."""
    columns, left = "arm,patient,reason,score,verdict,measure\n", "mi,P3,folded,2.5,,1\n"
    (run / "one" / "kept.csv").write_text(f"{columns}mi,P1,,0.5,,1\nmi,P2,,0.4,keep,1\n")
    (run / "one" / "excluded.csv").write_text(columns + left)
    (run / "two" / "excluded.csv").write_text("arm,patient,reason\nmi,P3,folded\nmi,P4,not scored: air\n")
    write_json(run / "one" / "P4.json", {**SCORE, "patient": "P4", "failed": "air"})
    found = read_inputs([run]).excluded
    assert [(row["patient"], row["reason"]) for row in found] == [("P3", "folded"), ("P4", "not scored: air")]


def test_a_test_patient_is_scored_by_arm(run):
    plans = {arm: {"test": ["P1", "P2"], "folds": []} for arm in ("mi", "elastix")}
    excluded = [
        {"arm": "mi", "patient": "P1", "reason": "blurred"},
        {"arm": "elastix", "patient": "P1", "reason": "no"},
    ]
    lost = [{"arm": "mi", "patient": "P2", "reason": "not scored: air"}]
    inputs = read_inputs([run])
    inputs.folds, inputs.excluded, inputs.lost, inputs.cohort = plans, excluded + lost, lost, [{"patient": "P1"}]
    table = cohort(inputs).blocks[-1]
    assert [line[-1] for line in table.rows] == ["scored", "no pair, not scored", "not scored"]


def test_two_plans_of_an_arm_are_of_two_runs(run):
    for place, test in (("one", ["P1", "P2"]), ("two", ["P1"])):
        write_json(run / place / "folds.json", {"record": "folds", "arm": "mi", "test": test, "folds": []})
    with pytest.raises(InputError, match=r"folds .*two.folds.json: another record of arm mi"):
        read_inputs([run])


def test_a_patient_that_a_model_learnt_from_is_no_test_of_it(run):
    plan = {"record": "folds", "arm": "mi", "test": ["P1"], "folds": [{"train": ["P3"], "validation": ["P2"]}]}
    write_json(run / "folds.json", plan)
    with pytest.raises(InputError, match=r"P2.json: patient P2 is scored with a model of mi that learnt from it"):
        read_inputs([run])
    write_json(run / "folds.json", plan | {"arm": "elastix"})  # another arm's model
    assert len(read_inputs([run]).rows) == 2
