#!/usr/bin/env python3
"""Fine-tune a global model on a group of regions: best and final checkpoints, log.csv, TensorBoard events.

Starts from --init (safetensors, or an authors' published .pt) with the settings `training` overlaid by `finetuning`;
otherwise as train.py.
"""

import re

import click

from synthct.core.cli import tool
from synthct.training.options import carry_out, run_options
from synthct.training.setup import Request


@tool("finetune.py", help=__doc__)
@run_options
@click.option("--init", required=True, type=click.Path(exists=True, dir_okay=False), help="checkpoint to start from")
@click.option("--regions", required=True, help="regions of the group, e.g. AB,TH")
def main(init, regions, **options):
    names = tuple(name for name in re.split(r"[,+\s]+", regions) if name)
    carry_out(Request(section="finetuning", init=init, regions=names, **options))


if __name__ == "__main__":
    main()
