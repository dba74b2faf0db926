#!/usr/bin/env python3
"""Resolve a study's settings and check, before anything is computed, that the cohort can be studied with them."""

import contextlib

import click

from synthct.cohort import curation
from synthct.cohort import folds as cohort
from synthct.core import arms
from synthct.core import settings as resolver
from synthct.core.cli import FILE, OUT, VOLUME, tool
from synthct.core.errors import InputError
from synthct.core.files import write_json
from synthct.core.tables import read_names, read_text
from synthct.study.needs import needed, require


@tool("check.py", help=__doc__)
@click.option("--sheet", required=True, type=FILE, help="the samplesheet (CSV)")
@click.option("--preset", help="name of a preset, or a TOML file  [default: paper; with --bundle the bundle's]")
@click.option("--presets", default=resolver.PRESETS, type=VOLUME, help="where the named presets lie")
@click.option("--bundle", type=FILE, help="bundle.json of the model that predicts: its settings, where none is given")
@click.option("--modality", required=True, type=click.Choice(resolver.MODALITIES))
@click.option("--set", "overrides", multiple=True, help='section.key=value; several times, or separated by ";"')
@click.option("--list", "lists", multiple=True, type=FILE, help="validation names of a fold; once for each fold")
@click.option("--exclude", multiple=True, type=FILE, help="list of patients not to be trained on; several times")
@click.option("--registration", help="comma list of the arms that will be run: each must be known")
@click.option("--segment", is_flag=True, help="TotalSegmentator will label what is scored")
@click.option("--weights", help="--weights of the study  [default: where tools on this machine look]")
@click.option("--weights-files", type=FILE, help="names of the files in it, one a line")
@click.option("--networks/--no-networks", default=True, help="also check that the networks' weights are there")
@click.option("--plan/--no-plan", default=True, help="also check that test and folds can be drawn from the sheet")
@click.option("--out", required=True, type=OUT, help="the resolved settings (JSON)")
@click.option("--cohort-out", type=OUT, help="what the draw looks at, by patient (CSV)")
def main(
    sheet,
    preset,
    presets,
    bundle,
    modality,
    overrides,
    lists,
    exclude,
    registration,
    segment,
    weights,
    weights_files,
    networks,
    plan,
    out,
    cohort_out,
):
    wanted = [item for given in overrides for item in given.split(";") if item.strip()]
    if bundle:
        settings = resolver.of_bundle(bundle, wanted, preset, presets)
    else:
        settings = resolver.resolve(preset or "paper", modality, wanted, presets)
        if registration:
            arms.named(settings["registration"], registration)
        cohort.groups_of(settings["finetuning"]["groups"])
    resolver.checkpoints(settings["inference"]["checkpoint"])
    patients = cohort.read_sheet(sheet)
    faults = []  # of the cohort and of the weights at once: both take a user time to mend
    if plan:
        with _kept(faults):
            cohort.plan(patients, given=[read_names(path, "fold list") for path in lists] or None, **settings["folds"])
    for path in exclude:
        with _kept(faults):
            names = [patient.name for patient in patients]
            curation.check_exclusions(path, names, registration.split(",") if registration else [])
    if networks:
        with _kept(faults):
            steps = settings if registration or bundle else {"modality": modality}  # evaluation has no other network
            chosen = arms.named(settings["registration"], registration) if registration else []
            needs = needed(steps, chosen, segment=segment, regions={patient.region for patient in patients} - {""})
            names = read_text(weights_files, "weights files").splitlines() if weights_files else []
            require(needs, _fetching(preset or "paper", modality, registration, segment, wanted), weights or "", names)
    if faults:
        raise InputError("; and ".join(faults))
    write_json(out, settings)
    if cohort_out:
        cohort.write_sheet(cohort_out, patients)


@contextlib.contextmanager
def _kept(faults: list[str]):
    try:
        yield
    except InputError as fault:
        faults.append(str(fault))


def _fetching(preset: str, modality: str, registration: str | None, segment: bool, overrides: list[str]) -> str:
    """The command that fetches what the study needs."""
    parts = ["bin/weights.py fetch --preset", preset, "--modality", modality]
    parts += ["--registration", registration] if registration else []
    parts += ["--segment"] if segment else []
    mine = [
        one for one in overrides if one.split(".")[0].strip() in ("registration", "training", "finetuning", "inference")
    ]
    return " ".join([*parts, *(f"--set '{one.strip()}'" for one in mine)])


if __name__ == "__main__":
    main()
