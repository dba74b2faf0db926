"""Bad sheets and parameters: every fault at once, each in a line that says where, before any task."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import bad_input
from dicom_series import SHAPE, write_mr

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


def test_one_file_in_two_places(nextflow, root, sheet, tmp_path):
    """For two columns it is a fault; for two patients a warning, since one may be tested on what the other taught."""
    path = sheet(row("P1", ct="mr.mha"), row("P2"))
    said = refuse(nextflow, root, tmp_path, "--input", path, "--modality", "mr", "--preset", "test")
    assert "patient P1, column ct: the same file as column image" in said
    path = sheet(*(row(f"P{number}") for number in range(4)))
    command = ("-profile", "test,stub", "-stub-run", "--input", path, "--registration", "mi", "--folds", "2")
    done = nextflow(tmp_path, "run", root / "main.nf", *command, "--holdout", "1", "--outdir", "out")
    assert "6 images are another patient's too" in done.stdout + done.stderr and not done.returncode, done.stdout


def test_six_mistakes_six_lines(nextflow, root, sheet, tmp_path):
    path = sheet(
        row("P1"),
        row("P 2"),
        row("P1"),
        row("P4", region=""),
        row("P5", ct="missing.mha"),
        row("P6", split="learn"),
        "P7,AB,A,mr/STS_018/mr.mha,my ct.mha,,train",
    )
    (path.parent / "my ct.mha").touch()
    said = refuse(nextflow, root, tmp_path, "--input", path, "--modality", "mr", "--preset", "test")
    lines = [line.strip() for line in said.splitlines() if "cohort.csv, row" in line]
    assert len(lines) == 6, said
    expected = [
        ("row 2 (line 3), column patient", "'P 2'", "expected"),
        ("row 3 (line 4), column patient", "'P1'", "row 1"),
        ("row 4 (line 5), column region", "empty", "expected"),
        ("row 5 (line 6), column ct", "missing.mha", "expected"),
        ("row 6 (line 7), column split", "'learn'", "train, test"),
        ("row 7 (line 8), column ct", "'my ct.mha'", "a path without spaces"),
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
        "--set",
        "training.batch",
        "--register_batch",
        "4294967296",  # no number of the engine's: it takes it for 0
        "--resume",
    )
    for text in (
        "--modality: found 'mri', expected one of mr, cbct",
        "--regstration: unknown, did you mean 'registration'?",
        "--resume: unknown, an option of the engine has one hyphen: -resume",
        "--registration: found 'impact,impact'",
        "--folds: found '1'",
        "--set: found 'training.batch'",
        "--register_batch: found '4294967296', expected integer, at least 1 and at most 10000",
        "unknown column 'centre', did you mean 'center'?",
    ):
        assert text in said, f"{text!r} not in {said}"


def test_a_sheet_of_semicolons(nextflow, root, sheet, tmp_path):
    path = sheet(row("P1").replace(",", ";"), header=HEADER.replace(",", ";"))
    said = refuse(nextflow, root, tmp_path, "--input", path, "--modality", "mr", "--preset", "test")
    assert "1 fault" in said and "line 1: its cells are separated by semicolons, expected commas" in said


def predict(nextflow, root, directory, sheet, *arguments):
    path = sheet("P1,mr/STS_018/mr.mha", header="patient,image")
    return refuse(nextflow, root, directory, "--mode", "predict", "--input", path, *arguments)


def test_predict_needs_a_bundle(nextflow, root, sheet, tmp_path):
    said = predict(nextflow, root, tmp_path, sheet, "--modality", "mr", "--model", tmp_path)
    assert "--model" in said and "bundle.json" in said
    assert "row" not in said.replace("arrow", ""), "a sheet without region and ct is good enough for predict"


def test_the_bundle_fits_the_modality(nextflow, root, sheet, tmp_path):
    (tmp_path / "bundle.json").write_text('{"modality": "cbct"}')
    said = predict(nextflow, root, tmp_path, sheet, "--modality", "mr", "--model", tmp_path)
    assert f"--modality: found 'mr', expected cbct, for which the bundle {tmp_path} was made" in said
    (tmp_path / "bundle.json").write_text("{")
    assert "whose bundle.json names no modality" in predict(nextflow, root, tmp_path, sheet, "--model", tmp_path)


def test_paths_that_scripts_and_globs_would_misread(nextflow, root, sheet, tmp_path):
    path = sheet(row("P1"), "P2,AB,A,mr/a[1].mha,mr/{a}.mha,mr/$(x).mha,train")
    wrong = {"outdir": "it's", "checkpoint_dir": "a`b`", "weights": "w*", "exclude": 'a"b', "preset": "my{x}.toml"}
    options = [word for name, value in wrong.items() for word in (f"--{name}", value)]
    said = refuse(nextflow, root, tmp_path, "--input", path, "--modality", "mr", *options)
    for name, value in wrong.items():
        assert f"parameter --{name}: found '{value}', expected a path without quotes" in said, said
    for column, value in {"image": "mr/a[1].mha", "ct": "mr/{a}.mha", "mask": "mr/$(x).mha"}.items():
        assert f"column {column}: found '{value}', expected a path without quotes" in said, said
    assert said.count("expected a path without") == 8
    assert "--input: found" in refuse(nextflow, root, tmp_path, "--input", tmp_path / "[1].csv", "--modality", "mr")


def test_a_launch_directory_that_no_script_can_name(nextflow, root, sheet, tmp_path):
    (tmp_path / "it's").mkdir()
    arguments = ("--input", sheet(row("P1"), row("P2")), "--modality", "mr", "--preset", "test")
    said = refuse(nextflow, root, tmp_path / "it's", *arguments)
    assert "launch directory: found" in said and "work directory: found" in said


def test_half_an_image_is_refused(nextflow, root, sheet, tmp_path):
    """Only the file that the sheet names reaches a task: a header whose voxels lie in another is none."""
    (tmp_path / "a.mhd").touch()
    (tmp_path / "a.nhdr").touch()
    said = refuse(nextflow, root, tmp_path, "--input", sheet("P1,AB,A,a.mhd,a.nhdr,,train"), "--modality", "mr")
    assert "column image: found 'a.mhd'" in said and "column ct: found 'a.nhdr'" in said


def test_lists_of_names_are_there_and_of_the_studys_arms(nextflow, root, sheet, tmp_path):
    arguments = ("--input", sheet(*(row(f"P{n}") for n in range(5))), "--modality", "mr", "--preset", "test")
    (tmp_path / "table.csv").touch()
    (tmp_path / "empty").mkdir()
    lists = f"elastix={tmp_path}/table.csv,mind={tmp_path}/none.txt"
    arguments += ("--registration", "elastix,impact", "--exclude", lists)
    said = refuse(nextflow, root, tmp_path, *arguments, "--fold_lists", tmp_path / "empty")
    for text in (
        "expected a directory with one .txt a fold",
        "found a list for 'mind', expected one of the arms",
        "none.txt', expected a file of names that exists",
    ):
        assert text in said, said
    said = refuse(nextflow, root, tmp_path, *arguments, "--fold_lists", tmp_path / "table.csv")
    assert "expected a directory with one .txt a fold" in said


def test_check_draws_with_the_lists_and_a_holdout_is_somebody(run_tool, root, sheet, tmp_path):
    """What CHECK, the first task, refuses: lists that overlap or name nobody, a test of everybody or of nobody."""
    common = ["check.py", "--sheet", sheet(*(row(f"P{n}") for n in range(4))), "--modality", "mr", "--preset", "test"]
    common += ["--no-networks", "--set", "folds.holdout=0", "--out", tmp_path / "settings.json"]
    (tmp_path / "a.txt").write_text("P0\nP1\n")
    (tmp_path / "b.txt").write_text("P1\nP2\n")
    (tmp_path / "c.txt").write_text("P1\nQ2\n")
    assert run_tool(*common, "--list", tmp_path / "a.txt", "--cohort-out", tmp_path / "drawn.csv").returncode == 0
    assert (tmp_path / "drawn.csv").read_text().splitlines()[:2] == ["patient,region,center,split", "P0,AB,A,train"]
    bad_input(run_tool(*common, "--list", tmp_path / "a.txt", "--list", tmp_path / "b.txt"), "'P1' stands in two")
    bad_input(run_tool(*common, "--list", tmp_path / "c.txt"), "'Q2' is not among the sheet's training patients")
    bad_input(run_tool(*common, "--set", "folds.holdout=0.1"), "holdout 0.1: of 4 patients that is nobody")
    bad_input(run_tool(*common, "--set", "folds.holdout=9"), "holdout 9: the sheet has 4 patients")


def test_check_knows_every_name_of_the_exclusion_lists(run_tool, root, sheet, tmp_path):
    common = ["check.py", "--sheet", sheet(*(row(f"P{n}") for n in range(4))), "--modality", "mr", "--preset", "test"]
    common += ["--no-networks", "--registration", "elastix,impact", "--out", tmp_path / "settings.json"]
    plain, table = tmp_path / "excluded.txt", tmp_path / "table.csv"
    plain.write_text("# not these\nP1, blurred\nP9 # moved\n")
    table.write_text("patient,arm,reason\nP1,impact,\nP8,elastx,moved\n")
    done = run_tool(*common, "--exclude", plain, "--exclude", table)
    for text in (
        "--exclude, excluded.txt: found 'P9', expected patients of the samplesheet",
        "--exclude, table.csv: found 'P8', expected patients of the samplesheet",
    ):
        bad_input(done, text)
    table.write_text("patient,arm,reason\nP1,impact,\nP2,elastx,moved\n")
    expected = "table.csv: found 'elastx', expected arms of --registration, elastix, impact"
    bad_input(run_tool(*common, "--exclude", table), expected)


def test_absent_weights_stop_a_study_before_anything_is_registered(nextflow, root, tmp_path):
    """What a new user without weights sees of the first real command."""
    (tmp_path / "empty").mkdir()
    places = dict.fromkeys(("SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"), str(tmp_path / "empty"))
    study = ("--input", root / "assets/demo/samplesheet_mr.csv", "--modality", "mr", "--holdout", "2", "--folds", "2")
    done = nextflow(tmp_path, "run", root / "main.nf", *study, "--outdir", "x", **places)
    assert done.returncode != 0
    (said,) = {line.strip() for line in done.stdout.splitlines() if "weights are not there" in line}
    assert "M730 (Dataset730_TotalSegmentatorMRI_part1_organs_495subj) for registration impact" in said
    assert "`bin/weights.py fetch --preset paper --modality mr --registration impact --weights" in said
    assert "Submitted process > STUDY:CHECK" in done.stdout and "STUDY:REGISTER" not in done.stdout
    assert not (tmp_path / "x" / "registration").exists()


def test_a_broken_series_is_named_before_any_registration(nextflow, root, sheet, tmp_path):
    """Its directory is called as exports call theirs; so is one's own preset, which SCAN reads too."""
    array = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) % 900
    (tmp_path / "my (own).toml").write_text('inherit = "test"\n')
    names = ("whole", "T1 AX (cut)", "other")
    series = [write_mr(tmp_path / name, array, uid=f"1.2.{n}") for n, name in enumerate(names)]
    broken = sorted(series[1].iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:300])
    wrong = shutil.copytree(series[2], tmp_path / "wrong")
    cts = ("mr/STS_018/ct.mha", "mr/STS_028/ct.mha", wrong)
    rows = [f"P{n},AB,A,{series[n]},{cts[n]},,train" for n in range(3)]
    arguments = ("--input", sheet(*rows), "--modality", "mr", "--preset", "my (own).toml", "--registration", "none")
    done = nextflow(tmp_path, "run", root / "main.nf", *arguments, "--holdout", "1", "--folds", "2", "--outdir", "r")
    said = done.stdout
    assert done.returncode != 0 and "2 of 3 patients could not be used" in said, said
    assert f"samplesheet, patient P1, column image: DICOM {series[1]}" in said
    assert f"samplesheet, patient P2, column ct: DICOM {wrong}: modality MR, expected CT" in said
    assert "Submitted process > SCAN" in said and "STUDY:REGISTER" not in said


def test_nf_core_finds_no_fault(root):
    """A second opinion on schema, configuration and layout, from nf-core's own linter."""
    environment = os.environ | {"PATH": f"{root}:{os.environ['PATH']}", "COLUMNS": "200"}
    linter = Path(sys.executable).with_name("nf-core")
    done = subprocess.run([linter, "pipelines", "lint", "--dir", root], capture_output=True, text=True, env=environment)
    said = done.stdout + done.stderr
    assert re.search(r"0 Tests Failed", said) and int(re.search(r"(\d+) Tests Passed", said)[1]) > 100, said
