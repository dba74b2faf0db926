"""The options of evaluate.py, and what one of them says."""

import math

import click

from synthct.core import presets
from synthct.core.cli import FILE, OUT, VOLUME, options
from synthct.core.errors import InputError
from synthct.evaluation.metrics.image import HU_RANGE

evaluate_options = options(
    click.option("--sct", required=True, type=VOLUME, help="synthetic CT, HU"),
    click.option("--ct", required=True, type=VOLUME, help="CT on the same grid, HU"),
    click.option(
        "--mask", type=VOLUME, help="body mask on the same grid, inside > 0  [default: one is made from the CT]"
    ),
    click.option(
        "--resample-ct",
        is_flag=True,
        help="bring a CT of another grid onto the sCT's; voxels outside its field of view are not scored",
    ),
    click.option("--sct-seg", type=VOLUME, help="TotalSegmentator label map of the sCT"),
    click.option("--ct-seg", type=VOLUME, help="TotalSegmentator label map of the CT"),
    click.option("--region", default="", help="AB, TH, HN or a name of your own; chooses the classes scored"),
    click.option(
        "--hu-range",
        nargs=2,
        type=float,
        metavar="LOW HIGH",
        help="HU; clip and data range of PSNR and MS-SSIM  [default: -1024 3071]",
    ),
    click.option("--settings", type=FILE, help="resolved settings; their hu_range stands if none is given here"),
    click.option("--patient", default="", help="name written into the result"),
    click.option(
        "--trained-on", default="", help="registration that the model was trained on, written into the result"
    ),
    click.option("--tested-on", default="", help="registration that made this image pair, written into the result"),
    click.option("--checkpoint", default="", help="best or final, written into the result"),
    click.option("--uncertainty", type=VOLUME, help="standard deviation of the ensemble, HU"),
    click.option("--image", type=VOLUME, help="the model's input on the same grid"),
    click.option("--baselines", type=FILE, help="trivial predictors of baselines.py; needs --image"),
    click.option(
        "--record-failure", is_flag=True, help="a pair that cannot be scored is said in --out, and is no reason to fail"
    ),
    click.option("--slices", type=OUT, help="npz of small mid-slices for the report to write"),
    click.option("--out", required=True, type=OUT, help="JSON file to write"),
)


def hu_range_of(given: tuple[float, float] | None, settings: str | None) -> tuple[float, float]:
    """The ends (HU) between which images are scored: as `given`, else as a file of settings says, else the challenge's.

    Raises `InputError` unless both are finite and the lower one comes first.
    """
    section = presets.section("evaluation", settings=settings, preset="", modality="") if settings and not given else {}
    low, high = given or section.get("hu_range", HU_RANGE)
    if not (math.isfinite(high - low) and low < high):
        raise InputError(f"--hu-range {low:g} {high:g}: expected two numbers, the lower first")
    return low, high
