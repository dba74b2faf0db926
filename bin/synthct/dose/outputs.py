"""What a dose comparison leaves: records that say whose they are, the doses as files, small slices for the report."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthct.core.errors import PatientError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND, write_arrays
from synthct.dose.case import Case
from synthct.dose.plan import Dose
from synthct.dose.rtdose import write_rtdose
from synthct.images.dicom.series import open_series
from synthct.images.grid import Volume
from synthct.images.volume import write_volume


def identities(
    number: int, *, patient: str, region: str, tested_on: str, trained: Sequence[str], checkpoints: Sequence[str]
) -> list[dict]:
    """Whose the record of each of `number` sCTs is; `trained` and `checkpoints` are one an sCT, or () for unsaid.

    >>> identities(1, patient="P1", region="AB", tested_on="mi", trained=["mind"], checkpoints=())[0]["trained_on"]
    'mind'
    """
    unsaid = [""] * number
    return [
        {
            KIND: "dose",
            "patient": patient,
            "region": region,
            "trained_on": trained_on,
            "tested_on": tested_on,
            "checkpoint": checkpoint,
        }
        for trained_on, checkpoint in zip(trained or unsaid, checkpoints or unsaid, strict=True)
    ]


def write_failures(fault: PatientError, recorded: bool, told: Sequence[dict], outs: Sequence[str]) -> None:
    """Write what cannot be judged, and why, to `outs`, each with whose it is (`told`); raise it if not `recorded`."""
    if not recorded:
        raise fault
    print(f"dose.py: not judged: {fault}", file=sys.stderr)
    for identity, out in zip(told, outs, strict=True):
        write_json(out, plain({**identity, "failed": str(fault)}))


def write_doses(case: Case, doses: dict[str, Dose], directory, ct, name: str, first: bool) -> None:
    """Write <kind>__<name>.mha and .dcm (Gy a fraction) below `directory`, and with `first` <kind>__ct as well.

    `ct` is the path of the planned CT: where it is a DICOM series, patient and frame of reference are its own.
    """
    source = open_series(ct) if Path(ct).is_dir() else hashlib.sha256(case.hu.tobytes()).hexdigest()
    for kind, dose in doses.items():
        for label, array in [("ct", case.doses[kind].total)] * first + [(name, dose.total)]:
            place = Path(directory) / f"{kind}__{label}"
            write_volume(Volume(array, case.grid), f"{place}.mha")
            description = f"{kind} dose on {'the CT' if label == 'ct' else 'the synthetic CT'}"
            write_rtdose(array, case.grid, f"{place}.dcm", source=source, description=description)


def write_slices(path, case: Case, doses: dict[str, Dose], name: dict) -> None:
    """npz for the report, with whose it is (`name`): the axial slice through the target's centre; "hu" (int16),
    "target" and "body" (bool), and for each kind of beam "<kind>_ct" and "<kind>_sct" (float32, part of the
    prescription); first row is anterior.
    """
    level = int(round(float(np.argwhere(case.target)[:, 0].mean())))
    prescription = case.settings["prescription_gy"]
    arrays = {
        "hu": np.clip(np.rint(case.hu[level]), -32768, 32767).astype(np.int16),
        "target": case.target[level],
        "body": case.body[level],
        "spacing": np.float32(case.grid.spacing[0]),
    }
    for kind, dose in doses.items():
        arrays[f"{kind}_ct"] = (case.doses[kind].total[level] / prescription).astype(np.float32)
        arrays[f"{kind}_sct"] = (dose.total[level] / prescription).astype(np.float32)
    write_arrays(path, {**name, KIND: "dose slices"}, arrays)
