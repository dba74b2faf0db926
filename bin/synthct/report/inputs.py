"""Everything a report is made of, read from the files that the steps left; whatever is missing stays empty."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

from synthct.core.errors import InputError
from synthct.study.doses import read_records
from synthct.study.rows import ranked, read_rows


@dataclass
class Inputs:
    """What was found. Paths to npz files are opened only when they are drawn."""

    rows: list[dict] = field(default_factory=list)  # one a patient and cell, see synthct.study.rows
    slices: dict[tuple[str, str, str], Path] = field(default_factory=dict)  # (trained, tested, patient)
    qc: list[dict] = field(default_factory=list)  # with "method" and "patient"
    previews: dict[tuple[str, str], Path] = field(default_factory=dict)  # (method, patient)
    logs: dict[tuple[str, str, str], list[dict]] = field(default_factory=dict)  # (arm, fold, group)
    cohort: list[dict] = field(default_factory=list)  # the sheet's rows
    folds: dict[str, dict] = field(default_factory=dict)  # by arm ("" when there is one for all)
    settings: dict = field(default_factory=dict)
    excluded: list[dict] = field(default_factory=list)  # arm, patient, reason
    predictions: list[dict] = field(default_factory=list)  # what predict wrote beside its images
    doses: list[dict] = field(default_factory=list)  # records of dose.py
    dose_slices: dict[tuple[str, str, str], Path] = field(default_factory=dict)  # (trained, tested, patient)
    versions: list[tuple[str, str, str]] = field(default_factory=list)  # step, package, version

    @property
    def test(self) -> set[str]:
        """Patients held out by any arm's folds."""
        return {name for plan in self.folds.values() for name in plan.get("test", ())}


def read_inputs(
    *,
    metrics=None,
    slices=None,
    qc=None,
    previews=None,
    logs=None,
    cohort=None,
    folds=(),
    settings=None,
    excluded=None,
    predictions=None,
    dose=None,
    versions=None,
) -> Inputs:
    """Read directories and files; each may be None. Raises `InputError` for a file that is there but cannot be read."""
    told = _json(settings) if settings else {}
    records = {path.stem: _record(path) for path in _files(qc, "json")}
    scored = {path.stem: _json(path) for path in _files(metrics, "json")} if slices else {}
    planned = {path.stem: _json(path) for path in _files(dose, "json")}
    return Inputs(
        rows=ranked(read_rows(metrics), told) if metrics else [],
        slices={_cell(scored.get(path.stem, {}), path): path for path in _files(slices, "npz")},
        qc=list(records.values()),
        previews={_pair(records.get(path.stem) or _record(path)): path for path in _files(previews, "npz")},
        logs={_run(path): _table(path) for path in _files(logs, "csv")},
        cohort=_table(cohort) if cohort else [],
        folds=_folds(folds),
        settings=told,
        excluded=_excluded(excluded) + _unpredicted(made := _predictions(predictions)),
        predictions=made,
        doses=read_records(dose) if dose else [],
        dose_slices={_cell(planned.get(path.stem, {}), path): path for path in _files(dose, "npz")},
        versions=_versions(versions),
    )


def _files(directory, suffix: str) -> list[Path]:
    return sorted(Path(directory).rglob(f"*.{suffix}")) if directory else []


def _cell(record: dict, path: Path) -> tuple[str, str, str]:
    """(trained, tested, patient) of slices, as the metrics file of the same name says; without one a patient's name."""
    trained, tested = (str(record.get(key) or "") for key in ("trained_on", "tested_on"))
    return trained, tested, str(record.get("patient") or path.stem)


def _record(path: Path) -> dict:
    """A quality record with "method" and "patient"; where it does not say them, METHOD__PATIENT is its name."""
    record = _json(path) if path.suffix == ".json" else {}
    method, _, patient = path.stem.partition("__") if "__" in path.stem else ("", "", path.stem)
    return {**record, "method": record.get("method") or method, "patient": record.get("patient") or patient}


def _pair(record: dict) -> tuple[str, str]:
    return record["method"], record["patient"]


def _run(path: Path) -> tuple[str, str, str]:
    """(arm, fold, group) of a training's log, ARM__FOLD__GROUP.csv; an arm's name may hold "__" as well."""
    arm, fold, group = (["", "", *path.stem.rsplit("__", 2)])[-3:]
    return arm, fold, group


def _arm(path: Path) -> str:
    """The arm of ARM__folds.json or ARM__excluded.csv; "" where the name holds none."""
    return path.stem.rpartition("__")[0]


def _json(path) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"{path}: cannot be read as JSON ({fault})") from None


def _records(path) -> list[dict]:
    content = _json(path)
    return [record for record in (content if isinstance(content, list) else [content]) if isinstance(record, dict)]


def _table(path) -> list[dict]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InputError(f"{path}: cannot be read as CSV ({fault})") from None
    return [
        {(key or "").strip(): (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
        for row in rows
    ]


def _folds(paths) -> dict[str, dict]:
    found = {}
    for given in [paths] if isinstance(paths, str | Path) else paths:
        for path in _files(given, "json") if Path(given).is_dir() else [Path(given)]:
            found[_arm(path)] = _json(path)
    return found


def _excluded(directory) -> list[dict]:
    found = []
    for path in _files(directory, "csv"):
        for row in _table(path):
            found.append({"arm": _arm(path), "patient": row.get("patient", ""), "reason": row.get("reason", "")})
    return found


def _predictions(directory) -> list[dict]:
    return [record for path in _files(directory, "json") for record in _records(path)]


def _unpredicted(records: list[dict]) -> list[dict]:
    """Images that predict.py could not use, once each, as the exclusions are told."""
    found = {}
    for record in records:
        for patient, why in (record.get("failed") or {}).items():
            arm = (record.get("model") or {}).get("arm", "")
            found[arm, patient] = {"arm": arm, "patient": patient, "reason": f"not predicted: {why}"}
    return list(found.values())


def _versions(path) -> list[tuple[str, str, str]]:
    if not path:
        return []
    found, step = set(), ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(": ") if ": " in line else line.partition(":")
        if line and not line[0].isspace():
            step = line.strip().rstrip(":").strip("\"'")
        elif value.strip():
            found.add((step.split(":")[-1], name.strip(), value.strip().strip("\"'")))
    return sorted(found)
