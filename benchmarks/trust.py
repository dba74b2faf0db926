#!/usr/bin/env python3
"""How many known failures does the word on trust catch, and how many good patients does it send back?

    .venv/bin/python benchmarks/trust.py --model BUNDLE --sheet SHEET --folds FOLDS --out build/trust [--patients N]

The held-out patients of FOLDS are taken in turn: the record of known patients is made without the one judged (its
input is known to nobody), who is judged as it is and spoilt in each way of `FAILURES`. Prints one table: kind ×
verdicts, and writes trust.json and the calibration's points (spread and error of each held-out patient).

    .venv/bin/python benchmarks/trust.py --images-only mr --sheet SHEET --out build/trust

needs no bundle: every patient of the sheet is known and judged in turn by the image and its mask alone, as before any
network has run (what sCT and spread would add is left out).
"""

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.core import presets  # noqa: E402
from synthct.images.grid import Grid, Volume  # noqa: E402
from synthct.images.volume import read_mask, read_volume  # noqa: E402
from synthct.prediction import known, trust  # noqa: E402
from synthct.prediction.bundle import read_bundle  # noqa: E402


def failures(image: Volume, mask: Volume, ct: Volume) -> dict[str, tuple[Volume, Volume]]:
    """Image and mask of one patient, spoilt in every way."""
    a, m = image.array.astype(np.float32), mask.array
    inside = m > 0
    scale, noise = float(a[inside].std()), np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n) for n in a.shape)
    metal = (z[:, None, None] ** 2 + (y[None, :, None] / 0.18) ** 2 + (x[None, None, :] / 0.12) ** 2 < 1) & inside
    rim = ndimage.binary_dilation(metal, iterations=3) & ~metal & inside
    thick = np.repeat(a[::3], 1, axis=0)
    wide = Grid(
        (*image.grid.size[:2], len(thick)), (*image.grid.spacing[:2], image.grid.spacing[2] * 3), image.grid.origin
    )
    half = a.shape[2] // 2
    cut = Grid((half, *image.grid.size[1:]), image.grid.spacing, image.grid.origin, image.grid.direction)
    short = max(3, a.shape[0] // 6)
    low = Grid((*image.grid.size[:2], short), image.grid.spacing, image.grid.origin, image.grid.direction)

    def like(array):
        return image.with_array(np.ascontiguousarray(array, np.float32)), mask

    return {
        "a CT (wrong modality)": (ct, mask),
        "inverted contrast, in the mask": like(np.where(inside, a[inside].max() - a, a)),
        "a negative": like(a.max() + a.min() - a),
        "strong noise": like(a + noise.normal(0, scale, a.shape)),
        "bias field": like(a * np.exp(1.1 * (x[None, None, :] + y[None, :, None]))),
        "metal (void, bright rim)": like(np.where(metal, a.min(), np.where(rim, a[inside].max() * 3, a))),
        "front to back": (image.with_array(a[:, ::-1].copy()), mask.with_array(m[:, ::-1].copy())),
        "upside down": (image.with_array(a[::-1].copy()), mask.with_array(m[::-1].copy())),
        "cropped to a half": (Volume(a[:, :, :half].copy(), cut), Volume(m[:, :, :half].copy(), cut)),
        "a sixth of the slices": (Volume(a[:short].copy(), low), Volume(m[:short].copy(), low)),
        "slices three times as thick": (Volume(thick, wide), Volume(m[::3].copy(), wide)),
        "blurred (8 mm)": like(ndimage.gaussian_filter(a, [8 / s for s in image.grid.spacing[::-1]])),
    }


def images_only(options):
    """Every patient against the record of the others, as it is and spoilt, by image and mask alone."""
    modality, base = options.images_only, options.sheet.parent
    rules = presets.resolve("paper", modality)["preprocessing"]
    rules |= {"spacing": [options.spacing] * 3} if options.spacing else {}
    rows = list(csv.DictReader(options.sheet.open()))

    def seen(image, mask, region):
        return trust.measured(image, mask, None, presets.for_region(rules, region), modality)

    known_ones, volumes = {}, {}
    for row in rows:
        image = read_volume(base / row["image"])
        mask = read_mask(base / row["mask"], image.grid)
        volumes[row["patient"]] = image, mask, read_volume(base / row["ct"])
        known_ones[row["patient"]] = {"region": row["region"], "mae_hu": None, **seen(image, mask, row["region"])}
    table: dict[str, Counter] = {}
    for number, row in enumerate(rows):
        name, region = row["patient"], row["region"]
        record = trust.learned([one for other, one in known_ones.items() if other != name])
        part = record["regions"].get(region) or record["regions"][""]
        kinds = {"as it is": volumes[name][:2]}
        kinds |= failures(*volumes[name]) if number < options.patients else {}
        for kind, (image, mask) in kinds.items():
            verdict, reasons = trust.against(
                part, known_ones[name] if kind == "as it is" else seen(image, mask, region)
            )
            table.setdefault(kind, Counter())[verdict] += 1
            if kind in ("as it is", "upside down", "front to back", "cropped to a half"):
                print(name, region, kind, verdict, reasons[:2], flush=True)
    show(table)
    keep(table, options.out, [])


def keep(table: dict[str, Counter], out: Path, judged: list[dict]):
    """Write the table with the held-out patients' points."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "trust.json").write_text(json.dumps({"table": table, "held_out": judged}, indent=1))


def show(table: dict[str, Counter]):
    """Print the table."""
    print(f"| {'kind':28} | use | look | do not use | caught |")
    print(f"|{'-' * 30}|----:|-----:|-----------:|-------:|")
    for kind, counts in table.items():
        count = sum(counts.values())
        caught = count - counts[trust.USE]
        print(
            f"| {kind:28} | {counts[trust.USE]:3} | {counts[trust.LOOK]:4} | {counts[trust.NO]:10} | {caught}/{count} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--images-only", choices=presets.MODALITIES)
    parser.add_argument("--spacing", type=float, help="mm of the working grid [default: the preset's], for speed")
    parser.add_argument("--sheet", required=True, type=Path)
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--patients", type=int, default=99, help="spoil only the first N held-out patients")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.images_only:
        return images_only(options)
    device, bundle = torch.device("cpu"), read_bundle(options.model)
    about, base = bundle.about, options.sheet.parent
    plan = json.loads(options.folds.read_text())
    trained = {name for fold in plan["folds"] for part in ("train", "validation") for name in fold[part]}
    rows = list(csv.DictReader(options.sheet.open()))
    patients = {
        row["patient"]: known.measure(bundle, base, row, device, held_out=row["patient"] not in trained) for row in rows
    }
    table: dict[str, Counter] = {}
    held_out = [row for row in rows if row["patient"] not in trained]
    judged = []
    for number, row in enumerate(held_out):
        name, region = row["patient"], row["region"]
        record = trust.learned([one for other, one in patients.items() if other != name])
        part = record["regions"].get(region) or record["regions"][""]
        verdict, reasons = trust.against(part, patients[name])
        table.setdefault("as it is", Counter())[verdict] += 1
        expected = trust.expected(patients[name]["features"]["spread_hu"], part["spread_and_mae_hu"])
        judged.append(
            {
                "spread_hu": patients[name]["features"]["spread_hu"],
                "mae_hu": patients[name]["mae_hu"],
                "expected_mae_hu": expected,
                "verdict": verdict,
                "reasons": reasons,
            }
        )
        if number >= options.patients:
            continue
        image, ct = read_volume(base / row["image"]), read_volume(base / row["ct"])
        mask = read_mask(base / row["mask"], image.grid)
        rules = presets.for_region(about["preprocessing"], region or about["default_region"])
        for kind, (spoilt, inside) in failures(image, mask, ct).items():
            result = known.predicted(bundle, spoilt, inside, region, device)
            said = trust.judge(record, spoilt, inside, result, rules, region, about["modality"])
            table.setdefault(kind, Counter())[said["verdict"]] += 1
            judged[-1].setdefault("spoilt", {})[kind] = [said["verdict"], *said["reasons"][:2]]
        print(name, verdict, reasons[:2], flush=True)
    show(table)
    keep(table, options.out, judged)


if __name__ == "__main__":
    main()
