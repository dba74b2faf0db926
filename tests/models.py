"""Small model bundles with random weights that nevertheless answer to what they see, for the tests of prediction."""

import contextlib
import importlib.util
import io
import json
import subprocess
from pathlib import Path

import pytest
import torch

from synthct.core import presets
from synthct.networks.checkpoint import save_weights
from synthct.networks.network import build, initialise
from synthct.prediction import assembly

SMALL = presets.resolve("paper", "mr")["training"]["network"] | {
    "encoder": "resnet18",
    "decoder_channels": [32, 32, 16, 16, 8],
    "init": "kaiming",
}


def lively(network: dict, channels: int, seed: int) -> torch.nn.Module:
    """A seeded network whose BatchNorms know the statistics of noise, its outputs spread over about -0.8 to 0.8."""
    generator = torch.Generator().manual_seed(seed)
    model = initialise(build(network, channels), network, generator).train()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
    seen = []
    head = model.segmentation_head[0]
    hook = head.register_forward_hook(lambda _module, _given, logits: seen.append(logits))
    with torch.no_grad():
        for _ in range(3):
            coarse = torch.randn(2, channels, 8, 8, generator=generator)
            x = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
            x += 0.2 * torch.randn(2, channels, 64, 64, generator=generator)
            x[:, :, :12] = -1.0  # outside the body
            model(x)
        model.eval()(x)
        head.weight *= 0.5 / seen[-1].std()
        head.bias -= 0.5 * seen[-1].mean() / seen[-1].std()
    hook.remove()
    return model


def write_settings(path, modality: str, network: dict = SMALL, **inference) -> dict:
    """A resolved settings tree with `network` in it, written to `path`."""
    tree = presets.resolve("paper", modality)
    tree["training"]["network"] = network
    tree["inference"] |= inference
    Path(path).write_text(json.dumps(tree))
    return tree


def write_checkpoints(directory, tree: dict, *, folds: int = 2, groups=None) -> list[Path]:
    """Output directories as train and finetune leave them: best and final weights of each group and fold."""
    groups = groups or {"global": ["AB", "HN", "TH"], "AB+TH": ["AB", "TH"], "HN": ["HN"]}
    made = []
    for number, (group, regions) in enumerate(groups.items()):
        for fold in range(folds):
            out = Path(directory, f"{group}_{fold}")
            for kind in ("best", "final"):
                model = lively(
                    tree["training"]["network"],
                    tree["training"]["channels"],
                    100 * number + 10 * fold + (kind == "final"),
                )
                about = {
                    "fold": str(fold),
                    "group": group,
                    "regions": regions,
                    "modality": tree["modality"],
                    "channels": tree["training"]["channels"],
                    "arm": "impact",
                    "step": 40,
                    "validation_mae": 80.5,
                    "settings": {"training": tree["training"]},
                }
                save_weights(out / f"{kind}.safetensors", model.state_dict(), about)
            made.append(out)
    return made


def write_model(
    directory, groups=None, *, flips: str = "none,x", default_region: str | None = None, folds: int = 1
) -> Path:
    """A bundle of random networks for MR in `directory`, of {group: regions} (one for AB by default)."""
    tree = write_settings(directory / "settings.json", "mr", flips=flips)
    made = write_checkpoints(directory, tree, folds=folds, groups=groups or {"global": ["AB"]})
    return assembly.from_training(made, tree, "impact", directory / "model", default_region=default_region).path


def call(tool: str, *arguments) -> subprocess.CompletedProcess:
    """Run ``bin/<tool>`` in this process (no start-up): exit status, stdout and stderr as a finished process."""
    path = Path(__file__).resolve().parents[1] / "bin" / tool
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        module.main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess([tool, *arguments], stop.value.code or 0, out.getvalue(), errors.getvalue())
