"""A samplesheet of what was found, such that the pipeline's check takes it."""

import csv
import io
import os
from collections import Counter
from pathlib import Path

from synthct.cohort.trees import NAME, Found, Row
from synthct.core.errors import InputError
from synthct.core.files import write_text

COLUMNS = ("patient", "region", "center", "image", "ct", "mask", "split")


def complete(found: Found, purpose: str) -> list[Row]:
    """The rows that a sheet for `purpose` ("train" or "predict") can hold; the others are left out, with why."""
    kept = []
    for row in found.rows:
        paths = [path for path in (row.image, row.ct, row.mask) if path]
        spaced = next((path for path in paths if any(mark.isspace() or mark in ',"' for mark in str(path))), None)
        if not NAME.fullmatch(row.patient):
            found.leave(row.patient, "expected a patient's name of letters, digits, '_', '.', '-'")
        elif spaced:
            found.leave(row.patient, f"{spaced}: a path with spaces, commas or quotes; rename it")
        elif purpose == "train" and not row.ct:
            found.leave(row.patient, "no CT to learn from (--for predict takes it)")
        elif purpose == "train" and not row.region:
            found.leave(row.patient, "region unknown, give --region")
        else:
            kept.append(row)
    if not kept:
        why = "; ".join(f"{count} × {reason}" for reason, count in Counter(w for _, w in found.left_out).most_common(3))
        raise InputError(f"no patient for the sheet is left ({why})")
    return kept


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
