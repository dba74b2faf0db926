#!/usr/bin/env python3
"""Train the U-Net++ of one fold on all regions: best and final checkpoints, log.csv, TensorBoard events.

One line per validation: loss, masked MAE in HU, learning rate, patches per second, time left. On SIGTERM the state is
saved and the tool exits 143; run again, it continues, bit for bit on CPU. With several GPUs visible it uses them all.
"""

import click

from synthct.core.cli import tool
from synthct.training.options import carry_out, run_options
from synthct.training.setup import Request


@tool("train.py", help=__doc__)
@run_options
@click.option(
    "--init",
    type=click.Path(exists=True, dir_okay=False),
    help="weights to start from: safetensors, or an authors' published .pt",
)
def main(init, **options):
    carry_out(Request(init=init, **options))


if __name__ == "__main__":
    main()
