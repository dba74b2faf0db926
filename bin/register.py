#!/usr/bin/env python3
"""Register one image to another by an arm of the preset: IMPACT (features of networks), Elastix (the organisers' maps),
dense MI or MIND, or none (resample only; "truth" the same, for a CT that is aligned already).

Everything is written on the fixed image's grid. The displacement field is in mm, LPS, and maps fixed points to
moving points.
"""

import click
import SimpleITK as sitk

from synthct.core import settings as presets
from synthct.core.cli import FILE, OUT, VOLUME, cpu_threads, tool
from synthct.core.device import CHOICES, device_of, set_threads
from synthct.core.errors import InputError, PairError, PatientError
from synthct.core.files import atomic, plain, write_json
from synthct.core.records import KIND
from synthct.images.contours import FILLED, filled
from synthct.images.grid import Volume, resample
from synthct.images.volume import is_drawn, read_mask, read_volume, write_volume
from synthct.registration import pairwise
from synthct.registration.preview import write_preview


@tool("register.py", help=__doc__)
@click.option("--method", required=True, help="arm: a table [registration.arms.NAME] of the preset")
@click.option("--modality", required=True, type=click.Choice(presets.MODALITIES), help="the pair is CT and this")
@click.option("--fixed", required=True, type=VOLUME, help="image that stays; its grid is the output's")
@click.option("--moving", required=True, type=VOLUME, help="image that is deformed")
@click.option("--fixed-mask", type=FILE, help="where to compare (default: a body mask by threshold)")
@click.option("--moving-is", type=click.Choice(("ct", "image")), help="default: seen from the images, else by the arm")
@click.option("--patient", help="name of the patient, for --qc")
@click.option("--region", help="region name, for settings that depend on it (AB, TH, HN)")
@click.option("--preset", default="paper", help="settings: a preset's name or a TOML file")
@click.option("--settings", type=FILE, help="settings: a resolved file, instead of --preset")
@click.option("--set", "overrides", multiple=True, help="section.key=value, over the preset")
@click.option("--seed", type=click.IntRange(0), help="default: the preset's")
@click.option("--rigid/--no-rigid", default=None, help="a rigid stage first (default: the preset's choice)")
@click.option("--device", type=click.Choice(CHOICES), default="auto")
@click.option("--out-image", required=True, type=OUT, help="moving image on the fixed grid")
@click.option("--out-displacement", required=True, type=OUT, help="displacement field, mm, LPS, fixed to moving")
@click.option("--out-mask", type=OUT, help="fixed mask where the moving image has support")
@click.option("--out-fixed", type=OUT, help="the fixed image as it is, so that a directory holds the pair")
@click.option("--out-transform", type=OUT, help="transform for SimpleITK (.h5 or .tfm)")
@click.option("--qc", type=OUT, help="JSON: folding, Jacobian, similarity before and after, time, memory")
@click.option(
    "--record-failure", is_flag=True, help="a pair that cannot be registered is said in --qc alone, for curate.py"
)
@click.option("--preview", type=OUT, help="NPZ with small pictures for the report")
def main(
    method,
    modality,
    fixed,
    moving,
    fixed_mask,
    moving_is,
    patient,
    region,
    preset,
    settings,
    overrides,
    seed,
    rigid,
    device,
    out_image,
    out_displacement,
    out_mask,
    out_fixed,
    out_transform,
    qc,
    record_failure,
    preview,
):
    if record_failure and not qc:
        raise InputError("--record-failure: needs --qc, where the failure is recorded")
    device = device_of(device).type
    set_threads(cpu_threads())
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpu_threads())
    section = presets.section("registration", settings=settings, preset=preset, modality=modality, overrides=overrides)
    pairwise.ready(section, method, region)
    about = {"method": method, "modality": modality, "region": region}
    identity = {"patient": patient or "", **about}
    try:
        still, moved = read_volume(fixed, "fixed image"), read_volume(moving, "moving image")
        mask = _mask_on(fixed_mask, still) if fixed_mask else None
        result = pairwise.register(
            still,
            moved,
            mask,
            section,
            **about,
            moving_is=moving_is,
            rigid=rigid,
            seed=seed,
            device=device,
            say=lambda line: click.echo(f"register.py: {line}", err=True),
        )
    except PatientError as fault:
        if not record_failure:
            raise
        click.echo(f"register.py: not registered: {fault}", err=True)
        write_json(qc, {KIND: "registration", **identity, "failed": str(fault)})
        return
    write_volume(result.image, out_image)
    write_volume(result.displacement, out_displacement)
    if out_mask:
        write_volume(result.mask, out_mask)
    if out_fixed:
        write_volume(still, out_fixed)
    if out_transform:
        if not str(out_transform).endswith((".h5", ".tfm")):
            raise InputError(f"--out-transform {out_transform}: expected .h5 or .tfm")
        with atomic(out_transform) as temporary:
            sitk.WriteTransform(result.transform, str(temporary))
    if preview:
        write_preview(preview, still, result.before, result.image, result.mask.array, about=identity)
    if qc:
        write_json(qc, plain({KIND: "registration", **identity, **result.quality}))


def _mask_on(path: str, image: Volume) -> Volume:
    """The mask on the image's grid, resampled (nearest) where it lies on another."""
    mask = read_mask(path, image.grid if is_drawn(path) else None, what="fixed mask")
    mask, was_contour = filled(mask)
    if was_contour:
        click.echo(f"register.py: warning: fixed mask {path} {FILLED}", err=True)
    mask = resample(mask, image.grid, order=0)
    if not mask.array.any():
        raise PairError(f"fixed mask {path}: nothing of it lies inside the fixed image")
    return mask


if __name__ == "__main__":
    main()
