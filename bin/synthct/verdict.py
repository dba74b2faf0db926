"""What the numbers say, in plain sentences: no claim beyond what a paired test or a count supports."""

import math

from synthct.comparison import IMAGES, MODEL
from synthct.study import matrix

NAMES = {"impact": "IMPACT", "elastix": "Elastix", "none": "no registration"}
LEVEL = 0.05


def arm_name(arm: str) -> str:
    """An arm as it is written in sentences and figures."""
    return NAMES.get(arm, arm or "unnamed")


def verdict(rows: list[dict], tests: list[dict]) -> list[str]:
    """One to four sentences, the most important first; empty without rows."""
    cells = [cell for cell in matrix(rows) if math.isfinite(cell.get("mae_pooled", math.nan))]
    if not cells:
        return []
    sentences = [_headline(cells)]
    sentences += _tested(tests, IMAGES) + _tested(tests, MODEL)
    return [sentence for sentence in [*sentences, _trivial(rows)] if sentence]


def _headline(cells: list[dict]) -> str:
    own = [cell for cell in cells if cell["trained_on"] == cell["tested_on"]] or cells
    best = min(own, key=lambda cell: cell["mae_pooled"])
    who = f"The model trained on {_pairs(best['trained_on'])}" if best["trained_on"] else "The synthetic CT"
    where = "" if best["tested_on"] in ("", best["trained_on"]) else f" against {_pairs(best['tested_on'])}"
    own_images = " on test images registered the same way" if best["tested_on"] == best["trained_on"] != "" else where
    return (f"{who} reaches a mean absolute error of {best['mae_pooled']:.1f} ± {best['mae_sd']:.1f} HU{own_images} "
            f"({_count(best['n'], 'patient')}).")


def _tested(tests: list[dict], question: str) -> list[str]:
    """The largest MAE difference of a question, with its test; one sentence."""
    some = [test for test in tests if test["question"] == question and test["metric"] == "mae"]
    if not some:
        return []
    test = max(some, key=lambda entry: abs(entry["mean_difference"]))
    better, worse = (test["a"], test["b"]) if test["mean_difference"] <= 0 else (test["b"], test["a"])
    low, high = sorted((test["mean_a"], test["mean_b"]))
    count = test["a_better"] if better == test["a"] else test["b_better"]
    if question == IMAGES:
        text = (f"The same model, trained on {_pairs(test['fixed'])}, scores {high - low:.1f} HU better when the test images "
                f"come from {_registration(better)} than from {_registration(worse)} ({low:.1f} against {high:.1f} HU, better in "
                f"{count} of {test['n']}; {_p(test)})")
        outcome = ": the test registration alone moves the score." if test["p_holm"] < LEVEL else _not_shown(test)
    else:
        text = (f"On the same test images, {_registration(test['fixed'])}, training on {_pairs(better)} rather than on "
                f"{_pairs(worse)} lowers the error by {high - low:.1f} HU ({low:.1f} against {high:.1f} HU, better in {count} of "
                f"{test['n']}; {_p(test)})")
        outcome = ": the training registration makes a difference." if test["p_holm"] < LEVEL else _not_shown(test)
    return [text + outcome]



def _not_shown(test: dict) -> str:
    if test["smallest_p"] >= LEVEL:
        return f"; {test['n']} pairs are too few for any test to show a difference."
    return "; that is not more than chance would explain."


def _trivial(rows: list[dict]) -> str:
    own = [row for row in rows if row.get("baselines") and row["trained_on"] == row["tested_on"]]
    own = own or [row for row in rows if row.get("baselines")]
    own = [row for row in own if math.isfinite(row["mae"])]
    if not own:
        return ""
    parts = []
    for name, words in (("constant", "the best constant"), ("lookup", "an intensity lookup table")):
        won = sum(row["mae"] < float(row["baselines"][name]["mae"]) for row in own)
        parts.append(f"{words} in {won} of {len(own)}")
    return f"Against the trivial predictors, the synthetic CT has the lower error than {parts[0]} and than {parts[1]} cases."


def _p(test: dict) -> str:
    p = test["p_holm"]
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _pairs(arm: str) -> str:
    return "unregistered pairs" if arm == "none" else f"{arm_name(arm)} pairs"


def _registration(arm: str) -> str:
    return "no registration" if arm == "none" else f"{arm_name(arm)} registration"
