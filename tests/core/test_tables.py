"""The one reader of CSV, lists and JSON: what spreadsheets do to a file, and what cannot be read, in one line."""

import pytest

from synthct.core.errors import InputError
from synthct.core.tables import read_names, read_object, read_table, write_table


def test_what_spreadsheets_add_is_taken_away(tmp_path):
    file = tmp_path / "sheet.csv"
    file.write_bytes(b"\xef\xbb\xbfpatient, region\r\n\r\n A , AB\r\nB\r\n,\r\n")
    rows = read_table(file, "sheet", needed=["patient"])
    assert rows == [{"patient": "A", "region": "AB"}, {"patient": "B", "region": ""}]
    assert [row.line for row in rows] == [3, 4], "lines as an editor counts them"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("patient,region\nMüller,AB\n".encode("latin-1"), "sheet.csv, line 2: cannot be read as UTF-8"),
        ("patient,region\nA,AB\n".encode("utf-16"), "text in UTF-16, expected UTF-8"),
        (b"patient,region\nA,AB\nB,TH,left\n", "sheet.csv, line 3: 3 cells, expected 2"),
        (b'patient,region\nA,"AB\n', "cannot be read as CSV"),
        (b"name,region\nA,AB\n", "header 'name,region', expected a column 'patient'"),
        (b"", "expected a column 'patient'"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_file_and_place(tmp_path, content, said):
    file = tmp_path / "sheet.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match="^sheet ") as fault:
        read_table(file, "sheet", needed=["patient"])
    assert said in str(fault.value)


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": "\xff"}', b"[" * 100000])
def test_broken_json_is_one_line(tmp_path, content):
    file = tmp_path / "bundle.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match="^bundle .*bundle.json"):
        read_object(file, "bundle")


def test_a_list_of_names_may_hold_remarks(tmp_path):
    file = tmp_path / "exclude.txt"
    file.write_text("# of the first round\nA, moved\n\nB # motion\nC\n")
    assert read_names(file) == ["A", "B", "C"]


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_table(tmp_path / "t.csv", [{"a": "x, y", "b": 'say "z"', "c": 1}], ["a", "b"])
    assert read_table(tmp_path / "t.csv") == [{"a": "x, y", "b": 'say "z"'}]
