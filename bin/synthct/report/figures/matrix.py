"""The train × test matrix drawn: as a table in shades, and patient by patient."""

import math
from textwrap import fill

import numpy as np

from synthct.report.figures.style import HALF, SOFT, WIDE, canvas, png, styled
from synthct.study import compared
from synthct.study.arms import arm_name, arm_order, colour, marker, recipes_of
from synthct.study.rows import BY_KEY

NARROW = 12  # characters of a line beside which four panels still fit


@styled
def matrix_shades(cells: list[dict], key: str = "mae") -> bytes:
    """Mean, SD and n in each cell, darker is worse; `cells` from `study.matrix`."""
    metric = BY_KEY[key]
    trained = sorted({cell["trained_on"] for cell in cells}, key=arm_order)
    tested = sorted({cell["tested_on"] for cell in cells}, key=arm_order)
    values = np.full((len(trained), len(tested)), np.nan)
    for cell in cells:
        values[trained.index(cell["trained_on"]), tested.index(cell["tested_on"])] = cell.get(f"{key}_pooled", math.nan)
    shade = values if metric.lower_is_better else -values
    low, high = (np.nanmin(shade), np.nanmax(shade)) if np.isfinite(shade).any() else (0, 1)
    width = (high - low) or 1.0
    below = max((len(compared.tag(recipes_of(arm))) for arm in tested), default=0)
    figure, axes = canvas(HALF, 1.1 + 0.8 * len(trained) + 0.14 * below)
    axis = axes[0, 0]
    axis.imshow(shade, cmap="Blues", vmin=low - 0.1 * width, vmax=high + 0.8 * width, aspect="auto")
    for cell in cells:
        row, column = trained.index(cell["trained_on"]), tested.index(cell["tested_on"])
        mean, spread = cell.get(f"{key}_pooled", math.nan), cell.get(f"{key}_sd", math.nan)
        axis.text(column, row - 0.1, f"{mean:.{metric.decimals}f}", ha="center", va="center", fontsize=13)
        axis.text(column, row + 0.25, f"± {spread:.{metric.decimals}f}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(tested)), list(map(_tagged, tested)), fontsize=8)
    axis.set_yticks(range(len(trained)), list(map(_tagged, trained)), fontsize=8)
    axis.set_xlabel("test images registered with")
    axis.set_ylabel("trained on")
    name = f"{metric.label} ({metric.unit})" if metric.unit else metric.label
    axis.set_title(f"{name}, {'lower' if metric.lower_is_better else 'higher'} is better")
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    return png(figure)


@styled
def matrix_patients(rows: list[dict], key: str = "mae") -> bytes:
    """The same patients across test registrations, a panel a model: thin lines patients, the thick one the mean."""
    trained = sorted({row["trained_on"] for row in rows}, key=arm_order)
    tested = sorted({row["tested_on"] for row in rows}, key=arm_order)
    figure, axes = canvas(HALF, 1.1 + 0.8 * max(len(trained), 2), 1, len(trained), sharey=True)
    for axis, arm in zip(axes[0], trained, strict=True):
        patients: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["trained_on"] == arm and math.isfinite(row[key]):
                patients.setdefault(row["patient"], {})[row["tested_on"]] = row[key]
        for values in patients.values():
            points = sorted((tested.index(name), value) for name, value in values.items())
            axis.plot(*zip(*points, strict=True), color=SOFT, lw=0.6, alpha=0.5)
        means = [
            (i, np.mean(some))
            for i, name in enumerate(tested)
            if (some := [values[name] for values in patients.values() if name in values])
        ]
        if means:
            axis.plot(*zip(*means, strict=True), color=colour(arm, trained), marker=marker(arm, trained), lw=2, ms=5.5)
        axis.set_xticks(range(len(tested)), [_narrow(name) for name in tested], rotation=90)
        axis.set_xlim(-0.4, len(tested) - 0.6)
        axis.grid(axis="x", visible=False)
        axis.set_title(_narrow(arm))
    metric = BY_KEY[key]
    axes[0, 0].set_ylabel(f"{metric.label} ({metric.unit})" if metric.unit else metric.label)
    figure.supxlabel("test images registered with", fontsize=9)
    figure.suptitle("model trained on", fontsize=9, x=0.02, ha="left")
    return png(figure)


def _tagged(arm: str) -> str:
    """An arm's name, and below it what its registration compared, where that was features."""
    return "\n".join([fill(arm_name(arm), WIDE), *compared.tag(recipes_of(arm))])


def _narrow(arm: str) -> str:
    """An arm's name where four panels share half a page."""
    return fill(arm_name(arm), NARROW)
