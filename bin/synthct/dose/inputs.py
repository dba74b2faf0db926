"""Body, target and organs of a plan from a user's files: volumes, RTSTRUCT, SEG."""

from collections.abc import Iterable
from pathlib import Path

from synthct.core.errors import InputError, PatientError
from synthct.images.bodymask import body_mask
from synthct.images.grid import Volume
from synthct.images.volume import is_drawn, read_mask, read_volume


def body_of(path: str | None, ct: Volume) -> Volume:
    """The body mask of a file, else one made from the CT."""
    if not path:
        return body_mask(ct, "ct")
    return read_mask(path, ct.grid) if is_drawn(path) else read_volume(path, "mask", "labels")


def scts_of(paths: Iterable[str], record_failure: bool) -> list[Volume | PatientError]:
    """The synthetic CTs; with `record_failure`, in the place of one that cannot be read what is wrong with it, which
    costs none of the others."""
    found: list[Volume | PatientError] = []
    for path in paths:
        try:
            found.append(read_volume(path, "sCT", "sct"))
        except PatientError as fault:
            if not record_failure:
                raise
            found.append(fault)
    return found


def aim_of(path: str | None, roi: str | None, ct: Volume) -> tuple[Volume | None, str]:
    """What is treated, and what it is called; (None, "") for the standard ellipsoid."""
    if path and is_drawn(path):
        from synthct.images.dicom.structures import target_of

        name, mask = target_of(path, ct.grid, roi)
        return mask, name
    if roi:
        raise InputError("--target-roi: goes with --target, an RTSTRUCT or SEG")
    return (read_volume(path, "target", "labels"), Path(path).name) if path else (None, "")


def organs_of(path: str | None, ct: Volume, target: str):
    """Organs of a label map, or the regions of a DICOM file but the target."""
    if path and is_drawn(path):
        from synthct.images.dicom.structures import drawn

        return ((name, mask) for name, mask in drawn(path, ct.grid) if name != target)
    return read_volume(path, "structures", "labels") if path else None
