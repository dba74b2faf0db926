"""What the report says, section by section: from inputs to blocks. Each function returns a `Section`, or None."""

import math

from synthct.comparison import IMAGES, comparisons
from synthct.figures import pictures, plots
from synthct.report.blocks import Cards, Figure, Section, Table, Text
from synthct.report.inputs import Inputs
from synthct.report.tables import own, sorted_arms
from synthct.study import AGGREGATED, BY_KEY, POOLED, matrix, metrics_in, selection, split_finite, summary
from synthct.verdict import arm_name

WORST = 12  # patients listed in the page; all of them are in patients.csv
PICTURED = 4  # patients with error maps
PAIRS = 3  # registration pictures an arm


def cohort(inputs: Inputs) -> Section | None:
    """Patients by region, center and split."""
    if not inputs.cohort:
        return None
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in inputs.cohort:
        split = "test" if row.get("patient") in inputs.test or (not inputs.folds and row.get("split") == "test") else "train"
        split = split if inputs.folds or row.get("split") else "patients"
        cell = counts.setdefault((row.get("region", ""), row.get("center", "")), {})
        cell[split] = cell.get(split, 0) + 1
    splits = [name for name in ("train", "test", "patients") if any(name in cell for cell in counts.values())]
    body = [[region or "–", center or "–", *[str(cell.get(split, 0)) for split in splits], str(sum(cell.values()))]
            for (region, center), cell in sorted(counts.items())]
    body.append(["all", "", *[str(sum(cell.get(split, 0) for cell in counts.values())) for split in splits],
                 str(len(inputs.cohort))])
    section = Section("cohort", "Cohort", f"{len(inputs.cohort)} patients in the sheet.")
    section.blocks.append(Table("Patients by region, center and split", ["region", "center", *splits, "all"], body, 2, "cohort.csv"))
    if inputs.excluded:
        section.blocks.append(Table("Left out of training, and why", ["arm", "patient", "reason"],
                                    [[arm_name(e["arm"]), e["patient"], e["reason"]] for e in inputs.excluded], 3, "excluded.csv",
                                    folded=len(inputs.excluded) > WORST))
    elif inputs.folds:
        section.blocks.append(Text("Curation left no patient out."))
    return section


def registration(inputs: Inputs) -> Section | None:
    """QC numbers and pictures before and after."""
    if not inputs.qc and not inputs.previews:
        return None
    section = Section("registration", "Registration", "How well the pairs lie on each other before and after.")
    arms = sorted_arms([record["method"] for record in inputs.qc] + [method for method, _ in inputs.previews])
    for arm in arms:
        for (method, patient), path in sorted(inputs.previews.items()):
            if method == arm and sum(isinstance(b, Figure) and b.name.startswith(f"registration_{arm}_") for b in section.blocks) < PAIRS:
                png = pictures.registration_pair(pictures.load(path), arm_name(arm))
                section.blocks.append(Figure(f"registration_{arm}_{patient}", png,
                                             f"Colour overlay of {patient} before and after {arm_name(arm)} registration",
                                             f"{patient}, {arm_name(arm)}: fixed image magenta, moving image green, grey where "
                                             "they agree."))
    return section


def learning(inputs: Inputs) -> Section | None:
    """Loss curves."""
    if not inputs.logs:
        return None
    section = Section("training", "Training", f"{len(inputs.logs)} training runs.")
    section.blocks.append(Figure("learning_curves", plots.learning_curves(inputs.logs),
                                 "Training loss and validation MAE against step for every arm and fold",
                                 "One line a fold. Values: learning.csv."))
    return section


def results(inputs: Inputs) -> Section | None:
    """Metrics by region and arm on each model's own test images, then tissue bins and trivial predictors."""
    rows = own(inputs.rows)
    if not rows:
        return None
    metrics = metrics_in(rows)
    section = Section("results", "Image similarity", "Inside the body mask, each model on test images registered as its training "
                      "images were.")
    body = []
    for entry in summary(rows):
        if entry["metric"] != metrics[0].key:
            continue
        same = {e["metric"]: e for e in summary(rows) if all(e[k] == entry[k] for k in ("trained_on", "tested_on", "checkpoint", "region"))}
        name = {AGGREGATED: "regions equal", POOLED: "patients pooled"}.get(entry["region"], entry["region"] or "–")
        body.append([arm_name(entry["trained_on"]), name, str(entry["n"] + entry["left_out"]),
                     *[_mean_sd(same[m.key], m.decimals) for m in metrics]])
    section.blocks.append(Table("Mean ± SD by arm and region", ["trained on", "region", "n", *[_titled(m.key) for m in metrics]],
                                body, 2, "summary.csv"))
    left_out = [f"{m.label}: {', '.join(split_finite(rows, m.key)[1])}" for m in metrics if split_finite(rows, m.key)[1]]
    if left_out:
        section.blocks.append(Text("Not a finite number, thus not in the means: " + "; ".join(left_out) + ".", "note"))
    section.blocks.append(Figure("patients", plots.patient_dots(rows, [m.key for m in metrics if m.key in ("mae", "psnr", "ms_ssim")]),
                                 "Dots of every test patient by region and arm", "Every dot a patient; bars: mean ± SD."))
    if any(row.get("hu_bins") for row in rows):
        section.blocks.append(Figure("hu_bins", plots.hu_bins(rows), "MAE in air, lung, soft tissue and bone",
                                     "MAE by the CT's own value: air below −850, lung −850 to −200, soft tissue −200 to 200, bone "
                                     "from 200 HU."))
    with_trivial = [row for row in rows if row.get("baselines")]
    if with_trivial:
        section.blocks.append(Figure("trivial_predictors", plots.trivial_predictors(with_trivial[:60]),
                                     "MAE of the synthetic CT and of two trivial predictors for every patient",
                                     "The synthetic CT against a lookup table from input intensity to HU and the best constant, "
                                     "both fitted on the training patients."))
    return section


def study_matrix(inputs: Inputs) -> Section | None:
    """The train × test matrix with its tests."""
    cells = matrix(inputs.rows)
    if len({(cell["trained_on"], cell["tested_on"]) for cell in cells}) < 2:
        return None
    section = Section("matrix", "Train × test matrix", "Which registration made the training pairs, and which one the test images.")
    section.blocks.append(Figure("matrix_mae", plots.matrix_heat(cells), "Train × test matrix of the MAE", "MAE (HU), mean ± SD."))
    section.blocks.append(Figure("matrix_lines", plots.matrix_lines(inputs.rows), "The same patients on every test registration",
                                 "Thin lines: patients. Thick: mean."))
    body = []
    for test in comparisons(inputs.rows):
        metric = BY_KEY[test["metric"]]
        fixed = f"trained on {arm_name(test['fixed'])}" if test["question"] == IMAGES else f"tested on {arm_name(test['fixed'])}"
        body.append([f"{metric.label}, {fixed}", f"{arm_name(test['a'])} − {arm_name(test['b'])}", str(test["n"]),
                     f"{test['mean_difference']:+.{metric.decimals}f}", f"{test['rank_biserial']:+.2f}", f"{test['p_holm']:.3g}"])
    section.blocks.append(Table("Paired Wilcoxon tests, Holm-corrected", ["metric", "difference", "n", "mean difference",
                                                                          "rank-biserial r", "p"], body, 2, "tests.csv"))
    return section


def patients(inputs: Inputs) -> Section | None:
    """Worst patients first, with error maps."""
    rows = sorted((row for row in own(inputs.rows) if math.isfinite(row["mae"])), key=lambda row: -row["mae"])
    if not rows:
        return None
    section = Section("patients", "Patients", "Worst first.")
    metrics = metrics_in(rows)
    section.blocks.append(Table(f"The {min(WORST, len(rows))} largest errors of {len(rows)}",
                                ["patient", "region", "trained on", *[_titled(m.key) for m in metrics]],
                                [[r["patient"], r["region"], arm_name(r["trained_on"]), *[f"{r[m.key]:.{m.decimals}f}" for m in metrics]]
                                 for r in rows[:WORST]], 3, "patients.csv"))
    for patient in list(dict.fromkeys(row["patient"] for row in rows))[:PICTURED]:
        cells = [(f"{arm_name(t)} / {arm_name(e)}", pictures.load(path)) for (t, e, p), path in inputs.slices.items() if p == patient]
        if cells:
            section.blocks.append(Figure(f"error_map_{patient}", pictures.error_map(cells), f"Error maps of {patient}",
                                         f"{patient}: rows are trained on / tested on."))
    return section


def choices(inputs: Inputs) -> Section | None:
    """Model selection."""
    ranked = selection(inputs.rows, validation_mae(inputs.logs))
    if not ranked:
        return None
    section = Section("selection", "Model selection")
    section.blocks.append(Table("Candidates", ["tested on", "trained on", "checkpoint", "score", "mean rank", "validation MAE (HU)"],
                                [[arm_name(r["tested_on"]), arm_name(r["trained_on"]), r["checkpoint"] or "–", f"{r['score']:.2f}",
                                  f"{r['mean_rank']:.1f}", f"{r['validation_mae']:.1f}"] for r in ranked], 3, "selection.csv"))
    return section


def provenance(inputs: Inputs) -> Section | None:
    """Settings and versions."""
    if not inputs.settings and not inputs.versions:
        return None
    section = Section("provenance", "Settings and software")
    flat = [[path, value] for path, value in _flat_settings(inputs.settings)]
    if flat:
        section.blocks.append(Table("Settings", ["setting", "value"], flat, 2, folded=True))
    if inputs.versions:
        section.blocks.append(Table("Software", ["step", "package", "version"], [list(v) for v in inputs.versions], 3, folded=True))
    return section


def validation_mae(logs: dict) -> dict[tuple[str, str], float]:
    """Mean over folds of the lowest ("best") and the last ("final") validation MAE (HU) of each arm."""
    found: dict[tuple[str, str], list[float]] = {}
    for (arm, _, _), records in logs.items():
        values = [float(r["validation_mae_hu"]) for r in records if r.get("validation_mae_hu")]
        values = [value for value in values if math.isfinite(value)]
        if values:
            found.setdefault((arm, "best"), []).append(min(values))
            found.setdefault((arm, "final"), []).append(values[-1])
    return {key: sum(values) / len(values) for key, values in found.items()}


def headline(inputs: Inputs) -> Cards | None:
    """Headline numbers."""
    cells = [cell for cell in matrix(own(inputs.rows)) if math.isfinite(cell.get("mae_pooled", math.nan))]
    if not cells:
        return None
    best = min(cells, key=lambda cell: cell["mae_pooled"])
    return Cards([(f"{best[f'{m.key}_pooled']:.{m.decimals}f}", m.unit, m.label) for m in metrics_in(inputs.rows)]
                 + [(str(best["n"]), "", "test patients")])


def _mean_sd(entry: dict, decimals: int) -> str:
    return "–" if math.isnan(entry["mean"]) else f"{entry['mean']:.{decimals}f} ± {entry['sd']:.{decimals}f}"


def _titled(key: str) -> str:
    metric = BY_KEY[key]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _flat_settings(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
