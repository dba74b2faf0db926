#!/usr/bin/env python3
"""What the rigid start proposes for pairs moved on purpose, whether its trial takes it, and whether it is right.

    benchmarks/starts.py CASES --modality mr --shift 0 0 20 --shift 0 0 -20 --turn 8 0 0 --out starts.csv
    benchmarks/starts.py DATA --modality mr --out starts.csv            # as they are, no truth needed

CASES/<modality>/<case> as in benchmarks/registration.py, or directories <case> with mr.mha (or cbct.mha), ct.mha and
mask.mha. The CT's header is moved; "before" and "proposed" are mean landmark errors (mm) of no map and of the rigid map
that the search proposes. Nothing is registered: seconds are those of search and trial.
"""

import csv
import itertools
import sys
import time
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from registration import move_of  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.images.grid import from_sitk  # noqa: E402
from synthct.images.volume import read_volume  # noqa: E402
from synthct.registration import recipes  # noqa: E402
from synthct.registration.dense.freeform import start_of  # noqa: E402

COLUMNS = (
    "case",
    "shift",
    "turn",
    "flip",
    "mirror",
    "ratio",
    "before",
    "proposed",
    "move_mm",
    "taken",
    "way",
    "mind_change",
    "worst",
    "seconds",
)


@click.command(help=__doc__)
@click.argument("cases", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--modality", required=True, type=click.Choice(presets.MODALITIES))
@click.option("--only", default="", help="comma list of parts of case names")
@click.option("--shift", "shifts", nargs=3, type=float, multiple=True, help="x y z, mm, LPS; as often as wanted")
@click.option("--turn", "turns", nargs=3, type=float, multiple=True, help="degrees about x y z; as often as wanted")
@click.option("--flip", "flips", multiple=True, type=click.Choice("xyz"), help="the CT's voxels, not its header")
@click.option("--set", "overrides", multiple=True, help="section.key=value")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV to write")
def main(cases, modality, only, shifts, turns, flips, overrides, out):
    torch.set_num_threads(1)
    section = presets.section("registration", settings=None, preset="paper", modality=modality, overrides=overrides)
    recipe = recipes.recipe(section, "mi" if modality == "mr" else "mind")
    still = (0.0, 0.0, 0.0)
    moves = [(shift, still) for shift in shifts] + [(still, turn) for turn in turns] or [(still, still)]
    found = sorted(path.parent for path in [*cases.glob(f"{modality}/*/ct.mha"), *cases.glob("*/ct.mha")])
    rows = []
    for directory in found:
        if only and not any(part in directory.name for part in only.split(",")):
            continue
        for (shift, turn), flip in itertools.product(moves, flips or ("",)):
            rows.append(_row(directory, modality, recipe, shift, turn, flip))
            print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    with open(out, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def _row(directory: Path, modality: str, recipe: recipes.Recipe, shift, turn, flip: str) -> dict:
    ct = sitk.ReadImage(str(directory / "ct.mha"))
    if flip:
        ct = _flipped(ct, flip)
    move = move_of(ct, turn, shift)
    matrix = np.reshape(move.GetMatrix(), (3, 3))
    ct.SetOrigin(move.TransformPoint(ct.GetOrigin()))
    ct.SetDirection((matrix @ np.reshape(ct.GetDirection(), (3, 3))).ravel().tolist())
    fixed = read_volume(directory / f"{modality}.mha", "fixed image", modality)
    mask = read_volume(directory / "mask.mha", "mask", "labels")
    began = time.process_time()
    found = start_of(fixed, from_sitk(ct), mask, recipe.settings, recipe.rigid, moving_is="ct")
    told = found.told
    seconds = time.process_time() - began
    row = {"case": directory.name, "shift": shift, "turn": turn, "flip": flip}
    row |= {
        "mirror": told["mirror"],
        "ratio": told["mirror_ratio"],
        "move_mm": told["move_mm"],
        "taken": told["better"],
    }
    if "way_mm" in told:
        row |= {"way": told["way_mm"], "mind_change": told["mind_change"], "worst": told["worst_region"]}
    landmarks = directory / "truth" / "landmarks.csv"
    if landmarks.exists():
        table = np.loadtxt(landmarks, delimiter=",", skiprows=1)
        true = np.array([move.TransformPoint(point) for point in table[:, 3:].tolist()])
        for name, mapped in (("before", table[:, :3]), ("proposed", table[:, :3] @ found.matrix.T + found.offset)):
            row[name] = round(float(np.linalg.norm(mapped - true, axis=1).mean()), 2)
    return row | {"seconds": round(seconds, 1)}


def _flipped(image: sitk.Image, axis: str) -> sitk.Image:
    """What a converter leaves that writes voxels the wrong way round: the header stays."""
    array = np.flip(sitk.GetArrayFromImage(image), 2 - "xyz".index(axis))
    other = sitk.GetImageFromArray(np.ascontiguousarray(array))
    other.CopyInformation(image)
    return other


if __name__ == "__main__":
    main()
