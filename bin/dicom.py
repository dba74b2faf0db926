#!/usr/bin/env python3
"""Look into folders of DICOM files: which series they hold, and what predict.py would say of each."""

import sys

import click

from synthct.core.cli import FILE, tool_group
from synthct.core.presets import PRESETS

FOLDER = click.Path(exists=True, file_okay=False, path_type=str)

main = tool_group("dicom.py", help=__doc__)


@main.command(name="list")
@click.argument("directory", type=FOLDER)
def list_series(directory):
    """The series of DIRECTORY and its subdirectories, with the option that chooses each; no patient's name."""
    from synthct.images.dicom.listing import lines

    for line in lines(directory):
        click.echo(line)


@main.command()
@click.argument("sheet", type=FILE)
@click.option("--modality", required=True, type=click.Choice(("mr", "cbct")), help="of the sheet's images")
@click.option("--preset", default="paper", help="whose section curation says how many patients may be lost")
@click.option("--presets", default=PRESETS, type=click.Path(exists=True), help="where the named presets lie")
@click.option("--set", "overrides", multiple=True, help='section.key=value; several times, or separated by ";"')
def check(sheet, modality, preset, presets, overrides):
    """Open every input of SHEET (CSV: patient, column, path, named) by its header and a sample of its voxels.

    A line for each bad one; they are left out by the steps that follow, unless more patients have one than the
    settings allow.
    """
    from synthct.cohort.curation import too_many
    from synthct.core.presets import changes, resolve
    from synthct.core.tables import read_table
    from synthct.images.dicom.sheet import faults

    rows = read_table(sheet, "list of inputs", ("patient", "column", "path", "named"))
    settings = resolve(preset or "paper", modality, changes(overrides), presets)["curation"]
    found = faults(rows, modality)
    bad = {patient: line for patient, line in reversed(found)}  # the first of each
    fatal = too_many(bad, len({row["patient"] for row in rows}), settings)
    for _, line in found:
        click.echo(f"dicom.py: {'error' if fatal else 'warning'}: {' '.join(line.split())}", err=True)
    if fatal:
        click.echo(f"dicom.py: error: {fatal}", err=True)
        sys.exit(2)
    click.echo(f"{len(rows)} inputs opened, {len(found)} bad")


if __name__ == "__main__":
    main()
