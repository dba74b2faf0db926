"""The options of check.py, and those by which weights.py knows a study's networks."""

import click

from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, options

check_options = options(
    click.option("--sheet", required=True, type=FILE, help="the samplesheet (CSV)"),
    click.option("--preset", help="name of a preset, or a TOML file  [default: paper; with --bundle the bundle's]"),
    click.option("--presets", "directory", default=presets.PRESETS, type=VOLUME, help="where the named presets lie"),
    click.option(
        "--bundle", type=FILE, help="bundle.json of the model that predicts: its settings, where none is given"
    ),
    click.option("--modality", required=True, type=click.Choice(presets.MODALITIES)),
    click.option("--set", "overrides", multiple=True, help='section.key=value; several times, or separated by ";"'),
    click.option("--list", "lists", multiple=True, type=FILE, help="validation names of a fold; once for each fold"),
    click.option("--exclude", multiple=True, type=FILE, help="list of patients not to be trained on; several times"),
    click.option("--registration", help="comma list of the arms that will be run: each must be known"),
    click.option("--segment", is_flag=True, help="TotalSegmentator will label what is scored"),
    click.option("--weights", help="--weights of the study  [default: where tools on this machine look]"),
    click.option("--weights-files", type=FILE, help="names of the files in it, one a line"),
    click.option("--networks/--no-networks", default=True, help="also check that the networks' weights are there"),
    click.option("--plan/--no-plan", default=True, help="also check that test and folds can be drawn from the sheet"),
    click.option("--out", required=True, type=OUT, help="the resolved settings (JSON)"),
    click.option("--cohort-out", type=OUT, help="what the draw looks at, by patient (CSV)"),
)

network_options = options(
    click.argument("names", nargs=-1),
    click.option("--preset", default="paper", show_default=True, help="name of a preset, or a TOML file"),
    click.option(
        "--modality", type=click.Choice(presets.MODALITIES), help="of the study; needed where no name is given"
    ),
    click.option("--registration", default="impact", show_default=True, help="arms, separated by commas"),
    click.option("--set", "overrides", multiple=True, help="section.key=value"),
    click.option("--segment", is_flag=True, help="also those of --segment"),
    click.option("--weights", "place", help="directory or URI  [default: $SYNTHCT_WEIGHTS, else torch's cache]"),
)
