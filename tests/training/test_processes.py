"""Several processes that train one network: what they learn, how they stop and continue, what they refuse."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import small_training as small
import torch
from conftest import bad_input
from small_training import LONGER, log, run, same_weights, start

from synthct.networks.checkpoint import load_weights
from synthct.training import launch as places


def start_both(data, out, *more, **keywords) -> list[small.Tool]:
    """Two processes of one run, as torchrun starts them (gloo, CPU)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [start(data, out, *more, RANK=rank, LOCAL_RANK=rank, **shared, **keywords) for rank in "01"]


def test_two_processes_learn_together(data, tmp_path):
    """One output, from both processes' batches."""
    first, second = (
        process.finish() for process in start_both(data, tmp_path / "out", "--set", "training.max_steps=2")
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "2 × cpu" in first.stdout and first.stdout.count("validation MAE") == 1
    assert second.stdout == ""
    assert load_weights(tmp_path / "out" / "final.safetensors")[1]["step"] == 2


def test_three_patients_are_validated_by_two_processes_as_by_one(trained, data, tmp_path):
    """One process has nobody in the last round, and nobody waits for it."""
    (tmp_path / "folds.json").write_text(json.dumps({"folds": [{"train": ["P3"], "validation": ["P0", "P1", "P2"]}]}))
    uneven = (data[0], tmp_path / "folds.json")
    more = ("--init", trained[0] / "best.safetensors", "--regions", "AB,TH")
    alone = run(uneven, tmp_path / "one", *more, tool="finetune.py")
    first, second = (p.finish() for p in start_both(uneven, tmp_path / "two", *more, tool="finetune.py"))
    assert (alone.returncode, first.returncode, second.returncode) == (0, 0, 0), first.stderr + second.stderr
    starts = [[line for line in done.stdout.splitlines() if line.startswith("start")] for done in (alone, first)]
    assert starts[0] and starts[0] == starts[1]


def test_two_processes_terminated_and_continued_equal_two_uninterrupted(data, tmp_path):
    """SIGTERM reaches one process only: both stop at the same step, the state is written once, and nothing is lost."""
    states = (*LONGER, "--checkpoint-dir", tmp_path / "states")
    assert [p.finish().returncode for p in start_both(data, tmp_path / "whole", *LONGER)] == [0, 0]
    first, second = start_both(data, tmp_path / "out", *states)
    first.wait_for("step")
    second.send(signal.SIGTERM)
    stopped, other = first.finish(), second.finish()
    assert (stopped.returncode, other.returncode) == (143, 143), stopped.stderr + other.stderr
    assert "the state is saved" in stopped.stdout and len(list((tmp_path / "states").iterdir())) == 1
    done, other = (process.finish() for process in start_both(data, tmp_path / "out", *states))
    assert (done.returncode, other.returncode) == (0, 0), done.stderr + other.stderr
    assert "continuing at step" in done.stdout
    assert same_weights(tmp_path / "whole" / "final.safetensors", tmp_path / "out" / "final.safetensors")
    assert log(tmp_path / "whole") == log(tmp_path / "out")


def test_torchrun_hands_sigterm_on(data, tmp_path):
    """The way several GPUs of a node are used, from launch to the state that a reclaimed node leaves."""
    command = [small.ROOT / "bin" / "train.py", "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out", "--checkpoint-dir", tmp_path / "states"]
    command += [part for one in (*small.TINY, "training.max_steps=100000") for part in ("--set", one)]
    code = "import sys; from synthct.training.launch import launch; sys.exit(launch(2, sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)], env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait() == 143
    assert "the state is saved" in rest
    assert len(list((tmp_path / "states").iterdir())) == 1


def test_wrong_input_found_by_several_processes_is_one_line(data, tmp_path):
    """Torchrun would print the line of each process, a traceback of its own, and exit with 1."""
    command = [small.ROOT / "bin" / "train.py", "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out"]
    command += [part for one in (*small.TINY, "training.learning_rate=1e30") for part in ("--set", one)]
    code = "import sys, train; from synthct.training import start as runs; from synthct.training.launch import launch\n"
    code += "runs.take_place = lambda *_: sys.exit(launch(2, sys.argv)); sys.argv = sys.argv[1:]; train.main()"
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], env=environment, capture_output=True, text=True, timeout=120
    )
    bad_input(done, "train.py: error", "the loss is not finite")


def test_more_processes_than_patches(data, tmp_path):
    """Each refuses before it waits for the other, which may have stopped already."""
    first, second = start_both(data, tmp_path / "out", "--set", "training.batch=1")
    second.send(signal.SIGKILL)
    bad_input(first.finish(), "training.batch 1", "2 processes")
    assert not (tmp_path / "out").exists()


def test_no_more_gpus_are_taken_than_have_a_patch(monkeypatch):
    monkeypatch.setattr(places, "device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(places, "launch", lambda count, _: count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit) as stop:
        places.take_place("auto", 3)
    assert stop.value.code == 3
    assert places.take_place("auto", 1).world == 1
