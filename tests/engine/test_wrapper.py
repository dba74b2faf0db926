"""The engine's wrapper: when it lets the engine use the network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def offline(tmp_path):
    """What the engine is told of NXF_OFFLINE, a program in the place of Java being all that is started."""
    (tmp_path / "cache/nextflow-24.10.0/lib").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin/java"
    java.write_text('#!/bin/sh\necho "$NXF_OFFLINE"\n')
    java.chmod(0o755)

    def run(*arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NXF_")}
        environment |= {"SYNTHCT_CACHE": str(tmp_path / "cache"), "NXF_VER": "24.10.0"} | variables
        environment["PATH"] = f"{tmp_path}/bin:{environment['PATH']}"
        command = [ROOT / "nextflow", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    return run


def test_a_run_on_aws_may_fetch_its_plugin(offline):
    assert offline("run", "main.nf", "-profile", "gpu,awsbatch") == "false"
    assert offline("run", "main.nf", "--input", "s3://bucket/sheet.csv") == "false"


def test_any_other_run_needs_no_network(offline):
    assert offline("run", "main.nf", "-profile", "test,docker") == "true"


@pytest.mark.parametrize("said", ["true", "false"])
def test_the_user_decides(offline, said):
    assert offline("run", "main.nf", "-profile", "awsbatch", NXF_OFFLINE=said) == said
    assert offline("run", "main.nf", NXF_OFFLINE=said) == said


def test_a_machine_without_java_is_told_so(tmp_path):
    (tmp_path / "cache/nextflow-24.10.0/lib").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    environment = {"PATH": f"{tmp_path}/bin", "SYNTHCT_CACHE": f"{tmp_path}/cache", "NXF_VER": "24.10.0"}
    done = subprocess.run(
        [tmp_path / "bin/bash", ROOT / "nextflow", "-version"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "nextflow: java is not on PATH; install Java 17 or later\n"
