"""What the numbers say, in plain sentences: no claim beyond what a paired test or a count supports."""

import math

from synthct.study.arms import arm_name
from synthct.study.arms import images_of as _images
from synthct.study.arms import pairs_of as _pairs
from synthct.study.comparison import IMAGES, MODEL
from synthct.study.rows import combinations, matrix, shared

LEVEL = 0.05
NAMED = 5  # patients in a sentence


def verdict(rows: list[dict], tests: list[dict]) -> list[str]:
    """One to five sentences, the most important first; empty without a finite MAE."""
    cells = [cell for cell in matrix(rows) if math.isfinite(cell.get("mae_pooled", math.nan))]
    if not cells:
        return []
    images, model = (_largest(tests, question) for question in (IMAGES, MODEL))
    sentences = []
    if images and model:
        sentences.append(
            f"Changing only the registration of the test images moves a model's mean absolute error by up to "
            f"{abs(images['mean_difference']):.1f} HU ({_between(images)}); changing only the registration it was "
            f"trained on, by up to {abs(model['mean_difference']):.1f} HU ({_between(model)})."
        )
    sentences.append(_best(rows))
    sentences += [_detail(test) for test in (images, model) if test]
    return [sentence for sentence in [*sentences, _trivial(rows)] if sentence]


def cautions(tests: list[dict]) -> list[str]:
    """What a reader must bear in mind about the matrix, from its own numbers."""
    notes = [
        "Cells of one column share their test images, so they compare models. Cells of one row share the model but not "
        "the test images: the difference is what the test registration does to the score."
    ]
    mae = [test for test in tests if test["metric"] == "mae"]
    if mae and min(test["smallest_p_holm"] for test in mae) >= LEVEL:
        notes.append(
            f"With {max(test['n'] for test in mae)} patients and this many comparisons no corrected p-value can fall "
            f"below {min(test['smallest_p_holm'] for test in mae):.2g}: the differences are described, not proven."
        )
    return notes


def uneven(rows: list[dict]) -> list[str]:
    """A caution where not every cell is of the same patients; [] else."""
    everybody = {row["patient"] for row in rows}
    said = []
    for (trained, tested, _), members in combinations(rows).items():
        if absent := sorted(everybody - {row["patient"] for row in members}):
            names = ", ".join(absent[:NAMED]) + f" and {len(absent) - NAMED} more" * (len(absent) > NAMED)
            said.append(f"{arm_name(trained)} on {_images(tested)} has no {names}")
    if not said:
        return []
    return [
        f"Not all means are of the same patients ({'; '.join(said)}), so these do not compare; the tests go patient by "
        "patient."
    ]


def _best(rows: list[dict]) -> str:
    common = shared(rows)
    if not common:
        return "No test patient has a score in every cell of the matrix, so none of the errors is called the lowest."
    cells, everybody = matrix(common), {row["patient"] for row in rows}
    own = [cell for cell in cells if cell["trained_on"] == cell["tested_on"]] or cells
    best = min(own, key=lambda cell: cell["mae_pooled"])
    score = f"{best['mae_pooled']:.1f} ± {best['mae_sd']:.1f} HU"
    over = f"over {_count(best['n'], 'patient')}"
    if best["n"] < len(everybody):
        over = f"over the {best['n']} of {_count(len(everybody), 'patient')} with a score in every cell"
    if best["trained_on"] in ("", "given"):
        return f"The synthetic CT reaches a mean absolute error of {score}, {over}."
    if best["tested_on"] in ("", "given"):
        return f"The model {arm_name(best['trained_on'])} reaches a mean absolute error of {score}, {over}."
    where = " on test images registered the same way" if best["tested_on"] == best["trained_on"] else ""
    if len(own) == 1:
        return f"The model trained on {_pairs(best['trained_on'])} has a mean absolute error of {score}{where}, {over}."
    lowest = min(cells, key=lambda cell: cell["mae_pooled"])
    if lowest["mae_pooled"] < best["mae_pooled"]:  # of the models on their own images another is best
        return (
            f"On test images registered as its training images were, the model trained on {_pairs(best['trained_on'])} "
            f"has the lowest error: {score}, {over}. The lowest of the whole matrix is {lowest['mae_pooled']:.1f} HU, "
            f"of the model trained on {_pairs(lowest['trained_on'])} on {_images(lowest['tested_on'])}."
        )
    return f"The lowest error is that of the model trained on {_pairs(best['trained_on'])}: {score}{where}, {over}."


def _largest(tests: list[dict], question: str) -> dict | None:
    """The largest MAE difference of a question."""
    some = [test for test in tests if test["question"] == question and test["metric"] == "mae"]
    return max(some, key=lambda test: abs(test["mean_difference"]), default=None)


def _between(test: dict) -> str:
    """Which two registrations a test compares, and what it holds fixed."""
    where = (
        f"with the model of {_pairs(test['fixed'])}" if test["question"] == IMAGES else f"on {_images(test['fixed'])}"
    )
    return f"{arm_name(test['a'])} against {arm_name(test['b'])}, {where}"


def _detail(test: dict) -> str:
    a_is_better = test["mean_difference"] <= 0
    better, worse = (test["a"], test["b"]) if a_is_better else (test["b"], test["a"])
    low, high = sorted((test["mean_a"], test["mean_b"]))
    won = test["a_better" if a_is_better else "b_better"]
    if test["question"] == IMAGES:
        text = (
            f"The model trained on {_pairs(test['fixed'])} scores {low:.1f} HU on {_images(better)} and {high:.1f} HU "
            f"on {_images(worse)}, lower on the former in {won} of {_count(test['n'], 'patient')}"
        )
    else:
        text = (
            f"On {_images(test['fixed'])}, training on {_pairs(better)} gives {low:.1f} HU and training on "
            f"{_pairs(worse)} {high:.1f} HU, lower with the former in {won} of {_count(test['n'], 'patient')}"
        )
    return f"{text} ({_p(test)})."


def _trivial(rows: list[dict]) -> str:
    rows = [row for row in rows if row.get("baselines") and math.isfinite(row["mae"])]
    rows = [row for row in rows if row["trained_on"] == row["tested_on"]] or rows
    if not rows:
        return ""
    parts = []
    for name, words in (("lookup", "an intensity lookup table"), ("constant", "the best constant")):
        won = sum(row["mae"] < float(row["baselines"][name]["mae"]) for row in rows)
        parts.append(f"{words} in {won}")
    return (
        f"Of {_count(len(rows), 'synthetic CT')}, the error is lower than that of {parts[0]} and of {parts[1]} cases."
    )


def _p(test: dict) -> str:
    p = test["p_holm"]
    text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    if p < LEVEL:
        return f"{text}, Holm-corrected"
    if test["smallest_p_holm"] >= LEVEL and p <= 1.01 * test["smallest_p_holm"]:
        return f"{text}, Holm-corrected; not significant, too few patients for a smaller one"
    return f"{text}, Holm-corrected; not significant"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
