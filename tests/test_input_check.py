"""Bad sheets and parameters: every fault at once, each in a line that says where, before any task."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEADER = "patient,region,center,image,ct,mask,split"


@pytest.fixture
def sheet(root, tmp_path):
    """Write a samplesheet whose paths lie in the demo's cohort."""
    (tmp_path / "mr").symlink_to(root / "assets" / "demo" / "mr")

    def write(*rows, header=HEADER):
        path = tmp_path / "cohort.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def row(name, patient="STS_018", region="AB", ct="ct.mha", split="train"):
    return f"{name},{region},A,mr/{patient}/mr.mha,mr/{patient}/{ct},mr/{patient}/mask.mha,{split}"


def refuse(nextflow, root, directory, *arguments):
    done = nextflow(directory, "run", root / "main.nf", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "Submitted process" not in said, said
    assert not (directory / "work").exists() or not any((directory / "work").iterdir())
    return said


def test_five_mistakes_five_lines(nextflow, root, sheet, tmp_path):
    path = sheet(
        row("P1"),
        row("P 2"),
        row("P1"),
        row("P4", region=""),
        row("P5", ct="missing.mha"),
        row("P6", split="learn"),
    )
    said = refuse(nextflow, root, tmp_path, "--input", path, "--modality", "mr", "--preset", "test")
    lines = [line.strip() for line in said.splitlines() if "cohort.csv, row" in line]
    assert len(lines) == 5, said
    expected = [
        ("row 2 (line 3), column patient", "'P 2'", "expected"),
        ("row 3 (line 4), column patient", "'P1'", "row 1"),
        ("row 4 (line 5), column region", "empty", "expected"),
        ("row 5 (line 6), column ct", "missing.mha", "expected"),
        ("row 6 (line 7), column split", "'learn'", "train, test"),
    ]
    for line, texts in zip(lines, expected, strict=True):
        assert all(text in line for text in texts), line


def test_unknown_and_wrong_parameters(nextflow, root, sheet, tmp_path):
    path = sheet(row("P1"), row("P2"), header=HEADER.replace("center", "centre"))
    said = refuse(
        nextflow,
        root,
        tmp_path,
        "--input",
        path,
        "--modality",
        "mri",
        "--regstration",
        "elastix",
        "--registration",
        "impact,impact",
        "--folds",
        "1",
        "--holdout",
        "9",
        "--set",
        "training.batch",
    )
    for text in (
        "--modality: found 'mri', expected one of mr, cbct",
        "--regstration: unknown, did you mean 'registration'?",
        "--registration: found 'impact,impact'",
        "--folds: found '1'",
        "--holdout: found '9', expected less than the sheet's 2 patients",
        "--set: found 'training.batch'",
        "unknown column 'centre', did you mean 'center'?",
    ):
        assert text in said, f"{text!r} not in {said}"


def test_predict_needs_a_bundle(nextflow, root, sheet, tmp_path):
    path = sheet("P1,mr/STS_018/mr.mha", header="patient,image")
    said = refuse(
        nextflow, root, tmp_path, "--mode", "predict", "--input", path, "--modality", "mr", "--model", tmp_path
    )
    assert "--model" in said and "bundle.json" in said
    assert "row" not in said.replace("arrow", ""), "a sheet without region and ct is good enough for predict"


def test_nf_core_finds_no_fault(root):
    """A second opinion on schema, configuration and layout, from nf-core's own linter."""
    environment = os.environ | {"PATH": f"{root}:{os.environ['PATH']}", "COLUMNS": "200"}
    linter = Path(sys.executable).with_name("nf-core")
    done = subprocess.run([linter, "pipelines", "lint", "--dir", root], capture_output=True, text=True, env=environment)
    said = done.stdout + done.stderr
    assert re.search(r"0 Tests Failed", said) and int(re.search(r"(\d+) Tests Passed", said)[1]) > 100, said


def test_an_arm_of_truth_needs_the_aligned_ct(nextflow, root, sheet, tmp_path):
    path = sheet(row("P1"), row("P2"))
    arguments = ("--input", path, "--modality", "mr", "--preset", "test", "--registration", "impact,truth")
    said = refuse(nextflow, root, tmp_path, *arguments)
    assert said.count("column ct_aligned: empty") == 2 and "patient P2" in said, said
