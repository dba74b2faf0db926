#!/usr/bin/env python3
"""Predict the synthetic CT of one image, or of a list of patients with the networks loaded once.

The sCT (int16 HU) and its uncertainty (float32 HU, standard deviation over views and folds) lie on the input's own
grid, whatever its spacing and orientation; outside the mask the sCT is -1024 and the uncertainty 0.
"""

import contextlib
import csv
import io
import os
import sys
from pathlib import Path

import click
import torch

from synthct import inference
from synthct import settings as presets
from synthct.bundle import Bundle, read_bundle
from synthct.cli import FILE, OUT, VOLUME, cpu_threads, tool
from synthct.device import CHOICES, device_of
from synthct.errors import InputError
from synthct.files import plain, require_replaceable, write_json
from synthct.volume import read_mask, read_volume, write_volume


@tool("predict.py", help=__doc__)
@click.option("--model", required=True, type=VOLUME, help="model bundle directory")
@click.option("--image", type=VOLUME, help="MR or CBCT: MHA, NIfTI, NRRD or a DICOM series directory")
@click.option("--mask", type=VOLUME, help="body mask on the image's grid  [default: made from the image]")
@click.option("--region", help="body region, such as AB  [default: the bundle's, with a warning]")
@click.option("--out", type=OUT, help="sCT to write, int16 HU")
@click.option("--uncertainty", type=OUT, help="standard deviation of the ensemble to write, float32 HU")
@click.option("--mask-out", type=OUT, help="the mask that was used, to write")
@click.option(
    "--dicom",
    "dicom_out",
    type=OUT,
    help="directory for the sCT as a DICOM CT series (with --list: DIR/<patient>); for images that are DICOM",
)
@click.option("--list", "sheet", type=FILE, help="CSV with columns patient, image, mask, region: many patients at once")
@click.option(
    "--outdir",
    type=OUT,
    help="with --list: <patient>.mha, <patient>_uncertainty.mha, patients.json, and "
    "masks/<patient>.mha where one was made",
)
@click.option("--summary", type=OUT, help="JSON summary to write  [with --list: OUTDIR/patients.json]")
@click.option(
    "--modality", type=click.Choice(presets.MODALITIES), help="the images' modality, checked against the bundle"
)
@click.option("--settings", type=FILE, help="resolved settings (JSON) whose inference section replaces the bundle's")
@click.option("--set", "overrides", multiple=True, help="inference.key=value, such as inference.flips=none")
@click.option("--checkpoint", type=click.Choice(presets.CHECKPOINTS), help="[default: the bundle's setting]")
@click.option("--device", type=click.Choice(CHOICES), default="auto", help="where the networks run")
@click.option("--batch", type=click.IntRange(0), help="slices at once; 0 chooses by the device")
def main(
    model,
    image,
    mask,
    region,
    out,
    uncertainty,
    mask_out,
    dicom_out,
    sheet,
    outdir,
    summary,
    modality,
    settings,
    overrides,
    checkpoint,
    device,
    batch,
):
    bundle = read_bundle(model, modality)
    chosen = _settings(bundle, settings, overrides)
    chosen["checkpoint"] = checkpoint or presets.checkpoints(chosen["checkpoint"])[0]
    if batch is not None:
        chosen["batch"] = batch
    if sheet:
        if not outdir or image or out:
            raise InputError("--list goes with --outdir, and without --image and --out")
        patients = _listed(sheet, outdir, dicom_out)
        summary = summary or str(Path(outdir, "patients.json"))
    else:
        if not image or not out:
            raise InputError("give --image and --out, or --list and --outdir")
        patients = [
            {
                "patient": Path(out).name.split(".")[0],
                "image": image,
                "mask": mask,
                "region": region,
                "out": out,
                "uncertainty": uncertainty,
                "mask_out": mask_out,
                "dicom": dicom_out,
            }
        ]
    faults = {} if sheet else None
    for patient in patients:
        _check_outputs(patient)
        with _noted(patient, faults):
            _check_modality(patient, bundle.about["modality"])
    where = _device(device)
    reports = _predict_all(bundle, patients, chosen, where, faults)
    if summary:
        write_json(
            summary,
            plain(
                {
                    "model": {key: bundle.about[key] for key in ("preset", "modality", "arm", "digest")},
                    "inference": chosen,
                    "device": str(where),
                    "patients": reports,
                }
            ),
        )
    if faults:
        for patient, fault in faults.items():
            click.echo(f"predict.py: error: {patient}: {' '.join(fault.split())}", err=True)
        sys.exit(2)


@contextlib.contextmanager
def _noted(patient: dict, faults: dict[str, str] | None):
    """Keep what is wrong with one patient of a list in `faults`, by name; without a list it is raised as it is."""
    try:
        yield
    except InputError as fault:
        if faults is None:
            raise
        named = str(patient["image"]) in str(fault)
        faults[patient["patient"]] = str(fault) if named else f"image {patient['image']}: {fault}"


def _predict_all(
    bundle: Bundle, patients: list[dict], chosen: dict, device: torch.device, faults: dict[str, str] | None
) -> list[dict]:
    """Patients of one group follow each other, so that each group's networks are read once and only they are held.

    Those with `faults` are passed over; a fault found on the way joins them (None: it is raised).
    """
    inference.parse_views(chosen["flips"])  # a wrong setting is no patient's fault
    plans = [
        (bundle.group_for(patient["region"] or None), patient)
        for patient in patients
        if patient["patient"] not in (faults or ())
    ]
    loaded, networks, reports = None, [], {}
    for (group, warning), patient in sorted(plans, key=lambda plan: plan[0][0]):
        if group != loaded:
            networks.clear()
            networks += bundle.networks(group, chosen["checkpoint"], device)
            loaded = group
        warnings = [warning] if warning else []
        report = None
        with _noted(patient, faults):
            report = _predict_one(bundle, patient, networks, chosen, warnings)
        if report is None:
            continue
        reports[patient["patient"]] = {
            "patient": patient["patient"],
            "region": patient["region"] or None,
            "group": group,
            "checkpoint": chosen["checkpoint"],
            **report,
            "warnings": warnings,
        }
        for line in warnings:
            click.echo(f"predict.py: warning: {patient['patient']}: {line}", err=True)
        click.echo(
            f"{patient['patient']}: uncertainty {report['mean_uncertainty_hu']:.1f} HU on average in the mask, "
            f"{report['slices']} slices × {report['views']} views in {report['seconds']:.1f} s"
        )
    return [reports[patient["patient"]] for patient in patients if patient["patient"] in reports]


def _predict_one(bundle: Bundle, patient: dict, networks: list, chosen: dict, warnings: list[str]) -> dict:
    about = bundle.about
    image = read_volume(patient["image"])
    if about["modality"] == "mr" and image.array.min() <= -500:
        warnings.append("values below -500 look like HU, the bundle is for MR")
    if patient["mask"]:
        mask = read_mask(patient["mask"], image.grid)
    else:
        from synthct import bodymask  # scipy is only imported where a mask has to be made

        if chosen["body_mask"] == "totalsegmentator":
            device = next(networks[0].parameters()).device.type
            mask = bodymask.totalsegmentator_mask(image, about["modality"], device)
        else:
            mask = bodymask.body_mask(image, about["modality"])
            warnings.append("no mask given, a body mask was made by threshold")
    rules = presets.for_region(about["preprocessing"], patient["region"] or about["default_region"])
    result = inference.predict(
        image,
        mask,
        networks,
        modality=about["modality"],
        rules=rules,
        channels=about["channels"],
        views=inference.parse_views(chosen["flips"]),
        batch=chosen["batch"],
        margin=chosen["margin"],
    )
    if patient.get("dicom"):
        from synthct import dicom  # pydicom is only imported where there is DICOM

        dicom.write_series(result.sct, patient["image"], patient["dicom"], model=bundle.digest)
    if patient.get("mask_out"):
        write_volume(mask, patient["mask_out"])
    if patient.get("uncertainty"):
        write_volume(result.uncertainty, patient["uncertainty"])
    write_volume(result.sct, patient["out"])
    return result.summary


def _settings(bundle: Bundle, settings: str | None, overrides: tuple[str, ...]) -> dict:
    """The bundle's inference settings, those of a settings file over them, `--set` over both."""
    tree = {"inference": dict(bundle.about["inference"])}
    if settings:
        given = presets.load(settings)
        tree["inference"] |= given.get("inference", given)
    return presets.overridden(tree, overrides)["inference"]


def _listed(sheet: str, outdir: str, dicom_out: str | None) -> list[dict]:
    """Rows of the list; paths in it are relative to it. Only patients with a DICOM image get a DICOM sCT."""
    base = Path(sheet).parent
    try:
        rows = list(csv.DictReader(io.StringIO(Path(sheet).read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InputError(f"list {sheet}: cannot be read ({fault})") from None
    patients, seen = [], set()
    for number, row in enumerate(rows, 2):
        name, image, mask = ((row.get(key) or "").strip() for key in ("patient", "image", "mask"))
        if not name or not image:
            raise InputError(f"list {sheet}, line {number}: patient {name!r}, image {image!r}, expected both")
        if name in seen or "/" in name or name.startswith("."):
            raise InputError(f"list {sheet}, line {number}: patient {name!r}, expected a name that stands once")
        seen.add(name)
        for path in filter(None, (image, mask)):
            if not (base / path).exists():
                raise InputError(f"list {sheet}, line {number}: {path}: no such file")
        patients.append(
            {
                "patient": name,
                "image": str(base / image),
                "mask": str(base / mask) if mask else None,
                "region": (row.get("region") or "").strip(),
                "out": Path(outdir, f"{name}.mha"),
                "uncertainty": Path(outdir, f"{name}_uncertainty.mha"),
                "mask_out": None if mask else Path(outdir, "masks", f"{name}.mha"),
                "dicom": Path(dicom_out, name) if dicom_out and (base / image).is_dir() else None,
            }
        )
    if not patients:
        raise InputError(f"list {sheet}: no patients")
    return patients


def _check_outputs(patient: dict):
    """No output may take the place of an input, nor a DICOM sCT that of files that are not ours."""
    inputs = [Path(patient[key]) for key in ("image", "mask") if patient[key]]
    for key in ("out", "uncertainty", "mask_out"):
        for given in inputs:
            if patient[key] and Path(patient[key]).resolve() == given.resolve():
                raise InputError(f"output {patient[key]}: is the input {given}")
    if patient["dicom"]:
        from synthct import dicom

        require_replaceable(patient["dicom"], dicom.ours, inputs)


def _check_modality(patient: dict, modality: str):
    """What DICOM headers say, before anything is computed: an MR is no CBCT. DICOM output needs DICOM input."""
    if not Path(patient["image"]).is_dir():
        if patient.get("dicom"):
            raise InputError(f"--dicom: the image {patient['image']} is no DICOM series to take patient and study from")
        return
    from synthct import dicom

    found = dicom.modality_of(patient["image"])
    if (found == "MR") != (modality == "mr") and found in ("MR", "CT"):
        raise InputError(f"image {patient['image']}: DICOM modality {found}, the bundle is for {modality}")


def _device(name: str) -> torch.device:
    os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait leave the cores to other tasks
    torch.set_num_threads(cpu_threads())
    torch.backends.cudnn.deterministic = True  # the same bits twice, at a small cost in speed
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return device_of(name)


if __name__ == "__main__":
    main()
