"""Everything a report is made of, read from the files that the steps left; whatever is missing stays empty."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synthct.cohort.folds import learners
from synthct.core.errors import InputError
from synthct.core.records import KIND, KINDS, PICTURES, gather
from synthct.core.tables import Row, files_in, read_cells, read_object, read_table, read_text
from synthct.study.doses import dose_records
from synthct.study.rows import ranked, rows_of

EXCLUDED = ("arm", "patient", "reason")
KEPT = ("score", "verdict", "measure")  # columns beside these, of who was kept
IDENTITY = {  # by kind: what only one record of a run is of; parts of a cohort have others
    "registration": ("method", "patient"),
    "folds": ("arm",),
    "training": ("arm", "fold", "group"),
    "bundle": ("arm",),
    "metrics": ("patient", "trained_on", "tested_on", "checkpoint"),
    "dose": ("patient", "trained_on", "tested_on", "checkpoint"),
}


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
    kept: list[dict] = field(default_factory=list)  # curate.py's rows of those it kept
    lost: list[dict] = field(default_factory=list)  # of `excluded` those that could not be predicted or scored
    predictions: list[dict] = field(default_factory=list)  # what predict wrote beside its images
    doses: list[dict] = field(default_factory=list)  # records of dose.py
    dose_slices: dict[tuple[str, str, str], Path] = field(default_factory=dict)  # (trained, tested, patient)
    versions: list[tuple[str, str, str]] = field(default_factory=list)  # step, package, version
    records: dict[str, list[dict]] = field(default_factory=dict)  # by kind, as the steps wrote them

    @property
    def test(self) -> set[str]:
        """Patients held out by any arm's folds."""
        return {name for plan in self.folds.values() for name in plan.get("test", ())}


def read_inputs(records=(), *, cohort=None, settings=None, versions=None) -> Inputs:
    """Read the records of all steps from files and directories (a run's whole results will do), and the three files
    that are none; each may be None. What a record is, and of whom, stands inside it; file names say nothing.

    Raises `InputError` for a file that is there but cannot be read.
    """
    told = read_object(settings, "settings") if settings else {}
    found: dict[str, list[tuple[Path, dict]]] = {kind: [] for kind in (*KINDS, *PICTURES)}
    for path, record in _once(gather(records)):
        found[record[KIND]].append((path, record))
    _check_learners(found)
    made = [record for _, record in found["prediction"]]
    return Inputs(
        rows=ranked(rows_of(one for one in found["metrics"] if "failed" not in one[1]), told),
        slices={_cell(path, about): path for path, about in found["slices"]},
        qc=sorted((_registered(*one) for one in found["registration"]), key=_pair),
        previews={_pair(_registered(*one)): one[0] for one in found["preview"]},
        logs={_run(record): record["log"] for _, record in found["training"]},
        cohort=[dict(row) for row in read_table(cohort, "sheet")] if cohort else [],
        folds={str(plan.get("arm", "")): plan for _, plan in found["folds"]},
        settings=told,
        excluded=_excluded(curated := _curated(records), lost := _unpredicted(made) + _unscored(found["metrics"])),
        kept=[row for row in curated if not row["reason"] and set(KEPT) <= set(row)],
        lost=lost,
        predictions=made,
        doses=dose_records(record for _, record in found["dose"]),
        dose_slices={_cell(path, about): path for path, about in found["dose slices"]},
        versions=_versions(versions),
        records={kind: [record for _, record in found[kind]] for kind in KINDS},
    )


def _once(records: Iterable[tuple[Path, dict]]) -> Iterator[tuple[Path, dict]]:
    """The records, one that lies there twice once. Raises `InputError` for two that say different things of the same:
    a mean over both would count a patient twice."""
    seen: dict[tuple, tuple[Path, dict]] = {}
    for path, record in records:
        kind = record[KIND]
        if names := IDENTITY.get(kind):
            known = record | {"patient": record.get("patient") or path.stem}
            key = (kind, *(str(known.get(name) or "") for name in names))
        else:  # told apart by all that they say; of pictures by where they lie
            key = (kind, str(path.resolve()) if kind in PICTURES else json.dumps(record, sort_keys=True))
        first, same = seen.setdefault(key, (path, record))
        if first is path:
            yield path, record
        elif same != record:
            told = ", ".join(f"{name} {value}" for name, value in zip(names or (), key[1:], strict=True) if value)
            raise InputError(f"{kind} {path}: another record of {told} than {first}, expected the records of one run")


def _check_learners(found: dict[str, list[tuple[Path, dict]]]):
    """`InputError` for a score of a patient that the model has learnt from: records of two runs lie together."""
    learnt = {str(plan.get("arm", "")): learners(plan) for _, plan in found["folds"]}
    for path, record in (*found["metrics"], *found["dose"]):
        arm, patient = str(record.get("trained_on") or ""), str(record.get("patient") or path.stem)
        if patient in learnt.get(arm, learnt.get("", set())):
            raise InputError(
                f"{record[KIND]} {path}: patient {patient} is scored with a model of {arm or 'the study'} that learnt "
                "from it (its folds.json says so), expected a patient of the test; are records of two runs here?"
            )


def _cell(path: Path, about: dict) -> tuple[str, str, str]:
    """(trained, tested, patient) of slices; a patient without a name is called as the file."""
    trained, tested = (str(about.get(key) or "") for key in ("trained_on", "tested_on"))
    return trained, tested, str(about.get("patient") or path.stem)


def _registered(path: Path, record: dict) -> dict:
    return {**record, "method": str(record.get("method") or ""), "patient": str(record.get("patient") or path.stem)}


def _pair(record: dict) -> tuple[str, str]:
    return record["method"], record["patient"]


def _run(record: dict) -> tuple[str, str, str]:
    return str(record["arm"]), str(record["fold"]), str(record["group"])


def _curated(places) -> list[dict]:
    """The rows of every table with the columns arm, patient and reason (curate.py's), each once, in their order.

    Who was kept stands in such a table too, without a reason; and a report made before has the others.
    """
    found: dict[tuple, dict] = {}
    for place in map(Path, places):
        for path in [place] * (place.suffix == ".csv") if place.is_file() else files_in(place, ".csv"):
            _, header = next(read_cells(path, "table"), (0, []))
            if set(EXCLUDED) <= set(header):
                for row in read_table(path, "table"):
                    if set(KEPT) <= set(row) and not row["reason"]:
                        _check_score(path, row)
                    found.setdefault(tuple(row[key] for key in EXCLUDED), row)
    return list(found.values())


def _check_score(path: Path, row: Row):
    try:
        float(row["score"])
    except ValueError:
        raise InputError(f"table {path}, line {row.line}: score {row['score']!r}, expected a number") from None


def _excluded(curated: list[dict], lost: list[dict]) -> list[dict]:
    """Who was left out, and those `lost`, each once."""
    found = [{key: row[key] for key in EXCLUDED} for row in curated if row["reason"]]
    return [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in [*found, *lost])]


def _unpredicted(records: list[dict]) -> list[dict]:
    """Images that predict.py could not use, once each, as the exclusions are told."""
    found = {}
    for record in records:
        for patient, why in (record.get("failed") or {}).items():
            arm = (record.get("model") or {}).get("arm", "")
            found[arm, patient] = {"arm": arm, "patient": patient, "reason": f"not predicted: {why}"}
    return list(found.values())


def _unscored(records: list[tuple[Path, dict]]) -> list[dict]:
    """Pairs that evaluate.py could not use, once for each arm they are of."""
    found = {}
    for path, record in records:
        if "failed" in record:
            arm, patient = str(record.get("tested_on") or ""), str(record.get("patient") or path.stem)
            found[arm, patient] = {"arm": arm, "patient": patient, "reason": f"not scored: {record['failed']}"}
    return list(found.values())


def _versions(path) -> list[tuple[str, str, str]]:
    if not path:
        return []
    found, step = set(), ""
    for line in read_text(path, "versions").splitlines():
        name, _, value = line.partition(": ") if ": " in line else line.partition(":")
        if line and not line[0].isspace():
            step = line.strip().rstrip(":").strip("\"'")
        elif value.strip():
            found.add((step.split(":")[-1], name.strip(), value.strip().strip("\"'")))
    return sorted(found)
