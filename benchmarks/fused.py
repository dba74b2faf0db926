#!/usr/bin/env python3
"""The fused network beside the eager one: paired passes, processor time, and the largest difference in HU.

OMP_NUM_THREADS=1 .venv/bin/python benchmarks/fused.py [--pairs 5]
"""

import statistics
import sys
import time
from pathlib import Path

import click
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from models import lively  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.networks.fused import Fused  # noqa: E402
from synthct.prediction.bundle import network_for  # noqa: E402


def spent(network, x) -> float:
    """Processor seconds of one pass."""
    start = time.process_time()
    network(x)
    return time.process_time() - start


@click.command(help=__doc__.split("\n")[0])
@click.option("--pairs", default=5, show_default=True)
def main(pairs):
    torch.set_num_threads(1)
    settings = presets.resolve("paper", "mr")["training"]["network"] | {"init": "kaiming"}
    eager = network_for(settings, 5)
    eager.load_state_dict(lively(settings, 5, 0).state_dict())
    eager = eager.eval().to(memory_format=torch.channels_last)
    fused = Fused(eager)
    for slices, plane in ((1, 128), (2, 128), (1, 192), (1, 320)):
        x = torch.randn(slices, 5, plane, plane).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            difference = (eager(x) - fused(x)).abs().max().item() * 4095 / 2
            ratios = sorted(spent(fused, x) / spent(eager, x) for _ in range(pairs))
        print(
            f"{slices}×{plane}²: fused / eager {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), largest difference {difference:.2f} HU",
            flush=True,
        )


if __name__ == "__main__":
    main()
