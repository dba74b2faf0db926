"""What the report says of a study in words: each sentence must be true of the records it was made from."""

import pytest

from synthct.core.presets import resolve
from synthct.report.context_sections import checkpoints_of, training, validation_mae
from synthct.report.inputs import Inputs
from synthct.report.registration_sections import _pairs_table, _qc_words
from synthct.report.study_sections import study_matrix


def logged(*values, best) -> list[dict]:
    """A training log as read from its record: validation MAE at steps 10, 20, …, and the best of its last line."""
    rows = [{"step": str(10 * n), "validation_mae_hu": str(mae)} for n, mae in enumerate(values, 1)]
    rows[-1]["best_mae_hu"] = str(best)
    return rows


def said(section) -> str:
    return " ".join([section.lead, *(getattr(block, "text", "") for block in section.blocks)])


def test_a_fine_tuning_that_made_nothing_better_keeps_its_start():
    assert checkpoints_of(logged(92.8, 86.1, best=80.7)) == (80.7, "the start", 86.1)
    assert checkpoints_of(logged(92.8, 86.1, 90.0, best=86.1)) == (86.1, "20", 90.0)
    logs = {("mi", "0", "global"): logged(70.0, best=70.0), ("mi", "0", "EX"): logged(92.8, 86.1, best=80.7)}
    assert validation_mae(logs) == {("mi", "best"): 80.7, ("mi", "final"): 86.1}


def test_a_training_that_nobody_validated_is_said():
    logs = {("mi", "0", "global"): logged(70.0, best=70.0), ("mi", "1", "HN"): [{"step": "10", "loss": "0.1"}]}
    text = said(training(Inputs(logs=logs)))
    assert "without a patient to validate on: dense MI, fold 1 (HN)." in text
    assert "validate on" not in said(training(Inputs(logs={("mi", "0", "global"): logged(70.0, best=70.0)})))


def test_the_loss_is_said():
    settings = resolve("paper", "mr", ["training.loss_region=mask", "training.perceptual.encoder=vgg19,mind"])
    inputs = Inputs(logs={("mi", "0", "global"): logged(70.0, best=70.0)}, settings=settings)
    weight = settings["training"]["perceptual"]["weight"]
    expected = f"Loss: 1 × L1 inside the body mask + {weight:g} × (1 × vgg19 + 1 × mind), differences of features."
    assert expected in said(training(inputs))
    settings["training"]["perceptual"]["encoder"] = "none"
    assert "Loss: 1 × L1 inside the body mask." in said(training(inputs))


def test_a_matrix_says_which_checkpoint_it_shows_and_whose_patients_differ():
    def row(trained, tested, checkpoint):
        about = {"patient": "P1", "region": "AB", "trained_on": trained, "tested_on": tested, "checkpoint": checkpoint}
        return about | {"mae": 50.0, "psnr": 30.0, "ms_ssim": 0.9, "dice": float("nan"), "hd95": float("nan")}

    arms = ("elastix", "mi")
    rows = [row(a, b, c) for a in arms for b in arms for c in ("best", "final")]
    plans = {arm: {"folds": [{"train": ["A", "B"], "validation": ["C"]}]} for arm in arms}
    text = said(study_matrix(Inputs(rows=rows, folds=plans)))
    assert "of the checkpoint “best” wherever no other is named" in text and "the same patients" not in text
    plans["elastix"]["folds"][0]["train"].remove("B")
    text = said(study_matrix(Inputs(rows=[r for r in rows if r["checkpoint"] == "best"], folds=plans)))
    assert "did not learn from the same patients (Elastix from 2, dense MI from 3; see Cohort)" in text
    assert "wherever no other is named" not in text


def test_pairs_stand_from_the_least_trusted_on():
    def record(patient, moved, worst):
        measures = {"mind_distance_after": 0.2, "mind_distance_worst_after": worst, "mind_distance_moved_after": moved}
        return {"patient": patient, "method": "mi", "displacement_mm": {"p95": 3.0}, **measures}

    # noise alone raises the distance of P1; P2 would match better elsewhere; a human left P3 out
    qc = [record("P1", 0.8, 0.5), record("P2", 1.1, 0.3), record("P3", 0.7, 0.2), record("P4", None, 0.2)]
    table = _pairs_table(Inputs(qc=qc, excluded=[{"arm": "mi", "patient": "P3", "reason": "a human's word"}]))
    assert [row[0] for row in table.rows] == ["P3", "P2", "P1", "P4"]
    assert table.rows[1][4] == "1.10" and table.rows[3][4] == "–"
    assert len(table.rows[0]) == len(table.columns) and table.rows[0][-1] == "a human's word"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"move_mm": 20.04, "better": True, "taken": True, "mind_change": -0.1, "apart_mm": 3.0}, "20.0 mm, taken"),
        (
            {"move_mm": 20.0, "better": True, "taken": False, "mind_change": -0.1, "apart_mm": 19.3},
            "20.0 mm, would be better, ended 19.3 mm off",
        ),
        ({"move_mm": 10.3, "better": False, "taken": False, "mind_change": 0.06}, "10.3 mm, no better"),
        ({"move_mm": 1.8, "taken": False}, "1.8 mm, left to the deformation"),
        (
            {"move_mm": 1.8, "taken": False, "mirror": "left to right", "mirror_ratio": 1.5},
            "1.8 mm, left to the deformation; mirrored left to right it matches 1.50 times as well",
        ),
        (
            {"move_mm": 1.8, "mirror_ratio": "1.5"},
            "1.8 mm, left to the deformation; mirrored somehow it matches 1.50 times as well",
        ),
        ({"move_mm": 1.8, "taken": False, "mirror": "x", "mirror_ratio": 0.9}, "1.8 mm, left to the deformation"),
        (
            {"move_mm": 8.0, "taken": True, "limbs": [{"move_mm": 8.04, "better": True}, {}], "limbs_joined": True},
            "8.0 mm, taken; limbs on their own by 8.0 mm",
        ),
        (
            {"move_mm": 1.8, "taken": False, "limbs": [{"move_mm": 8.04, "better": True}], "limbs_joined": False},
            "1.8 mm, left to the deformation",
        ),
        ({"move_mm": 1.8, "limbs": [None, 5, "x"], "limbs_joined": True}, "1.8 mm, left to the deformation"),
        ({"move_mm": 1.8, "limbs": {"x": 5}, "limbs_joined": True}, "1.8 mm, left to the deformation"),
        ({"move_mm": None, "taken": False}, "–"),
        (None, "–"),
    ],
)
def test_a_pair_says_what_was_found_of_its_start(start, words):
    record = {"patient": "P1", "method": "mi", "mutual_information_before": 0.2, "mutual_information_after": 0.4}
    record |= {"rigid_start": start} if start else {}
    table = _pairs_table(Inputs(qc=[record]))
    assert dict(zip(table.columns, table.rows[0], strict=True))["rigid start"] == words
    assert ("moved rigidly by 20.0 mm first" in _qc_words([record], "mi", "P1")) is (words == "20.0 mm, taken")
