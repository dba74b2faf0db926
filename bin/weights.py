#!/usr/bin/env python3
"""List, fetch and verify the networks that a study's settings need: what each is for, where from, what is there.

Networks are named ("M730", "vgg19-dcbb9e9d.pth"), or follow from the settings: those of the registrations and of the
perceptual loss, with --segment those of Dice and HD95. The pipeline takes the directory as --weights; standalone tools
look in SYNTHCT_WEIGHTS.
"""

import click

from synthct.core.cli import tool_group
from synthct.core.errors import InputError
from synthct.networks import fetch as fetching
from synthct.networks import weights
from synthct.study.needs import of_study
from synthct.study.options import network_options

main = tool_group("weights.py", help=__doc__)


@main.command("list")
@network_options
def list_(place, **chosen):
    """Print the networks: name, size, licence, what for, whether it is there, address."""
    for cells in fetching.inventory(_needs(**chosen), _place(place)):
        click.echo("\t".join(cells))


@main.command()
@network_options
@click.option("--base-url", default="", help="a mirror that holds the published files by their names")
def fetch(place, base_url, **chosen):
    """Download what is not there yet: resumed, verified, whole or not at all. weights.json records each digest."""
    fetching.fetch(_needs(**chosen), _place(place), base_url=base_url, say=click.echo)


@main.command()
@network_options
def verify(place, **chosen):
    """Compare what is there with the published digests and those of the first download. Exit status 2 on a fault."""
    faults = fetching.verify(_needs(**chosen), _place(place))
    for name, fault in faults.items():
        click.echo(f"{name}: {fault or 'whole'}")
    if wrong := [f"{name}: {fault}" for name, fault in faults.items() if fault]:
        raise InputError(f"weights {_place(place)}: {'; '.join(wrong)}")


def _needs(names, **study) -> list[weights.Need]:
    needs = weights.by_name(names) if names else of_study(**study)
    if not needs:
        click.echo("these settings need no network")
    return needs


def _place(given: str | None) -> str:
    return given or str(weights.directory())


if __name__ == "__main__":
    main()
