"""Training that is killed, terminated, out of room or continued elsewhere: bit for bit what one run would be."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_training as small
import torch
from conftest import bad_input
from small_training import LONGER, log, run, same_weights, start

from synthct.training.state import StateFile


def test_killed_three_times_and_continued_equals_uninterrupted(data, tmp_path):
    """SIGKILL at random moments after a state was written, SIGTERM in between: same weights, same log."""
    whole, states, out = tmp_path / "whole", tmp_path / "states", tmp_path / "out"
    assert run(data, whole, *LONGER).returncode == 0
    random = np.random.default_rng()
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = start(data, out, *LONGER, "--checkpoint-dir", states)
        process.wait_for("step", "continuing")
        time.sleep(random.uniform(0, 0.2))
        process.send(how)
        done = process.finish()
        assert done.returncode == (143 if how == signal.SIGTERM else -how), done.stderr
        assert len(list(states.glob("*.state.pt"))) == 1
    done = run(data, out, *LONGER, "--checkpoint-dir", states)
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in done.stdout
    for name in ("best.safetensors", "final.safetensors"):
        assert same_weights(whole / name, out / name)
    assert log(whole) == log(out)
    assert not list(states.iterdir())


def test_a_state_of_another_run_is_never_used(data, tmp_path):
    process = start(data, tmp_path / "a", *LONGER, "--checkpoint-dir", tmp_path / "states")
    process.wait_for("step")
    process.send(signal.SIGTERM)
    assert process.finish().returncode == 143
    (left,) = (tmp_path / "states").iterdir()
    other = (*LONGER, "--set", "training.learning_rate=0.002")
    done = run(data, tmp_path / "b", *other, "--checkpoint-dir", tmp_path / "states")
    assert done.returncode == 0 and "ignored" in done.stdout and "continuing" not in done.stdout
    assert left.exists()  # it still belongs to the run that wrote it
    left.write_bytes(left.read_bytes()[:1000])
    done = run(data, tmp_path / "a", *LONGER, "--checkpoint-dir", tmp_path / "states")
    assert done.returncode == 0 and "cannot be read, starting anew" in done.stdout


def test_a_crash_ends_the_run_and_its_loader_processes(data, tmp_path):
    """An exception nobody foresaw: its traceback, status 1 and no process left, rather than a wait for ever."""
    code = "import sys, train; from synthct.training.loop import Trainer\n"
    code += "def _step(*_): raise RuntimeError('out of everything')\n"
    code += "Trainer._step = _step; sys.argv[0] = 'train.py'; train.main()"
    command = [sys.executable, "-c", code, "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out"]
    command += [part for one in (*small.TINY, "training.workers=2") for part in ("--set", one)]
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1", "SYNTHCT_TRACEBACK": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        errors = process.communicate(timeout=120)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1 and "out of everything" in errors, errors


def test_a_disk_too_small_for_the_state_is_named_before_the_first_step(data, tmp_path, small_disk):
    done = run(data, tmp_path / "out", "--checkpoint-dir", small_disk(2**25))
    bad_input(done, "checkpoint directory", "32 MiB of room", "two states")
    assert "step" not in done.stdout


@pytest.mark.parametrize("filled", ["states", "out"])
def test_a_disk_that_fills_up_costs_one_line_and_nothing_that_was_learned(data, tmp_path, small_disk, filled):
    """The state or the results meet a full disk; with room again, the run ends as if nothing had happened."""
    whole = tmp_path / "whole"
    assert run(data, whole, *LONGER).returncode == 0
    places = {"states": tmp_path / "states", "out": tmp_path / "out"}
    places[filled] = small_disk(2**27)
    told = (data, places["out"], *LONGER, "--checkpoint-dir", places["states"])
    process = start(*told)
    process.wait_for("step")
    filler = tmp_path / "disk" / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    done = process.finish()
    bad_input(done, "no room")
    assert not [path for place in places.values() for path in place.rglob("*writing*")]
    assert len(list(places["states"].glob("*.state.pt"))) == 1
    filler.unlink()
    done = run(*told)
    assert done.returncode == 0 and "continuing at step" in done.stdout, done.stderr
    for name in ("best.safetensors", "final.safetensors"):
        assert same_weights(whole / name, places["out"] / name)
    assert log(whole) == log(places["out"])


def test_the_state_goes_to_any_place_fsspec_knows(data, tmp_path):
    """local:// goes the way of s3:// but for the store itself."""
    place = f"local://{tmp_path}/bucket/key"
    process = start(data, tmp_path / "a", "--checkpoint-dir", place)
    process.wait_for("step")
    process.send(signal.SIGKILL)
    process.finish()
    done = run(data, tmp_path / "a", "--checkpoint-dir", place)
    assert done.returncode == 0 and "continuing at step" in done.stdout


def test_a_store_without_renaming(tmp_path):
    """As an object store: the state is put whole, found again, and another digest's is passed over with a line."""
    said = []
    mine = StateFile("memory://bucket/runs", "impact_global_fold0", "a" * 64)
    mine.save({"step": 3, "weights": torch.ones(2)})
    assert StateFile("memory://bucket/runs", "impact_global_fold0", "a" * 64).load(said.append)["step"] == 3
    assert not said
    assert StateFile("memory://bucket/runs", "impact_global_fold0", "b" * 64).load(said.append) is None
    assert "ignored" in said[0]
    mine.remove()
    assert mine.load(said.append) is None
