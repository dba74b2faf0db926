"""Shared by all tests: where the checkout is, and how to run a tool or the engine as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """The study's own tests take the longest: they begin first, beside all the others."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Inputs too large for the repository or not ours to hand on: beside the checkout, or where SYNTHCT_SHARED says."""
    place = Path(os.environ.get("SYNTHCT_SHARED", ROOT.parent / "shared"))
    if not place.is_dir():
        pytest.skip(f"no shared inputs at {place}")
    return place


@pytest.fixture(scope="session")
def run_tool():
    """Run ``bin/<tool>`` with arguments; returns the finished process (text output, never raises)."""

    def run(tool: str, *arguments, **kwargs) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "bin" / tool), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, **kwargs)

    return run


@pytest.fixture(scope="session")
def nextflow():
    """Run the engine in a directory of its own; returns the finished process."""

    def run(directory, *arguments, version: str | None = None, **variables) -> subprocess.CompletedProcess:
        environment = os.environ | {"NXF_ANSI_LOG": "false", "NXF_OFFLINE": "true"} | variables
        if version:
            environment["NXF_VER"] = version
        command = [str(ROOT / "nextflow"), *map(str, arguments)]
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, env=environment)

    return run


def copy_checkout(place: Path) -> Path:
    """A copy of the pipeline's code that a test may edit; it uses the environment and the patients of the checkout."""
    copy = place / "synthct"
    copy.mkdir()
    for name in ("main.nf", "nextflow.config", "nextflow_schema.json", "requirements.lock"):
        shutil.copy2(ROOT / name, copy)
    for name in ("bin", "lib", "modules", "workflows", "conf", "containers"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "assets").mkdir()
    shutil.copy2(ROOT / "assets" / "schema_input.json", copy / "assets")
    (copy / "assets" / "demo").symlink_to(ROOT / "assets" / "demo")
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the pipeline's code, for one test."""
    return copy_checkout(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of so many bytes, where the user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int):
        told = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if subprocess.run(told, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True)


def bad_input(process: subprocess.CompletedProcess, *expected: str):
    """Assert exit status 2 with one line on stderr that contains every text of `expected`."""
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    assert process.returncode == 2, process.stderr
    assert len(lines) == 1, process.stderr
    for text in expected:
        assert text in lines[0], lines[0]
