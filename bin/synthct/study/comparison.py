"""Paired comparisons of the matrix's cells, patient by patient: Wilcoxon signed-rank tests, Holm's correction,
effect sizes.

Two questions are asked of every metric. "model": on the same test images, do two training registrations differ?
"images": for the same model, do two registrations of the test images change the score? Holm's correction covers all
tests of one question and metric.
"""

import math
import warnings
from itertools import combinations

import numpy as np
from scipy import stats

from synthct.study.arms import arm_order
from synthct.study.rows import METRICS, metrics_in

MODEL, IMAGES = "model", "images"


def comparisons(rows: list[dict], among=METRICS) -> list[dict]:
    """All paired tests among `rows`, which are of one checkpoint, of the metrics in `among`.

    Keys: question, metric, fixed (the arm that stays), a, b (the arms compared), n (patients with both), mean_a,
    mean_b, mean_difference and median_difference (a − b, the metric's unit), a_better and b_better (patients),
    rank_biserial (−1…1, above 0: a is larger), p (two-sided), p_holm, smallest_p and smallest_p_holm (what n pairs
    and this many tests can reach at all).
    """
    result = []
    for metric in metrics_in(rows, among) if rows else []:
        values: dict[tuple[str, str], dict[str, float]] = {}
        for row in rows:
            if math.isfinite(row[metric.key]):
                values.setdefault((row["trained_on"], row["tested_on"]), {})[row["patient"]] = row[metric.key]
        for question in (MODEL, IMAGES):
            family = []
            # (trained, tested): the arm that stays is the tested one for "model", the trained one for "images".
            stays, varies = (1, 0) if question == MODEL else (0, 1)
            for fixed in sorted({cell[stays] for cell in values}, key=arm_order):
                arms = sorted({cell[varies] for cell in values if cell[stays] == fixed}, key=arm_order)
                for a, b in combinations(arms, 2):
                    first, second = (values[(arm, fixed) if question == MODEL else (fixed, arm)] for arm in (a, b))
                    shared = sorted(set(first) & set(second))
                    if not shared:
                        continue
                    pair = paired([first[p] for p in shared], [second[p] for p in shared], metric.lower_is_better)
                    family.append({"question": question, "metric": metric.key, "fixed": fixed, "a": a, "b": b, **pair})
            for entry, corrected in zip(family, holm([entry["p"] for entry in family]), strict=True):
                entry["p_holm"] = corrected
                entry["smallest_p_holm"] = min(1.0, len(family) * entry["smallest_p"])
            result += family
    return result


def paired(a: list[float], b: list[float], lower_is_better: bool) -> dict:
    """The paired test of `a` against `b` (same patients, same order)."""
    difference = np.array(a, np.float64) - np.array(b, np.float64)
    moved = difference[difference != 0]
    ranks = stats.rankdata(np.abs(moved))
    up, down = float(ranks[moved > 0].sum()), float(ranks[moved < 0].sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy remarks on small samples; the smallest reachable p stands in the row
        p = float(stats.wilcoxon(moved).pvalue) if moved.size else 1.0
    better = difference < 0 if lower_is_better else difference > 0
    return {
        "n": len(difference),
        "mean_a": float(np.mean(a)),
        "mean_b": float(np.mean(b)),
        "mean_difference": float(difference.mean()),
        "median_difference": float(np.median(difference)),
        "a_better": int(better.sum()),
        "b_better": int(moved.size - better.sum()),
        "rank_biserial": (up - down) / (up + down) if moved.size else 0.0,
        "p": p,
        "smallest_p": min(2.0 ** (1 - moved.size), 1.0),
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction; the order of the values is kept."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
