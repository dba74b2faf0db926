"""A samplesheet of what was found, such that the pipeline's check takes it."""

import csv
import io
import os
from pathlib import Path

from synthct.cohort.folds import check_name
from synthct.cohort.trees import Found, Row
from synthct.core.errors import InputError
from synthct.core.files import write_text

COLUMNS = ("patient", "region", "center", "image", "ct", "mask", "split")


def complete(found: Found, purpose: str) -> list[Row]:
    """The rows that a sheet for `purpose` ("train" or "predict") can hold; the others are left out, with why."""
    kept: list[Row] = []
    seen: dict[str, str] = {}
    for row in found.rows:
        if why := _fault(row, purpose, seen):
            found.leave(row.patient, why)
        else:
            kept.append(row)
    if not kept:
        raise InputError(f"no patient for the sheet is left ({found.reasons()})")
    return kept


def _fault(row: Row, purpose: str, seen: dict[str, str]) -> str:
    """Why a row cannot be in the sheet, or ""; of one that can, the name joins those `seen`."""
    paths = [path for path in (row.image, row.ct, row.mask) if path]
    spaced = next((path for path in paths if any(mark.isspace() or mark in ',"' for mark in str(path))), None)
    if spaced:
        return f"{spaced}: a path with spaces, commas or quotes; rename it"
    if purpose == "train" and not row.ct:
        return "no CT to learn from (--for predict takes it)"
    if purpose == "train" and not row.region:
        return "region unknown, give --region"
    try:
        check_name(row.patient, seen, "sheet")
    except InputError as fault:
        return str(fault).removeprefix("sheet: ")
    return ""


def write(rows: list[Row], out: str):
    """Write the sheet; paths below its own directory are relative to it. Columns that all leave empty are left away."""
    base = Path(out).absolute().parent
    used = [name for name in COLUMNS if any(getattr(row, name) for row in rows)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(used)
    for row in rows:
        table.writerow([_cell(getattr(row, name), base) for name in used])
    write_text(out, text.getvalue())


def _cell(value, base: Path) -> str:
    if not isinstance(value, Path):
        return value or ""
    path = value.absolute()
    return os.path.relpath(path, base) if base in path.parents else str(path)
