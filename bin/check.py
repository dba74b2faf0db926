#!/usr/bin/env python3
"""Resolve a study's settings and check, before anything is computed, that the cohort can be studied with them."""

import click

from synthct import cohort
from synthct import settings as resolver
from synthct.cli import FILE, OUT, tool
from synthct.files import write_json


@tool("check.py", help=__doc__)
@click.option("--sheet", required=True, type=FILE, help="the samplesheet (CSV)")
@click.option("--preset", default="paper", help="name of a preset in conf/presets, or a TOML file")
@click.option("--modality", required=True, type=click.Choice(resolver.MODALITIES))
@click.option("--set", "overrides", multiple=True, help='section.key=value; several times, or separated by ";"')
@click.option("--plan/--no-plan", default=True, help="also check that test and folds can be drawn from the sheet")
@click.option("--out", required=True, type=OUT, help="the resolved settings (JSON)")
def main(sheet, preset, modality, overrides, plan, out):
    wanted = [item for given in overrides for item in given.split(";") if item.strip()]
    settings = resolver.resolve(preset, modality, wanted)
    cohort.groups_of(settings["finetuning"]["groups"])
    resolver.checkpoints(settings["inference"]["checkpoint"])
    patients = cohort.read_sheet(sheet)
    if plan:
        cohort.plan(patients, **settings["folds"])
    write_json(out, settings)


if __name__ == "__main__":
    main()
