"""The cohort: rows of the sheet, exclusions, the held-out test and the stratified folds. No pixels here."""

import math
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from synthct.core.errors import InputError
from synthct.core.tables import Row, read_names, read_table, write_table

GLOBAL = "global"  # the group of all regions
PATIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LONGEST = 100  # letters of a patient's name: files are called after it, and more
CELLS = {  # other columns: what they may hold, and what that is called
    "region": (re.compile(r"[A-Za-z0-9_]*"), "letters, digits and '_', such as AB"),
    "center": (re.compile(r"[A-Za-z0-9_-]*"), "letters, digits, '_' and '-'"),
    "split": (re.compile(r"(train|test)?"), "train, test or nothing"),
}


@dataclass(frozen=True)
class Patient:
    """One row of the sheet, as far as the folds need it."""

    name: str
    region: str
    center: str
    split: str = ""


def read_sheet(path) -> list[Patient]:
    """The patients of a sheet (CSV with a header; columns patient, region, center, split; others are ignored)."""
    patients = []
    seen: dict[str, str] = {}
    spelt: dict[tuple[str, str], str] = {}  # (column, in small letters): as it stands first
    rows = read_table(path, "sheet")
    _check_columns(path, rows)
    for row in rows:
        at, name = f"sheet {path}, line {row.line}", row.get("patient", "")
        check_name(name, seen, at)
        for column, (known, expected) in CELLS.items():
            cell = row.get(column, "")
            if not known.fullmatch(cell):
                raise InputError(f"{at}: {column} {cell!r}, expected {expected}")
            first = spelt.setdefault((column, cell.lower()), cell)
            if cell != first:
                raise InputError(f"{at}: {column} {cell!r}, which stands as {first!r} above; expected one spelling")
        patients.append(Patient(name, row.get("region", ""), row.get("center", ""), row.get("split", "")))
    if not patients:
        raise InputError(f"sheet {path}: no patients")
    return patients


def _check_columns(path, rows: list[Row]):
    """`InputError` for a column that is one of ours but for its spelling, which would be passed over, and for no
    patients' names."""
    columns = list(rows[0]) if rows else []
    for column in columns:
        meant = "".join(letter for letter in column.lower() if letter.isalnum())
        if meant in ("patient", *CELLS) and column != meant:
            raise InputError(f"sheet {path}: column {column!r}, expected {meant!r}")
    if rows and "patient" not in columns:
        raise InputError(f"sheet {path}: header {','.join(columns)!r}, expected a column 'patient'")


def read_lists(paths) -> list[list[str]] | None:
    """The validation names of each fold, of plain lists, one a fold; None where there are no lists."""
    lists = []
    for path in paths:
        names = read_names(path, "fold list")
        if not names:
            raise InputError(f"fold list {path}: no names, expected those that validate the fold")
        if doubled := [name for name in names if names.count(name) > 1]:
            raise InputError(f"fold list {path}: patient {doubled[0]!r} stands there twice, expected once")
        lists.append(names)
    return lists or None


def check_name(name: str, seen: dict[str, str], at: str):
    """`InputError` for a patient's name that no file can be called after, or that is in `seen`, which it then joins.

    Names that differ in case alone are one: on many file systems their files would be.
    """
    if not PATIENT.fullmatch(name):
        raise InputError(f"{at}: patient {name!r}, expected letters, digits, '_', '.', '-'")
    if len(name) > LONGEST:
        raise InputError(f"{at}: patient {name[:12]!r}… of {len(name)} letters, expected {LONGEST} at most")
    if (first := seen.get(name.lower())) is not None:
        raise InputError(f"{at}: patient {name!r} stands twice" + (f" (above as {first!r})" if first != name else ""))
    seen[name.lower()] = name


def write_sheet(path, patients: list[Patient]):
    """Write what the draw looks at, and no more, by patient: paths and the order of rows do not matter."""
    columns = ("patient", "region", "center", "split")
    rows = (dict(zip(columns, (p.name, p.region, p.center, p.split), strict=True)) for p in patients)
    write_table(path, sorted(rows, key=lambda row: row["patient"]), columns)


def holdout_test(patients: list[Patient], holdout: str, seed: int) -> list[str]:
    """Names held out as the local test, sorted.

    A ``split`` column in the sheet decides when it says "test" anywhere, unless `holdout` is "0". Otherwise `holdout`
    is a count ("75"), a fraction below 1 ("0.15") or "split"; the draw is stratified by region × center, each stratum
    giving its share (largest remainders first; of equal ones that whose region is furthest behind its own share, then
    by lot), among those whom the column does not keep for training (among all where it keeps everybody).
    """
    try:
        wanted = None if holdout == "split" else float(holdout)
    except ValueError:
        raise InputError(f"holdout {holdout!r}: expected a count, a fraction below 1 or 'split'") from None
    if wanted is not None and not math.isfinite(wanted):
        raise InputError(f"holdout {holdout!r}: expected a count, a fraction below 1 or 'split'")
    if wanted == 0:
        return []
    by_column = sorted(p.name for p in patients if p.split == "test")
    if by_column or wanted is None:
        if not by_column:
            raise InputError("holdout 'split': no row of the sheet has split = test")
        return by_column
    if wanted < 0 or (wanted >= 1 and wanted != int(wanted)):
        raise InputError(f"holdout {holdout}: expected a count, a fraction below 1 or 'split'")
    count = round(wanted * len(patients)) if wanted < 1 else int(wanted)
    if count >= len(patients):
        raise InputError(
            f"holdout {holdout}: the sheet has {len(patients)} patients, nothing would be left to train on; "
            "hold out fewer (a count, a fraction below 1, or split)"
        )
    if count == 0:
        raise InputError(f"holdout {holdout}: of {len(patients)} patients that is nobody; give a count, or 0")
    free = [patient for patient in patients if patient.split != "train"] or patients  # all train: nothing is chosen
    if count > len(free):
        raise InputError(
            f"holdout {holdout}: {count} patients, but split = train keeps all but {len(free)} of {len(patients)} for "
            "training"
        )
    strata = _strata(free)
    taken = _shared_out(count, {key: len(members) for key, members in strata.items()}, seed)
    random = np.random.default_rng([seed, 1])
    test = []
    for key, members in strata.items():
        test += [members[i] for i in random.permutation(len(members))[: taken[key]]]
    return sorted(test)


def _shared_out(count: int, sizes: dict[tuple[str, str], int], seed: int) -> dict[tuple[str, str], int]:
    """How many of `count` each stratum (region, center) gives, by its size."""
    whole = sum(sizes.values())
    taken = {key: count * size // whole for key, size in sizes.items()}
    lot = np.random.default_rng([seed, 3]).permutation(len(sizes))
    order = dict(zip(sizes, lot.tolist(), strict=True))
    # in whole numbers, count × size − taken × whole: as fractions equal remainders would differ in their last bits
    behind: Counter[str] = Counter()
    for (region, center), size in sizes.items():
        behind[region] += count * size - taken[region, center] * whole
    left = list(sizes)
    for _ in range(count - sum(taken.values())):
        key = max(left, key=lambda key: (count * sizes[key] % whole, behind[key[0]], -order[key]))
        left.remove(key)
        taken[key] += 1
        behind[key[0]] -= whole
    return taken


class _Share:
    """How many of some patients each fold has: all the same, and one more in as many folds as are left over."""

    def __init__(self, folds: int, patients: int):
        self.counts = [0] * folds
        self.each, self.over = divmod(patients, folds)

    def full(self, fold: int) -> bool:
        """Whether one more would be more than the fold's share."""
        return self.counts[fold] - self.each >= (sum(count > self.each for count in self.counts) < self.over)


def stratified_folds(patients: list[Patient], folds: int, seed: int) -> list[list[str]]:
    """Validation names of each fold: a random order within each region × center, dealt out in turn (as released).

    Each patient goes to a fold that has the fewest so far, ties in a random order of the stratum's own, but for folds
    that have their share of the region, then of the stratum. So folds differ by one patient at most, in each region
    too, and a region of as many patients as there are folds has one in each.

    >>> patients = [Patient(f"P{n}", "AB" if n < 4 else "TH", "A") for n in range(6)]
    >>> [len(fold) for fold in stratified_folds(patients, folds=3, seed=32)]
    [2, 2, 2]
    """
    if len(patients) < 2:
        raise InputError(f"folds {folds}: patients left to train on: {len(patients)}, expected 2 or more")
    if folds < 2 or folds > len(patients):
        raise InputError(f"folds {folds}: expected 2 to {len(patients)}, the number of patients left to train on")
    random = np.random.default_rng([seed, 2])
    dealt: list[list[str]] = [[] for _ in range(folds)]
    strata = _strata(patients)
    of_region = {
        region: _Share(folds, sum(len(strata[key]) for key in strata if key[0] == region)) for region, _ in strata
    }
    for (region, _), members in strata.items():
        turn = [int(fold) for fold in random.permutation(folds)]
        shares = (of_region[region], _Share(folds, len(members)))
        for i in random.permutation(len(members)):
            standing = [(len(dealt[fold]), *(share.full(fold) for share in shares)) for fold in turn]
            fold = turn[standing.index(min(standing))]
            dealt[fold].append(members[i])
            for share in shares:
                share.counts[fold] += 1
    return [sorted(fold) for fold in dealt]


def plan(
    patients: list[Patient],
    *,
    folds: int,
    holdout: str,
    seed: int,
    excluded: dict[str, str] | None = None,
    given: list[list[str]] | None = None,
) -> dict:
    """Everything the later steps need to know of who trains where: the content of ``folds.json``.

    The draw never looks at `excluded` (names with reasons, an arm's own), so that all arms of a study share one test
    and one partition; the excluded are then taken out of the training and validation lists, not out of the test.
    `given` are validation lists to use instead of a draw.
    """
    excluded = excluded or {}
    test = holdout_test(patients, holdout, seed)
    rest = [p for p in patients if p.name not in set(test)]
    validation = _checked_lists(given, {p.name for p in rest}) if given else stratified_folds(rest, folds, seed)
    names = [p.name for p in rest if p.name not in excluded]
    result = []
    for number, fold in enumerate(validation):
        held = [name for name in fold if name not in excluded]
        train = sorted(set(names) - set(fold))
        if not train:
            after = (
                " after the exclusions" if {p.name for p in rest} - set(fold) else ", all are in its validation list"
            )
            raise InputError(f"fold {number}: no patient left to train on{after}")
        result.append({"train": train, "validation": held})
    return {
        "format": 1,
        "seed": seed,
        "test": test,
        "folds": result,
        "regions": {p.name: p.region for p in patients},
        "centers": {p.name: p.center for p in patients},
        "excluded": {name: reason for name, reason in sorted(excluded.items()) if name not in set(test)},
    }


def runs(plan: dict, groups: dict[str, list[str]]) -> list[dict]:
    """The trainings of a plan, as rows {fold, group, regions}: of each fold the global model ("global", no regions),
    and each of `groups` (see `groups_of`) that has a patient to train on in this fold.

    >>> plan = {"folds": [{"train": ["P1"]}], "regions": {"P1": "AB", "P2": "HN"}}
    >>> [row["group"] for row in runs(plan, groups_of("AB+TH,HN"))]
    ['global', 'AB-TH']
    """
    rows = []
    for number, fold in enumerate(plan["folds"]):
        trained = {plan["regions"][name] for name in fold["train"]}
        rows.append({"fold": number, "group": GLOBAL, "regions": ""})
        for group, regions in groups.items():
            if trained & set(regions):
                rows.append({"fold": number, "group": group, "regions": "+".join(regions)})
    return rows


def is_global(group: str) -> bool:
    """Whether a training's group is the model of all regions, by any of the names that records give it."""
    return group in (GLOBAL, "train", "")


def learners(plan: dict) -> set[str]:
    """Who is in any fold's training or validation list of a folds.json, and so has a part in its models.

    >>> sorted(learners({"folds": [{"train": ["P1"], "validation": ["P2"]}], "test": ["P3"]}))
    ['P1', 'P2']
    """
    return {name for fold in plan.get("folds", ()) for part in ("train", "validation") for name in fold.get(part, ())}


def groups_of(text: str) -> dict[str, list[str]]:
    """Region groups, "AB+TH,HN" as {"AB-TH": ["AB", "TH"], "HN": ["HN"]}; a region may stand in one group only."""
    groups: dict[str, list[str]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        regions = [region.strip() for region in part.split("+")]
        if not all(re.fullmatch(r"[A-Za-z0-9_]+", region) for region in regions):
            raise InputError(f"region group {part!r}: expected region names joined by '+', groups separated by ','")
        groups["-".join(regions)] = regions
    if GLOBAL in groups:
        raise InputError(f"region groups {text!r}: {GLOBAL!r} is the name of the model of all regions")
    flat = [region for regions in groups.values() for region in regions]
    doubled = sorted({region for region in flat if flat.count(region) > 1})
    if doubled:
        raise InputError(f"region groups {text!r}: region {doubled[0]} stands in more than one group")
    return groups


def _strata(patients: list[Patient]) -> dict[tuple[str, str], list[str]]:
    strata: dict[tuple[str, str], list[str]] = {}
    for patient in sorted(patients, key=lambda p: (p.region, p.center, p.name)):
        strata.setdefault((patient.region, patient.center), []).append(patient.name)
    return strata


def _checked_lists(lists: list[list[str]], known: set[str]) -> list[list[str]]:
    flat = [name for names in lists for name in names]
    for name in flat:
        if name not in known:
            raise InputError(f"fold lists: patient {name!r} is not among the sheet's training patients")
        if flat.count(name) > 1:
            raise InputError(f"fold lists: patient {name!r} stands in two validation lists")
    return [sorted(names) for names in lists]
