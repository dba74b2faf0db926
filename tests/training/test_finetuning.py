"""Fine-tuning as a user runs it, from our own checkpoints and from the authors' published ones."""

import os
import pickle

import numpy as np
import pytest
import torch
from conftest import bad_input
from small_training import log, run, same_weights

from synthct.core.presets import resolve
from synthct.networks.checkpoint import load_weights
from synthct.networks.network import build


def test_fine_tuning_takes_the_groups_patients(trained, data, tmp_path):
    done = run(data, tmp_path / "th", "--init", trained[0] / "best.safetensors", "--regions", "TH", tool="finetune.py")
    assert done.returncode == 0, done.stderr
    about = load_weights(tmp_path / "th" / "best.safetensors")[1]
    assert (about["group"], about["regions"], about["patients"]) == ("TH", ["TH"], {"training": 2, "validation": 0})
    assert about["step"] == 2  # no one to validate on: best is final
    assert same_weights(tmp_path / "th" / "best.safetensors", tmp_path / "th" / "final.safetensors")
    assert about["settings"]["training"]["validate_every"] == 1


def test_fine_tuning_never_ends_worse_than_it_began(trained, data, tmp_path):
    """A rate that ruins the network: the best checkpoint is the one that fine-tuning started from."""
    start = trained[0] / "best.safetensors"
    rate = ("--set", "finetuning.learning_rate=10")
    done = run(data, tmp_path / "ab", "--init", start, "--regions", "AB", *rate, tool="finetune.py")
    assert done.returncode == 0, done.stderr
    assert "start  validation MAE" in done.stdout
    assert same_weights(start, tmp_path / "ab" / "best.safetensors")
    about, rows = load_weights(tmp_path / "ab" / "best.safetensors")[1], log(tmp_path / "ab")
    assert about["step"] == 0
    assert [float(row["best_mae_hu"]) for row in rows] == pytest.approx([about["validation_mae"]] * len(rows), rel=1e-4)
    assert float(rows[-1]["validation_mae_hu"]) > about["validation_mae"] + 1


def test_a_group_without_patients_says_so(trained, data, tmp_path):
    done = run(data, tmp_path / "hn", "--init", trained[0] / "best.safetensors", "--regions", "HN", tool="finetune.py")
    bad_input(done, "fold 0", "HN", "no training patients")


def published(path, channels: int, name: str, seed: int = 0):
    """A checkpoint in the authors' published layout, random weights; returns them."""
    torch.manual_seed(seed)
    weights = build(resolve("paper", "mr")["training"]["network"], channels).state_dict()
    torch.save(
        {
            "Model": {name: {f"model.{key}": value for key, value in weights.items()}},
            "_it": 7,
            "_nb_lr_update": 2,
            f"{name}_optimizer_state_dict": {"state": {}, "param_groups": []},
        },
        path,
    )
    return weights


@pytest.mark.parametrize(("name", "channels"), [("UNetpp5", 5), ("UNetpp", 3)])
def test_the_authors_checkpoints_load(tmp_path, name, channels):
    """And give what bare segmentation-models-pytorch with a tanh gives."""
    import segmentation_models_pytorch as smp

    weights = published(tmp_path / "CV_0.pt", channels, name)
    bare = smp.UnetPlusPlus(
        "resnet34",
        encoder_weights=None,
        decoder_channels=(256, 128, 64, 32, 16),
        in_channels=channels,
        classes=1,
        activation=None,
    )
    bare.load_state_dict(weights)
    ours = build(resolve("paper", "mr")["training"]["network"], channels)
    ours.load_state_dict(load_weights(tmp_path / "CV_0.pt")[0])
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, channels, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        difference = (torch.tanh(bare.eval()(x)) - ours.eval()(x)).abs().max() * 2047.5
    assert difference < 0.01  # HU


def test_fine_tuning_starts_from_a_published_checkpoint(data, tmp_path):
    weights = published(tmp_path / "CV_0.pt", 5, "UNetpp5")
    more = [
        "--init",
        tmp_path / "CV_0.pt",
        "--regions",
        "AB,TH",
        "--set",
        "training.network.encoder=resnet34",
        "--set",
        "training.network.decoder_channels=[256, 128, 64, 32, 16]",
        "--set",
        "finetuning.max_steps=1",
        "--set",
        "finetuning.learning_rate=0.0",
    ]
    done = run(data, tmp_path / "out", *more, tool="finetune.py")
    assert done.returncode == 0, done.stderr
    tuned = load_weights(tmp_path / "out" / "final.safetensors")[0]
    key = "segmentation_head.0.weight"
    assert torch.equal(tuned[key], weights[key])


class Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_with_code_is_refused(data, tmp_path):
    with open(tmp_path / "evil.pt", "wb") as file:
        pickle.dump({"Model": Payload(tmp_path / "ran")}, file)
    torch.save({"Model": {"UNetpp5": Payload(tmp_path / "ran")}}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        done = run(data, tmp_path / "out", "--init", tmp_path / name, "--regions", "AB", tool="finetune.py")
        bad_input(done, name)
        assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_named(trained, data, tmp_path):
    done = run(
        data,
        tmp_path / "out",
        "--init",
        trained[0] / "best.safetensors",
        "--regions",
        "AB",
        "--set",
        "training.channels=3",
        tool="finetune.py",
    )
    bad_input(done, "encoder.conv1.weight", "best.safetensors")
