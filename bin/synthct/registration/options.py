"""The options of register.py."""

import click

from synthct.core.cli import FILE, OUT, VOLUME, options, settings_options
from synthct.core.device import CHOICES
from synthct.core.presets import MODALITIES

register_options = options(
    click.option("--method", required=True, help="arm: a table [registration.arms.NAME] of the preset"),
    click.option("--modality", required=True, type=click.Choice(MODALITIES), help="the pair is CT and this"),
    click.option("--fixed", required=True, type=VOLUME, help="image that stays; its grid is the output's"),
    click.option("--moving", required=True, type=VOLUME, help="image that is deformed"),
    click.option("--fixed-mask", type=FILE, help="where to compare (default: a body mask by threshold)"),
    click.option(
        "--moving-is", type=click.Choice(("ct", "image")), help="default: seen from the images, else by the arm"
    ),
    click.option("--patient", help="name of the patient, for --qc"),
    click.option("--region", help="region name, for settings that depend on it (AB, TH, HN)"),
    settings_options(),
    click.option("--seed", type=click.IntRange(0), help="default: the preset's"),
    click.option("--rigid/--no-rigid", default=None, help="a rigid stage first (default: the preset's choice)"),
    click.option("--device", type=click.Choice(CHOICES), default="auto"),
    click.option("--out-image", required=True, type=OUT, help="moving image on the fixed grid"),
    click.option("--out-displacement", required=True, type=OUT, help="displacement field, mm, LPS, fixed to moving"),
    click.option("--out-mask", type=OUT, help="fixed mask where the moving image has support"),
    click.option("--out-fixed", type=OUT, help="the fixed image as it is, so that a directory holds the pair"),
    click.option("--out-transform", type=OUT, help="transform for SimpleITK (.h5 or .tfm)"),
    click.option("--qc", type=OUT, help="JSON: folding, Jacobian, similarity before and after, time, memory"),
    click.option(
        "--record-failure", is_flag=True, help="a pair that cannot be registered is said in --qc alone, for curate.py"
    ),
    click.option("--preview", type=OUT, help="NPZ with small pictures for the report"),
)
