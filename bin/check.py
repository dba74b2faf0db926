#!/usr/bin/env python3
"""Resolve a study's settings and check, before anything is computed, that the cohort can be studied with them."""

import click

from synthct import cohort
from synthct import settings as resolver
from synthct.cli import FILE, OUT, VOLUME, tool
from synthct.files import write_json


@tool("check.py", help=__doc__)
@click.option("--sheet", required=True, type=FILE, help="the samplesheet (CSV)")
@click.option("--preset", help="name of a preset, or a TOML file  [default: paper; with --bundle the bundle's]")
@click.option("--presets", default=resolver.PRESETS, type=VOLUME, help="where the named presets lie")
@click.option("--bundle", type=FILE, help="bundle.json of the model that predicts: its settings, where none is given")
@click.option("--modality", required=True, type=click.Choice(resolver.MODALITIES))
@click.option("--set", "overrides", multiple=True, help='section.key=value; several times, or separated by ";"')
@click.option("--list", "lists", multiple=True, type=FILE, help="validation names of a fold; once for each fold")
@click.option("--plan/--no-plan", default=True, help="also check that test and folds can be drawn from the sheet")
@click.option("--out", required=True, type=OUT, help="the resolved settings (JSON)")
def main(sheet, preset, presets, bundle, modality, overrides, lists, plan, out):
    wanted = [item for given in overrides for item in given.split(";") if item.strip()]
    if bundle:
        settings = resolver.of_bundle(bundle, wanted, preset, presets)
    else:
        settings = resolver.resolve(preset or "paper", modality, wanted, presets)
        cohort.groups_of(settings["finetuning"]["groups"])
    resolver.checkpoints(settings["inference"]["checkpoint"])
    patients = cohort.read_sheet(sheet)
    if plan:
        cohort.plan(patients, given=[cohort.read_names(path) for path in lists] or None, **settings["folds"])
    write_json(out, settings)


if __name__ == "__main__":
    main()
