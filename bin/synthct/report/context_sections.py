"""The report's context: cohort, training, what was predicted, settings and software."""

import math

from synthct.cohort.folds import is_global
from synthct.networks.terms import perceptual_terms
from synthct.report.blocks import Figure, Panels, Section, Table, Text
from synthct.report.figures import plots
from synthct.report.inputs import Inputs
from synthct.study.arms import arm_name, arm_order

LISTED = 15
JUDGED = ("do not use", "look", "use")  # the verdicts of synthct.prediction.trust, the gravest first
URGENCY = {name: place for place, name in enumerate((*JUDGED[:2], "not judged", JUDGED[2]))}


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
        body = [
            [
                arm_name(entry["arm"]),
                entry["patient"],
                entry["reason"],
                _tested(entry, inputs),
            ]
            for entry in inputs.excluded
        ]
        section.blocks.append(
            Table(
                f"Left out of training or not predicted ({len(body)}), and why",
                ["registration", "patient", "reason", "in the test set"],
                body,
                4,
                "excluded.csv",
                folded=len(body) > LISTED,
            )
        )
    elif inputs.folds:
        section.blocks.append(Text("Curation left no patient out of training."))
    return section


def _tested(entry: dict, inputs: Inputs) -> str:
    """An exclusion is about training: who was drawn for the test stays in it, scored where the arm has a pair."""
    patient, arm = entry["patient"], entry["arm"]
    if patient not in inputs.test:
        return "–"
    if entry in inputs.lost:
        return "not scored"
    scored = any(row["patient"] == patient and arm in ("", row["tested_on"]) for row in inputs.rows)
    return "scored" if scored else "no pair, not scored"


def training(inputs: Inputs) -> Section | None:
    """Loss and validation MAE by arm; a line a fold."""
    if not inputs.logs:
        return None
    lead = f"{len(inputs.logs)} training runs; every line is one fold. {_loss(inputs.settings.get('training') or {})}"
    section = Section("training", "Training", lead.strip())
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
        Panels(
            figures,
            "Line styles: the model of all regions, then each region group, drawn on from where that model ended.",
        )
    )
    body = []
    for (arm, fold, group), records in sorted(inputs.logs.items()):
        best, step, last = checkpoints_of(records)
        body.append(
            [
                arm_name(arm),
                fold.removeprefix("fold"),
                group or "all",
                records[-1].get("step", "–") if records else "–",
                _short(best),
                step,
                _short(last),
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
    section.blocks += _unvalidated(inputs.logs)
    return section


def _unvalidated(logs: dict) -> list[Text]:
    """Which trainings no patient validated: of their fold's, or of their region group's in it, there is none."""
    blind = [
        f"{arm_name(arm)}, fold {fold.removeprefix('fold')}" + ("" if is_global(group) else f" ({group})")
        for (arm, fold, group), records in sorted(logs.items())
        if records and not finite(checkpoints_of(records)[0])
    ]
    if not blind:
        return []
    return [
        Text(
            f"Trained without a patient to validate on: {'; '.join(blind)}. Nothing could stop such a training early, "
            "and its best checkpoint is its last."
        )
    ]


def predictions(inputs: Inputs) -> Section | None:
    """What predict.py said about each patient: whether to trust the sCT and why, models, uncertainty, warnings.

    None for a study, whose patients were scored and not judged.
    """
    patients = predicted(inputs)
    if not patients or (inputs.rows and not judged(inputs)):
        return None
    lead = "Those that should not be used first, then those to look at, by uncertainty. "
    lead += "The verdict compares image, synthetic CT and uncertainty with the patients that the bundle knows."
    section = Section("predictions", "Predictions", lead)
    patients.sort(key=lambda p: (URGENCY.get(verdict_of(p), 9), -float(p.get("mean_uncertainty_hu") or 0)))
    body = [
        [
            str(p.get("patient", "")),
            str(p.get("region") or "–"),
            str(p.get("group") or "–"),
            verdict_of(p) or "–",
            "; ".join((p.get("trust") or {}).get("reasons", ())) or "–",
            "; ".join(p.get("warnings", ())) or "–",
            _short((p.get("trust") or {}).get("expected_mae_hu")),
            _short(p.get("mean_uncertainty_hu")),
            _short(p.get("seconds")),
        ]
        for p in patients
    ]
    section.blocks.append(
        Table(
            "Patients",
            [
                *("patient", "region", "models", "verdict", "reasons", "warnings"),
                *("expected MAE (HU)", "mean uncertainty (HU)", "time (s)"),
            ],
            body,
            6,
            "predictions.csv",
            folded=len(body) > 100,
        )
    )
    return section


def predicted(inputs: Inputs) -> list[dict]:
    """The patients of all predictions, as predict.py summed them up."""
    return [one for record in inputs.predictions for one in record.get("patients", ()) if isinstance(one, dict)]


def verdict_of(patient: dict) -> str:
    """ "use", "look", "do not use", "not judged"; "" where predict.py said nothing."""
    return str((patient.get("trust") or {}).get("verdict") or "")


def judged(inputs: Inputs) -> bool:
    """Whether any prediction was judged by what its bundle knows."""
    return any(verdict_of(patient) in JUDGED for patient in predicted(inputs))


def trust_sentence(inputs: Inputs) -> list[str]:
    """How many predictions should not be used, and how many be looked at; [] where none was judged."""
    if not judged(inputs):
        return []
    said = [verdict_of(patient) for patient in predicted(inputs)]
    count = {name: said.count(name) for name in JUDGED}
    rest = len(said) - sum(count.values())
    parts = [
        f"{count['do not use']} should not be used",
        f"{count['look']} should be looked at before use",
        f"{count['use']} resemble what the bundle knows",
        *([f"{rest} were not judged"] if rest else []),
    ]
    total = "1 synthetic CT" if len(said) == 1 else f"{len(said)} synthetic CTs"
    return [f"Of {total}, {', '.join(parts[:-1])} and {parts[-1]}."]


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
    """Validation MAE (HU) by (arm, "best" or "final"): mean over runs of the chosen and of the last checkpoint's.

    Where an arm was fine-tuned by region group, its fine-tuned runs count, not the runs that they started from.
    """
    found: dict[tuple[str, str], list[float]] = {}
    tuned = {arm for arm, _, group in logs if not is_global(group)}
    for (arm, _, group), records in logs.items():
        if arm in tuned and is_global(group):
            continue
        best, _, last = checkpoints_of(records)
        for checkpoint, value in (("best", best), ("final", last)):
            if math.isfinite(value):
                found.setdefault((arm, checkpoint), []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def checkpoints_of(records: list[dict]) -> tuple[float, str, float]:
    """Validation MAE (HU) of a run's best checkpoint, at which step that was, and of its last one; NaN, "–", NaN
    without any.

    The log says which value its rule kept. Where no step has it, it is the start's: fine-tuning may end where it began.

    >>> checkpoints_of([{"step": "9", "validation_mae_hu": "86.1", "best_mae_hu": "80.7"}])
    (80.7, 'the start', 86.1)
    """
    values = [(float(one["validation_mae_hu"]), one) for one in records if finite(one.get("validation_mae_hu") or None)]
    if not values:
        return math.nan, "–", math.nan
    last, record = values[-1]
    if not finite(record.get("best_mae_hu") or None):  # a log of an earlier version
        best, one = min(values, key=lambda value: value[0])
        return best, str(one.get("step", "–")), last
    best = float(record["best_mae_hu"])
    steps = [str(one.get("step", "–")) for value, one in values if value == best]
    return best, steps[0] if steps else "the start", last


def _loss(settings: dict) -> str:
    """What was minimised, from the section "training"; "" where it is not known."""
    if "l1_weight" not in settings:
        return ""
    where = "inside the body mask" if settings.get("loss_region") == "mask" else "over the whole patch"
    said = f"Loss: {settings['l1_weight']:g} × L1 {where}"
    terms, whole = perceptual_terms(settings["perceptual"]), settings["perceptual"]["weight"]
    if not terms:
        return f"{said}."
    names = " + ".join(f"{term['weight'] / whole:g} × {term['name']}" for term in terms)
    return f"{said} + {whole:g} × ({names}), differences of features."


def _split(row: dict, inputs: Inputs) -> str:
    if inputs.folds:
        return "test" if row.get("patient") in inputs.test else "training"
    return {"test": "test", "train": "training"}.get(row.get("split", ""), "patients")


def finite(value) -> bool:
    """Whether a record's value is a finite number."""
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _short(value) -> str:
    return f"{float(value):.1f}" if finite(value) else "–"


def _flat(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
