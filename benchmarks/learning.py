#!/usr/bin/env python3
"""Does it learn? Train on a sheet's patients and compare the validation MAE with the trivial predictors.

    .venv/bin/python benchmarks/learning.py --sheet assets/demo/samplesheet_mr.csv --out build/learning
        [--preset test] [--set training.max_steps=2000 ...]

    .venv/bin/python benchmarks/learning.py --task WORK/64/4c3f33... --out build/learning

The second trains nothing: it takes the directory of a study's finished TRAIN task (`workdir` in its trace).

Patients with split "test" are validated on (without any: every fourth). The trivial predictors are the best constant
HU and a lookup table from standardised intensity to HU (the median of each of 64 quantile bins), fitted on the training
patients and scored on the validation patients, all slices. Writes curve.png, and the run as train.py does; run again,
it continues. The images of these patients and their registration differ from SynthRAD2025's: so do their scores.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.cases.store import OUTSIDE, find_cases, write_case  # noqa: E402
from synthct.core import presets  # noqa: E402
from synthct.images.orientation import to_lps  # noqa: E402
from synthct.images.volume import read_mask, read_volume  # noqa: E402
from synthct.networks import network  # noqa: E402
from synthct.networks.checkpoint import load_weights  # noqa: E402
from synthct.training.loop import Trainer  # noqa: E402
from synthct.training.setup import Request  # noqa: E402
from synthct.training.start import run_of  # noqa: E402
from synthct.training.validation import validate  # noqa: E402

BINS = 64


def prepare(sheet: Path, modality: str, tree: dict, out: Path) -> Path:
    """Cases and folds.json of a sheet's patients, unregistered, in `out`; returns the folds file."""
    with open(sheet, newline="") as file:
        rows = list(csv.DictReader(file))
    held_out = {row["patient"] for row in rows if row.get("split") == "test"}
    held_out = held_out or {row["patient"] for row in rows[::4]}
    for row in rows:
        case = out / "cases" / row["patient"]
        if case.is_dir():
            continue
        image = read_volume(sheet.parent / row["image"])
        mask = read_mask(sheet.parent / row["mask"], image.grid)
        ct = read_volume(sheet.parent / row["ct"], "CT")
        labels = {"patient": row["patient"], "region": row["region"], "center": row["center"], "arm": "none"}
        rules = presets.for_region(tree["preprocessing"], row["region"])
        write_case(
            case, image=to_lps(image), mask=to_lps(mask), ct=to_lps(ct), modality=modality, rules=rules, labels=labels
        )
    names = [row["patient"] for row in rows]
    fold = {"train": [n for n in names if n not in held_out], "validation": [n for n in names if n in held_out]}
    folds = {"format": 1, "seed": 1, "test": [], "folds": [fold], "regions": {}, "excluded": {}}
    (out / "folds.json").write_text(json.dumps(folds))
    return out / "folds.json"


def voxels(case) -> tuple[np.ndarray, np.ndarray]:
    """Standardised intensity and clipped HU of a case's body voxels."""
    image, ct = np.load(case.path / "image.npy"), np.load(case.path / "ct.npy")
    inside = image != OUTSIDE
    return case.normalisation(image, inside)[inside], np.clip(ct[inside], *case.preprocessing["ct_range"]).astype(float)


def trivial(training, validation) -> tuple[float, float]:
    """MAE in HU, mean over validation patients, of the best constant and of the lookup table."""
    x, y = (np.concatenate(part) for part in zip(*map(voxels, training), strict=True))
    constant = np.median(y)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.digitize(x, edges)
    table = np.array([np.median(y[place == i]) if (place == i).any() else constant for i in range(len(edges) + 1)])
    pairs = [voxels(case) for case in validation]
    errors = [(np.abs(t - constant).mean(), np.abs(t - table[np.digitize(v, edges)]).mean()) for v, t in pairs]
    return tuple(np.mean(errors, 0))


def draw(rows: list[dict], constant: float, lookup: float, path: Path):
    """The validation curve with both trivial predictors."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot([row["step"] for row in rows], [row["validation_mae_hu"] for row in rows], "o-", ms=3, label="U-Net++")
    axes.axhline(lookup, color="tab:orange", label=f"lookup table {lookup:.1f} HU")
    axes.axhline(constant, color="tab:gray", label=f"constant {constant:.1f} HU")
    axes.set(xlabel="step", ylabel="validation MAE (HU)", ylim=(0, 2 * constant))
    axes.legend()
    figure.savefig(path, dpi=120)


def score(model, cases, settings: dict, cast, device, constant: float, lookup: float):
    """Print the MAE over all slices of the validation patients beside the trivial predictors'."""
    scores = validate(model, cases, settings | {"validation_slices": 0}, cast, device)
    errors = {name: one["mae"] for name, one in scores.items()}
    mae = float(np.mean(list(errors.values())))
    print(f"all slices: MAE {mae:.1f} HU = {mae / lookup:.2f} x lookup table, {mae / constant:.2f} x constant")
    print("  ".join(f"{name} {error:.1f}" for name, error in sorted(errors.items())))


def judge(task: Path, out: Path):
    """A finished TRAIN task: its validation curve and its best checkpoint against the trivial predictors."""
    (log,) = task.glob("*/log.csv")
    (folds,) = task.glob("*__folds.json")
    weights, about = load_weights(log.parent / "best.safetensors")
    settings = about["settings"]["training"]
    cases = find_cases([task / "cases"])
    fold = json.loads(folds.read_text())["folds"][int(about["fold"])]
    training, validation = ([cases[name] for name in fold[part]] for part in ("train", "validation"))
    constant, lookup = trivial(training, validation)
    print(f"{log.parent.name}: best constant {constant:.1f} HU, lookup table {lookup:.1f} HU, step {about['step']}")
    with open(log, newline="") as file:
        rows = [{key: float(row[key]) for key in ("step", "validation_mae_hu")} for row in csv.DictReader(file)]
    out.mkdir(parents=True, exist_ok=True)
    draw(rows, constant, lookup, out / "curve.png")
    model = network.build(settings["network"], about["channels"])
    model.load_state_dict(weights)
    score(model, validation, settings, torch.inference_mode, torch.device("cpu"), constant, lookup)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, default=ROOT / "assets" / "demo" / "samplesheet_mr.csv")
    parser.add_argument("--modality", default="mr", choices=presets.MODALITIES)
    parser.add_argument("--preset", default="test")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "learning")
    parser.add_argument("--task", type=Path, help="directory of a finished TRAIN task; nothing is trained then")
    given = parser.parse_args()
    if given.task:
        return judge(given.task, given.out)
    tree = presets.resolve(given.preset, given.modality, given.overrides)
    folds = prepare(given.sheet, given.modality, tree, given.out)
    run = run_of(
        Request(
            cases=[given.out / "cases"],
            folds=folds,
            fold="0",
            out=given.out / "run",
            arm="none",
            preset=given.preset,
            modality=given.modality,
            overrides=given.overrides,
            checkpoint_dir=str(given.out / "state"),
            device=given.device,
        )
    )
    constant, lookup = trivial(run.training, run.validation)
    print(f"best constant {constant:.1f} HU, lookup table {lookup:.1f} HU", flush=True)
    trainer = Trainer(run)
    trainer.train()
    draw(trainer.rows, constant, lookup, given.out / "curve.png")
    trainer.model.load_state_dict(trainer.best["weights"])
    cases = list(find_cases([case.path for case in run.validation]).values())
    score(trainer.model, cases, run.settings, trainer.cast, trainer.device, constant, lookup)


if __name__ == "__main__":
    main()
