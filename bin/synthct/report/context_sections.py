"""The report's context: cohort, registration, training, what was predicted, settings and software."""

import math

from synthct.figures import pictures, plots
from synthct.report.blocks import Figure, Panels, Section, Table, Text
from synthct.report.inputs import Inputs
from synthct.study import arm_order
from synthct.verdict import arm_name

PAIRS = 4  # registration pictures an arm: the worst two, the middle, the best
LISTED = 15
QC = (
    ("mutual_information", "mutual information (nats)", 3),
    ("mind_distance", "MIND distance", 4),
)


def cohort(inputs: Inputs) -> Section | None:
    """Patients by region, center and split, and who was left out of training."""
    if not inputs.cohort:
        return None
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in inputs.cohort:
        cell = counts.setdefault((row.get("region", ""), row.get("center", "")), {})
        cell[_split(row, inputs)] = cell.get(_split(row, inputs), 0) + 1
    splits = [name for name in ("training", "test", "patients") if any(name in cell for cell in counts.values())]
    body = [
        [region or "–", center or "–", *[str(cell.get(split, 0)) for split in splits]]
        for (region, center), cell in sorted(counts.items())
    ]
    body.append(["all", "", *[str(sum(cell.get(split, 0) for cell in counts.values())) for split in splits]])
    section = Section("cohort", "Cohort", f"{len(inputs.cohort)} patients in the sheet.")
    section.blocks.append(
        Table("Patients by region, center and split", ["region", "center", *splits], body, 2, "cohort.csv")
    )
    if inputs.excluded:
        body = [[arm_name(entry["arm"]), entry["patient"], entry["reason"]] for entry in inputs.excluded]
        section.blocks.append(
            Table(
                f"Left out of training ({len(body)}), and why",
                ["registration", "patient", "reason"],
                body,
                3,
                "excluded.csv",
                folded=len(body) > LISTED,
            )
        )
    elif inputs.folds:
        section.blocks.append(Text("Curation left no patient out of training."))
    return section


def registration(inputs: Inputs) -> Section | None:
    """QC numbers before and after, and pictures of the worst, the middle and the best pair of each arm."""
    if not inputs.qc and not inputs.previews:
        return None
    section = Section(
        "registration",
        "Registration",
        "The pairs before and after. Without known truth these numbers say how alike "
        "the images became, not how right the deformation is.",
    )
    arms = sorted({r["method"] for r in inputs.qc} | {method for method, _ in inputs.previews}, key=arm_order)
    known = [
        (key, title, decimals) for key, title, decimals in QC if any(f"{key}_after" in record for record in inputs.qc)
    ]
    if known:
        section.blocks.append(_qc_table(inputs.qc, arms, known))
        figures = []
        for key, title, _ in known:
            records = [r for r in inputs.qc if all(_finite(r.get(f"{key}_{when}")) for when in ("before", "after"))]
            if records:
                figures.append(
                    Figure(
                        f"registration_{key}",
                        plots.registration_change(records, key, title),
                        f"{title} before and after registration, a line a patient",
                    )
                )
        section.blocks.append(Panels(figures, "Each line a patient: before, left, and after, right.", 3))
    figures = []
    for arm in [arm for arm in arms if arm != "none"] or arms:  # without registration, after is before
        for patient in _examples(inputs, arm):
            figures.append(
                Figure(
                    f"registration_{arm}_{patient}",
                    pictures.registration_pair(pictures.load(inputs.previews[arm, patient])),
                    f"{patient} before and after {arm_name(arm)} registration",
                    f"{patient}, {arm_name(arm)}{_qc_words(inputs.qc, arm, patient)}",
                )
            )
    if figures:
        section.blocks.append(
            Text(
                "Grey: the image that is moved. Orange: edges of the image that stays. Per arm the two pairs that "
                "are least alike after registration come first."
            )
        )
        section.blocks.append(Panels(figures))
    return section


def training(inputs: Inputs) -> Section | None:
    """Loss and validation MAE by arm; a line a fold."""
    if not inputs.logs:
        return None
    section = Section("training", "Training", f"{len(inputs.logs)} training runs; every line is one fold.")
    figures = []
    for arm in sorted({arm for arm, _, _ in inputs.logs}, key=arm_order):
        for column, title in (("loss", "Training loss"), ("validation_mae_hu", "Validation MAE (HU)")):
            figures.append(
                Figure(
                    f"learning_{column}_{arm or 'all'}",
                    plots.learning_curve(inputs.logs, arm, column, title),
                    f"{title} against step, {arm_name(arm)}",
                )
            )
    section.blocks.append(
        Panels(figures, "Line styles: the model of all regions, then each region group fine-tuned from it.")
    )
    body = []
    for (arm, fold, group), records in sorted(inputs.logs.items()):
        values = [(float(r["validation_mae_hu"]), r.get("step", "")) for r in records if r.get("validation_mae_hu")]
        values = [value for value in values if math.isfinite(value[0])]
        best = min(values, default=(math.nan, "–"))
        body.append(
            [
                arm_name(arm),
                fold.removeprefix("fold"),
                group or "all",
                records[-1].get("step", "–") if records else "–",
                "–" if math.isnan(best[0]) else f"{best[0]:.1f}",
                best[1],
                f"{values[-1][0]:.1f}" if values else "–",
            ]
        )
    section.blocks.append(
        Table(
            "Training runs",
            ["registration", "fold", "group", "steps", "best validation MAE (HU)", "at step", "last (HU)"],
            body,
            3,
            "learning.csv",
            folded=len(body) > LISTED,
        )
    )
    return section


def predictions(inputs: Inputs) -> Section | None:
    """What predict.py said about each patient: group of models, time, mean uncertainty, warnings."""
    patients = [
        patient for record in inputs.predictions for patient in record.get("patients", ()) if isinstance(patient, dict)
    ]
    if not patients or inputs.rows:
        return None
    section = Section("predictions", "Predictions", "Highest uncertainty first.")
    patients.sort(key=lambda p: -float(p.get("mean_uncertainty_hu") or 0))
    body = [
        [
            str(p.get("patient", "")),
            str(p.get("region") or "–"),
            str(p.get("group") or "–"),
            "; ".join(p.get("warnings", ())) or "–",
            _short(p.get("mean_uncertainty_hu")),
            _short(p.get("seconds")),
        ]
        for p in patients
    ]
    section.blocks.append(
        Table(
            "Patients",
            ["patient", "region", "models", "warnings", "mean uncertainty (HU)", "time (s)"],
            body,
            4,
            "predictions.csv",
            folded=len(body) > 100,
        )
    )
    return section


def provenance(inputs: Inputs) -> Section | None:
    """Settings as resolved, and software versions."""
    if not inputs.settings and not inputs.versions:
        return None
    section = Section("provenance", "Settings and software")
    flat = [list(pair) for pair in _flat(inputs.settings)]
    if flat:
        section.blocks.append(Table(f"Settings ({len(flat)})", ["setting", "value"], flat, 2, folded=True))
    if inputs.versions:
        section.blocks.append(
            Table("Software", ["step", "package", "version"], [list(v) for v in inputs.versions], 3, folded=True)
        )
    return section


def validation_mae(logs: dict) -> dict[tuple[str, str], float]:
    """Validation MAE (HU) by (arm, "best" or "final"): mean over runs of the lowest and of the last value.

    Where an arm was fine-tuned by region group, its fine-tuned runs count, not the runs that they started from.
    """
    found: dict[tuple[str, str], list[float]] = {}
    tuned = {arm for arm, _, group in logs if group not in ("global", "train", "")}
    for (arm, _, group), records in logs.items():
        if arm in tuned and group in ("global", "train", ""):
            continue
        values = [float(r["validation_mae_hu"]) for r in records if r.get("validation_mae_hu")]
        values = [value for value in values if math.isfinite(value)]
        if values:
            found.setdefault((arm, "best"), []).append(min(values))
            found.setdefault((arm, "final"), []).append(values[-1])
    return {key: sum(values) / len(values) for key, values in found.items()}


def _split(row: dict, inputs: Inputs) -> str:
    if inputs.folds:
        return "test" if row.get("patient") in inputs.test else "training"
    return {"test": "test", "train": "training"}.get(row.get("split", ""), "patients")


def _qc_table(qc: list[dict], arms: list[str], known) -> Table:
    body = []
    for arm in arms:
        some = [record for record in qc if record["method"] == arm and "failed" not in record]
        line = [arm_name(arm), str(len(some))]
        for key, _, decimals in known:
            for when in ("before", "after"):
                values = [float(r[f"{key}_{when}"]) for r in some if _finite(r.get(f"{key}_{when}"))]
                line.append(f"{sum(values) / len(values):.{decimals}f}" if values else "–")
        moved = [
            float(r["displacement_mm"]["mean"]) for r in some if _finite((r.get("displacement_mm") or {}).get("mean"))
        ]
        folded = [float(r["folding_fraction"]) for r in some if _finite(r.get("folding_fraction"))]
        line += [f"{sum(moved) / len(moved):.1f}" if moved else "–", str(sum(value > 0 for value in folded))]
        body.append(line)
    columns = [
        "registration",
        "n",
        *[f"{title} {when}" for _, title, _ in known for when in ("before", "after")],
        "mean displacement (mm)",
        "patients with folding",
    ]
    return Table("Means over patients", columns, body, 1, "registration.csv")


def _examples(inputs: Inputs, arm: str) -> list[str]:
    """Patients to show: the two with the largest MIND distance after registration, the middle one and the best."""
    distance = {
        r["patient"]: float(r["mind_distance_after"])
        for r in inputs.qc
        if r["method"] == arm and _finite(r.get("mind_distance_after"))
    }
    names = sorted(
        (patient for method, patient in inputs.previews if method == arm),
        key=lambda name: (-distance.get(name, 0), name),
    )
    return names if len(names) <= PAIRS else [*names[:2], names[len(names) // 2], names[-1]]


def _qc_words(qc: list[dict], arm: str, patient: str) -> str:
    for record in qc:
        if (record["method"], record["patient"]) == (arm, patient) and _finite(record.get("mutual_information_after")):
            return (
                f": mutual information {float(record['mutual_information_before']):.3f} before, "
                f"{float(record['mutual_information_after']):.3f} after"
            )
    return ""


def _finite(value) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _short(value) -> str:
    return f"{float(value):.1f}" if _finite(value) else "–"


def _flat(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
