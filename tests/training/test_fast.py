"""The preset `fast` on the CPU: `paper`'s training in other arithmetic; and `make bench-gpu`'s small form."""

import json
import math
import signal
import subprocess
import sys

import small_training as small
import torch
from small_training import LONGER, log, run, same_weights, start

from synthct.core.presets import resolve
from synthct.networks.network import build

# what the preset changes, laid over the tiny settings of the tests
CHANGES = {
    key: value
    for key, value in resolve("fast", "mr")["training"].items()
    if value != resolve("paper", "mr")["training"][key]
}
FAST = [part for key, value in CHANGES.items() for part in ("--set", f"training.{key}={str(value).lower()}")]


def test_fast_changes_how_and_not_what():
    """Nothing that a paper would report differs from `paper`."""
    assert set(CHANGES) == {"precision", "tf32", "channels_last", "fused", "compile"}
    for modality in ("mr", "cbct"):
        fast, paper = resolve("fast", modality), resolve("paper", modality)
        assert {key for key in paper if fast[key] != paper[key]} == {"preset", "training"}


def test_interrupted_and_continued_it_is_the_same_run(data, tmp_path):
    """SIGKILL, then SIGTERM, then to the end: the bits of one that ran through, and every loss finite."""
    whole, states, out = tmp_path / "whole", tmp_path / "states", tmp_path / "out"
    assert run(data, whole, *LONGER, *FAST).returncode == 0
    for how in (signal.SIGKILL, signal.SIGTERM):
        process = start(data, out, *LONGER, *FAST, "--checkpoint-dir", states)
        process.wait_for("step", "continuing")
        process.send(how)
        process.finish()
    done = run(data, out, *LONGER, *FAST, "--checkpoint-dir", states)
    assert done.returncode == 0 and "continuing at step" in done.stdout, done.stderr
    assert same_weights(whole / "final.safetensors", out / "final.safetensors")
    assert log(whole) == log(out)
    assert all(math.isfinite(float(row["loss"])) for row in log(whole))


def test_hu_keep_their_steps_under_bf16():
    """The network's own output near air (-1) is finer than bf16, which knows nothing between -1024 and -1016 HU."""
    settings = resolve("test", "mr", small.TINY)["training"]
    model = build(settings["network"], 5).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(1, 5, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert out.dtype == torch.float32
    assert not torch.equal(out, out.bfloat16().float())


def test_bench_gpu_runs_to_its_end_without_a_gpu(root, tmp_path):
    """Every part in the small form: correctness holds, a table and its JSON are written."""
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks/bench-gpu"), "--small", "--minutes", "20", "--out", str(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text())
    parts = {row["part"] for row in record["rows"]}
    assert parts == {"registration", "training", "determinism", "processes", "learning", "prediction", "speed"}
    assert record["small"] and not record["faults"]
    assert "no number here speaks for a study" in file.with_suffix(".md").read_text()
