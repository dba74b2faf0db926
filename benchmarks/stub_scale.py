#!/usr/bin/env python3
"""How the engine scales: `-stub-run` of a study with many patients, its wall time, CPU time and peak memory.

    benchmarks/stub_scale.py --patients 250 --patients 500 --patients 1000

Every row of the sheet points at one small patient of the demo. Two arms, five folds, 75 held out (a tenth in small
cohorts). Nothing is computed: what is measured is the engine and the shape of the workflow.
"""

import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]


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


@click.command(help=__doc__.split("\n")[0])
@click.option("--patients", "counts", multiple=True, type=int, default=(1000,), show_default=True)
def main(counts):
    print("| patients | tasks | wall (s) | CPU (s) | engine's peak memory (MiB) |\n|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            command = [
                ROOT / "nextflow",
                "run",
                ROOT / "main.nf",
                "-stub-run",
                "-profile",
                "stub",
                "--input",
                sheet(place, count),
                "--modality",
                "mr",
                "--registration",
                "elastix,mi",
                "--folds",
                "5",
                "--holdout",
                str(min(75, count // 10)),
                "--outdir",
                place / "results",
                "--publish_dir_mode",
                "symlink",
            ]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            done = subprocess.run(
                [str(part) for part in command],
                cwd=place,
                capture_output=True,
                text=True,
                env=os.environ | {"NXF_ANSI_LOG": "false"},
            )
            wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode:
                raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            tasks = done.stdout.count("Submitted process")
            print(f"| {count} | {tasks} | {wall:.0f} | {cpu:.0f} | {after.ru_maxrss / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
