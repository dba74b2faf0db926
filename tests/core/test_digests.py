"""What a step says that it read: digests as everybody's tools make them, and no name of a directory."""

import hashlib
import os
import subprocess

import pytest

from synthct.core.digests import content_of, inputs_of

SHELL = "find -L '{}' -type f -exec sha256sum {{}} + | cut -c-64 | LC_ALL=C sort | sha256sum | cut -c-64"


def test_a_file_is_known_by_its_bytes(tmp_path):
    data = os.urandom(3_000_001)  # more than one read
    (tmp_path / "a.mha").write_bytes(data)
    expected = {"name": "a.mha", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert content_of(tmp_path / "a.mha") == expected
    (tmp_path / "a.mha").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    changed = content_of(tmp_path / "a.mha")
    assert changed["sha256"] != expected["sha256"] and changed["bytes"] == expected["bytes"]


def test_a_series_is_known_by_its_files_whatever_they_are_called(tmp_path):
    for place, names in (("Jane Doe", ("1.dcm", "2.dcm", "sub/3.dcm")), ("other", ("z/c", "a", "b"))):
        for number, name in enumerate(names):
            file = tmp_path / place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"slice %d" % (number % 2))
    found, other = content_of(tmp_path / "Jane Doe"), content_of(tmp_path / "other")
    assert found == other and found["files"] == 3 and found["bytes"] == 21 and "Jane" not in str(found)
    (tmp_path / "link").symlink_to(tmp_path / "Jane Doe")  # as the engine stages it
    said = subprocess.run(SHELL.format(tmp_path / "link"), shell=True, capture_output=True, text=True, check=True)
    assert content_of(tmp_path / "link")["sha256"] == said.stdout.strip() == found["sha256"]
    (tmp_path / "other" / "a").write_bytes(b"slice X")
    assert content_of(tmp_path / "other")["sha256"] != found["sha256"]


def test_what_is_not_given_or_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert inputs_of(image=tmp_path / "a", mask=None, ct="").keys() == {"image"}
    assert inputs_of(image=tmp_path / "a", ct=tmp_path / "gone").keys() == {"image"}
    with pytest.raises(OSError):
        content_of(tmp_path / "gone")
