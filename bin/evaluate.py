#!/usr/bin/env python3
"""Score a synthetic CT against the CT inside the mask: MAE (HU), PSNR (dB), MS-SSIM as the SynthRAD2025 leaderboard
computes them; with label maps, Dice and HD95 (mm) over the region's classes. NaN and infinities are written as
strings."""

import click

from synthct.core.cli import tool
from synthct.core.digests import inputs_of
from synthct.core.errors import InputError, PatientError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND, write_arrays
from synthct.evaluation import baselines as trivial
from synthct.evaluation.options import evaluate_options, hu_range_of
from synthct.evaluation.pair import evaluate, evaluate_labels, no_classes, read_labels, read_pair, region_of, slices_of


@tool("evaluate.py", help=__doc__)
@evaluate_options
def main(sct, ct, mask, resample_ct, sct_seg, ct_seg, region, hu_range, settings, uncertainty, image, **asked):
    if bool(sct_seg) != bool(ct_seg):
        raise InputError("--sct-seg and --ct-seg belong together, only one was given")
    region = region or region_of(asked["patient"])
    if sct_seg and not region:
        raise InputError("--region: needed with label maps, it chooses the classes that are scored")
    if asked["baselines"] and not image:
        raise InputError("--baselines: needs --image, whose intensities the lookup table takes")
    hu_range = hu_range_of(hu_range, settings)
    about = {"patient": asked["patient"], "region": region}
    about |= {key: asked[key] for key in ("trained_on", "tested_on", "checkpoint")}
    told = {KIND: "metrics", **about, "inputs": inputs_of(sct=sct, ct=ct, mask=mask, image=image)}
    fitted = trivial.read(asked["baselines"]) if asked["baselines"] else None
    try:
        pair = read_pair(sct, ct, mask, uncertainty=uncertainty, image=image, resample_ct=resample_ct)
        labels = read_labels(pair, sct_seg, ct_seg) if sct_seg else None
    except PatientError as fault:
        if not asked["record_failure"]:
            raise
        click.echo(f"evaluate.py: not scored: {fault}", err=True)
        write_json(asked["out"], {**told, "failed": str(fault)})
        return
    resampled = {"ct_resampled": pair.seen is not None, "ct_coverage": pair.coverage} if resample_ct else {}
    scores = evaluate(
        pair.sct,
        pair.ct,
        pair.inside,
        hu_range=hu_range,
        image=pair.image,
        uncertainty=pair.uncertainty,
        baselines=fitted,
    )
    if asked["slices"]:
        write_arrays(asked["slices"], {KIND: "slices", **about}, slices_of(pair))
    if labels:
        scores |= evaluate_labels(*labels, pair.grid.spacing[::-1], region)
        pair.notes += no_classes(scores, region)
    for note in pair.notes:
        click.echo(f"evaluate.py: note: {note}", err=True)
    write_json(asked["out"], plain({**told, **resampled, **scores, "notes": pair.notes}))


if __name__ == "__main__":
    main()
