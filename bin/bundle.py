#!/usr/bin/env python3
"""Make, look into and verify model bundles, and import the authors' published checkpoints into one."""

import json

import click

from synthct.core import presets
from synthct.core.cli import OUT, tool_group
from synthct.core.device import device_of
from synthct.core.files import plain, require_replaceable, write_json
from synthct.prediction import assembly, bundle_options, known
from synthct.prediction import bundle as bundles

main = tool_group("bundle.py", help=__doc__)


@main.command()
@bundle_options.create_options
def create(checkpoints, more, out, recipes, **options):
    """Gather the checkpoints of an arm (--checkpoints A B C ...) into a bundle."""
    made = assembly.from_study([*checkpoints, *more], out, compared=recipes, **options)
    click.echo(made.summary)


@main.command()
@bundle_options.trust_options
def trust(directory, sheet, folds, device):
    """Record in a bundle what its known patients teach, so that predict.py says use, look or do not use."""
    made = known.teach(bundles.read_bundle(directory), sheet, folds, device_of(device), click.echo)
    click.echo(made.summary)


@main.command()
@bundle_options.learn_options
def learn(directory, predictions, metrics, out):
    """The record of known patients from a study's own test: nothing is predicted again."""
    record = known.learn(bundles.read_bundle(directory), predictions, metrics)
    write_json(out, plain(record))
    click.echo(f"{directory}: {record['patients']} held-out patients known")


@main.command()
@click.argument("directory", type=OUT)
def inspect(directory):
    """Say what a bundle holds."""
    about = bundles.read_bundle(directory).about
    click.echo(json.dumps({key: value for key, value in about.items() if key != "files"}, indent=2))


@main.command()
@click.argument("directory", type=OUT)
def verify(directory):
    """Compare every file with its SHA-256 and load every network."""
    click.echo(f"{bundles.verify(directory).summary}: whole")


@main.command("import")
@bundle_options.import_options
def import_(checkpoints, more, group, regions, modality, preset, overrides, kind, append, out):
    """Import the authors' published checkpoints (--checkpoints CV_0.pt CV_1.pt ...) as one group of a bundle."""
    require_replaceable(out, bundles.ours, (*checkpoints, *more))
    tree = presets.resolve(preset, modality, overrides)
    made = assembly.from_published([*checkpoints, *more], group, regions, tree, out, kind=kind, append=append)
    click.echo(made.summary)


if __name__ == "__main__":
    main()
