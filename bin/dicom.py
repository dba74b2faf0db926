#!/usr/bin/env python3
"""Look into folders of DICOM files: which series they hold, and what predict.py would say of each."""

import sys

import click

from synthct.core.cli import FILE, tool_group

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
def check(sheet, modality):
    """Open every input of SHEET (CSV: patient, column, path, named) by its headers; a line for each bad one."""
    from synthct.core.tables import read_table
    from synthct.images.dicom.sheet import faults

    rows = read_table(sheet, "list of DICOM inputs", ("patient", "column", "path", "named"))
    if found := faults(rows, modality):
        click.echo(f"dicom.py: error: {len(found)} of {len(rows)} DICOM inputs cannot be used", err=True)
        for line in found:
            click.echo(f"  {' '.join(line.split())}", err=True)
        sys.exit(2)
    click.echo(f"{len(rows)} DICOM inputs opened")


if __name__ == "__main__":
    main()
