"""How far the networks of an ensemble disagree about dose: the plan on the sCT of each of them by itself.

The ensemble's sCT is the mean of its members', and much of their errors cancels in it. So what has a sign (range, dose
of the target) mostly lies between the members' lowest and highest, while a size of error (MAE, gamma) is often better.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError, PatientError
from synthct.dose.case import Case, compare
from synthct.dose.plan import Dose
from synthct.images.grid import Volume
from synthct.images.volume import read_volume


def members_in(directory) -> dict[str, Path]:
    """The members' sCTs in a directory of ``predict.py --members``, by the networks' names, in their order."""
    files = sorted(Path(directory).glob("*.mha"), key=_turn)
    found = {path.name.removesuffix(".mha"): path for path in files}
    if not found:
        raise InputError(f"members {directory}: no .mha in it, expected the sCT of each network")
    return found


def _turn(path: Path) -> tuple:
    """fold10 comes after fold2."""
    return [int(digits) for digits in re.findall(r"\d+", path.name)], path.name


def judged(case: Case, sct: Volume | PatientError, members: dict[str, Path]) -> tuple[dict, dict[str, Dose]]:
    """The record of an sCT by dose, with what its `members` (of `members_in`, or {}) make of it, and the doses. Raises
    `PatientError` for one that cannot be judged, or was not read."""
    if isinstance(sct, PatientError):
        raise sct
    record, doses = compare(case, sct)
    return with_members(case, record, members), doses


def with_members(case: Case, record: dict, members: dict[str, Path]) -> dict:
    """The `record` of an ensemble's sCT with what its `members` (of `members_in`) make of it; as it is with one."""
    if len(members) < 2:
        return record
    found = over_members(case, (read_volume(path, "member's sCT", "sct") for path in members.values()))
    judged_apart = {kind: record[kind] | {"over_members": over} for kind, over in found.items()}
    return record | {"members": list(members)} | judged_apart


def over_members(case: Case, scts: Iterable[Volume]) -> dict[str, dict]:
    """The case's plans on each of `scts`: for each kind of beam {"low", "high", "dvh", "dose_sd"}.

    "low" and "high" hold the lowest and highest of every score of `synthct.dose.case.compare` (NaN where no member has
    one), "dvh" the same of each structure's curve; "dose_sd" the standard deviation of a voxel's dose over the members
    (divided by their number, as of HU) as a part of the prescription, its mean and 95th percentile in body and target.
    """
    made = [compare(case, sct) for sct in scts]
    found = {}
    for kind in case.plans:
        scores = [record[kind] for record, _ in made]
        # what ends on _ct is the plan's own
        keys = [key for key, value in scores[0].items() if isinstance(value, float) and not key.endswith("_ct")]
        ends = {key: _ends([each[key] for each in scores]) for key in keys}
        curves = {
            name: np.array([each["dvh"][name]["sct"] for each in scores])
            for name in scores[0]["dvh"]
            if name != "dose_gy"
        }
        deviation = np.stack([doses[kind].total for _, doses in made]).astype(np.float64).std(0)
        deviation /= case.settings["prescription_gy"]
        found[kind] = {
            "low": {key: low for key, (low, _) in ends.items()},
            "high": {key: high for key, (_, high) in ends.items()},
            "dvh": {name: {"low": each.min(0).tolist(), "high": each.max(0).tolist()} for name, each in curves.items()},
            "dose_sd": {
                name: {"mean": float(deviation[where].mean()), "p95": float(np.quantile(deviation[where], 0.95))}
                for name, where in (("body", case.body), ("target", case.target))
            },
        }
    return found


def _ends(values: list[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return min(finite), max(finite)
