"""The inputs of a samplesheet, each opened by its header and a sample of voxels before anything is computed."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from synthct.core.errors import InputError, PatientError
from synthct.images.dicom.regions import opened
from synthct.images.dicom.series import open_series
from synthct.images.volume import SUFFIXES, look

MODALITIES = {"image": {"mr": ("MR",), "cbct": ("CT", "RTIMAGE")}, "ct": ("CT",), "ct_aligned": ("CT",), "sct": ("CT",)}
DRAWN = ("mask", "target", "structures")  # what may be contours; where an image is no DICOM, nobody can say


@dataclass(frozen=True)
class Seen:
    """What one input's headers say: a fault or "", and the frames of reference of a series or of contours."""

    fault: str = ""
    frames: frozenset[str] = frozenset()


def seen(path, column: str, modality: str) -> Seen:
    """One input of the sheet's `column` (a series, a volume, or contours), opened."""
    try:
        if Path(path).name.lower().endswith(SUFFIXES) and not Path(path).is_dir():
            look(path, column)
            return Seen()
        if not Path(path).is_dir():
            drawn = [region for region in opened(path).regions if region.parts]
            empty = "" if drawn else f"DICOM {path}: no region with a closed contour"
            return Seen(empty, frozenset(region.frame for region in drawn) - {""})
        series = open_series(path)
    except (InputError, PatientError) as said:
        return Seen(str(said))
    wanted = MODALITIES.get(column, ())
    wanted = wanted[modality] if isinstance(wanted, dict) else wanted
    frames = frozenset({series.grid.frame} - {""})
    if wanted and series.modality and series.modality not in wanted:
        return Seen(f"DICOM {path}: modality {series.modality}, expected {' or '.join(wanted)}", frames)
    return Seen(frames=frames)


def faults(rows: Iterable[dict[str, str]], modality: str) -> list[tuple[str, str]]:
    """(patient, line) for each bad input of `rows` (patient, column, path, and under which name the sheet has it)."""
    found = []
    for patient, inputs in itertools.groupby(sorted(rows, key=_patient), _patient):
        opened = [(row, seen(row["path"], row["column"], modality)) for row in inputs]
        images = [one.frames for row, one in opened if row["column"] in MODALITIES]
        for row, one in opened:
            said = one.fault
            if not said and row["column"] in DRAWN and one.frames and all(images) and one.frames.isdisjoint(*images):
                said = f"DICOM {row['path']}: drawn in another frame of reference than the patient's images have"
            if said:
                named = said.replace(row["path"], row["named"] or row["path"])
                found.append((patient, f"samplesheet, patient {patient}, column {row['column']}: {named}"))
    return found


def _patient(row: dict[str, str]) -> str:
    return row["patient"]
