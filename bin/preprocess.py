#!/usr/bin/env python3
"""Make a training case of one patient: image and CT in LPS order, resampled, cropped to the body, as int16 arrays.

The input is normalised inside the mask (MR: z-score; CBCT: minimum to a percentile onto [-1, 1]); the rule is stored
beside the raw values. Without --ct the case can be predicted but not trained on.
"""

from pathlib import Path

import click

from synthct.cases.pair import make_case
from synthct.cases.store import ours
from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, tool
from synthct.core.errors import PatientError
from synthct.core.files import require_replaceable, write_json


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
        given = {"image": image, "ct": ct, "mask": mask, "modality": modality}
        case = make_case(out, **given, rules=rules, labels=labels, warn=_warn)
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


def _warn(line: str):
    click.echo(f"preprocess.py: warning: {line}", err=True)


if __name__ == "__main__":
    main()
