"""Which pairs to train on: the paper's exclusion lists, or a score from the registration's quality record.

The score is the largest of several measures, each divided by its limit: above 1 the pair is left out, and the measure
that says so is the reason. Every limit is a number of the preset, none is taken from the cohort: what is said of a
pair does not change with who else is in it.

A pair that could not be registered, or made a training case ("failed" in its record), cannot be kept: it is left out
with its reason. More of them
than `max_excluded` allows, or with `strict` a single one that no list names, are a fault of the cohort.
"""

import math
from collections.abc import Collection, Iterable
from pathlib import Path

from synthct.cohort.folds import PATIENT
from synthct.core.errors import InputError
from synthct.core.tables import cells_of, read_object, read_table, read_text

COLUMNS = ("patient", "reason", "score", "verdict", "measure")  # of the tables kept and excluded
VERDICTS = ("keep", "exclude", "")
BEYOND = 1.0  # a score above it is beyond a limit
LIKENESS = (  # key of a record, its limit, the best it can be, what is said
    ("body_dice_after", "body_dice", 1, "bodies overlap with Dice {:.3f}, limit {:g}"),
    ("bone_dice_after", "bone_dice", 1, "bones overlap with Dice {:.3f}, limit {:g}"),
    ("mind_distance_after", "mind_distance", 0, "MIND distance {:.3f}, limit {:g}"),
    ("mind_distance_worst_after", "mind_distance_worst", 0, "MIND distance {:.3f} in the worst region, limit {:g}"),
    ("mind_distance_moved_after", "mind_distance_moved", 0, "MIND distance {:.3f} of what it is 9 mm away, limit {:g}"),
)


def read_records(paths) -> dict[str, dict]:
    """Quality records by patient from files or directories.

    A record names its patient; one that does not is called as its directory (``<patient>/qc.json``) or its file.
    """
    records = {}
    for path in map(Path, paths):
        found = sorted([*path.glob("*.json"), *path.glob("*/*.json")]) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no quality record in it (expected <patient>/qc.json or <patient>.json)")
        for file in found:
            record = read_object(file, "quality record")
            patient = record.get("patient") or (file.resolve().parent.name if file.name == "qc.json" else file.stem)
            _check_record(record, patient, f"quality record {file}")
            if patient in records:
                raise InputError(f"{file}: a second quality record for patient {patient}")
            records[patient] = record
    return dict(sorted(records.items()))


def with_cases(records: dict[str, dict], cases: dict[str, dict]) -> dict[str, dict]:
    """Quality records of which those say "failed" too whose pair could not be made a training case."""
    lost = {patient: case["failed"] for patient, case in cases.items() if "failed" in case}
    return {
        patient: record | {"failed": lost[patient], "step": "preprocessing"} if patient in lost else record
        for patient, record in records.items()
    }


def _check_record(record: dict, patient, at: str):
    """`InputError` unless the patient is a name, and what the pair is judged by are numbers."""
    if not isinstance(patient, str) or not PATIENT.fullmatch(patient):
        raise InputError(f"{at}: patient {patient!r}, expected letters, digits, '_', '.', '-'")
    if not isinstance(record.get("failed", ""), str):
        raise InputError(f"{at}: failed is {record['failed']!r}, expected a text")
    try:
        _numbers(record)
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        raise InputError(f"{at}: a measure that is no number ({type(fault).__name__}: {fault})") from None


def recipes_of(records: Iterable[dict]) -> list[dict]:
    """The recipes of quality records (engine, terms, weights with their SHA-256), each once: regions may differ."""
    found = []
    for record in records:
        if isinstance(record.get("recipe"), dict) and record["recipe"] not in found:
            found.append(record["recipe"])
    return found


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
    given = cells_of("\n".join(lines[1:]), f"exclusion list {path}")
    rows = [dict(zip(header, cells, strict=False)) for _, cells in given]
    return [row for row in rows if row.get("patient")]


def read_verdicts(path, arm: str | None = None) -> tuple[dict[str, str], set[str]]:
    """What a human decided, from an exclusion list for one `arm` (None: for all of them together): {patient: reason} to
    leave out, and names to keep.

    Either one name a line, where text after the first comma or a # is a remark, or a CSV with a header of which one
    column is "patient" and others may be "arm" (empty: every arm), "reason" and "verdict". With that last column each
    row says "keep" (whatever its score), "exclude" or nothing (not decided): curate.py's own tables have it, and can be
    filled in and given back. In any other list all are left out.
    """
    rows = _listed(path)
    decided = any("verdict" in row for row in rows)
    left, kept = {}, set()
    for row in rows:
        verdict = row.get("verdict", "").lower() if decided else "exclude"
        if verdict not in VERDICTS:
            raise InputError(
                f"exclusion list {path}, patient {row['patient']}: verdict {row['verdict']!r}, "
                "expected keep, exclude or nothing"
            )
        if arm is not None and row.get("arm", "") not in ("", arm):
            continue
        if verdict == "exclude":
            left[row["patient"]] = row.get("reason", "")
        elif verdict == "keep":
            kept.add(row["patient"])
    if both := sorted(kept & set(left)):
        raise InputError(f"exclusion list {path}: patient {both[0]} is to be kept and excluded at once")
    return left, kept


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


def curate(
    records: dict[str, dict], settings: dict, excluded: dict[str, str] | None = None, cleared: Iterable[str] = ()
) -> list[dict]:
    """One row {patient, kept, reason, score, verdict, measure} a record, the worst score first; `settings` is the
    section ``curation`` of a preset, `excluded` and `cleared` what `read_verdicts` found. `measure` says what the score
    is of, also where the pair is kept.

    Raises `InputError` where more pairs failed to register than the settings allow, those `excluded` not counted.
    """
    excluded, cleared = excluded or {}, set(cleared)
    failed = {patient: record["failed"] for patient, record in records.items() if "failed" in record}
    lost = {patient: why for patient, why in failed.items() if patient not in excluded}
    if fault := too_many(lost, len(records), settings):
        raise InputError(fault)
    scores = {patient: _measures(record, settings["limits"]) for patient, record in records.items()}
    for patient, record in records.items():
        if not scores[patient] and patient not in failed:
            scores[patient] = [(math.inf, "nothing measured in its record")]  # which is no praise
        if unknown := sorted(name for name, value in _numbers(record) if not math.isfinite(value)):
            # a comparison with it is neither true nor false: it says nothing of this pair, and must not of the others
            scores[patient] = [(math.inf, f"no number: {', '.join(unknown)}")]
    rows = []
    for patient, measured in scores.items():
        score, why = max(measured, default=(0.0, ""))
        reason = ""
        if patient in excluded:
            reason = ": ".join(filter(None, ("on the exclusion list", excluded[patient])))
        elif patient in failed:
            step = records[patient].get("step", "registration")
            reason, score = f"{step} failed: {failed[patient]}", math.inf
        elif settings["mode"] == "auto" and score > BEYOND and patient not in cleared:
            reason = why
        verdict = "exclude" if patient in excluded else "keep" if patient in cleared else ""
        told = {"reason": reason, "score": round(score, 3), "verdict": verdict, "measure": why}
        rows.append({"patient": patient, "kept": not reason, **told})
    return sorted(rows, key=lambda row: (-row["score"], row["patient"]))


def too_many(lost: dict[str, str], of: int, settings: dict) -> str:
    """One line where more patients are `lost` ({patient: reason}) of so many than ``curation`` allows, else "".

    The one rule of a run, for whatever step could not use them.

    >>> too_many({"A": "truncated"}, 4, {"strict": False, "max_excluded": 0.2})
    ''
    """
    share = 0 if settings["strict"] else settings["max_excluded"]
    allowed = min(max(1, int(share * of)), of - 1) if share else 0  # one may go, not all
    if len(lost) <= allowed:
        return ""
    rule = (
        "--strict allows none"
        if settings["strict"]
        else f"--max_excluded {settings['max_excluded']:g} allows {allowed}"
    )
    told = [f"{patient}: {why}" for patient, why in list(lost.items())[:5]] + ["…"] * (len(lost) > 5)
    return (
        f"{len(lost)} of {of} patients could not be used, {rule}; mend the input or name them in an exclusion list "
        f"(--exclude): {'; '.join(told)}"
    )


def _numbers(record: dict) -> list[tuple[str, float]]:
    """The numbers of a record that a pair is judged by, by name."""
    found = []
    for name in ("folding_fraction", "mutual_information_after", *(key for key, _, _, _ in LIKENESS)):
        if record.get(name) is not None:
            found.append((name, _number(name, record[name])))
    for name, keys in ((_way(record), ("p95",)), ("jacobian", ("p1", "p99"))):
        if record.get(name) is not None:
            found += [(f"{name}.{key}", _number(name, record[name][key])) for key in keys]
    start = record.get("rigid_start") or {}
    if start.get("apart_mm") is not None:
        found += [(f"rigid_start.{key}", _number(key, start[key])) for key in ("apart_mm", "move_mm")]
    if start.get("mirror_ratio") is not None:
        found.append(("rigid_start.mirror_ratio", _number("mirror_ratio", start["mirror_ratio"])))
    return found


def _way(record: dict) -> str:
    """The measure that the limit on displacements is for: what a rigid move leaves of them, where it is recorded, for a
    patient who lay elsewhere is no worse a pair."""
    return "deformation_mm" if record.get("deformation_mm") is not None else "displacement_mm"


def _number(name: str, value) -> float:
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value}")
    return float(value)


def _measures(record: dict, limits: dict) -> list[tuple[float, str]]:
    """(value over its limit, what it says) for the measures that mean the same in every cohort; one that is null, or
    that an older version did not record, says nothing."""
    result = []
    if record.get("folding_fraction") is not None:
        folded = float(record["folding_fraction"])
        result.append((_over(folded, limits["folding"]), f"{folded:.2%} of the body folded"))
    for key, limit, best, said in LIKENESS:
        if limit in limits and record.get(key) is not None:  # settings of an older run have no limit of it
            value = float(record[key])
            result.append((_over(value, limits[limit], best), said.format(value, limits[limit])))
    if record.get(way := _way(record)) is not None:
        far = float(record[way]["p95"])
        result.append((_over(far, limits["displacement_mm"]), f"displacements up to {far:.1f} mm (95th percentile)"))
    if record.get("jacobian") is not None:
        low, high = (float(record["jacobian"][key]) for key in ("p1", "p99"))
        change = max(high, 1 / max(low, 1e-3))
        result.append((_over(change, limits["volume_change"]), f"volumes change up to {change:.1f} times"))
    start = record.get("rigid_start") or {}
    if "rigid_start" in limits and start.get("apart_mm") is not None:
        move, apart = float(start["move_mm"]), float(start["apart_mm"])
        said = f"a rigid move of {move:.1f} mm would start it better, and it ends {apart:.1f} mm from that"
        result.append((_over(apart / move, limits["rigid_start"]), said))
    if "mirrored" in limits and start.get("mirror_ratio") is not None:
        ratio, way = float(start["mirror_ratio"]), start.get("mirror", "somehow")
        said = f"mirrored {way} the images match {ratio:.2f} times as well: is one of the files flipped?"
        # a head is nearly as like its mirror image: below 1 that says nothing of the pair, and must not order the table
        result.append((_over(max(ratio, 1.0), limits["mirrored"], 1), said))
    return result


def _over(value: float, limit: float, best: float = 0) -> float:
    """How far a measure is from its best, in parts of how far the limit is: all or nothing where that is nowhere.

    >>> _over(0.05, 0.1), _over(0.0, 0.0), _over(0.002, 0.0)
    (0.5, 0.0, inf)
    """
    away, allowed = value - best, limit - best
    return away / allowed if allowed else math.inf if away else 0.0
