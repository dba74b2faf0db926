#!/usr/bin/env python3
"""Score a synthetic CT against the CT inside the mask: MAE (HU), PSNR (dB), MS-SSIM as the SynthRAD2025 leaderboard
computes them; with label maps, Dice and HD95 (mm) over the region's classes. NaN and infinities are written as
strings."""

import sys

import click
import numpy as np

from synthct import baselines as trivial
from synthct import settings as rooms
from synthct.bodymask import body_mask
from synthct.cli import FILE, OUT, VOLUME, tool
from synthct.errors import InputError
from synthct.evaluation import evaluate, evaluate_labels, region_of
from synthct.files import atomic, plain, write_json
from synthct.metrics.image import HU_RANGE
from synthct.orientation import orientation_of
from synthct.slices import for_display, mid_slices
from synthct.volume import read_volume, resample


@tool("evaluate.py", help=__doc__)
@click.option("--sct", required=True, type=VOLUME, help="synthetic CT, HU")
@click.option("--ct", required=True, type=VOLUME, help="CT on the same grid, HU")
@click.option("--mask", type=VOLUME, help="body mask on the same grid, inside > 0  [default: one is made from the CT]")
@click.option(
    "--resample-ct",
    is_flag=True,
    help="bring a CT of another grid onto the sCT's; voxels outside its field of view are not scored",
)
@click.option("--sct-seg", type=VOLUME, help="TotalSegmentator label map of the sCT")
@click.option("--ct-seg", type=VOLUME, help="TotalSegmentator label map of the CT")
@click.option("--region", default="", help="AB, TH, HN or a name of your own; chooses the classes scored")
@click.option(
    "--hu-range", nargs=2, type=float, help="HU; clip and data range of PSNR and MS-SSIM  [default: -1024 3071]"
)
@click.option(
    "--settings", "settings_file", type=FILE, help="resolved settings; their hu_range stands if none is given here"
)
@click.option("--patient", default="", help="name written into the result")
@click.option("--trained-on", default="", help="registration that the model was trained on, written into the result")
@click.option("--tested-on", default="", help="registration that made this image pair, written into the result")
@click.option("--checkpoint", default="", help="best or final, written into the result")
@click.option("--uncertainty", type=VOLUME, help="standard deviation of the ensemble, HU")
@click.option("--image", type=VOLUME, help="the model's input on the same grid")
@click.option("--baselines", type=FILE, help="trivial predictors of baselines.py; needs --image")
@click.option("--slices", type=OUT, help="npz of small mid-slices for the report to write")
@click.option("--out", required=True, type=OUT, help="JSON file to write")
def main(
    sct,
    ct,
    mask,
    resample_ct,
    sct_seg,
    ct_seg,
    region,
    hu_range,
    settings_file,
    patient,
    trained_on,
    tested_on,
    checkpoint,
    uncertainty,
    image,
    baselines,
    slices,
    out,
):
    if bool(sct_seg) != bool(ct_seg):
        raise InputError("--sct-seg and --ct-seg belong together, only one was given")
    region = region or region_of(patient)
    if sct_seg and not region:
        raise InputError("--region: needed with label maps, it chooses the classes that are scored")
    if baselines and not image:
        raise InputError("--baselines: needs --image, whose intensities the lookup table takes")
    hu_range = hu_range or _hu_range(settings_file)
    if not hu_range[0] < hu_range[1]:
        raise InputError(f"--hu-range {hu_range[0]:g} {hu_range[1]:g}: expected the lower end first")
    truth = read_volume(ct, "CT")
    notes = []
    onto = read_volume(sct, "sCT").grid if resample_ct else truth.grid
    away = truth.grid.differs_from(onto)
    if away:
        seen = resample(truth.with_array(np.ones(truth.grid.shape, np.uint8)), onto, order=0).array > 0
        truth = resample(truth, onto, outside=-1024)
        notes.append(f"CT: resampled (linear) onto the sCT's grid ({away}); no registration was done")
    volumes = {
        name: _on_grid(path, name, truth.grid, notes)
        for name, path in {"sCT": sct, "mask": mask, "uncertainty": uncertainty, "image": image}.items()
        if path
    }
    if mask:
        inside = volumes.pop("mask") > 0
    else:
        inside = body_mask(truth, "ct").array > 0
        notes.append("mask: none given, made from the CT by threshold")
    if away:
        covered = float(seen[inside].mean()) if inside.any() else float("nan")
        inside &= seen
        notes.append(f"CT: covers {covered:.1%} of the mask, nothing is scored outside it")
    if not inside.any():
        notes.append("mask: empty, no voxel above 0")
    result = {
        "patient": patient,
        "region": region,
        "trained_on": trained_on,
        "tested_on": tested_on,
        "checkpoint": checkpoint,
    }
    if resample_ct:
        result |= {"ct_resampled": bool(away), "ct_coverage": covered if away else 1.0}
    result |= evaluate(
        volumes["sCT"],
        truth.array,
        inside,
        hu_range=hu_range,
        image=volumes.get("image"),
        uncertainty=volumes.get("uncertainty"),
        baselines=trivial.read(baselines) if baselines else None,
    )
    if slices:
        _write_slices(slices, volumes, truth, inside)
    del volumes["sCT"]
    if sct_seg:
        labels = [_on_grid(sct_seg, "sCT label map", truth.grid, notes)]
        if away:
            labels.append(resample(read_volume(ct_seg, "CT label map"), onto, order=0).array)
            labels = [np.where(seen, each, 0) for each in labels]
        else:
            labels.append(_on_grid(ct_seg, "CT label map", truth.grid, notes))
        result |= evaluate_labels(*labels, truth.grid.spacing[::-1], region)
    result["notes"] = notes
    for note in notes:
        print(f"evaluate.py: note: {note}", file=sys.stderr)
    write_json(out, plain(result))


def _on_grid(path, what: str, grid, notes: list[str]) -> np.ndarray:
    """An array of the CT's shape. A differing geometry is noted but taken as the CT's, as the leaderboard does."""
    volume = read_volume(path, what)
    if volume.grid.size != grid.size:
        raise InputError(
            f"{what} {path}: {volume.grid.differs_from(grid)} of the CT; resample it onto the CT's grid first"
        )
    if difference := volume.grid.differs_from(grid):
        notes.append(f"{what}: header differs from the CT's ({difference}); compared voxel by voxel on the CT's grid")
    return volume.array


def _hu_range(settings_file) -> tuple[float, float]:
    if not settings_file:
        return HU_RANGE
    return tuple(rooms.section("evaluation", settings=settings_file, preset="", modality="").get("hu_range", HU_RANGE))


def _write_slices(path, volumes, truth, inside):
    shown = {"sct": volumes["sCT"], "ct": truth.array}
    shown = {name: np.clip(np.rint(array), -32768, 32767).astype(np.int16) for name, array in shown.items()}
    if "image" in volumes:
        shown["image"] = for_display(volumes["image"], inside)
    if "uncertainty" in volumes:
        shown["uncertainty"] = volumes["uncertainty"].astype(np.float32)
    orientation = orientation_of(truth.grid)
    shown = {name: orientation.turn(array) for name, array in shown.items()}
    arrays = mid_slices(shown, orientation.turn(inside), orientation.turn_grid(truth.grid).spacing[::-1])
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


if __name__ == "__main__":
    main()
