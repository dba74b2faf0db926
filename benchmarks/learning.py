#!/usr/bin/env python3
"""Does it learn? Train on a sheet's patients and compare the validation MAE with the trivial predictors.

    .venv/bin/python benchmarks/learning.py --sheet assets/demo/samplesheet_mr.csv --out build/learning
        [--preset test] [--set training.max_steps=2000 ...]

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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct import settings as presets  # noqa: E402
from synthct.cases import OUTSIDE, find_cases, write_case  # noqa: E402
from synthct.orientation import to_lps  # noqa: E402
from synthct.runs import plan  # noqa: E402
from synthct.training import Trainer  # noqa: E402
from synthct.validation import validate  # noqa: E402
from synthct.volume import read_mask, read_volume  # noqa: E402

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, default=ROOT / "assets" / "demo" / "samplesheet_mr.csv")
    parser.add_argument("--modality", default="mr", choices=presets.MODALITIES)
    parser.add_argument("--preset", default="test")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "learning")
    given = parser.parse_args()
    tree = presets.resolve(given.preset, given.modality, given.overrides)
    folds = prepare(given.sheet, given.modality, tree, given.out)
    run = plan(
        "training",
        cases=[given.out / "cases"],
        folds=folds,
        fold="0",
        out=given.out / "run",
        arm="none",
        settings=None,
        preset=given.preset,
        modality=given.modality,
        overrides=given.overrides,
        regions=[],
        init=None,
        checkpoint_dir=str(given.out / "state"),
        device=given.device,
        resume=True,
    )
    constant, lookup = trivial(run.training, run.validation)
    print(f"best constant {constant:.1f} HU, lookup table {lookup:.1f} HU", flush=True)
    trainer = Trainer(run)
    trainer.train()
    draw(trainer.rows, constant, lookup, given.out / "curve.png")
    trainer.model.load_state_dict(trainer.best["weights"])
    everything = run.settings | {"validation_slices": 0}
    cases = list(find_cases([case.path for case in run.validation]).values())
    errors = validate(trainer.model, cases, everything, trainer.cast, trainer.device)
    mae = float(np.mean(list(errors.values())))
    print(f"all slices, best of {trainer.step} steps: MAE {mae:.1f} HU = {mae / lookup:.2f} x lookup table, "
          f"{mae / constant:.2f} x constant")  # fmt: skip
    print("  ".join(f"{name} {error:.1f}" for name, error in sorted(errors.items())))


if __name__ == "__main__":
    main()
