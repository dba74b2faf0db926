"""Which pairs to train on: the paper's exclusion lists, or a score from the registration's quality record.

The score is the largest of several measures, each divided by its limit: above 1 the pair is left out, and the measure
that says so is the reason. Limits are absolute where the meaning is (folding, overlap of the bodies, size of the
deformation) and relative to the cohort where only comparison tells (mutual information, MIND distance): those two are
distances from the median in robust standard deviations, and count from eight pairs on.

A pair whose registration failed ("failed" in its record) cannot be kept: it is left out where the mode is "auto" or a
list names it, and is a fault otherwise.
"""

import csv
import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.core.tables import read_object, read_table, read_text

SMALLEST_COHORT = 8  # pairs: fewer give no meaningful median and spread


def read_records(paths) -> dict[str, dict]:
    """Quality records by patient from files or directories.

    A record names its patient; one that does not is called as its directory (``<patient>/qc.json``) or its file.
    """
    records = {}
    for path in map(Path, paths):
        found = sorted([*path.glob("*.json"), *path.glob("*/qc.json")]) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no quality record in it (expected <patient>/qc.json or <patient>.json)")
        for file in found:
            record = read_object(file, "quality record")
            patient = record.get("patient") or (file.resolve().parent.name if file.name == "qc.json" else file.stem)
            if patient in records:
                raise InputError(f"{file}: a second quality record for patient {patient}")
            records[patient] = record
    return dict(sorted(records.items()))


def recipes_of(records: Iterable[dict]) -> list[dict]:
    """The recipes of quality records (engine, terms, weights with their SHA-256), each once: regions may differ."""
    found = []
    for record in records:
        if isinstance(record.get("recipe"), dict) and record["recipe"] not in found:
            found.append(record["recipe"])
    return found


def read_exclusions(path, arm: str | None = None) -> dict[str, str]:
    """{patient: reason} of an exclusion list for one `arm` (None: for all of them together).

    Either one name a line, where text after the first comma or a # is a remark, or a CSV with a header of which one
    column is "patient" and others may be "arm" (empty: every arm) and "reason".
    """
    return {
        row["patient"]: row.get("reason", "") for row in _listed(path) if arm is None or row.get("arm", "") in ("", arm)
    }


def check_exclusions(path, patients: Collection[str], arms: Collection[str]):
    """Raise `InputError` where an exclusion list names a patient or an arm that the study does not have."""
    for column, known, expected in (
        ("patient", patients, "patients of the samplesheet"),
        ("arm", arms, f"arms of --registration, {', '.join(arms)}"),
    ):
        unknown = list(dict.fromkeys(name for row in _listed(path) if (name := row.get(column)) and name not in known))
        if unknown:
            first = ", ".join(f"'{name}'" for name in unknown[:3])
            more = f" and {len(unknown) - 3} more" * (len(unknown) > 3)
            raise InputError(f"parameter --exclude, {Path(path).name}: found {first}{more}, expected {expected}")


def _listed(path) -> list[dict[str, str]]:
    """The rows of an exclusion list that name a patient, by column; of a plain list patients alone."""
    lines = read_text(path, "exclusion list").splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    header = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    if "patient" not in header:
        return [{"patient": name} for line in lines if (name := line.split("#")[0].split(",")[0].strip())]
    rows = [
        dict(zip(header, (cell.strip() for cell in cells), strict=False))
        for cells in csv.reader(lines[1:], skipinitialspace=True)
    ]
    return [row for row in rows if row.get("patient")]


def read_reasons(path) -> dict[str, str]:
    """{patient: reason} of a CSV with columns patient and reason, as ``bin/curate.py`` writes it."""
    rows = read_table(path, "excluded", needed=["patient"])
    return {row["patient"]: row.get("reason") or "excluded" for row in rows if row["patient"]}


def unknown_names(path, names, known, what: str) -> str:
    """One line on the `names` of the list `path` that are not among the `known`, or "" where all are."""
    unknown = sorted(set(names) - set(known))
    if not unknown:
        return ""
    first = ", ".join(unknown[:3]) + ", …" * (len(unknown) > 3)
    return f"{path}: {len(unknown)} of {len(set(names))} names are of no {what} and exclude nobody ({first})"


def curate(records: dict[str, dict], settings: dict, excluded: dict[str, str] | None = None) -> list[dict]:
    """One row {patient, kept, reason, score} a record; `settings` is the section ``curation`` of a preset, `excluded`
    what `read_exclusions` found.

    Raises `InputError` for pairs whose registration failed, unless they are `excluded` or the mode is "auto".
    """
    excluded = excluded or {}
    failed = {patient: record["failed"] for patient, record in records.items() if "failed" in record}
    stopping = {} if settings["mode"] == "auto" else {k: v for k, v in failed.items() if k not in excluded}
    if stopping:
        raise InputError(
            f"{len(stopping)} pair{'s' * (len(stopping) > 1)} could not be registered; mend the input, name them in an "
            "exclusion list (--exclude), or leave them out with --curate auto: "
            + "; ".join(f"{patient}: {why}" for patient, why in stopping.items())
        )
    scores = {patient: _measures(record, settings["limits"]) for patient, record in records.items()}
    for patient, record in records.items():
        if unknown := sorted(name for name, value in _numbers(record) if not math.isfinite(value)):
            # a comparison with it is neither true nor false: it says nothing of this pair, and must not of the others
            scores[patient] = [(math.inf, f"no number: {', '.join(unknown)}")]
    for key, sign, what in (
        ("mutual_information_after", -1, "mutual information {:.2f}, far below the cohort's {:.2f}"),
        ("mind_distance_after", 1, "MIND distance {:.3f}, far above the cohort's {:.3f}"),
    ):
        values = {patient: float(record[key]) for patient, record in records.items() if key in record}
        values = {patient: value for patient, value in values.items() if math.isfinite(value)}
        if len(values) < SMALLEST_COHORT:
            continue
        centre = float(np.median(list(values.values())))
        spread = 1.4826 * float(np.median(np.abs(np.array(list(values.values())) - centre)))
        for patient, value in values.items():
            far = sign * (value - centre) / max(spread, 1e-6)
            scores[patient].append((max(far, 0.0) / settings["limits"]["outlier"], what.format(value, centre)))
    rows = []
    for patient, measured in scores.items():
        score, why = max(measured, default=(0.0, ""))
        reason = ""
        if patient in excluded:
            reason = ": ".join(filter(None, ("on the exclusion list", excluded[patient])))
        elif patient in failed:
            reason, score = f"registration failed: {failed[patient]}", math.inf
        elif settings["mode"] == "auto" and score > 1:
            reason = why
        rows.append({"patient": patient, "kept": not reason, "reason": reason, "score": round(score, 3)})
    return rows


def _numbers(record: dict) -> list[tuple[str, float]]:
    """The numbers of a record that a pair is judged by, by name."""
    found = []
    for name in ("folding_fraction", "body_dice_after", "mutual_information_after", "mind_distance_after"):
        if name in record:
            found.append((name, float(record[name])))
    for name, keys in (("displacement_mm", ("p95",)), ("jacobian", ("p1", "p99"))):
        if name in record:
            found += [(f"{name}.{key}", float(record[name][key])) for key in keys]
    return found


def _measures(record: dict, limits: dict) -> list[tuple[float, str]]:
    """(value over its limit, what it says) for the measures that mean the same in every cohort."""
    result = []
    if "folding_fraction" in record:
        folded = float(record["folding_fraction"])
        result.append((folded / limits["folding"], f"{folded:.2%} of the body folded"))
    if "body_dice_after" in record:
        dice = float(record["body_dice_after"])
        result.append(((1 - dice) / (1 - limits["body_dice"]), f"bodies overlap with Dice {dice:.3f}"))
    if "displacement_mm" in record:
        far = float(record["displacement_mm"]["p95"])
        result.append((far / limits["displacement_mm"], f"displacements up to {far:.1f} mm (95th percentile)"))
    if "jacobian" in record:
        low, high = (float(record["jacobian"][key]) for key in ("p1", "p99"))
        change = max(high, 1 / max(low, 1e-3))
        result.append((change / limits["volume_change"], f"volumes change up to {change:.1f} times"))
    return result
