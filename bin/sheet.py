#!/usr/bin/env python3
"""Make the samplesheet of a cohort from a tree of files, and say what was left out and why."""

from pathlib import Path

import click

from synthct.cohort import patterns, trees
from synthct.cohort import sheet as sheets
from synthct.core.cli import OUT, tool
from synthct.core.errors import InputError
from synthct.core.files import below
from synthct.core.presets import MODALITIES

KINDS = ("synthrad", "bids", "dicom", "folder")


@tool("sheet.py", help=__doc__)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--kind", required=True, type=click.Choice(KINDS), help="how the tree is laid out")
@click.option("--modality", type=click.Choice(MODALITIES), help="[default: SynthRAD's tasks say it; else mr]")
@click.option("--for", "purpose", type=click.Choice(("train", "predict")), default="train", help="predict needs no CT")
@click.option(
    "--pattern",
    default="{patient}_{kind}",
    help="folder: how files are called, without their suffix; {kind} is "
    "mr, t1, t2, cbct, image, ct or mask; {region} and {center} may stand in it too",
)
@click.option("--suffix", default="T1w", help="bids: the images' suffix")
@click.option("--region", default="", help="region of all patients, where the tree does not say it")
@click.option("--center", default="", help="center of all patients, where the tree does not say it")
@click.option("--out", required=True, type=OUT, help="the samplesheet (CSV)")
def main(source, kind, modality, purpose, pattern, suffix, region, center, out):
    if kind == "synthrad":
        found = trees.synthrad(source, modality or _task(source))
    elif kind == "bids":
        found = trees.bids(source, suffix, region, center)
    elif kind == "folder":
        found = patterns.folder(source, modality or "mr", pattern, region, center)
    else:
        from synthct.cohort.studies import studies  # pydicom is only imported where there is DICOM

        found = studies(source, modality or "mr", region, center)
    rows = sheets.complete(found, purpose)
    sheets.write(rows, out)
    for what, why in found.left_out:
        click.echo(f"left out: {what}: {why}")
    for line in found.warnings:
        click.echo(f"sheet.py: warning: {line}", err=True)
    click.echo(f"{out}: {len(rows)} patient{'s' * (len(rows) > 1)}, {len(found.left_out)} left out")


def _task(source: Path) -> str:
    names = [match for path in below(source) if path.is_dir() and (match := trees.SYNTHRAD.fullmatch(path.name))]
    tasks = sorted({trees.TASKS[match[1]] for match in names})
    if len(tasks) > 1:
        raise InputError(f"{source}: patients of both tasks, give --modality mr or --modality cbct")
    return tasks[0] if tasks else "mr"


if __name__ == "__main__":
    main()
