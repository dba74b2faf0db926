"""The engine's side: the newest syntax, and cohorts far larger than a test can compute."""

import re


def test_the_strict_syntax_runs_without_a_warning(nextflow, root, tmp_path):
    done = nextflow(
        tmp_path,
        "run",
        root / "main.nf",
        "-profile",
        "test",
        "-stub-run",
        "--outdir",
        tmp_path / "results",
        version="25.04.4",
        NXF_SYNTAX_PARSER="v2",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"WARN|deprecat|Warning", said), said


def test_help_and_version(nextflow, root, tmp_path):
    done = nextflow(tmp_path, "-q", "run", root / "main.nf", "--help")
    assert done.returncode == 0 and "--registration" in done.stdout and "samplesheet.csv" in done.stdout
