"""bin/weights.py against a server on loopback: resumed, verified, whole or not at all, one line for what goes wrong."""

import contextlib
import hashlib
import http.server
import io
import json
import subprocess
import threading
import zipfile

import pytest
from conftest import bad_input
from models import call

from synthct.networks import fetch as fetching
from synthct.networks import weights

M730 = "Dataset730_TotalSegmentatorMRI_part1_organs_495subj"
TRAINER = f"{M730}/nnUNetTrainer_DASegOrd0_NoMirroring__nnUNetPlans__3d_fullres"
SAM2 = "SAM2.1_Small.pt"  # neither size nor digest are published


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; breaks a body off after `cut` bytes; with `tags` it has ETags and so answers ranges."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.tags, self.asked = {}, None, True, []
        self.url = f"http://127.0.0.1:{self.server_port}/mirror"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name, asked = self.path.rpartition("/")[2], self.headers.get("Range")
        self.server.asked.append((name, asked))
        body = self.server.files.get(name)
        if body is None:
            self.send_error(404)
            return
        tag, first = f'"{hashlib.md5(body).hexdigest()}"', 0
        if asked and self.server.tags and self.headers.get("If-Range") == tag:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
        if first >= len(body) and first:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body) - first))
        if self.server.tags:
            self.send_header("ETag", tag)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[first : self.server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def zipped(checkpoint: bytes = b"weights", top: str = TRAINER) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{top}/plans.json", "{}")
        file.writestr(f"{top}/dataset.json", "{}")
        file.writestr(f"{top}/fold_0/checkpoint_final.pth", checkpoint)
    return made.getvalue()


def fetched(server, place, *names):
    return call("weights.py", "fetch", *names, "--weights", place, "--base-url", server.url)


def left(place) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_a_zip_lies_as_totalsegmentator_keeps_it(server, tmp_path):
    server.files[f"{M730}.zip"] = zipped()
    done = fetched(server, tmp_path / "w", "M730")
    assert done.returncode == 0, done.stderr
    whole = [f"{TRAINER}/{name}" for name in ("dataset.json", "fold_0/checkpoint_final.pth", "plans.json")]
    assert left(tmp_path / "w") == [*whole, "weights.json"]
    need = weights.of_extractor("TS730", "0000001", str(tmp_path / "w"))
    assert weights.find(need).read_bytes() == b"weights"
    row = json.loads((tmp_path / "w" / "weights.json").read_text())["M730"]
    assert row["sha256"] == hashlib.sha256(server.files[f"{M730}.zip"]).hexdigest()
    assert sorted(row["files"]) == whole
    assert call("weights.py", "verify", "M730", "--weights", tmp_path / "w").returncode == 0
    assert "is there" in fetched(server, tmp_path / "w", "M730").stdout and len(server.asked) == 1
    (tmp_path / "w" / TRAINER / "plans.json").write_text("{ }")
    bad_input(call("weights.py", "verify", "M730", "--weights", tmp_path / "w"), "M730", "plans.json has SHA-256")


def test_what_the_settings_need_is_fetched_and_no_more(server, tmp_path):
    server.files[SAM2] = b"module"
    options = ("--preset", "released", "--modality", "cbct", "--registration", "elastix", "--weights", tmp_path / "w")
    done = call("weights.py", "fetch", *options, "--base-url", server.url)
    assert done.returncode == 0 and left(tmp_path / "w") == [SAM2, "weights.json"]
    (row,) = call("weights.py", "list", *options).stdout.splitlines()
    assert row.split("\t")[:2] == [SAM2, f"there: {SAM2}"] and "huggingface.co" in row
    none = call("weights.py", "fetch", "--preset", "test", "--modality", "mr", "--registration", "elastix")
    assert none.stdout == "these settings need no network\n"


@pytest.mark.parametrize("tags", [True, False])
def test_a_download_that_broke_off_goes_on(server, tmp_path, tags):
    """From where it stopped when the server still has the same file, else from the start; never half under its name."""
    body = bytes(range(256)) * 20_000
    server.files[SAM2], server.cut, server.tags = body, 3 << 20, tags
    bad_input(fetched(server, tmp_path, SAM2), SAM2, "broke off", "run the same again")
    assert not (tmp_path / SAM2).exists() and not (tmp_path / "weights.json").exists()
    server.cut = None
    assert fetched(server, tmp_path, SAM2).returncode == 0
    assert (tmp_path / SAM2).read_bytes() == body
    assert server.asked[1][1] == (f"bytes={3 << 20}-" if tags else None)
    assert left(tmp_path) == [SAM2, "weights.json"]


def test_a_file_that_became_another_meanwhile_is_fetched_anew(server, tmp_path):
    server.files[SAM2], server.cut = bytes(5 << 20), 2 << 20
    fetched(server, tmp_path, SAM2)
    server.files[SAM2], server.cut = b"another", None
    assert fetched(server, tmp_path, SAM2).returncode == 0
    assert (tmp_path / SAM2).read_bytes() == b"another"


def test_killed_between_the_last_byte_and_the_name(server, tmp_path):
    server.files[SAM2] = b"module"
    (tmp_path / f".{SAM2}.part").write_bytes(b"module")
    (tmp_path / f".{SAM2}.etag").write_text(f'"{hashlib.md5(b"module").hexdigest()}"')
    assert fetched(server, tmp_path, SAM2).returncode == 0
    assert (tmp_path / SAM2).read_bytes() == b"module" and left(tmp_path) == [SAM2, "weights.json"]


def test_a_wrong_digest_is_refused_and_thrown_away(server, tmp_path):
    """The published one of VGG-19, and of M730 the one that the first download had."""
    server.files["vgg19-dcbb9e9d.pth"] = b"not VGG-19"
    bad_input(fetched(server, tmp_path / "a", "vgg19-dcbb9e9d.pth"), "not the expected file", "dcbb9e9dad569fff")
    assert left(tmp_path / "a") == []
    server.files[f"{M730}.zip"] = zipped()
    assert fetched(server, tmp_path / "b", "M730").returncode == 0
    server.files[f"{M730}.zip"] = zipped(b"others")
    (tmp_path / "b" / TRAINER / "fold_0" / "checkpoint_final.pth").unlink()
    (tmp_path / "b" / M730).rename(tmp_path / "old")
    bad_input(fetched(server, tmp_path / "b", "M730"), "M730", "not the expected file")
    assert left(tmp_path / "b") == ["weights.json"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"PK no zip", "zip is damaged"),
        (zipped(top="Dataset291_other/trainer"), "Dataset291_other/trainer/plans.json in the zip"),
        (zipped(top=f"{M730}/../../escaped"), "in the zip"),
    ],
)
def test_a_zip_that_is_none_or_holds_something_else(server, tmp_path, body, said):
    server.files[f"{M730}.zip"] = body
    bad_input(fetched(server, tmp_path / "w", "M730"), "M730", said)
    assert left(tmp_path) == []


def test_no_network_no_file_and_unknown_names_are_one_line(server, tmp_path):
    bad_input(fetched(server, tmp_path, SAM2), SAM2, "answers 404")
    server.shutdown()
    server.server_close()
    bad_input(fetched(server, tmp_path, SAM2), SAM2, "cannot be reached", "Connection refused")
    bad_input(fetched(server, tmp_path, "M731"), "'M731'", "expected M730, M850")
    bad_input(call("weights.py", "fetch", "--weights", tmp_path), "--modality")
    assert left(tmp_path) == []


def test_a_full_disk_and_a_read_only_place(server, tmp_path, small_disk):
    server.files[SAM2] = bytes(4 << 20)
    place = small_disk("2m")
    bad_input(fetched(server, place, SAM2), SAM2, "no room", "4 MiB left to fetch")
    assert left(place) == []
    server.files[f"{M730}.zip"] = zipped(bytes(4 << 20))  # the zip fits, what is in it does not
    bad_input(fetched(server, place, "M730"), "M730", "no room")
    assert left(place) == []
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    bad_input(fetched(server, place, SAM2), SAM2, "cannot be written", "Read-only file system")
    (tmp_path / "file").touch()
    bad_input(fetched(server, tmp_path / "file", SAM2), SAM2, "cannot be written")


def test_two_downloads_into_one_place_do_not_mix(server, tmp_path):
    import fcntl

    server.files[SAM2] = b"module"
    with open(tmp_path / f".{SAM2}.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        bad_input(fetched(server, tmp_path, SAM2), "another download", "under way")


def test_an_object_store_takes_weights_too(server):
    import fsspec

    server.files[f"{M730}.zip"], server.files[SAM2] = zipped(), b"module"
    place = "memory://bucket/weights"
    needs = [weights.of_extractor("TS730", "0000001"), weights.of_extractor(SAM2)]
    lines = []
    fetching.fetch(needs, place, base_url=server.url, say=lines.append)
    assert [line.split(":")[0] for line in lines] == ["M730", SAM2]
    assert fetching.verify(needs, place) == {"M730": "", SAM2: ""}
    fetching.fetch(needs, place, base_url=server.url, say=lines.append)
    assert all("is there" in line for line in lines[2:])
    with fsspec.open(f"{place}/{SAM2}", "wb") as file:
        file.write(b"changed")
    assert "has SHA-256" in fetching.verify(needs, place)[SAM2]
