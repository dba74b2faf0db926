#!/usr/bin/env python3
"""How much of this processor the network reaches: GFLOP/s of its passes beside those of a matrix product.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/roofline.py [--rounds 5] [--slices 1] [--plane 320]

Passes of the paper's network (prediction: eager and fused; a training step: forward, L1, backward, AdamW) and a float32
matrix product of 2048×2048 in turns, processor time, the median of each. Floating point operations are counted as
executed by the eager network: two a multiplication with addition (torch's own counter, which leaves norms, activations
and AdamW out), so that the fused pass, which does the same work in fewer operations, is measured by the same count.
"""

import statistics
import sys
import time
from pathlib import Path

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from models import lively  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.networks.fused import Fused  # noqa: E402
from synthct.prediction.bundle import network_for  # noqa: E402

SIZE = 2048  # of the matrix product: larger than the caches, so that what it reaches is the processor's limit


@click.command(help=__doc__.split("\n")[0])
@click.option("--rounds", default=5, show_default=True)
@click.option("--slices", default=1, show_default=True)
@click.option("--plane", default=320, show_default=True)
def main(rounds, slices, plane):
    torch.set_num_threads(1)
    settings = presets.resolve("paper", "mr")["training"]["network"] | {"init": "kaiming"}

    def network():
        made = network_for(settings, 5)
        made.load_state_dict(lively(settings, 5, 0).state_dict())
        return made.to(memory_format=torch.channels_last)

    eager, trained = network().eval(), network().train()
    fused = Fused(eager)
    optimiser = torch.optim.AdamW(trained.parameters(), fused=True)
    x = torch.randn(slices, 5, plane, plane).contiguous(memory_format=torch.channels_last)
    y = torch.randn(slices, 1, plane, plane)
    one, two = torch.randn(2, SIZE, SIZE)

    def step():
        optimiser.zero_grad()
        torch.nn.functional.l1_loss(trained(x), y).backward()
        optimiser.step()

    with torch.inference_mode():
        forward = counted(lambda: eager(x))
    work = {
        "matrix product": (lambda: one @ two, 2 * SIZE**3),
        "forward pass, eager": (lambda: eager(x), forward),
        "forward pass, fused": (lambda: fused(x), forward),
        "training step": (step, counted(step)),
    }
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):  # the first warms up
        for name, (run, _) in work.items():
            with torch.inference_mode(name != "training step"):
                start = time.process_time()
                run()
                spent[name].append(time.process_time() - start)
    seconds = {name: statistics.median(taken[1:]) for name, taken in spent.items()}
    rates = {name: count / seconds[name] / 1e9 for name, (_, count) in work.items()}
    print(f"{slices}×5×{plane}²\n| | GFLOP | s | GFLOP/s | of the matrix product |\n|---|---:|---:|---:|---:|")
    for name, (_, count) in work.items():
        share = rates[name] / rates["matrix product"]
        print(f"| {name} | {count / 1e9:.1f} | {seconds[name]:.2f} | {rates[name]:.0f} | {share:.2f} |")


def counted(run) -> int:
    """Floating point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
