#!/usr/bin/env python3
"""Make a training case of one patient: image and CT in LPS order, resampled, cropped to the body, as int16 arrays.

The input is normalised inside the mask (MR: z-score; CBCT: minimum to a percentile onto [-1, 1]); the rule is stored
beside the raw values. Without --ct the case can be predicted but not trained on.
"""

from pathlib import Path

import click
import numpy as np

from synthct.cases.store import ours, write_case
from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, tool
from synthct.core.errors import PatientError
from synthct.core.files import require_replaceable, write_json
from synthct.images.contours import FILLED, filled
from synthct.images.orientation import to_lps
from synthct.images.volume import read_mask, read_volume

AIR_INSIDE = -500.0  # HU: the median in a body is fat or muscle, also where lungs are in it


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
@click.option(
    "--record", type=OUT, help="JSON for curate.py: a pair that cannot be used is said there, and is no reason to fail"
)
def main(modality, image, ct, mask, settings, preset, overrides, out, record, **labels):
    rules = presets.section("preprocessing", settings=settings, preset=preset, modality=modality, overrides=overrides)
    require_replaceable(out, ours, filter(None, (image, ct, mask)))
    labels["patient"] = labels["patient"] or Path(out).name
    try:
        case = _case(modality, image, ct, mask, rules, labels, out)
    except PatientError as fault:
        if not record:
            raise
        click.echo(f"preprocess.py: not usable: {fault}", err=True)
        write_json(record, {"patient": labels["patient"], "failed": str(fault)})
        return
    if record:
        write_json(record, {"patient": labels["patient"]})
    z, y, x = (b - a for a, b in zip(case["box"][::2], case["box"][1::2], strict=True))
    click.echo(f"{labels['patient']}: {len(case['body_slices'])} of {z} slices with body, {y}×{x} pixels")


def _case(modality: str, image, ct, mask, rules: dict, labels: dict, out) -> dict:
    volume = read_volume(image, kind=modality)
    body, was_contour = filled(read_mask(mask, volume.grid))
    if was_contour:
        click.echo(f"preprocess.py: warning: mask {mask} {FILLED}", err=True)
    target = read_volume(ct, "CT", "ct") if ct else None
    if target is not None and (difference := target.grid.differs_from(volume.grid)):
        raise PatientError(f"CT {ct}: another grid than the image ({difference})")
    if target is not None and (hu := float(np.median(target.array[body.array > 0]))) < AIR_INSIDE:
        raise PatientError(f"mask {mask}: most of it is air ({hu:.0f} HU in the middle), expected the body")
    return write_case(
        out,
        image=to_lps(volume),
        mask=to_lps(body),
        ct=to_lps(target) if target else None,
        modality=modality,
        rules=presets.for_region(rules, labels["region"]),
        labels=labels,
    )


if __name__ == "__main__":
    main()
