#!/usr/bin/env python3
"""Training against the plainest code that does the same, paired on one machine; prints one line a ratio.

    .venv/bin/python benchmarks/training.py [--patch 96] [--batch 8] [--pairs 20] [--perceptual-patch 224]

step        one step of the trainer, patches read from disk, against a bare loop (same model and batch, a resident
            batch, forward + L1 + backward + AdamW): the median ratio of alternating steps; at most 1.02 is wanted
memory      peak resident memory of a training process with 32 patients against 4; at most 1.1 is wanted
perceptual  forward + backward of the loss at batch 8, SAM ViT-B and VGG-19 with seeded random weights, against sample
            by sample with the target's features recomputed under gradient; at most 0.7 is wanted
konfai      a step of bin/train.py against one of KonfAI 1.8.7, in turns: whole processes with two epochs less those
            with one, so that neither's start counts, on the same cases (needs --konfai)
"""

import argparse
import copy
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import konfai_side
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.cases.store import find_cases, write_case  # noqa: E402
from synthct.core import presets  # noqa: E402
from synthct.images.grid import Grid, Volume  # noqa: E402
from synthct.images.volume import write_volume  # noqa: E402
from synthct.networks import network, perceptual  # noqa: E402
from synthct.networks.losses import Objective  # noqa: E402
from synthct.training.launch import Place  # noqa: E402
from synthct.training.loop import Run, Trainer  # noqa: E402
from synthct.training.sampling import loader  # noqa: E402


def write_cases(directory: Path, count: int, shape=(40, 256, 256)):
    """`count` random patients, the size of an abdomen at 1.5 mm."""
    rules = presets.resolve("paper", "mr")["preprocessing"]
    grid = Grid(shape[::-1], (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    for number in range(count):
        random = np.random.default_rng(number)
        image = Volume(random.integers(0, 2000, shape, np.int16), grid)
        ct = Volume(random.integers(-1000, 1500, shape, np.int16), grid)
        labels = {"patient": f"P{number:02d}", "region": "AB", "center": "A", "arm": "none"}
        write_case(
            directory / labels["patient"],
            image=image,
            mask=image.with_array(np.ones(shape, np.uint8)),
            ct=ct,
            modality="mr",
            rules=rules,
            labels=labels,
        )


def trainer(cases: Path, settings: dict) -> Trainer:
    """A trainer on all of `cases`; nothing is validated or written."""
    settings = settings | {"perceptual": settings["perceptual"] | {"encoder": "none"}}
    model = network.build(settings["network"], settings["channels"])
    network.initialise(model, settings["network"], torch.Generator().manual_seed(1))
    run = Run(
        model=model,
        encoders={},
        training=list(find_cases([cases]).values()),
        validation=[],
        settings=settings,
        about={},
        out=cases,
        place=Place(torch.device("cpu")),
        state=None,
    )
    return Trainer(run)


def step_ratio(cases: Path, settings: dict, pairs: int) -> tuple[float, float, float]:
    """Median ratio of paired steps, and the median seconds of both."""
    ours = trainer(cases, settings)
    bare = copy.deepcopy(ours.model)
    optimizer = torch.optim.AdamW(
        bare.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    data = iter(loader(ours.batches, 0, pairs + 2, settings["workers"], False))
    x, y, _ = ours.batches[0]

    def plain():
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(bare(x), y).backward()
        optimizer.step()

    def full():
        ours._step(ours.model, *next(data))

    times = []
    for number in range(pairs + 2):
        order = (plain, full) if number % 2 else (full, plain)
        taken = {}
        for step in order:
            start = time.process_time()  # processor time: a busy machine does not change it
            step()
            taken[step] = time.process_time() - start
        if number > 1:  # the first two warm up
            times.append((taken[full], taken[plain]))
    return statistics.median(a / b for a, b in times), *(
        statistics.median(column) for column in zip(*times, strict=True)
    )


def peak_memory(cases: Path, settings: dict, steps: int) -> float:
    """Peak resident MiB of a process of its own that trains `steps` steps."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(cases), "--settings", json.dumps(settings), "--steps", str(steps)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def child(cases: Path, settings: dict, steps: int):
    """Train `steps` steps; print the peak resident MiB."""
    ours = trainer(cases, settings)
    for batch in loader(ours.batches, 0, steps, 0, False):
        ours._step(ours.model, *batch)
    status = Path("/proc/self/status").read_text()  # not getrusage, which counts what the parent held before the start
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)


def perceptual_ratio(features, settings: dict, patch: int, batch: int, repeats: int) -> tuple[float, float, float]:
    """Median ratio of the loss's forward + backward against the plain way, and the seconds of both."""
    encoder = perceptual.Photographs(features).eval()
    plain_encoder = copy.deepcopy(encoder)  # its weights ask for gradients, as they do when nobody turns that off
    chosen = settings["perceptual"] | {"encoder": "vgg19", "weight": 1.0}  # one term, whichever the encoder
    objective = Objective(settings | {"perceptual": chosen}, {"vgg19": encoder})
    objective.requires_grad_(False)
    torch.manual_seed(0)
    target = torch.rand(batch, 1, patch, patch) * 2 - 1
    prediction = (target + 0.1 * torch.randn_like(target)).clamp(-1, 1).requires_grad_()
    inside = torch.ones_like(target, dtype=torch.bool)

    def ours():
        objective(prediction, target, inside)["loss"].backward()

    def plain():
        loss = (prediction - target).abs().mean()
        for one, other in zip(prediction.split(1), target.split(1), strict=True):
            pairs = zip(plain_encoder(one, other), plain_encoder(other, other), strict=True)
            loss = loss + sum((f - g).abs().mean() for f, g in pairs) / batch
        loss.backward()

    times, gradients = [], []
    for _ in range(repeats):
        taken = []
        for way in (ours, plain):
            prediction.grad = None
            start = time.process_time()
            way()
            taken.append(time.process_time() - start)
            gradients.append(prediction.grad)
        times.append(taken)
    difference = (gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()
    assert difference < 1e-2, f"the two losses differ: gradients by {difference:.1e}"
    return statistics.median(a / b for a, b in times), *(
        statistics.median(column) for column in zip(*times, strict=True)
    )


def konfai_steps(konfai: str, patch: int, batch: int, pairs: int) -> list[tuple[float, float, float, float]]:
    """Of each pair of turns, CPU seconds of a step and of all but the steps: ours, KonfAI's; threads as in the
    environment. Both read 64 slices of the same four patients; KonfAI keeps them in memory, as it does of itself."""
    spent = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_cases(work / "cases", 4, (16, patch, patch))
        for number in range(4):
            place, random = work / "Dataset" / f"P{number}", np.random.default_rng(number)
            place.mkdir(parents=True)
            for name in ("MR", "CT"):
                values = random.uniform(-1, 1, (16, patch, patch)).astype(np.float32)
                write_volume(
                    Volume(values, Grid((patch, patch, 16), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))), place / f"{name}.mha"
                )
        (work / "UNetpp.py").write_text(konfai_side.MODEL)
        names = [f"P{number:02d}" for number in range(4)]
        plan = {"format": 1, "seed": 1, "test": [], "regions": {}, "excluded": {}}
        (work / "folds.json").write_text(json.dumps(plan | {"folds": [{"train": names, "validation": []}]}))
        steps = 64 // batch

        def ours(epochs: int) -> float:
            changes = [f"patch=[{patch}, {patch}]", f"batch={batch}", "perceptual.encoder=none", "workers=0"]
            changes += [f"max_steps={epochs * steps}", "validate_every=1000000", "flip_probability=0"]
            command = [sys.executable, str(ROOT / "bin" / "train.py"), "--cases", "cases", "--folds", "folds.json"]
            command += ["--fold", "all", "--device", "cpu", "--no-resume", "--out", f"out{len(spent)}_{epochs}"]
            command += [part for change in changes for part in ("--set", f"training.{change}")]
            return konfai_side.process(command, work, os.environ)[0]

        def theirs(epochs: int) -> float:
            (work / "Config.yml").write_text(konfai_side.TRAINING.format(patch=patch, batch=batch, epochs=epochs))
            return konfai_side.process([str(Path(konfai).with_name("konfai")), "TRAIN", "-y", "-q"], work, os.environ)[
                0
            ]

        for _ in range(pairs):
            (once, their_once), (twice, their_twice) = ((ours(epochs), theirs(epochs)) for epochs in (1, 2))
            step, their_step = (twice - once) / steps, (their_twice - their_once) / steps
            spent.append((step, their_step, once - steps * step, their_once - steps * their_step))
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--perceptual-patch", type=int, default=224)
    parser.add_argument("--perceptual-repeats", type=int, default=3)
    parser.add_argument("--only", choices=["step", "memory", "perceptual", "konfai"])
    parser.add_argument("--konfai", help="the Python of an environment with konfai[itk] 1.8.7 and our smp")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=60, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(Path(given.child), json.loads(given.settings), given.steps)
    settings = presets.resolve("paper", "mr")["training"] | {
        "patch": [given.patch, given.patch],
        "batch": given.batch,
        "workers": 0,
    }
    with tempfile.TemporaryDirectory() as scratch:
        few, many = Path(scratch) / "few", Path(scratch) / "many"
        if given.only in (None, "step", "memory"):
            write_cases(few, 4)
        if given.only in (None, "step"):
            ratio, ours, bare = step_ratio(few, settings, given.pairs)
            print(
                f"training step, read from disk / bare loop      {ratio:.3f}   ({ours:.2f} s / {bare:.2f} s"
                f", {given.batch}×5×{given.patch}², wanted at most 1.02)",
                flush=True,
            )
        if given.only in (None, "memory"):
            write_cases(many, 32)
            small = settings | {
                "patch": [64, 64],
                "batch": 2,
                "network": settings["network"] | {"encoder": "resnet18", "decoder_channels": [32, 16, 16]},
            }  # little else to hide the data behind
            one, other = peak_memory(many, small, given.steps), peak_memory(few, small, given.steps)
            print(
                f"peak memory, 32 patients / 4 patients          {one / other:.3f}   ({one:.0f} MiB / {other:.0f} MiB, "
                "wanted at most 1.1)",
                flush=True,
            )
    if given.konfai and given.only in (None, "konfai"):
        spent = konfai_steps(given.konfai, given.patch, given.batch, max(1, given.pairs // 6))
        step, their_step, start, their_start = (statistics.median(column) for column in zip(*spent, strict=True))
        ratios = sorted(mine / other for mine, other, *_ in spent)
        print(
            f"training step / KonfAI 1.8.7                   {statistics.median(ratios):.3f}   ({step:.2f} s / "
            f"{their_step:.2f} s, {ratios[0]:.2f} to {ratios[-1]:.2f}, {given.batch}×5×{given.patch}²; the rest of "
            f"the processes {start:.1f} s / {their_start:.1f} s)",
            flush=True,
        )
    if given.only in (None, "perceptual"):
        for name, make in (
            ("SAM ViT-B", lambda: perceptual.Sam("vit_b", [], None)),
            ("VGG-19", lambda: perceptual.Vgg19([], None)),
        ):
            torch.manual_seed(0)
            ratio, ours, plain = perceptual_ratio(make(), settings, given.perceptual_patch, 8, given.perceptual_repeats)
            print(
                f"perceptual {name:<10} batched / one by one      {ratio:.3f}   ({ours:.1f} s / {plain:.1f} s"
                f", 8×{given.perceptual_patch}², wanted at most 0.7)",
                flush=True,
            )


if __name__ == "__main__":
    main()
