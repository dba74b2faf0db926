"""The one reader of tables (CSV), lists of names, and JSON, and the writer of tables.

Spreadsheets write a byte-order mark, blanks around cells and empty lines: these are taken away. A file in another
encoding than UTF-8, or one that cannot be read at all, is an `InputError` of one line that names it.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from synthct.core.errors import InputError
from synthct.core.files import atomic


class Row(dict):
    """The cells of a line of a table, by column; `line` is where it stands in its file, the header being line 1."""

    line: int = 0


def read_text(path, what: str = "file") -> str:
    """The text of a UTF-8 file, without a byte-order mark. Raises `InputError` naming `what` and the file.

    >>> read_text("absent.csv", "sheet")
    Traceback (most recent call last):
    ...
    synthct.core.errors.InputError: sheet absent.csv: cannot be read (No such file or directory)
    """
    try:
        data = Path(path).read_bytes()
    except OSError as fault:
        raise InputError(f"{what} {path}: cannot be read ({fault.strerror})") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{what} {path}: text in UTF-16, expected UTF-8 (in a spreadsheet: save as 'CSV UTF-8')")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        raise InputError(
            f"{what} {path}, line {line}: cannot be read as UTF-8 text (byte 0x{data[fault.start]:02x}); "
            "in a spreadsheet: save as 'CSV UTF-8'"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{what} {path}, line {line}: a NUL byte, expected text; is the file damaged?")
    return text


def read_table(path, what: str = "table", needed: Sequence[str] = (), delimiter: str = ",") -> list[Row]:
    """Rows of a CSV file with a header, cells stripped; empty lines are passed over, absent cells are "".

    Raises `InputError` for a file that cannot be read, a column of `needed` that is not there, and a row with more
    cells than the header has columns.
    """
    lines = read_cells(path, what, delimiter)
    _, header = next(lines, (1, []))
    if doubled := [name for name in header if name and header.count(name) > 1]:
        raise InputError(f"{what} {path}: column {doubled[0]!r} stands {header.count(doubled[0])} times, expected once")
    rows = []
    for number, cells in lines:
        if any(cells[len(header) :]):
            raise InputError(
                f"{what} {path}, line {number}: {len(cells)} cells, expected {len(header)}, as the header has"
            )
        row = Row(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))
        row.line = number
        rows.append(row)
    if missing := [name for name in needed if name not in header]:
        raise InputError(f"{what} {path}: header {','.join(header)!r}, expected a column {missing[0]!r}")
    return rows


def read_cells(path, what: str = "table", delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line of a CSV file that is not empty; a header is a line as any other."""
    yield from cells_of(read_text(path, what), f"{what} {path}", delimiter)


def cells_of(text: str, named: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """`read_cells` of a text; `named` is what a message calls it."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in lines:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield lines.line_num, cells
    except csv.Error as fault:
        raise InputError(f"{named}, line {lines.line_num}: cannot be read as CSV ({fault})") from None


def read_names(path, what: str = "list of names") -> list[str]:
    """Names of a plain list, one a line: text after a comma or a # is a remark, empty lines are passed over."""
    names = (line.split("#")[0].split(",")[0].strip() for line in read_text(path, what).splitlines())
    return [name for name in names if name]


def read_json(path, what: str = "file"):
    """What a JSON file holds. Raises `InputError` naming `what` and the file where it cannot be read."""
    text = read_text(path, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{what} {path}: cannot be read as JSON ({fault})") from None


def read_object(path, what: str = "file") -> dict:
    """What a JSON file holds, which must be an object: {"key": value, ...}."""
    found = read_json(path, what)
    if not isinstance(found, dict):
        raise InputError(f"{what} {path}: found a JSON {type(found).__name__}, expected an object")
    return found


def files_in(directory, suffix: str) -> Iterator[Path]:
    """Files below `directory` (at any depth, through links) whose name ends in `suffix`, in order of their paths."""
    yield from sorted(Path(directory).rglob(f"*{suffix}"))


def write_table(path, rows: Iterable[dict], columns: Sequence[str]):
    """Write a CSV of these columns atomically; keys of a row that are no column are left out."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
