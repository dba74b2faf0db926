#!/usr/bin/env python3
"""Register one image to another by an arm of the preset: IMPACT (features of networks), Elastix (the organisers' maps),
dense MI or MIND, or none (resample only; "truth" the same, for a CT that is aligned already).

Everything is written on the fixed image's grid. The displacement field is in mm, LPS, and maps fixed points to
moving points.
"""

import click
import SimpleITK as sitk

from synthct.core import presets
from synthct.core.cli import cpu_threads, tool
from synthct.core.device import device_of, set_threads
from synthct.core.errors import InputError, PatientError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND
from synthct.images.volume import read_volume, write_volume
from synthct.registration import pairwise
from synthct.registration.checks import mask_on
from synthct.registration.options import register_options
from synthct.registration.preview import write_preview
from synthct.registration.transform import write_transform


@tool("register.py", help=__doc__)
@register_options
def main(method, modality, fixed, moving, fixed_mask, patient, region, device, qc, record_failure, **asked):
    if record_failure and not qc:
        raise InputError("--record-failure: needs --qc, where the failure is recorded")
    device = device_of(device).type
    set_threads(cpu_threads())
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpu_threads())
    section = presets.section(
        "registration",
        settings=asked["settings"],
        preset=asked["preset"],
        modality=modality,
        overrides=asked["overrides"],
    )
    pairwise.ready(section, method, region)
    about = {"method": method, "modality": modality, "region": region}
    identity = {"patient": patient or "", **about}
    try:
        still, moved = read_volume(fixed, "fixed image"), read_volume(moving, "moving image")
        mask = mask_on(fixed_mask, still, _warn) if fixed_mask else None
        result = pairwise.register(
            still,
            moved,
            mask,
            section,
            **about,
            moving_is=asked["moving_is"],
            rigid=asked["rigid"],
            seed=asked["seed"],
            device=device,
            say=lambda line: click.echo(f"register.py: {line}", err=True),
        )
    except PatientError as fault:
        if not record_failure:
            raise
        click.echo(f"register.py: not registered: {fault}", err=True)
        write_json(qc, {KIND: "registration", **identity, "failed": str(fault)})
        return
    write_volume(result.image, asked["out_image"])
    write_volume(result.displacement, asked["out_displacement"])
    if asked["out_mask"]:
        write_volume(result.mask, asked["out_mask"])
    if asked["out_fixed"]:
        write_volume(still, asked["out_fixed"])
    if asked["out_transform"]:
        write_transform(result.transform, asked["out_transform"])
    if asked["preview"]:
        write_preview(asked["preview"], still, result.before, result.image, result.mask.array, about=identity)
    if qc:
        write_json(qc, plain({KIND: "registration", **identity, **result.quality}))


def _warn(line: str):
    click.echo(f"register.py: warning: {line}", err=True)


if __name__ == "__main__":
    main()
