"""Plots of numbers: patients as dots, learning curves, the matrix, HU bins, uncertainty against error."""

import math

import numpy as np

from synthct.figures.style import FAINT, INK, canvas, colour, jitter, marker, png
from synthct.study import BY_KEY, arm_order
from synthct.verdict import arm_name


def patient_dots(rows: list[dict], metric_keys: list[str]) -> bytes:
    """One panel a metric: every patient a dot by region and arm, mean ± SD beside; `rows` of each model on its images."""
    regions = sorted({row["region"] for row in rows})
    arms = _arms(rows)
    width = max(7.2, 1.1 + 0.42 * len(regions) * len(arms) * len(metric_keys))
    figure, axes = canvas(min(width, 12), 3.1, 1, len(metric_keys))
    step = 0.8 / len(arms)
    for axis, key in zip(axes[0], metric_keys, strict=True):
        for number, arm in enumerate(arms):
            for place, region in enumerate(regions):
                values = _finite(row[key] for row in rows if row["region"] == region and row["trained_on"] == arm)
                if not values:
                    continue
                x = place + (number - (len(arms) - 1) / 2) * step
                axis.plot(x + jitter(len(values)) * step * 0.28, values, marker(arm, arms), color=colour(arm, arms), ms=4,
                          alpha=0.55, mew=0, label=arm_name(arm) if place == 0 else None)
                axis.errorbar(x, np.mean(values), np.std(values), color=INK, fmt="_", ms=10, lw=1, capsize=2.5)
        axis.set_xticks(range(len(regions)), [region or "all" for region in regions])
        axis.set_xlim(-0.6, len(regions) - 0.4)
        axis.grid(axis="x", visible=False)
        axis.set_title(_titled(key))
    _legend(figure, axes[0, 0], arms)
    return png(figure)


def learning_curves(logs: dict[tuple[str, str, str], list[dict]]) -> bytes:
    """Training loss and validation MAE (HU) against step; one line a fold, one row of panels an arm."""
    arms = sorted({arm for arm, _, _ in logs}, key=arm_order)
    figure, axes = canvas(7.2, 0.5 + 2.1 * len(arms), len(arms), 2)
    groups = sorted({group for _, _, group in logs}, key=lambda group: (group not in ("global", "train", ""), group))
    for row, arm in zip(axes, arms, strict=True):
        for (name, _, group), records in sorted(logs.items()):
            if name != arm:
                continue
            style = ("-", "--", ":", "-.")[groups.index(group) % 4]
            for axis, column in zip(row, ("loss", "validation_mae_hu"), strict=True):
                points = [(float(r["step"]), float(r[column])) for r in records if r.get("step") and r.get(column)]
                points = [(x, y) for x, y in points if math.isfinite(y)]
                if points:
                    axis.plot(*zip(*points, strict=True), style, color=colour(arm, arms), alpha=0.75, lw=1.1,
                              marker="." if len(points) < 30 else None)
        row[0].set_title(f"{arm_name(arm)}: training loss")
        row[1].set_title(f"{arm_name(arm)}: validation MAE (HU)")
        for axis in row:
            axis.set_xlabel("step")
    if len(groups) > 1:
        handles = [figure.axes[0].plot([], [], ("-", "--", ":", "-.")[i % 4], color=INK, lw=1.1, label=group or "all")[0]
                   for i, group in enumerate(groups)]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(groups))
    return png(figure)


def matrix_heat(cells: list[dict], key: str = "mae") -> bytes:
    """The train × test matrix of one metric: mean, SD and n in each cell, darker is worse."""
    trained = sorted({cell["trained_on"] for cell in cells}, key=arm_order)
    tested = sorted({cell["tested_on"] for cell in cells}, key=arm_order)
    metric = BY_KEY[key]
    values = np.full((len(trained), len(tested)), np.nan)
    for cell in cells:
        values[trained.index(cell["trained_on"]), tested.index(cell["tested_on"])] = cell.get(f"{key}_pooled", math.nan)
    figure, axes = canvas(1.9 + 1.35 * len(tested), 1.15 + 0.85 * len(trained))
    axis = axes[0, 0]
    shade = values if metric.lower_is_better else -values
    low, high = (np.nanmin(shade), np.nanmax(shade)) if np.isfinite(shade).any() else (0, 1)
    axis.imshow(shade, cmap="Blues", vmin=low - 0.15 * (high - low + 1e-9), vmax=high + 0.5 * (high - low + 1e-9), aspect="auto")
    for cell in cells:
        row, column = trained.index(cell["trained_on"]), tested.index(cell["tested_on"])
        mean, spread = cell.get(f"{key}_pooled", math.nan), cell.get(f"{key}_sd", math.nan)
        axis.text(column, row - 0.08, f"{mean:.{metric.decimals}f}", ha="center", va="center", fontsize=13, weight="bold")
        axis.text(column, row + 0.24, f"± {spread:.{metric.decimals}f}, n = {cell['n']}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(tested)), [arm_name(arm) for arm in tested])
    axis.set_yticks(range(len(trained)), [arm_name(arm) for arm in trained])
    axis.set_xlabel("test images registered with")
    axis.set_ylabel("trained on")
    axis.set_title(f"{_titled(key)}, {'lower' if metric.lower_is_better else 'higher'} is better")
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    return png(figure)


def matrix_lines(rows: list[dict], key: str = "mae") -> bytes:
    """The same patients across test registrations, one panel a model: a thin line a patient, a thick one for the mean."""
    trained = _arms(rows)
    tested = sorted({row["tested_on"] for row in rows}, key=arm_order)
    figure, axes = canvas(max(1.0 + 2.2 * len(trained), 4), 3.0, 1, len(trained), sharey=True)
    for axis, arm in zip(axes[0], trained, strict=True):
        by_patient: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["trained_on"] == arm and math.isfinite(row[key]):
                by_patient.setdefault(row["patient"], {})[row["tested_on"]] = row[key]
        for values in by_patient.values():
            points = [(tested.index(name), value) for name, value in values.items()]
            axis.plot(*zip(*sorted(points), strict=True), "-", color=FAINT, lw=0.7, alpha=0.6, marker=".", ms=4)
        means = [(i, np.mean(some)) for i, name in enumerate(tested)
                 if (some := [values[name] for values in by_patient.values() if name in values])]
        if means:
            axis.plot(*zip(*means, strict=True), "-", color=colour(arm, trained), marker=marker(arm, trained), lw=2.2, ms=6)
        axis.set_xticks(range(len(tested)), [arm_name(name).replace(" ", "\n") for name in tested])
        axis.set_xlim(-0.4, len(tested) - 0.6)
        axis.grid(axis="x", visible=False)
        axis.set_title(f"trained on {arm_name(arm)}")
    axes[0, 0].set_ylabel(_titled(key))
    return png(figure)


def hu_bins(rows: list[dict]) -> bytes:
    """MAE by tissue, from the CT's own HU: every patient a dot, the mean a bar; `rows` of each model on its images."""
    arms = _arms(rows)
    bins = list(dict.fromkeys(name for row in rows for name in row.get("hu_bins", {})))
    figure, axes = canvas(7.2, 3.0)
    axis, step = axes[0, 0], 0.8 / len(arms)
    for number, arm in enumerate(arms):
        for place, name in enumerate(bins):
            values = _finite(float(row["hu_bins"][name]) for row in rows if row["trained_on"] == arm and name in row.get("hu_bins", {}))
            if not values:
                continue
            x = place + (number - (len(arms) - 1) / 2) * step
            axis.plot(x + jitter(len(values)) * step * 0.28, values, marker(arm, arms), color=colour(arm, arms), ms=4, alpha=0.55,
                      mew=0)
            axis.plot([x - step * 0.35, x + step * 0.35], [np.mean(values)] * 2, color=INK, lw=1.4)
    axis.set_xticks(range(len(bins)), bins)
    axis.set_ylabel("MAE (HU)")
    axis.grid(axis="x", visible=False)
    axis.set_ylim(bottom=0)
    _legend(figure, axis, arms)
    return png(figure)


def trivial_predictors(rows: list[dict]) -> bytes:
    """Each test patient's MAE: sCT, lookup table, best constant; sorted by the sCT's."""
    rows = sorted((row for row in rows if math.isfinite(row["mae"])), key=lambda row: (row["trained_on"], row["mae"]))
    arms = _arms(rows)
    figure, axes = canvas(7.2, 0.9 + 0.16 * len(rows) + 0.3 * len(arms))
    axis = axes[0, 0]
    for y, row in enumerate(rows):
        others = {name: float(row["baselines"][name]["mae"]) for name in ("lookup", "constant")}
        axis.plot([row["mae"], *others.values()], [y] * 3, color="#d9dee4", lw=1, zorder=1)
        axis.plot(row["mae"], y, marker(row["trained_on"], arms), color=colour(row["trained_on"], arms), ms=5.5)
        axis.plot(others["lookup"], y, "|", color=INK, ms=8, mew=1.6)
        axis.plot(others["constant"], y, "x", color=FAINT, ms=5, mew=1.3)
    axis.set_yticks(range(len(rows)), [row["patient"] for row in rows], fontsize=7)
    axis.set_xlim(left=0)
    axis.set_xlabel("MAE (HU)")
    axis.grid(axis="y", visible=False)
    handles = [axis.plot([], [], marker(arm, arms), color=colour(arm, arms), label=f"sCT, {arm_name(arm)}")[0] for arm in arms]
    handles.append(axis.plot([], [], "|", color=INK, ms=8, mew=1.6, label="lookup table")[0])
    handles.append(axis.plot([], [], "x", color=FAINT, ms=5, label="best constant")[0])
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return png(figure)


def uncertainty_error(rows: list[dict]) -> bytes:
    """Mean absolute error against mean uncertainty in ten equal groups of voxels; thin lines patients, thick the mean."""
    arms = _arms(rows)
    figure, axes = canvas(4.6, 3.4)
    axis, largest = axes[0, 0], 0.0
    for arm in arms:
        curves = [np.array([(float(g["uncertainty"]), float(g["mae"])) for g in row["uncertainty"]["groups"]])
                  for row in rows if row["trained_on"] == arm and row["uncertainty"]["groups"]]
        curves = [curve for curve in curves if len(curve) == 10]
        for curve in curves[:40]:
            axis.plot(*curve.T, color=colour(arm, arms), lw=0.6, alpha=0.3)
        if curves:
            mean = np.mean(curves, axis=0)
            largest = max(largest, mean.max())
            axis.plot(*mean.T, color=colour(arm, arms), marker=marker(arm, arms), ms=4.5, lw=1.8)
    axis.plot([0, largest], [0, largest], color=FAINT, lw=0.8, ls=":")
    axis.set_xlabel("uncertainty: SD of the ensemble (HU)")
    axis.set_ylabel("mean absolute error (HU)")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    _legend(figure, axis, arms)
    return png(figure)


def _arms(rows: list[dict]) -> list[str]:
    return sorted({row["trained_on"] for row in rows}, key=arm_order)


def _finite(values) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _titled(key: str) -> str:
    metric = BY_KEY[key]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _legend(figure, axis, arms: list[str]):
    if arms == [""]:
        return
    handles = [axis.plot([], [], marker(arm, arms), color=colour(arm, arms), label=f"trained on {arm_name(arm)}")[0] for arm in arms]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
