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
from synthct.core.device import repeatable
from synthct.core.digests import inputs_of
from synthct.core.errors import InputError, PatientError
from synthct.images.volume import read_volume
from synthct.registration import pairwise
from synthct.registration.checks import mask_on
from synthct.registration.options import register_options
from synthct.registration.outputs import write_failure, write_registration


@tool("register.py", help=__doc__)
@register_options
def main(method, modality, fixed, moving, fixed_mask, patient, region, device, record_failure, **asked):
    source = {key: asked.pop(key) for key in ("settings", "preset", "overrides")}
    how = {key: asked.pop(key) for key in ("moving_is", "rigid", "seed")}
    outputs = asked  # the rest
    if record_failure and not outputs["qc"]:
        raise InputError("--record-failure: needs --qc, where the failure is recorded")
    device = repeatable(device).type
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpu_threads())
    section = presets.section("registration", modality=modality, **source)
    pairwise.ready(section, method, region)
    about = {"method": method, "modality": modality, "region": region}
    read = inputs_of(fixed=fixed, moving=moving, mask=fixed_mask)
    identity = {"patient": patient or "", **about}
    try:
        fixed_image, moving_image = read_volume(fixed, "fixed image"), read_volume(moving, "moving image")
        mask = mask_on(fixed_mask, fixed_image, lambda line: _say(f"warning: {line}")) if fixed_mask else None
        result = pairwise.register(fixed_image, moving_image, mask, section, **about, **how, device=device, say=_say)
    except PatientError as fault:
        if not record_failure:
            raise
        _say(f"not registered: {fault}")
        write_failure(outputs["qc"], {**identity, "moving_is": how["moving_is"], "inputs": read}, fault)
        return
    write_registration(result, fixed_image, identity, inputs=read, **outputs)


def _say(line: str):
    click.echo(f"register.py: {line}", err=True)


if __name__ == "__main__":
    main()
