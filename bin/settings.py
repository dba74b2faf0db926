#!/usr/bin/env python3
"""Resolve a preset and its overrides into the settings that a study runs with."""

import click

from synthct import settings as rooms
from synthct.cli import OUT, tool
from synthct.files import write_json


@tool("settings.py", help=__doc__)
@click.option("--preset", default="paper", help="name of a preset in conf/presets, or a TOML file")
@click.option("--modality", required=True, type=click.Choice(rooms.MODALITIES))
@click.option("--set", "overrides", multiple=True, help="section.key=value; may be given several times, or separated by ";"")
@click.option("--out", required=True, type=OUT, help="JSON file to write")
def main(preset, modality, overrides, out):
    flat = [item for given in overrides for item in given.split(";") if item.strip()]
    write_json(out, rooms.resolve(preset, modality, flat))


if __name__ == "__main__":
    main()
