#!/usr/bin/env python3
"""How the engine scales: `-stub-run` of a study with many patients, and the same with `-resume`, all of it cached.

    benchmarks/stub_scale.py --patients 250 --patients 1000
    benchmarks/stub_scale.py --patients 1000 -- --register_batch 8

Every row of the sheet points at one small patient of the demo. Two arms, five folds, 75 held out (a tenth in small
cohorts). Nothing is computed: what is measured is the engine and the shape of the workflow. Processor time is told
apart in the engine's own and that of the tasks' shells: where others use the machine it says more than the wall clock.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
HEAD = "| patients | run | tasks | wall (s) | CPU (s) | of it the engine's own (s) | engine's peak memory (MiB) |"


class Measured(NamedTuple):
    """One run of the engine."""

    said: str
    wall: float
    cpu: float  # of the engine and of all that it started
    own: float  # of the engine
    peak: float  # MiB, of the engine


def sheet(place: Path, patients: int) -> Path:
    """A samplesheet of that many patients in three regions and four centers."""
    data = ROOT / "assets" / "demo" / "mr" / "STS_032"
    rows = [
        f"P{i:05d},{('AB', 'HN', 'TH')[i % 3]},{'ABCD'[i % 4]},{data}/mr.mha,{data}/ct.mha,{data}/mask.mha"
        for i in range(patients)
    ]
    path = place / "cohort.csv"
    path.write_text("patient,region,center,image,ct,mask\n" + "\n".join(rows) + "\n")
    return path


def study(place: Path, patients: int, *more: str) -> list[str]:
    """The command of the run in `place`."""
    given = {
        "--input": sheet(place, patients),
        "--modality": "mr",
        "--registration": "elastix,mi",
        "--folds": 5,
        "--holdout": min(75, patients // 10),
        "--outdir": place / "results",
        "--publish_dir_mode": "symlink",
    }
    command = [ROOT / "nextflow", "run", ROOT / "main.nf", "-stub-run", "-profile", "stub", *more]
    return [str(part) for part in [*command, *(part for pair in given.items() for part in pair)]]


def measure(command: list[str], place: Path) -> Measured:
    """Run the engine in `place` to its end. The wrapper becomes the engine, so its process is the engine's."""
    start = time.monotonic()
    with open(place / "said.txt", "w") as said:
        process = subprocess.Popen(
            command, cwd=place, stdout=said, stderr=subprocess.STDOUT, env=os.environ | {"NXF_ANSI_LOG": "false"}
        )
    own = peak = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        try:
            spent = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            own, peak = sum(map(int, spent)) / TICKS, int(status["VmHWM"].split()[0]) / 1024
        except (OSError, KeyError):
            pass  # it has ended since
        time.sleep(0.1)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    text = (place / "said.txt").read_text()
    if process.returncode:
        sys.exit(text[-6000:])
    return Measured(text, time.monotonic() - start, ended[2].ru_utime + ended[2].ru_stime, own, peak)


@click.command(help=__doc__.split("\n")[0])
@click.option("--patients", "counts", multiple=True, type=int, default=(1000,), show_default=True)
@click.option("--resume/--no-resume", default=True, show_default=True, help="measure the run that finds all cached too")
@click.argument("parameters", nargs=-1)
def main(counts, resume, parameters):
    print(f"{HEAD}\n{'|---' * 7}|")
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            for name, more in (("first", ()), ("resumed", ("-resume",)))[: 1 + resume]:
                run = measure(study(place, count, *more, *parameters), place)
                submitted, cached = (run.said.count(f"{word} process > ") for word in ("Submitted", "Cached"))
                if submitted and more:
                    sys.exit(f"{submitted} tasks ran again, expected all cached:\n{run.said}")
                numbers = f"{run.wall:.0f} | {run.cpu:.0f} | {run.own:.0f} | {run.peak:.0f}"
                print(f"| {count} | {name} | {submitted + cached} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
