#!/usr/bin/env python3
"""Where a training step of preset `fast` spends its time: the network, and each encoder of the perceptual loss.

    benchmarks/step_parts.py [--device cuda] [--compile] [--batch 32] [--plane 320]

Each part alone, forward and backward, under autocast to bfloat16 with channels last, random weights; milliseconds
until the device has finished, the median of eight. SAM also with the attention of its own package in the place of ours,
VGG-19 also in the plain layout, TotalSegmentator's encoder (where its package is) also as the 3-D network that it was.
With --compile each part once more by torch.compile, and how long compiling took.
"""

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import click  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.networks import network  # noqa: E402
from synthct.networks.perceptual import Photographs, Sam, TotalSegmentator, Vgg19  # noqa: E402

# what TotalSegmentator's networks of 1.5 mm are: features, and of the CT's intensities
STAGES = [32, 64, 128, 256, 320, 320]
PROPERTIES = {"percentile_00_5": -1000.0, "percentile_99_5": 1000.0, "mean": 0.0, "std": 500.0}


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True)
@click.option("--compile", "compiling", is_flag=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--plane", default=320, show_default=True)
def main(device, compiling, batch, plane):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    kind = presets.resolve("paper", "mr")["training"]["network"]
    model = network.build(kind, 5)
    network.initialise(model, kind, torch.Generator().manual_seed(1))
    last = {"memory_format": torch.channels_last}
    x = torch.randn(batch, 5, plane, plane, device=device).to(**last)
    target = torch.rand(batch, 1, plane, plane, device=device) * 2 - 1
    prediction = torch.rand_like(target).requires_grad_()

    def through(model):
        return lambda: (model(x) - target).abs().mean()

    def distance(encoder):
        def apart():
            with torch.no_grad():
                wanted = encoder(target, target)
            found = encoder(prediction, target)
            return torch.stack([(f - g).abs().mean() for f, g in zip(found, wanted, strict=True)]).sum()

        return apart

    vgg, sam = Photographs(Vgg19([], None)), Photographs(Sam("vit_b", [], None))
    parts = {"the network": (model.train().to(device).to(**last), through)}
    encoders = {"VGG-19, plain layout": vgg, "VGG-19": vgg, "SAM, its package's attention": _package(sam), "SAM": sam}
    encoders |= _totalsegmentator()
    for name, encoder in encoders.items():
        parts[name] = (encoder.to(device).requires_grad_(False).eval(), distance)
    for name, (part, loss) in parts.items():
        if name in ("VGG-19", "SAM"):
            part.to(**last)
        print(f"{name}: {_time(loss(part), device):.1f} ms", flush=True)
        if compiling and name in ("the network", "VGG-19", "SAM"):
            start = time.monotonic()
            step = loss(torch.compile(part))
            _time(step, device, 1)
            took = time.monotonic() - start
            print(f"{name}, compiled: {_time(step, device):.1f} ms ({took:.0f} s of compiling)", flush=True)


def _package(sam: Photographs) -> Photographs:
    """SAM as its package computes it, with weights of its own."""
    from segment_anything import sam_model_registry

    other = Photographs(Sam("vit_b", [], None))
    for block, own in zip(other.features.blocks, sam_model_registry["vit_b"]().image_encoder.blocks, strict=False):
        block.attn = own.attn
    return other


def _totalsegmentator() -> dict[str, nn.Module]:
    try:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
    except ModuleNotFoundError:
        return {}

    def encoder() -> nn.Module:
        strides, norm = [[1, 1, 1], *[[2, 2, 2]] * 5], {"eps": 1e-5, "affine": True}
        shape = (nn.Conv3d, [[3, 3, 3]] * 6, strides, [2] * 6, 24, [2] * 5, True, nn.InstanceNorm3d, norm)
        return PlainConvUNet(1, 6, STAGES, *shape, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}).encoder

    class Volumes(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = encoder()

        def forward(self, image, _reference):
            return self.stem(image[:, :, None] * 4)[:4]

    return {
        "TotalSegmentator, in 3-D": Volumes(),
        "TotalSegmentator": TotalSegmentator(encoder(), PROPERTIES, [], (-1024, 3071)),
    }


def _time(loss, device: str, count: int = 8) -> float:
    """Milliseconds of `loss`, forward and backward."""
    clock = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    spent = []
    for number in range(count + 2):
        clock()
        start = time.monotonic()
        with torch.autocast(device, torch.bfloat16):
            value = loss()
        value.backward()
        clock()
        if number > 1 or count == 1:
            spent.append(1e3 * (time.monotonic() - start))
    return statistics.median(spent)


if __name__ == "__main__":
    main()
