"""The documented commands that end a dead driver's jobs, run as they stand, against stand-ins for the scheduler."""

import os
import re
import stat
import subprocess

import botocore.session
import jmespath

# Notes what it was called with, and answers a listing as the CLI does
AWS = r"""#!/bin/bash
(IFS=$'\t'; echo "$*") >> "LOG"
case "$*" in
*"list-jobs --job-queue synthct-cpu --job-status RUNNABLE"*) printf 'ID0\tID1\n' ;;
*"list-jobs --job-queue synthct-gpu --job-status RUNNING"*) printf 'ID2\n' ;;
*"list-jobs --job-queue synthct-gpu --job-status SUBMITTED"*) printf 'ID3\n' ;;
esac
"""
IDS = [f"{number:08x}-1111-2222-3333-444444444444" for number in range(4)]


def block(page: str, mark: str) -> str:
    """The code block of a page that holds `mark`."""
    return next(text for text in re.findall(r"^```\n(.*?)^```", page, re.M | re.S) if mark in text)


def program(place, name: str, text: str):
    place.mkdir(exist_ok=True)
    (place / name).write_text(text)
    (place / name).chmod((place / name).stat().st_mode | stat.S_IXUSR)


def run(script: str, place, directory) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-eu", "-c", script], cwd=directory, env=environment, capture_output=True, text=True)


def test_on_batch(root, tmp_path):
    """Every job that waits or runs in either queue is ended, each once, in words that the service's own model knows."""
    text = AWS.replace("LOG", str(tmp_path / "log"))
    for number, one in enumerate(IDS):
        text = text.replace(f"ID{number}", one)
    program(tmp_path / "bin", "aws", text)
    done = run(block((root / "docs/aws.md").read_text(), "terminate-job"), tmp_path / "bin", tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    model = botocore.session.get_session().get_service_model("batch")
    ended, listed = [], set()
    for line in (tmp_path / "log").read_text().splitlines():
        service, command, *rest = line.split("\t")
        operation = next(name for name in model.operation_names if botocore.xform_name(name, "-") == command)
        shape = model.operation_model(operation).input_shape
        names = {botocore.xform_name(name, "-"): name for name in shape.members}
        given = {option.removeprefix("--"): value for option, value in zip(rest[::2], rest[1::2], strict=True)}
        if query := given.pop("query", None):
            assert given.pop("output") == "text"
            assert jmespath.search(query, {"jobSummaryList": [{"jobId": "a"}, {"jobId": "b"}]}) == ["a", "b"]
            assert given["job-status"] in shape.members["jobStatus"].enum
            listed.add((given["job-queue"], given["job-status"]))
        else:
            ended.append(given["job-id"])
        assert service == "batch" and set(given) <= set(names), line
        assert {names[option] for option in given} >= set(shape.required_members), line
    assert sorted(ended) == IDS
    unfinished = set(model.shape_for("JobStatus").enum) - {"SUCCEEDED", "FAILED"}
    assert listed == {(queue, status) for queue in ("synthct-cpu", "synthct-gpu") for status in unfinished}


def test_on_slurm(root, tmp_path):
    """The jobs of this directory's study are ended, those of another study are not, also with a space in the path."""
    mine = tmp_path / "my study"
    mine.mkdir()
    listed = f"11 {mine}/work/ab/cd\\n12 {tmp_path}/other/work/ab/cd\\n13 {mine}/work/ef/01\\n"
    program(tmp_path / "bin", "squeue", f"#!/bin/bash\nprintf '{listed}'\n")
    program(tmp_path / "bin", "scancel", f'#!/bin/bash\necho "$@" >> "{tmp_path}/log"\n')
    done = run(block((root / "docs/containers.md").read_text(), "scancel"), tmp_path / "bin", mine)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().split() == ["11", "13"]
