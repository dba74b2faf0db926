#!/usr/bin/env python3
"""Decide which registered pairs to train on: an exclusion list, and a score from the quality records."""

import click

from synthct.cohort import curation
from synthct.core import presets
from synthct.core.cli import FILE, OUT, settings_options, tool
from synthct.core.files import plain, write_json
from synthct.core.tables import write_table


@tool("curate.py", help=__doc__)
@click.option("--qc", required=True, multiple=True, type=click.Path(exists=True), help="quality record or directory")
@click.argument("more", nargs=-1, type=click.Path(exists=True))
@click.option(
    "--exclude", type=FILE, help="patients to leave out: one a line, or a CSV with patient, arm, reason, verdict"
)
@click.option("--arm", help="the arm that the records are of, for a list with a column 'arm'")
@click.option("--modality", type=click.Choice(presets.MODALITIES), default="mr", help="with --preset")
@settings_options()
@click.option("--cases", type=click.Path(exists=True), help="directory of preprocess.py's records of the same pairs")
@click.option("--out-kept", required=True, type=OUT, help="CSV: arm,patient,reason,score,verdict,measure")
@click.option("--out-excluded", required=True, type=OUT, help="CSV: arm,patient,reason,score,verdict,measure")
@click.option("--out-recipes", type=OUT, help="JSON: what the records say was compared, with the weights' SHA-256")
def main(qc, more, cases, exclude, arm, modality, preset, settings, overrides, out_kept, out_excluded, out_recipes):
    section = presets.section("curation", settings=settings, preset=preset, modality=modality, overrides=overrides)
    listed, cleared = curation.read_verdicts(exclude, arm) if exclude else ({}, set())
    records = curation.read_records([*qc, *more])
    if cases:
        records = curation.with_cases(records, curation.read_records([cases]))
    if line := curation.unknown_names(exclude, {*listed, *cleared}, records, "registered pair"):
        click.echo(f"curate.py: warning: exclusion list {line}", err=True)
    rows = curation.curate(records, section, listed, cleared)
    for path, kept in ((out_kept, True), (out_excluded, False)):
        chosen = ({"arm": arm or "", **row} for row in rows if row["kept"] == kept)
        write_table(path, chosen, ("arm", *curation.COLUMNS))
    if out_recipes:
        write_json(out_recipes, plain({"recipes": curation.recipes_of(records.values())}))


if __name__ == "__main__":
    main()
