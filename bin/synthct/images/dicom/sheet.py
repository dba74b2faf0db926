"""The inputs of a samplesheet, each opened by its header and a sample of voxels before anything is computed."""

from collections.abc import Iterable
from pathlib import Path

from synthct.core.errors import InputError, PatientError
from synthct.images.dicom.series import open_series
from synthct.images.dicom.structures import regions_in
from synthct.images.volume import SUFFIXES, look

MODALITIES = {"image": {"mr": ("MR",), "cbct": ("CT", "RTIMAGE")}, "ct": ("CT",), "ct_aligned": ("CT",), "sct": ("CT",)}


def fault(path, column: str, modality: str) -> str | None:
    """What is wrong with one input of the sheet's `column` (a series, a volume, or contours), or None."""
    try:
        if Path(path).name.lower().endswith(SUFFIXES) and not Path(path).is_dir():
            look(path, column)
            return None
        if not Path(path).is_dir():
            return None if regions_in(path) else f"DICOM {path}: no region with a closed contour"
        found = open_series(path).modality
    except (InputError, PatientError) as said:
        return str(said)
    wanted = MODALITIES.get(column, ())
    wanted = wanted[modality] if isinstance(wanted, dict) else wanted
    if wanted and found and found not in wanted:
        return f"DICOM {path}: modality {found}, expected {' or '.join(wanted)}"
    return None


def faults(rows: Iterable[dict[str, str]], modality: str) -> list[tuple[str, str]]:
    """(patient, line) for each bad input of `rows` (patient, column, path, and under which name the sheet has it)."""
    found = []
    for row in rows:
        if said := fault(row["path"], row["column"], modality):
            named = said.replace(row["path"], row["named"] or row["path"])
            found.append((row["patient"], f"samplesheet, patient {row['patient']}, column {row['column']}: {named}"))
    return found
