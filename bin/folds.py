#!/usr/bin/env python3
"""Hold out the local test and deal the other patients into folds, stratified by region and center."""

from pathlib import Path

import click

from synthct.cohort import curation
from synthct.cohort import folds as cohort
from synthct.core import presets
from synthct.core.cli import FILE, OUT, tool
from synthct.core.files import write_json, write_text
from synthct.core.records import KIND
from synthct.core.tables import write_table


@tool("folds.py", help=__doc__)
@click.option("--sheet", required=True, type=FILE, help="the samplesheet (CSV)")
@click.option(
    "--excluded", type=FILE, help="CSV with columns patient, reason: not to be trained on (curate.py writes it)"
)
@click.option(
    "--list", "lists", multiple=True, type=FILE, help="validation names of a fold, one a line; once for each fold"
)
@click.option("--arm", default="", help="arm that the exclusions are of, written into the result")
@click.option("--settings", "resolved", type=FILE, help="resolved settings (JSON), instead of --preset and --modality")
@click.option("--preset", default="paper")
@click.option("--modality", type=click.Choice(presets.MODALITIES), default="mr")
@click.option("--set", "overrides", multiple=True, help="section.key=value, such as folds.holdout=0.15")
@click.option("--out", required=True, type=OUT, help="folds.json")
@click.option("--runs-out", type=OUT, help="table of the trainings to make of it: fold, group, regions joined by '+'")
@click.option("--lists-out", type=OUT, help="directory for plain name lists: test.txt, fold_<k>_{train,validation}.txt")
def main(sheet, excluded, lists, arm, resolved, preset, modality, overrides, out, runs_out, lists_out):
    source = {"settings": resolved, "preset": preset, "modality": "" if resolved else modality, "overrides": overrides}
    chosen = presets.section("folds", **source)
    reasons = curation.read_reasons(excluded) if excluded else {}
    given = cohort.read_lists(lists)
    patients = cohort.read_sheet(sheet)
    if line := curation.unknown_names(excluded, reasons, {one.name for one in patients}, "patient of the sheet"):
        click.echo(f"folds.py: warning: excluded {line}", err=True)
    plan = cohort.plan(patients, excluded=reasons, given=given, **chosen)
    write_json(out, {KIND: "folds", "arm": arm, **plan})
    if runs_out:
        groups = cohort.groups_of(presets.section("finetuning", **source)["groups"])
        write_table(runs_out, cohort.runs(plan, groups), ("fold", "group", "regions"))
    if lists_out:
        named = {"test": plan["test"]}
        for number, fold in enumerate(plan["folds"]):
            named |= {f"fold_{number}_{part}": fold[part] for part in ("train", "validation")}
        for name, names in named.items():
            write_text(Path(lists_out) / f"{name}.txt", "".join(f"{patient}\n" for patient in names))


if __name__ == "__main__":
    main()
