#!/usr/bin/env python3
"""The paper's study in one command, shortened, on shared MR patients and with the networks that are at hand.

    benchmarks/paper_study.py --data shared/data/sts --weights shared/weights --out build/paper_study

Elastix on a curated cohort against IMPACT on the whole one, a combined loss, best and final checkpoints, each model on
each registration of the test images. Two things differ from the paper beside the sizes, because the published weights
are not here: IMPACT compares layer 2 of M730 (the paper's recipe for MR wants layer 7), and the loss joins L1 with the
features of those same two layers and MIND (the paper's: VGG-19, SAM and TotalSegmentator's CT network). The settings
written into OUT/study.toml say so, and the report's labels with them. Everything after `--` goes to the pipeline.
"""

import subprocess
import sys
from pathlib import Path

import click
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
PATIENTS = {  # all of extremities; 028 lies 10 mm apart, the others within 2 mm
    "STS_010": "train",
    "STS_028": "train",
    "STS_032": "test",
    "STS_042": "train",
    "STS_047": "test",
    "STS_048": "train",
}
CURATED = {"STS_028": "slices 10 mm apart"}  # left out of the baseline's training alone
TOML = """# The paper's study, shortened for two cores; what differs from the paper beside sizes is marked.
inherit = "test"

[registration.arms.impact]
label = "IMPACT, layer 2"      # differs: the paper's recipe for MR compares layer 7, whose weights are not here
mr.compares = "learnt features of M730, layer 2 (Static), and MIND"

settings.mutual.weight = 0.0   # the paper's text: features and MIND alone ("test" inherits the released maps)

[registration.arms.impact.settings.mr]
models.network.extractor = "TS730"
models.network.layers = "01"
models.network.subset = 32

[registration.sampled]
grid_mm = 10.0                 # the paper's

[training]
max_steps = {steps}
validate_every = {half}

[training.perceptual]
encoder = "torchscript,mind"   # differs: L1 + M730's features + MIND, for L1 + VGG-19 + SAM + TotalSegmentator

[training.perceptual.encoders.torchscript]
weights = "{encoder}"
layers = []
layer_weights = []

[finetuning]
groups = "EX"
max_steps = 20
validate_every = 10
"""


class Slices(nn.Module):
    """M730's first two blocks as an encoder of slices: grey from three channels, a volume of depth 1, standardised."""

    def __init__(self, network: torch.jit.ScriptModule):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        grey = x.mean(1, keepdim=True)
        grey = (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 1e-3)
        maps = self.network(grey[:, :, None])
        return [map[:, :, 0] for map in maps]


@click.command(help=__doc__.split("\n")[0])
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="PATIENT/{mr,ct,mask}.mha")
@click.option("--weights", required=True, type=click.Path(exists=True, file_okay=False), help="M730_2_Layers.pt in it")
@click.option("--out", required=True, type=click.Path(file_okay=False))
@click.option("--steps", default=60, show_default=True, help="of each training")
@click.argument("more", nargs=-1)
def main(data, weights, out, steps, more):
    data, weights, out = (Path(path).resolve() for path in (data, weights, out))
    out.mkdir(parents=True, exist_ok=True)
    encoder = out / "M730_slices.pt"
    torch.jit.script(Slices(torch.jit.load(str(weights / "M730_2_Layers.pt")))).save(str(encoder))
    (out / "study.toml").write_text(TOML.format(steps=steps, half=steps // 2, encoder=encoder))
    rows = [f"{p},EX,A,{data}/{p}/mr.mha,{data}/{p}/ct.mha,{data}/{p}/mask.mha,{s}" for p, s in PATIENTS.items()]
    (out / "sheet.csv").write_text("\n".join(["patient,region,center,image,ct,mask,split", *rows]) + "\n")
    (out / "elastix.txt").write_text("".join(f"{patient}, {reason}\n" for patient, reason in CURATED.items()))
    command = [
        ROOT / "nextflow", "run", ROOT / "main.nf", "--input", out / "sheet.csv", "--modality", "mr",
        "--preset", out / "study.toml", "--registration", "elastix,impact", "--exclude", f"elastix={out}/elastix.txt",
        "--weights", weights, "--checkpoint", "best,final", "--holdout", "split", "--folds", "2",
        "--outdir", out / "results", "-work-dir", out / "work", "-ansi-log", "false", *more,
    ]  # fmt: skip
    command = list(map(str, command))
    click.echo(" ".join(command))
    sys.exit(subprocess.run(command, cwd=out, check=False).returncode)


if __name__ == "__main__":
    main()
