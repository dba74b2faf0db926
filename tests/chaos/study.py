"""The small study that is killed and starved: three simulated-CBCT patients, every step, as short as it can be."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import kills

ROOT = Path(__file__).resolve().parents[2]
SET = (
    "training.max_steps=6;training.validate_every=2;training.warmup=0;training.validation_slices=1;"
    "training.patch=[32, 32];training.workers=1;finetuning.max_steps=2;finetuning.validate_every=1;"
    "training.network.encoder=resnet18;training.network.decoder_channels=[16, 8, 8];inference.flips=none;"
    "curation.limits.mind_distance_moved=2.0"  # the pairs are as they come, and stay in
)


def command(sheet: Path, outdir: Path) -> list:
    study = ["-profile", "test", "--modality", "cbct", "--registration", "none", "--region_groups", "AB"]
    study += ["--curate", "auto", "--folds", "2", "--holdout", "2", "--set", SET]
    return [ROOT / "nextflow", "run", ROOT / "main.nf", *study, "--input", sheet, "--outdir", outdir]


def write_sheet(place: Path) -> Path:
    demo = ROOT / "assets" / "demo"
    with open(demo / "samplesheet_cbct.csv", newline="") as handle:
        rows = [row | {k: str(demo / row[k]) for k in ("image", "ct", "mask")} for row in csv.DictReader(handle)]
    with open(place / "sheet.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return place / "sheet.csv"


def uninterrupted(sheet: Path, place: Path) -> tuple[dict, dict]:
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        done = subprocess.run([*map(str, command(sheet, place / "results"))], cwd=place, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the uninterrupted run failed:\n{done.stdout}{done.stderr}")
        shutil.rmtree(place / "work")
        (place / "done").touch()
    return kills.published(place / "results"), kills.usual(next((place / "results/pipeline_info").glob("trace_*.txt")))
