#!/usr/bin/env python3
"""Make a training case of one patient: image and CT in LPS order, resampled, cropped to the body, as int16 arrays.

The input is normalised inside the mask (MR: z-score; CBCT: minimum to a percentile onto [-1, 1]); the rule is stored
beside the raw values. Without --ct the case can be predicted but not trained on.
"""

from pathlib import Path

import click

from synthct.cases.store import ours, write_case
from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, tool
from synthct.core.errors import InputError
from synthct.core.files import require_replaceable
from synthct.images.contours import FILLED, filled
from synthct.images.orientation import to_lps
from synthct.images.volume import read_mask, read_volume


@tool("preprocess.py", help=__doc__)
@click.option("--modality", required=True, type=click.Choice(presets.MODALITIES))
@click.option("--image", required=True, type=VOLUME, help="MR or CBCT: MHA, NIfTI, NRRD or a DICOM series directory")
@click.option("--ct", type=VOLUME, help="CT in HU on the image's grid")
@click.option("--mask", required=True, type=VOLUME, help="body mask on the image's grid, above 0 is inside")
@click.option("--patient", help="patient's name  [default: the name of --out]")
@click.option("--region", default="", help="body region, e.g. AB")
@click.option("--center", default="", help="hospital")
@click.option("--arm", default="", help="registration method the CT comes from")
@click.option("--settings", type=FILE, help="resolved settings (JSON) instead of --preset")
@click.option("--preset", default="paper", help="name of a preset, or a TOML file")
@click.option("--set", "overrides", multiple=True, help="section.key=value")
@click.option("--out", required=True, type=OUT, help="case directory to write")
def main(modality, image, ct, mask, patient, region, center, arm, settings, preset, overrides, out):
    rules = presets.section("preprocessing", settings=settings, preset=preset, modality=modality, overrides=overrides)
    require_replaceable(out, ours, filter(None, (image, ct, mask)))
    volume = read_volume(image, kind=modality)
    body, was_contour = filled(read_mask(mask, volume.grid))
    if was_contour:
        click.echo(f"preprocess.py: warning: mask {mask} {FILLED}", err=True)
    target = read_volume(ct, "CT", "ct") if ct else None
    if target is not None and (difference := target.grid.differs_from(volume.grid)):
        raise InputError(f"CT {ct}: another grid than the image ({difference})")
    labels = {"patient": patient or Path(out).name, "region": region, "center": center, "arm": arm}
    case = write_case(
        out,
        image=to_lps(volume),
        mask=to_lps(body),
        ct=to_lps(target) if target else None,
        modality=modality,
        rules=presets.for_region(rules, region),
        labels=labels,
    )
    z, y, x = (b - a for a, b in zip(case["box"][::2], case["box"][1::2], strict=True))
    click.echo(f"{labels['patient']}: {len(case['body_slices'])} of {z} slices with body, {y}×{x} pixels")


if __name__ == "__main__":
    main()
