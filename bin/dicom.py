#!/usr/bin/env python3
"""Look into folders of DICOM files: which series they hold, and what predict.py would say of each."""

import click

from synthct import __version__
from synthct.core.cli import ToolGroup

FOLDER = click.Path(exists=True, file_okay=False, path_type=str)


@click.group(name="dicom.py", cls=ToolGroup, help=__doc__)
@click.version_option(__version__, prog_name="dicom.py")
def main():
    pass


@main.command(name="list")
@click.argument("directory", type=FOLDER)
def list_series(directory):
    """The series of DIRECTORY and its subdirectories, with the option that chooses each; no patient's name."""
    from synthct.images.dicom.listing import lines

    for line in lines(directory):
        click.echo(line)


if __name__ == "__main__":
    main()
