"""What training refuses before anything is computed, in a line each; what must stop no training."""

import json
import shutil

import pytest
import torch
from conftest import bad_input
from small_training import run

from synthct.training.journal import utilisation


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--fold", "7"], ["folds 0 to 1"]),
        (["--set", "training.perceptual.encoder=vgg19"], ["fetch vgg19-dcbb9e9d.pth"]),
        (["--set", "training.perceptual.encoder=sam"], ["sam_vit_b_01ec64.pth"]),
        (["--set", "training.perceptual.encoder=totalsegmentator"], ["M291 (Dataset291_TotalSegmentator"]),
        (["--set", "training.perceptual.encoder=torchscript"], ["fetch SAM2.1_Small.pt"]),
        (["--set", "training.perceptual.encoder=vgg19,sam"], ["vgg19-dcbb9e9d.pth", "sam_vit_b_01ec64.pth"]),
        (["--set", "training.patch=[40, 40]"], ["training.patch", "32"]),
        (["--set", "training.patch=[32]"], ["training.patch", "two"]),
        (["--set", "training.betas=[0.9]"], ["training.betas", "two"]),
        (["--set", "training.batch=0"], ["training.batch 0", "1 or more"]),
        (["--set", "training.validate_every=0"], ["training.validate_every 0"]),
        (["--set", "training.lr_every=0"], ["training.lr_every 0"]),
        (["--set", "training.validation_batch=0"], ["training.validation_batch 0"]),
        (["--set", "training.workers=-1"], ["training.workers -1"]),
        (["--set", "training.copies=0", "--set", "training.originals=false"], ["training.copies 0"]),
        (["--set", "training.precision=fp8"], ["training.precision 'fp8'", "bf16"]),
        (["--set", "training.loss_region=foo"], ["training.loss_region 'foo'", "patch or mask"]),
        (["--set", "training.max_steps=0", "--set", "training.max_epochs=0"], ["training.max_steps", "never end"]),
        (["--set", "training.batch=60000", "--set", "training.patch=[8192, 8192]"], ["training.batch 60000", "GiB"]),
        (["--modality", "cbct"], ["modality mr", "cbct"]),
        (["--set", "training.max_step=3"], ["max_step", "max_steps"]),
        (["--device", "cuda"], ["no GPU"]),
    ],
)
def test_faults_are_one_line_before_anything_is_computed(data, tmp_path, more, expected):
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    none = str(tmp_path / "none")
    done = run(data, tmp_path / "out", *more, SYNTHCT_WEIGHTS=none, TOTALSEG_WEIGHTS_PATH=none)
    bad_input(done, *expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tool", ["train.py", "finetune.py"])
def test_folds_that_leak_are_refused(data, tmp_path, tool):
    (tmp_path / "folds.json").write_text(json.dumps({"folds": [{"train": ["P0", "P1"], "validation": ["P1"]}]}))
    init = ("--init", data[1], "--regions", "AB") if tool == "finetune.py" else ()
    done = run((data[0], tmp_path / "folds.json"), tmp_path / "out", *init, tool=tool)
    bad_input(done, "folds.json, fold 0", "'P1'")
    assert not (tmp_path / "out").exists()


def test_cases_whose_arrays_were_exchanged_are_refused(data, tmp_path):
    """Of one shape, so that nothing but their checksum tells."""
    shutil.copytree(data[0], tmp_path / "cases")
    one, other = (tmp_path / "cases" / name / "ct.npy" for name in ("P0", "P1"))
    one.write_bytes(other.read_bytes())
    bad_input(run((tmp_path / "cases", data[1]), tmp_path / "out"), "P0", "ct.npy", "SHA-256")
    assert not (tmp_path / "out").exists()


def test_one_value_a_channel_is_refused_before_anything_runs(data, tmp_path):
    """BatchNorm cannot normalise it: torch says so in a traceback at the first step."""
    one = ("--set", "training.batch=1", "--set", "training.patch=[32, 32]")
    deep = ("--set", "training.network.decoder_channels=[16, 8, 8, 8, 8]")
    done = run(data, tmp_path / "out", *one, *deep)
    bad_input(done, "training.batch 1 with training.patch [32, 32]", "BatchNorm")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_does_not_say_how_busy_it_is_stops_no_training(monkeypatch):
    """NVIDIA's library has errors of its own class: a part of a GPU (MIG) has no utilisation to tell."""

    class NVMLError(Exception):
        pass

    def refuse(_device):
        raise NVMLError("Not Supported")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert utilisation(torch.device("cuda", 0)) is None
