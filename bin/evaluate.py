#!/usr/bin/env python3
"""Score a synthetic CT against the CT inside the mask: MAE (HU), PSNR (dB), MS-SSIM as the SynthRAD2025 leaderboard
computes them; with label maps, Dice and HD95 (mm) over the region's classes. NaN and infinities are written as
strings."""

import click

from synthct.core import settings as presets
from synthct.core.cli import FILE, OUT, VOLUME, tool
from synthct.core.errors import InputError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND, write_arrays
from synthct.evaluation import baselines as trivial
from synthct.evaluation.metrics.image import HU_RANGE
from synthct.evaluation.pair import evaluate, evaluate_labels, read_labels, read_pair, region_of, slices_of


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
@click.option("--settings", type=FILE, help="resolved settings; their hu_range stands if none is given here")
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
    settings,
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
    hu_range = hu_range or _hu_range(settings)
    if not hu_range[0] < hu_range[1]:
        raise InputError(f"--hu-range {hu_range[0]:g} {hu_range[1]:g}: expected the lower end first")
    about = {
        "patient": patient,
        "region": region,
        "trained_on": trained_on,
        "tested_on": tested_on,
        "checkpoint": checkpoint,
    }
    pair = read_pair(sct, ct, mask, uncertainty=uncertainty, image=image, resample_ct=resample_ct)
    resampled = {"ct_resampled": pair.seen is not None, "ct_coverage": pair.coverage} if resample_ct else {}
    scores = evaluate(
        pair.sct,
        pair.ct,
        pair.inside,
        hu_range=hu_range,
        image=pair.image,
        uncertainty=pair.uncertainty,
        baselines=trivial.read(baselines) if baselines else None,
    )
    if slices:
        write_arrays(slices, {KIND: "slices", **about}, slices_of(pair))
    if sct_seg:
        scores |= evaluate_labels(*read_labels(pair, sct_seg, ct_seg), pair.grid.spacing[::-1], region)
    for note in pair.notes:
        click.echo(f"evaluate.py: note: {note}", err=True)
    write_json(out, plain({KIND: "metrics", **about, **resampled, **scores, "notes": pair.notes}))


def _hu_range(settings: str | None) -> tuple[float, float]:
    if not settings:
        return HU_RANGE
    return tuple(presets.section("evaluation", settings=settings, preset="", modality="").get("hu_range", HU_RANGE))


if __name__ == "__main__":
    main()
