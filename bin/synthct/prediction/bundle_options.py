"""The options of bundle.py, a block a subcommand, and what one of them says."""

import click

from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, options
from synthct.core.device import CHOICES
from synthct.core.errors import InputError


def regions_of(text: str) -> list[str]:
    """The regions that --regions names.

    >>> regions_of("AB, TH")
    ['AB', 'TH']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"regions {text!r}: expected names separated by commas")
    return names


out_option = click.option("--out", required=True, type=OUT, help="bundle directory to write")

create_options = options(
    click.option(
        "--checkpoints", multiple=True, required=True, type=VOLUME, help="output directory of train or finetune"
    ),
    click.argument("more", nargs=-1, type=VOLUME),
    click.option("--settings", required=True, type=FILE, help="the study's resolved settings (JSON)"),
    click.option("--cohort", type=FILE, help="folds.json, for the summary of the training data"),
    click.option("--recipes", type=FILE, help="what the pairs' registration compared, by curate.py --out-recipes"),
    click.option("--arm", required=True, help="registration method the networks were trained on"),
    click.option("--default-region", help="region assumed where none is given  [default: that of most patients]"),
    out_option,
)

trust_options = options(
    click.argument("directory", type=VOLUME),
    click.option(
        "--sheet", required=True, type=FILE, help="samplesheet of known patients: image, ct and mask on one grid"
    ),
    click.option(
        "--folds", type=FILE, help="folds.json: who was held out  [default: nobody of the sheet was trained on]"
    ),
    click.option(
        "--device", type=click.Choice(CHOICES), default="auto", show_default=True, help="where the networks run"
    ),
)

learn_options = options(
    click.argument("directory", type=VOLUME),
    click.option("--predictions", required=True, type=VOLUME, help="directory of predict.py's summaries (JSON)"),
    click.option("--metrics", required=True, type=VOLUME, help="directory of evaluate.py's metrics (JSON)"),
    click.option("--out", required=True, type=OUT, help="trust.json, to lie in the bundle's directory"),
)

import_options = options(
    click.option("--checkpoints", multiple=True, required=True, type=FILE, help="CV_0.pt ... in the published layout"),
    click.argument("more", nargs=-1, type=FILE),
    click.option("--group", required=True, help="name of the region group, such as AB+TH"),
    click.option("--regions", required=True, callback=lambda _, __, text: regions_of(text), help="separated by commas"),
    click.option("--modality", required=True, type=click.Choice(presets.MODALITIES)),
    click.option("--preset", default="released", show_default=True, help="preset they were trained under"),
    click.option("--set", "overrides", multiple=True, help="section.key=value"),
    click.option("--kind", type=click.Choice(presets.CHECKPOINTS), default="best", show_default=True),
    click.option("--append", is_flag=True, help="add the group to the bundle that is there"),
    out_option,
)
