"""The options of predict.py, and what they ask for: patients and settings."""

from pathlib import Path

import click

from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, options
from synthct.core.device import CHOICES
from synthct.core.errors import InputError
from synthct.images.dicom.choice import Choice
from synthct.prediction.bundle import Bundle
from synthct.prediction.objects import Wanted
from synthct.prediction.patients import Patient

predict_options = options(
    click.option("--model", required=True, type=VOLUME, help="model bundle directory"),
    click.option("--image", type=VOLUME, help="MR or CBCT: MHA, NIfTI, NRRD or a DICOM series directory"),
    click.option(
        "--mask", type=VOLUME, help="body mask on the image's grid, RTSTRUCT or SEG  [default: made from the image]"
    ),
    click.option("--roi", help="the region (name, or number as #3) of an RTSTRUCT or SEG  [default: the outline]"),
    click.option("--region", help="body region, such as AB  [default: the bundle's, with a warning]"),
    click.option("--out", type=OUT, help="sCT to write, int16 HU"),
    click.option("--uncertainty", type=OUT, help="standard deviation of the ensemble to write, float32 HU"),
    click.option("--mask-out", type=OUT, help="the mask that was used, to write"),
    click.option(
        "--page", type=OUT, help="HTML page to look at the patient  [with --list: directory for PATIENT.html]"
    ),
    click.option(
        "--members", type=OUT, help="directory for the sCT of each of the networks  [with --list: directory of these]"
    ),
    click.option("--ct", type=VOLUME, help="a CT, whose difference to the sCT the page shows"),
    click.option("--series", help="which series of a DICOM directory: its UID or number (see bin/dicom.py list)"),
    click.option("--select", multiple=True, help="which image of a DICOM series: TAG=VALUE, such as EchoTime=2.46"),
    click.option("--straighten", is_flag=True, help="resample a DICOM series of a tilted gantry onto a straight stack"),
    click.option("--dicom", type=OUT, help="directory for the sCT as a DICOM CT series  [with --list: DIR/PATIENT]"),
    click.option("--dicom-uncertainty", type=OUT, help="with --dicom: directory for the uncertainty as a DICOM series"),
    click.option(
        "--dicom-structures", type=OUT, help="with --dicom: RTSTRUCT file for the body [with --list: directory]"
    ),
    click.option(
        "--dicom-from", type=VOLUME, help="DICOM directory that says whose the objects are, for other formats"
    ),
    click.option(
        "--axial", type=float, help="with --dicom: axial slices at this distance, mm  [default: the image's grid]"
    ),
    click.option("--send", help="with --dicom: HOST:PORT:AET of a DICOM server that is sent what was written"),
    click.option(
        "--list", "sheet", type=FILE, help="CSV with columns patient, image, mask, region: many patients at once"
    ),
    click.option(
        "--outdir",
        type=OUT,
        help="with --list: <patient>.mha, <patient>_uncertainty.mha, patients.json, and "
        "masks/<patient>.mha where one was made",
    ),
    click.option(
        "--record-failures",
        is_flag=True,
        help="with --list: images that cannot be used are named in the summary, and are no reason to fail",
    ),
    click.option("--summary", type=OUT, help="JSON summary to write  [with --list: OUTDIR/patients.json]"),
    click.option("--place", default="", help="where a run files the sCTs below its sct/, written into the summary"),
    click.option(
        "--modality", type=click.Choice(presets.MODALITIES), help="the images' modality, checked against the bundle"
    ),
    click.option(
        "--settings", type=FILE, help="resolved settings (JSON) whose inference section replaces the bundle's"
    ),
    click.option("--set", "overrides", multiple=True, help="inference.key=value, such as inference.flips=none"),
    click.option("--checkpoint", type=click.Choice(presets.CHECKPOINTS), help="[default: the bundle's setting]"),
    click.option("--device", type=click.Choice(CHOICES), default="auto", help="where the networks run"),
    click.option("--batch", type=click.IntRange(0), help="slices at once; 0 chooses by the device"),
)


def patient_of(asked: dict, image: str, out: str) -> Patient:
    """What the options ask for; with a list, for all of its patients."""
    more = [key for key in ("dicom_uncertainty", "dicom_structures", "axial", "send") if asked[key] is not None]
    if more and not asked["dicom"]:
        raise InputError(f"--{more[0].replace('_', '-')} goes with --dicom")
    uncertainty, mask_out, page, members = (
        Path(asked[key]) if asked[key] else None for key in ("uncertainty", "mask_out", "page", "members")
    )
    wanted = asked["dicom"] and Wanted(
        Path(asked["dicom"]),
        asked["dicom_uncertainty"] and Path(asked["dicom_uncertainty"]),
        asked["dicom_structures"] and Path(asked["dicom_structures"]),
        asked["axial"],
        asked["send"],
    )
    return Patient(
        name=Path(out).name.split(".")[0],
        image=image,
        out=Path(out),
        choice=Choice(asked["series"], asked["select"], asked["straighten"]),
        dicom=wanted or None,
        **{key: asked[key] for key in ("mask", "roi", "region", "ct", "dicom_from")},
        uncertainty=uncertainty,
        mask_out=mask_out,
        page=page,
        members=members,
    )


def settings_of(
    bundle: Bundle, settings: str | None, overrides: tuple[str, ...], checkpoint: str | None, batch: int | None
) -> dict:
    """The bundle's inference settings, those of a settings file over them, `--set` and the options over both."""
    older = {"graph": "eager", "precision": "float32"}  # bundles from before these choices lack them
    tree = {"inference": older | bundle.about["inference"]}
    if settings:
        given, at = presets.load(settings), f"settings {settings}"
        own = given.get("inference", given)
        if own is given and {"modality", *presets.SECTIONS} & set(given):
            raise InputError(f"{at}: no section 'inference'")
        if (made := given.get("modality", bundle.about["modality"])) != bundle.about["modality"]:
            raise InputError(f"{at}: resolved for modality {made}, the bundle is for {bundle.about['modality']}")
        presets.check_types(at, "inference", own)
        tree["inference"] |= own
    chosen = presets.overridden(tree, overrides)["inference"]
    chosen["checkpoint"] = checkpoint or presets.checkpoints(chosen["checkpoint"])[0]
    return chosen | ({} if batch is None else {"batch": batch})
