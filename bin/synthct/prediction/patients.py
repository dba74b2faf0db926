"""Patients through one bundle, one or a list: checked before the networks run, predicted group by group, written.

What is wrong with one patient of a list costs that patient only. Files of one patient are written when its prediction
is done; nothing is half-written.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from synthct.cohort.folds import check_name
from synthct.core import presets
from synthct.core.digests import inputs_of
from synthct.core.errors import InputError, OutputError
from synthct.core.files import write_text
from synthct.core.tables import read_table
from synthct.images.checks import check_body
from synthct.images.dicom.choice import Choice
from synthct.images.volume import read_mask, read_volume, write_volume
from synthct.networks.weights import digests_of, of_masks
from synthct.prediction import inference, objects, trust
from synthct.prediction.bundle import Bundle
from synthct.prediction.viewer import page

MODALITY = {"mr": "MR", "cbct": "CT"}  # what DICOM headers call them


@dataclass(frozen=True)
class Patient:
    """One patient's inputs and outputs; None for what is not given or not asked for."""

    name: str
    image: str
    out: Path
    mask: str | None = None
    roi: str | None = None
    region: str | None = None
    ct: str | None = None
    choice: Choice = Choice()
    uncertainty: Path | None = None
    mask_out: Path | None = None
    page: Path | None = None
    members: Path | None = None  # directory for each network's own sCT
    dicom: objects.Wanted | None = None
    dicom_from: str | None = None
    notes: tuple[str, ...] = ()  # warnings known from the list

    @property
    def is_dicom(self) -> bool:
        """Whether the image is a DICOM directory."""
        return Path(self.image).is_dir()


def listed(sheet: str, outdir: str, common: Patient) -> list[Patient]:
    """The patients of a CSV; paths in it are relative to it. `common` holds what is asked for all.

    Columns: patient, image; optional mask, region, ct, series, roi, dicom_from. Only patients with a DICOM image, or
    with dicom_from, get DICOM objects. Raises `InputError` with the line.
    """
    base = Path(sheet).parent
    patients: list[Patient] = []
    seen: dict[str, str] = {}
    for row in read_table(sheet, "list", ("patient", "image")):
        at, cell = f"list {sheet}, line {row.line}", {key: row.get(key, "") for key in COLUMNS}
        name = cell["patient"]
        if not name or not cell["image"]:
            raise InputError(f"{at}: patient {name!r}, image {cell['image']!r}, expected both")
        check_name(name, seen, at)
        image, mask, ct, dicom_from = (_path(base, cell[key], at) for key in ("image", "mask", "ct", "dicom_from"))
        source = dicom_from or common.dicom_from
        dicom = common.dicom if Path(image).is_dir() or source else None
        patients.append(
            replace(
                common,
                name=name,
                image=image,
                mask=mask or None,
                ct=ct or None,
                region=cell["region"],
                roi=cell["roi"] or common.roi,
                choice=replace(common.choice, series=cell["series"] or common.choice.series),
                out=Path(outdir, f"{name}.mha"),
                uncertainty=Path(outdir, f"{name}_uncertainty.mha"),
                mask_out=None if cell["mask"] else Path(outdir, "masks", f"{name}.mha"),
                page=Path(common.page, f"{name}.html") if common.page else None,
                members=common.members and common.members / name,
                dicom=dicom and objects.of_patient(dicom, name),
                dicom_from=source,
                notes=(NO_SOURCE,) if common.dicom and not dicom else (),
            )
        )
    if not patients:
        raise InputError(f"list {sheet}: no patients")
    return patients


COLUMNS = ("patient", "image", "mask", "region", "ct", "series", "roi", "dicom_from")
NO_SOURCE = (
    "no DICOM is written: the image is no DICOM series to take patient and study from (nor is there a dicom_from)"
)


def _path(base: Path, cell: str, at: str) -> str:
    """A cell's file, relative to the table's directory; "" for an empty cell."""
    if cell and not os.path.exists(base / cell):  # False also for a name that no file can have
        raise InputError(f"{at}: {cell}: no such file")
    return str(base / cell) if cell else ""


@contextlib.contextmanager
def noted(patient: Patient, faults: dict[str, str] | None):
    """Keep what is wrong with one patient of a list in `faults`, by name; without a list it is raised as it is."""
    try:
        yield
    except OutputError:
        raise  # a full disk is no patient's fault
    except InputError as fault:
        if faults is None:
            raise
        named = str(patient.image) in str(fault)
        faults[patient.name] = str(fault) if named else f"image {patient.image}: {fault}"


def check(patient: Patient, modality: str) -> list[str]:
    """Before anything is computed: no output takes an input's place, an MR is no CBCT, DICOM objects can be written.

    Returns a line for each thing that the DICOM objects will lack. Raises `InputError`.
    """
    inputs = [Path(one) for one in (patient.image, patient.mask, patient.ct, patient.dicom_from) if one]
    outputs = [one for one in (patient.out, patient.uncertainty, patient.mask_out, patient.page) if one]
    for output in outputs:
        for given in inputs:
            if output.resolve() == given.resolve():
                raise InputError(f"output {output}: is the input {given}")
    # dose.py takes every volume of that directory for a network's
    for other in filter(None, (*inputs, patient.out, patient.uncertainty, patient.mask_out)):
        if patient.members and Path(other).resolve().parent == patient.members.resolve():
            raise InputError(f"--members {patient.members}: {other} lies there, expected a directory for these alone")
    if patient.dicom:
        objects.check_places(patient.dicom, inputs, [*outputs, *([patient.members] if patient.members else [])])
    if not patient.is_dicom and not patient.dicom:
        return []
    if not patient.is_dicom and not patient.dicom_from:
        raise InputError(
            f"--dicom: the image {patient.image} is no DICOM series to take patient and study from; name one with "
            "--dicom-from"
        )
    from synthct.images.dicom.series import open_series  # pydicom is only imported where there is DICOM

    if patient.is_dicom:
        series = open_series(patient.image, patient.choice)
        if series.modality and series.modality != MODALITY[modality]:
            raise InputError(f"image {patient.image}: DICOM modality {series.modality}, the bundle is for {modality}")
    if not patient.dicom:
        return []
    source = _source(patient)
    if patient.is_dicom:
        return objects.check(patient.dicom, source, series.grid, series)
    return objects.check(patient.dicom, source, read_volume(patient.image).grid)


def _source(patient: Patient):
    """The series that says whose the patient's DICOM objects are."""
    from synthct.images.dicom.series import open_series

    if not patient.dicom_from:
        return open_series(patient.image, patient.choice)
    return open_series(patient.dicom_from, Choice(straighten=True) if patient.is_dicom else patient.choice)


def predict_all(
    bundle: Bundle, patients: list[Patient], chosen: dict, device: torch.device, faults: dict[str, str] | None
) -> list[dict]:
    """Patients of one group follow each other, so that each group's networks are read once and only they are held.

    Those with `faults` are passed over; a fault found on the way joins them (None: it is raised). Returns a summary of
    each patient that was predicted, in the order given.
    """
    inference.parse_views(chosen["flips"])  # a wrong setting is no patient's fault
    lacks: dict[str, list[str]] = {}
    for patient in patients:
        with noted(patient, faults):
            lacks[patient.name] = check(patient, bundle.about["modality"])
    plans = [
        (bundle.group_for(patient.region or None), patient)
        for patient in patients
        if patient.name not in (faults or ())
    ]
    loaded, reports = None, {}
    networks: list = []
    for (group, warning), patient in sorted(plans, key=lambda plan: plan[0][0]):
        if group != loaded:
            networks.clear()
            networks += [
                inference.ready(network, chosen["graph"], chosen["precision"])
                for network in bundle.networks(group, chosen["checkpoint"], device)
            ]
            loaded = group
        warnings = [*([warning] if warning else []), *patient.notes, *lacks[patient.name]]
        report = None
        with noted(patient, faults):
            names = bundle.member_names(group, chosen["checkpoint"])
            report = predict_one(bundle, patient, networks, names, chosen, warnings)
        if report is None:
            continue
        reports[patient.name] = {
            "patient": patient.name,
            "region": patient.region or None,
            "group": group,
            "checkpoint": chosen["checkpoint"],
            **report,
            "warnings": warnings,
        }
        for line in warnings:
            click.echo(f"predict.py: warning: {patient.name}: {line}", err=True)
        click.echo(
            f"{patient.name}: uncertainty {report['mean_uncertainty_hu']:.1f} HU on average in the mask, "
            f"{report['slices']} slices × {report['views']} views in {report['seconds']:.1f} s; "
            f"{trust.line(report['trust'])}"
        )
    return [reports[patient.name] for patient in patients if patient.name in reports]


def origins(bundle: Bundle, patients: list[Patient], chosen: dict) -> dict:
    """What a prediction is made of, for its record: the model, each patient's inputs by content, be they usable or not,
    and the network that makes masks, if one does."""
    made = chosen["body_mask"] == "totalsegmentator" and not all(patient.mask for patient in patients)
    return {
        "model": {key: bundle.about[key] for key in ("preset", "modality", "arm", "digest")},
        "inputs": {one.name: inputs_of(image=one.image, mask=one.mask) for one in patients},
        "weights": digests_of([of_masks(bundle.about["modality"])] if made else []),
    }


def predict_one(
    bundle: Bundle, patient: Patient, networks: list, names: list[str], chosen: dict, warnings: list[str]
) -> dict:
    """Read, predict, judge and write one patient; returns its summary, and adds to `warnings`.

    `names` are what the `networks` are told apart by.
    """
    about = bundle.about
    if patient.members and (older := {each.stem for each in patient.members.glob("*.mha")} - set(names)):
        raise InputError(f"output {patient.members}: holds {min(older)}.mha, which is none of this model's networks")
    image = read_volume(patient.image, kind=about["modality"], choice=patient.choice)
    if about["modality"] == "mr" and image.array.min() <= -500:
        warnings.append("values below -500 look like HU, the bundle is for MR")
    if patient.mask:
        mask = read_mask(patient.mask, image.grid, roi=patient.roi)
        check_body(mask.array > 0, image, about["modality"], f"mask {patient.mask}", f"image {patient.image}")
    else:
        mask = _made_mask(image, about["modality"], networks, chosen, warnings)
    rules = presets.for_region(about["preprocessing"], patient.region or about["default_region"])
    apart = patient.members is not None
    result = inference.predict_by(about, chosen, networks, image, mask, patient.region, apart=apart)
    verdict = trust.judge(
        about.get("trust"), image, mask, result, rules, patient.region or about["default_region"], about["modality"]
    )
    if "features" not in verdict:  # of a study's held-out patients, from which its bundle learns what is usual
        verdict |= trust.measured(image, mask, result, rules, about["modality"])
    if patient.mask_out:
        write_volume(mask, patient.mask_out)
    if patient.uncertainty:
        write_volume(result.uncertainty, patient.uncertainty)
    if patient.page:
        ct = read_volume(patient.ct, "CT", "ct") if patient.ct else None
        write_text(patient.page, page(patient.name, image, mask, result, ct=ct, verdict=verdict))
    if patient.dicom:
        source = _source(patient)
        files = objects.write(
            patient.dicom,
            source,
            result.sct,
            result.uncertainty,
            mask,
            model=bundle.digest,
            comments=trust.text(verdict),
        )
    if patient.members:
        for name, member in zip(names, result.members, strict=True):
            write_volume(member, patient.members / f"{name}.mha")
    write_volume(result.sct, patient.out)
    if patient.dicom and patient.dicom.server:  # last: what was computed lies on the disk whatever the server says
        objects.sent(files, patient.dicom.server)
    return {**result.summary, **({"members": names} if patient.members else {}), "trust": verdict}


def _made_mask(image, modality: str, networks: list, chosen: dict, warnings: list[str]):
    from synthct.images import bodymask  # scipy is only imported where a mask has to be made

    if chosen["body_mask"] == "totalsegmentator":
        return bodymask.totalsegmentator_mask(image, modality, inference.device_of(networks[0]).type)
    warnings.append("no mask given, a body mask was made by threshold")
    return bodymask.body_mask(image, modality)
