#!/usr/bin/env python3
"""Make, look into and verify model bundles, and import the authors' published checkpoints into one."""

import json
from pathlib import Path

import click

from synthct import __version__
from synthct.core import settings as presets
from synthct.core.cli import FILE, OUT, VOLUME, ToolGroup
from synthct.core.device import CHOICES, device_of
from synthct.core.errors import InputError
from synthct.core.files import plain, require_replaceable, write_json
from synthct.core.tables import read_object
from synthct.prediction import assembly
from synthct.prediction import bundle as bundles


@click.group(name="bundle.py", cls=ToolGroup, help=__doc__)
@click.version_option(__version__, prog_name="bundle.py")
def main():
    pass


@main.command()
@click.option("--checkpoints", multiple=True, required=True, type=VOLUME, help="output directory of train or finetune")
@click.argument("more", nargs=-1, type=VOLUME)
@click.option("--settings", required=True, type=FILE, help="the study's resolved settings (JSON)")
@click.option("--cohort", type=FILE, help="folds.json, for the summary of the training data")
@click.option("--recipes", type=FILE, help="what the pairs' registration compared, by curate.py --out-recipes")
@click.option("--arm", required=True, help="registration method the networks were trained on")
@click.option("--default-region", help="region assumed where none is given  [default: that of most patients]")
@click.option("--out", required=True, type=OUT, help="bundle directory to write")
def create(checkpoints, more, settings, cohort, recipes, arm, default_region, out):
    """Gather the checkpoints of an arm (--checkpoints A B C ...) into a bundle."""
    require_replaceable(out, bundles.ours, filter(None, (*checkpoints, *more, settings, cohort, recipes)))
    tree = presets.load(settings)
    folds = read_object(cohort, "folds") if cohort else None
    made_by = read_object(recipes, "recipes").get("recipes") if recipes else None
    made = assembly.from_training([*checkpoints, *more], tree, arm, out, folds, default_region, made_by)
    click.echo(_line(made))


@main.command()
@click.argument("directory", type=VOLUME)
@click.option("--sheet", required=True, type=FILE, help="samplesheet of known patients: image, ct and mask on one grid")
@click.option("--folds", type=FILE, help="folds.json: who was held out  [default: nobody of the sheet was trained on]")
@click.option("--device", type=click.Choice(CHOICES), default="auto", help="where the networks run")
def trust(directory, sheet, folds, device):
    """Record in a bundle what its known patients teach, so that predict.py says use, look or do not use."""
    from synthct.prediction.known import teach

    made = teach(bundles.read_bundle(directory), sheet, folds, device_of(device), click.echo)
    click.echo(_line(made))


@main.command()
@click.argument("directory", type=VOLUME)
@click.option("--predictions", required=True, type=VOLUME, help="directory of predict.py's summaries (JSON)")
@click.option("--metrics", required=True, type=VOLUME, help="directory of evaluate.py's metrics (JSON)")
@click.option("--out", required=True, type=OUT, help="trust.json, to lie in the bundle's directory")
def learn(directory, predictions, metrics, out):
    """The record of known patients from a study's own test: nothing is predicted again."""
    from synthct.prediction.known import learn as learned

    bundle = bundles.read_bundle(directory)
    record = learned(bundle, *(sorted(Path(place).glob("*.json")) for place in (predictions, metrics)))
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
    click.echo(_line(bundles.verify(directory)) + ": whole")


@main.command("import")
@click.option("--checkpoints", multiple=True, required=True, type=FILE, help="CV_0.pt ... in the published layout")
@click.argument("more", nargs=-1, type=FILE)
@click.option("--group", required=True, help="name of the region group, such as AB+TH")
@click.option("--regions", required=True, help="its regions, separated by commas")
@click.option("--modality", required=True, type=click.Choice(presets.MODALITIES))
@click.option("--preset", default="released", show_default=True, help="preset they were trained under")
@click.option("--set", "overrides", multiple=True, help="section.key=value")
@click.option("--kind", type=click.Choice(presets.CHECKPOINTS), default="best", show_default=True)
@click.option("--append", is_flag=True, help="add the group to the bundle that is there")
@click.option("--out", required=True, type=OUT, help="bundle directory to write")
def import_(checkpoints, more, group, regions, modality, preset, overrides, kind, append, out):
    """Import the authors' published checkpoints (--checkpoints CV_0.pt CV_1.pt ...) as one group of a bundle."""
    names = [name.strip() for name in regions.split(",") if name.strip()]
    if not names:
        raise InputError(f"regions {regions!r}: expected names separated by commas")
    require_replaceable(out, bundles.ours, (*checkpoints, *more))
    tree = presets.resolve(preset, modality, overrides)
    made = assembly.from_published([*checkpoints, *more], group, names, tree, out, kind=kind, append=append)
    click.echo(_line(made))


def _line(bundle: bundles.Bundle) -> str:
    about = bundle.about
    groups = ", ".join(
        f"{name} ({'+'.join(group['regions']) or 'any'}: {len(group['best'])} best, {len(group['final'])} final)"
        for name, group in about["groups"].items()
    )
    return f"{bundle.path}: {about['modality']}, {about['channels']} channels, preset {about['preset']}, {groups}"


if __name__ == "__main__":
    main()
