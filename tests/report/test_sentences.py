"""What the report says of a study in words: each sentence must be true of the records it was made from."""

from synthct.core.presets import resolve
from synthct.report.context_sections import checkpoints_of, training, validation_mae
from synthct.report.inputs import Inputs
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
