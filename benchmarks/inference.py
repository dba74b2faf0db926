#!/usr/bin/env python3
"""Prediction measured: against KonfAI 1.8.7 as a whole process, against its own bare forward passes, and peak memory.

    .venv/bin/python benchmarks/inference.py [compute] [konfai --konfai PYTHON] [memory]

Everything runs on the CPU with random weights of the paper's network. `compute` interleaves our prediction with the
bare forward passes it needs. `konfai` runs the two programs in turns on the same weights and volume, 3 views × 2
models, and compares their sCT; PYTHON is the interpreter of an environment of its own with konfai[itk]==1.8.7 and
segmentation-models-pytorch. `memory` is the peak of a 512×512×400 volume through five networks (see `memory`).
CPU seconds are given because they hold on a machine that is shared; wall seconds where both programs were timed.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

import konfai_side  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from models import lively  # noqa: E402

from synthct.cases.store import prepare  # noqa: E402
from synthct.core import presets  # noqa: E402
from synthct.core.cli import cpu_threads  # noqa: E402
from synthct.images.grid import Grid, Volume  # noqa: E402
from synthct.images.volume import read_volume, write_volume  # noqa: E402
from synthct.prediction import inference  # noqa: E402

CHANNELS = 5
NETWORK = presets.resolve("paper", "mr")["training"]["network"] | {"init": "kaiming"}
VIEWS = inference.parse_views("none,x,y")

KONFAI_HU = """
import torch
from konfai.data.transform import Transform


class ToHU(Transform):
    def __init__(self):
        super().__init__()

    def __call__(self, name, tensor, cache_attribute):
        return (tensor + 1) / 2 * 4095 - 1024
"""

KONFAI_CONFIG = """
Predictor:
  Model:
    classpath: UNetpp:UNetpp5
    UNetpp5:
      outputs_criterions: None
  Dataset:
    groups_src:
      MR:
        groups_dest:
          MR: {{transforms: None, patch_transforms: None, is_input: true}}
      MASK:
        groups_dest:
          MASK: {{transforms: None, patch_transforms: None, is_input: false}}
    augmentations:
      DataAugmentation_0:
        data_augmentations:
          Flip: {{f_prob: [0, 0, 1], prob: 1}}
        nb: 1
      DataAugmentation_1:
        data_augmentations:
          Flip: {{f_prob: [0, 1, 0], prob: 1}}
        nb: 1
    Patch: {{patch_size: [1, {height}, {width}], overlap: None, mask: None, pad_value: -1, extend_slice: 4}}
    subset: None
    filter: None
    dataset_filenames: ["./Dataset:a:mha"]
    use_cache: false
    batch_size: {batch}
  outputs_dataset:
    Head:Tanh:
      OutputDataset:
        name_class: OutputDataset
        before_reduction_transforms: None
        after_reduction_transforms: None
        final_transforms:
          ToHU:ToHU: {{}}
          Mask: {{path: MASK, value_outside: -1024}}
          TensorCast: {{dtype: int16}}
        dataset_filename: Dataset:mha
        group: sCT
        same_as_group: MR:MR
        patch_combine: None
        reduction: Mean
  train_name: Out
  manual_seed: 32
  gpu_checkpoints: None
  images_log: None
  combine: Mean
  autocast: false
  data_log: None
"""


def volume(shape, width: float = 0.8, seed: int = 0) -> tuple[Volume, Volume]:
    """A body with texture in air, int16, and its mask: an ellipse that fills the part `width` of the plane's width."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((y / shape[1] - 0.5) ** 2 + (x / shape[2] - 0.5) ** 2 < (width / 2) ** 2) & (z >= 0)
    values = np.random.default_rng(seed).integers(0, 400, shape, np.int16)
    values += (300 + 200 * np.sin(y / 9) * np.cos(x / 11) + 4 * z).astype(np.int16)
    grid = Grid(shape[::-1], (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    return Volume(np.where(inside, values, 0).astype(np.int16), grid), Volume(inside.astype(np.uint8), grid)


def compute(args):
    """Our prediction (slices, flips, statistics, resampling, rounding) against nothing but its forward passes."""
    torch.set_num_threads(args.threads)
    rules = presets.resolve("paper", "mr")["preprocessing"]
    networks = [lively(NETWORK, CHANNELS, seed).to(memory_format=torch.channels_last) for seed in (0, 1)]
    image, mask = volume((args.slices, args.plane, args.plane), args.body)
    work, inside, rule = prepare(image, mask, "mr", rules)
    body = inside.array > 0
    seen = inference.View.of(body, (), inference.STRIDE)  # as `predict` frames it
    frame = seen.frame
    given = inference.Slices.of(work.array, body, [0], rule, CHANNELS, torch.device("cpu"))
    x = given.seen(seen, rules["padding"], torch.channels_last)

    def bare():
        with torch.inference_mode():
            for _ in range(args.slices):
                for network in networks:
                    for _ in VIEWS:
                        network(x)

    def ours():
        inference.predict(image, mask, networks, modality="mr", rules=rules, channels=CHANNELS, views=VIEWS)

    ours()
    pairs = [(cpu(ours), cpu(bare)) for _ in range(args.pairs)]
    report(f"compute / bare passes ({args.slices}×{frame.height}×{frame.width}, CPU s)", pairs, 1.05)


def konfai(args):
    """Two whole processes on the same volume and weights, in the published layout; ours are imported into a bundle."""
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads), "GOMP_SPINCOUNT": "0"}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        image, mask = volume((args.slices, args.plane, args.plane), args.body)
        rules = presets.resolve("paper", "mr")["preprocessing"]
        prepared, inside, rule = prepare(image, mask, "mr", rules)
        (work / "Dataset" / "P1").mkdir(parents=True)
        normalised = prepared.with_array(rule(prepared.array, inside.array > 0))
        write_volume(normalised, work / "Dataset" / "P1" / "MR.mha")
        write_volume(mask, work / "Dataset" / "P1" / "MASK.mha")
        write_volume(image, work / "raw.mha")  # ours normalises, and takes an image about 0 for one without signal
        names = []
        for k in (0, 1):
            weights = {f"model.{key}": value for key, value in lively(NETWORK, CHANNELS, k).state_dict().items()}
            torch.save({"Model": {"UNetpp5": weights}}, work / f"CV_{k}.pt")
            names.append(f"CV_{k}.pt")
        (work / "UNetpp.py").write_text(konfai_side.MODEL)
        (work / "ToHU.py").write_text(KONFAI_HU)
        patch = args.patch or args.plane
        (work / "Prediction.yml").write_text(KONFAI_CONFIG.format(height=patch, width=patch, batch=args.batch))
        tool = [sys.executable, str(ROOT / "bin" / "bundle.py"), "import", "--checkpoints", *names, "--group", "ALL"]
        subprocess.run(
            [*tool, "--regions", "AB", "--modality", "mr", "--preset", "paper", "--out", "model"],
            cwd=work,
            env=environment,
            check=True,
            capture_output=True,
        )
        ours = [
            sys.executable,
            str(ROOT / "bin" / "predict.py"),
            "--model",
            "model",
            "--image",
            "raw.mha",
            "--mask",
            "Dataset/P1/MASK.mha",
            "--region",
            "AB",
            "--out",
            "sct.mha",
            "--device",
            "cpu",
        ]
        theirs = [str(Path(args.konfai).with_name("konfai")), "PREDICTION", "-y", "-q", "--models", *names]
        pairs, walls = [], []
        for turn in range(args.pairs):
            order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
            spent = {id(command): konfai_side.process(command, work, environment) for command in order}
            pairs.append((spent[id(ours)][0], spent[id(theirs)][0]))
            walls.append((spent[id(ours)][1], spent[id(theirs)][1]))
        size = f"{args.slices}×{args.plane}×{args.plane}, body {args.body:g} of the width, KonfAI's patch {patch}²"
        report(f"whole process / KonfAI 1.8.7 ({size}, CPU s)", pairs, 0.5)
        report(f"whole process / KonfAI 1.8.7 ({size}, wall s)", walls, 0.5)
        body = mask.array > 0
        made = read_volume(work / "sct.mha").array.astype(int)
        their = read_volume(work / "Predictions" / "Out" / "Dataset" / "P1" / "sCT.mha").array
        difference = np.abs(made - their)
        print(
            f"sCT against KonfAI's: max {difference.max()} HU, mean {difference[body].mean():.2f} HU in the mask "
            f"(sCT's own spread {made[body].std():.0f} HU), outside equal: {bool((made == their)[~body].all())}"
        )


def memory(args):
    """Peak resident memory for 512×512×400, in two processes that each hold one half of the worst case.

    networks  five networks of the paper, body over the whole plane, but in every 200th slice only
    arrays    body everywhere, the networks replaced by one small convolution
    What grows with slices is held whole in both, and both hold the five networks' weights; only the activations of a
    pass are missing from the second, and they are gone when its peak comes, after the last pass.
    """
    peaks = {}
    for part in ("idle", "networks", "arrays"):
        command = [sys.executable, __file__, f"_{part}", "--threads", str(args.threads)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks[part] = json.loads(output.splitlines()[-1])["peak_gb"]
    print(
        "peak memory 512×512×400 (GiB): "
        + ", ".join(f"{part} {peak:.2f}" for part, peak in peaks.items())
        + "; wanted below 6"
    )


def memory_part(part: str, args):
    """One half of `memory`, in this process."""
    torch.set_num_threads(args.threads)
    if part != "idle":
        rules = presets.resolve("paper", "mr")["preprocessing"]
        shape = (400, 512, 512)
        grid = Grid(shape[::-1], (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
        image = Volume(np.random.default_rng(0).integers(0, 2000, shape, np.int16), grid)
        inside = np.zeros(shape, np.uint8)
        networks = held = [lively(NETWORK, CHANNELS, seed) for seed in range(5)]
        if part == "networks":
            inside[::200] = 1
        else:
            inside[:] = 1
            networks = [torch.nn.Sequential(torch.nn.Conv2d(CHANNELS, 1, 3, padding=1), torch.nn.Tanh()).eval()]
        mask = Volume(inside, grid)
        inference.predict(image, mask, networks, modality="mr", rules=rules, channels=CHANNELS, views=VIEWS)
        assert len(held) == 5
    print(json.dumps({"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def cpu(action) -> float:
    """CPU seconds of `action`: what it costs, however many others share the machine."""
    start = time.process_time()
    action()
    return time.process_time() - start


def report(what: str, pairs: list[tuple[float, float]], wanted: float):
    """One line: the median of the paired ratios, their range, and what was wanted."""
    ratios = sorted(mine / other for mine, other in pairs)
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{what}: {mine:.2f} / {other:.2f}, ratio {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(pairs)} pairs), wanted at most {wanted}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["compute"], help="compute, konfai, memory")
    parser.add_argument("--konfai", help="the Python of an environment with konfai 1.8.7")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--plane", type=int, default=128, help="pixels, a multiple of 32")
    parser.add_argument("--body", type=float, default=0.8, help="width of the body, part of the plane")
    parser.add_argument("--patch", type=int, help="KonfAI's patch size in pixels  [default: the plane]")
    parser.add_argument("--batch", type=int, default=8, help="KonfAI's batch size")
    parser.add_argument("--threads", type=int, default=cpu_threads())
    args = parser.parse_args()
    for what in args.what:
        if what.startswith("_"):
            memory_part(what[1:], args)
        elif what == "konfai" and not args.konfai:
            print("whole process / KonfAI 1.8.7: left out, --konfai says which Python has it")
        else:
            {"compute": compute, "konfai": konfai, "memory": memory}[what](args)


if __name__ == "__main__":
    main()
