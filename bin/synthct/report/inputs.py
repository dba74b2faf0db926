"""Everything a report is made of, read from the files that the steps left; whatever is missing stays empty."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

from synthct.errors import InputError
from synthct.study import read_rows


@dataclass
class Inputs:
    """What was found. Paths to npz files are opened only when they are drawn."""

    rows: list[dict] = field(default_factory=list)  # one a patient and cell, see synthct.study
    slices: dict[tuple[str, str, str], Path] = field(default_factory=dict)  # (trained, tested, patient)
    qc: list[dict] = field(default_factory=list)  # with "method" and "patient"
    previews: dict[tuple[str, str], Path] = field(default_factory=dict)  # (method, patient)
    logs: dict[tuple[str, str, str], list[dict]] = field(default_factory=dict)  # (arm, fold, group)
    cohort: list[dict] = field(default_factory=list)  # the sheet's rows
    folds: dict[str, dict] = field(default_factory=dict)  # by arm ("" when there is one for all)
    settings: dict = field(default_factory=dict)
    excluded: list[dict] = field(default_factory=list)  # arm, patient, reason
    predictions: list[dict] = field(default_factory=list)  # what predict wrote beside its images
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
    versions=None,
) -> Inputs:
    """Read directories and files; each may be None. Raises `InputError` for a file that is there but cannot be read."""
    return Inputs(
        rows=read_rows(metrics) if metrics else [],
        slices=_named(slices, "npz", 3),
        qc=_qc(qc),
        previews=_named(previews, "npz", 2),
        logs={key: _table(path) for key, path in _named(logs, "csv", 3).items()},
        cohort=_table(cohort) if cohort else [],
        folds=_folds(folds),
        settings=_json(settings) if settings else {},
        excluded=_excluded(excluded),
        predictions=[record for path in _files(predictions, "json") for record in _records(path)],
        versions=_versions(versions),
    )


def _files(directory, suffix: str) -> list[Path]:
    return sorted(Path(directory).rglob(f"*.{suffix}")) if directory else []


def _named(directory, suffix: str, parts: int) -> dict[tuple, Path]:
    """Files by the parts of their names, which "__" separates; a name with fewer parts leaves the first ones empty."""
    found = {}
    for path in _files(directory, suffix):
        names = path.name[: -len(suffix) - 1].split("__", parts - 1)
        found[(*[""] * (parts - len(names)), *names)] = path
    return found


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


def _qc(directory) -> list[dict]:
    found = []
    for (method, patient), path in _named(directory, "json", 2).items():
        record = _json(path)
        found.append(
            {**record, "method": method or record.get("method", ""), "patient": patient or record.get("patient", "")}
        )
    return found


def _folds(paths) -> dict[str, dict]:
    found = {}
    for given in [paths] if isinstance(paths, str | Path) else paths:
        for path in _files(given, "json") if Path(given).is_dir() else [Path(given)]:
            arm = path.stem.split("__")[0] if "__" in path.stem else ""
            found[arm] = _json(path)
    return found


def _excluded(directory) -> list[dict]:
    found = []
    for path in _files(directory, "csv"):
        arm = path.stem.split("__")[0] if "__" in path.stem else ""
        found += [
            {"arm": arm, "patient": row.get("patient", ""), "reason": row.get("reason", "")} for row in _table(path)
        ]
    return found


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
