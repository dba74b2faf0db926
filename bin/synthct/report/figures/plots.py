"""Plots of numbers: patients as dots, learning curves, HU bins, trivial predictors, uncertainty against error.

Rows are those of `synthct.study.rows`. Each function returns one PNG.
"""

import math
from textwrap import fill

import numpy as np

from synthct.cohort.folds import is_global
from synthct.report.figures.style import (
    HALF,
    INK,
    LINES,
    RULE,
    SOFT,
    THIRD,
    WIDE,
    arm_legend,
    canvas,
    png,
    spread,
    styled,
)
from synthct.study.arms import arm_name, arm_order, colour, marker
from synthct.study.rows import BY_KEY

MOST_PATIENTS = 40  # drawn one a line
TISSUE = {"soft": "soft\ntissue"}


@styled
def patient_dots(rows: list[dict], key: str) -> bytes:
    """One metric: every patient a dot by region and trained arm, with mean ± SD."""
    figure, axes = canvas(THIRD, 2.9)
    axis = axes[0, 0]
    regions = sorted({row["region"] for row in rows})
    _dots(axis, rows, regions, lambda row, region: row[key] if row["region"] == region else math.nan)
    axis.set_xticks(range(len(regions)), [region or "all" for region in regions])
    axis.set_title(_titled(key))
    return png(figure)


@styled
def hu_bins(rows: list[dict]) -> bytes:
    """MAE by the CT's own HU: every patient a dot, with mean ± SD."""
    figure, axes = canvas(HALF, 3.1)
    axis = axes[0, 0]
    bins = list(dict.fromkeys(name for row in rows for name in row.get("hu_bins", {})))
    _dots(axis, rows, bins, lambda row, name: float(row.get("hu_bins", {}).get(name, math.nan)))
    axis.set_xticks(range(len(bins)), [TISSUE.get(name, name) for name in bins])
    axis.set_ylim(bottom=0)
    axis.set_title("MAE by tissue (HU)")
    _legend(figure, axis, rows)
    return png(figure)


@styled
def trivial_predictors(rows: list[dict], arm: str) -> bytes:
    """Each patient's MAE with the arm's model, the lookup table and the best constant; worst on top."""
    arms = _arms(rows)
    rows = sorted(
        (row for row in rows if row["trained_on"] == arm and math.isfinite(row["mae"])), key=lambda row: row["mae"]
    )
    rows = rows[-MOST_PATIENTS:]
    figure, axes = canvas(HALF, 1.25 + 0.2 * len(rows))
    axis = axes[0, 0]
    for y, row in enumerate(rows):
        lookup, constant = (float(row["baselines"][name]["mae"]) for name in ("lookup", "constant"))
        axis.plot([row["mae"], lookup, constant], [y] * 3, color=RULE, lw=1.5, zorder=1)
        axis.plot(row["mae"], y, marker(arm, arms), color=colour(arm, arms), ms=5.5)
        axis.plot(lookup, y, "|", color=INK, ms=9, mew=1.8)
        axis.plot(constant, y, "x", color=SOFT, ms=5.5, mew=1.4)
    axis.set_yticks(range(len(rows)), [row["patient"] for row in rows], fontsize=7.5)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_xlim(left=0)
    axis.grid(axis="y", visible=False)
    axis.set_title(f"MAE (HU), trained on {arm_name(arm)}" if arm not in ("", "given") else "MAE (HU)")
    handles = [
        axis.plot([], [], marker(arm, arms), color=colour(arm, arms), ms=5.5, label="synthetic CT")[0],
        axis.plot([], [], "|", color=INK, ms=9, mew=1.8, label="lookup table")[0],
        axis.plot([], [], "x", color=SOFT, ms=5.5, mew=1.4, label="best constant")[0],
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, handletextpad=0.2, columnspacing=1.2)
    return png(figure)


@styled
def uncertainty_error(rows: list[dict]) -> bytes:
    """Mean absolute error against mean uncertainty in ten equal groups of voxels; thin lines patients, thick the
    mean.
    """
    arms = _arms(rows)
    figure, axes = canvas(HALF, 3.5)
    axis, largest = axes[0, 0], 0.0
    for arm in arms:
        curves = [
            np.array([(float(group["uncertainty"]), float(group["mae"])) for group in row["uncertainty"]["groups"]])
            for row in rows
            if row["trained_on"] == arm and row.get("uncertainty")
        ]
        curves = [curve for curve in curves if len(curve) == 10]
        for curve in curves[:MOST_PATIENTS]:
            axis.plot(*curve.T, color=colour(arm, arms), lw=0.6, alpha=0.3)
        if curves:
            mean = np.mean(curves, axis=0)
            largest = max(largest, float(mean.max()))
            axis.plot(*mean.T, color=colour(arm, arms), marker=marker(arm, arms), ms=4.5, lw=1.8)
    axis.axline((0, 0), slope=1, color=SOFT, lw=0.8, ls=":")
    axis.set_xlabel("uncertainty: SD of the ensemble (HU)")
    axis.set_title("mean absolute error (HU)")
    axis.set_xlim(0, largest * 1.05 or 1)
    axis.set_ylim(bottom=0)
    _legend(figure, axis, rows)
    return png(figure)


@styled
def learning_curve(logs: dict[tuple[str, str, str], list[dict]], arm: str, column: str, title: str) -> bytes:
    """One column of the training logs of an arm against step: a line a run, the line's kind by region group."""
    arms = sorted({name for name, _, _ in logs}, key=arm_order)
    groups = sorted({group for _, _, group in logs}, key=lambda group: (not is_global(group), group))
    figure, axes = canvas(HALF, 2.7)
    axis = axes[0, 0]
    # a region group's curve goes on from the last step of the model that it was fine-tuned from
    ends = {
        key[:2]: float(records[-1].get("step") or 0) for key, records in logs.items() if records and is_global(key[2])
    }
    for (name, fold, group), records in sorted(logs.items()):
        start = 0.0 if is_global(group) else ends.get((name, fold), 0.0)
        points = [(float(one["step"]), float(one[column])) for one in records if one.get("step") and one.get(column)]
        points = [(start + x, y) for x, y in points if math.isfinite(y)]
        if name == arm and points:
            axis.plot(
                *zip(*points, strict=True),
                LINES[groups.index(group) % len(LINES)],
                color=colour(arm, arms),
                alpha=0.75,
                lw=1.2,
                marker="." if len(points) < 12 else None,
            )
    axis.set_xlabel("step")
    axis.set_title(f"{title}, {arm_name(arm)}" if arm else title)
    if len(groups) > 1:
        handles = [
            axis.plot([], [], LINES[i % len(LINES)], color=INK, lw=1.2, label=group or "all")[0]
            for i, group in enumerate(groups)
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(groups), columnspacing=1.2)
    return png(figure)


@styled
def registration_change(records: list[dict], key: str, title: str) -> bytes:
    """A QC number before and after registration: a line a patient, by arm; `records` have "method", <key>_before,
    _after.
    """
    arms = sorted({record["method"] for record in records}, key=arm_order)
    figure, axes = canvas(THIRD, 2.7)
    axis = axes[0, 0]
    for number, arm in enumerate(arms):
        for record in records:
            if record["method"] == arm:
                axis.plot(
                    [2.6 * number, 2.6 * number + 1],
                    [record[f"{key}_before"], record[f"{key}_after"]],
                    color=colour(arm, arms),
                    marker=marker(arm, arms),
                    ms=3.5,
                    lw=0.9,
                    alpha=0.65,
                )
    axis.set_xticks([2.6 * number + 0.5 for number in range(len(arms))], [fill(arm_name(arm), WIDE) for arm in arms])
    axis.set_xlim(-0.6, 2.6 * (len(arms) - 1) + 1.6)
    axis.grid(axis="x", visible=False)
    axis.set_title(title)
    return png(figure)


def _dots(axis, rows: list[dict], places: list[str], value):
    """Columns of dots, one a place and trained arm; `value(row, place)` is NaN for rows that do not belong there."""
    arms = _arms(rows)
    step = 0.78 / len(arms)
    for number, arm in enumerate(arms):
        for at, place in enumerate(places):
            values = [v for row in rows if row["trained_on"] == arm and math.isfinite(v := value(row, place))]
            if values:
                x = at + (number - (len(arms) - 1) / 2) * step
                axis.plot(
                    x + spread(len(values)) * step * 0.26,
                    values,
                    marker(arm, arms),
                    color=colour(arm, arms),
                    ms=4,
                    alpha=0.5,
                    mew=0,
                )
                if len(values) > 1:  # over a single mark it would hide it
                    look = {"color": INK, "fmt": "_", "ms": 9, "mew": 1.6, "lw": 1, "capsize": 2.5}
                    axis.errorbar(x, np.mean(values), np.std(values), **look)
    axis.set_xlim(-0.55, len(places) - 0.45)
    axis.grid(axis="x", visible=False)


def _legend(figure, axis, rows: list[dict]):
    arms = _arms(rows)
    if len(arms) > 1:
        arm_legend(figure, axis, {arm: arm_name(arm) for arm in arms}, arms)


def _arms(rows: list[dict]) -> list[str]:
    return sorted({row["trained_on"] for row in rows}, key=arm_order)


def _titled(key: str) -> str:
    metric = BY_KEY[key]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
