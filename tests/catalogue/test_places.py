"""Where nothing can be written: each tool says so in one line, and leaves nothing half-written."""

import subprocess

import pytest
from conftest import bad_input
from test_bad_input import CT, HEAD, MASK, MR, ROWS, call, image

FOLDS = ("folds.py", "--sheet", "sheet.csv", "--preset", "test", "--set", "folds.holdout=0")
CHECK = ("check.py", "--sheet", "sheet.csv", "--modality", "mr", "--preset", "test", "--no-networks", "--no-plan")
PAIR = ("--image", "image.mha", "--ct", "ct.mha", "--mask", "mask.mha")
REGISTER = ("--method", "none", "--modality", "mr", "--preset", "test", "--fixed", "image.mha", "--moving", "ct.mha")
TOOLS = {
    "folds": (*FOLDS, "--out", "disk/folds.json"),
    "check": (*CHECK, "--out", "disk/settings.json"),
    "curate": (
        "curate.py",
        "--qc",
        "qc",
        "--preset",
        "test",
        "--out-kept",
        "disk/k.csv",
        "--out-excluded",
        "disk/e.csv",
    ),
    "preprocess": ("preprocess.py", "--modality", "mr", *PAIR, "--preset", "test", "--out", "disk/case"),
    "register": ("register.py", *REGISTER, "--out-image", "disk/i.mha", "--out-displacement", "disk/d.mha"),
    "evaluate": ("evaluate.py", "--sct", "ct.mha", "--ct", "ct.mha", "--mask", "mask.mha", "--out", "disk/m.json"),
    "report": ("report.py", "--records", "qc", "--cohort", "sheet.csv", "--outdir", "disk/report"),
    "versions": ("versions.py", "--process", "X", "--out", "disk/versions.yml"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sheet.csv").write_text(HEAD + ROWS)
    (tmp_path / "qc").mkdir()
    (tmp_path / "qc" / "P1.json").write_text('{"patient": "P1", "folding_fraction": 0.0}')
    for name, array in (("image", MR), ("ct", CT), ("mask", MASK)):
        image(array, tmp_path / f"{name}.mha")
    return tmp_path


def left(disk):
    return sorted(path.name for path in disk.rglob("*") if path.is_file())


@pytest.mark.parametrize("tool", TOOLS)
def test_a_full_disk(here, small_disk, tool):
    disk = small_disk("16k")
    with open(disk / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(bytes(4096))
    bad_input(call(*TOOLS[tool]), "room")
    assert left(disk) == ["filler"]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_place_that_cannot_be_written(here, small_disk, tool):
    disk = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    bad_input(call(*TOOLS[tool]), "disk", "cannot be written")
    assert not left(disk)
