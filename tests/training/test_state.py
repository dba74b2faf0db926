"""A state that goes to a store which fails, or which another training of the same run writes to as well."""

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import small_training as small
import torch
from fsspec.implementations.memory import MemoryFileSystem

from synthct.core.errors import InputError
from synthct.training import state as states
from synthct.training.state import StateFile

ROOT = Path(__file__).resolve().parents[2]
# a store on this machine's disk that goes wrong as often as a file beside it says
STORE = """
import os, time, fsspec
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem

class Weak(LocalFileSystem):
    protocol = ("weak",)
    def put_file(self, source, target, **more):
        left = Path(os.environ["WEAK"])
        count = int(left.read_text())
        if count == -1:
            time.sleep(3600)
        if count:
            left.write_text(str(count - 1))
            raise TimeoutError("Connect timeout on endpoint")
        return super().put_file(source, target, **more)

fsspec.register_implementation("weak", Weak)
"""
WHOLE = ("final.safetensors", "best.safetensors")


def train(data, place, *more, **environment):
    sets = [part for one in small.TINY for part in ("--set", one)]
    command = ("--cases", data[0], "--folds", data[1], "--fold", "0", "--preset", "test", "--device", "cpu")
    command = [sys.executable, str(ROOT / "bin/train.py"), *map(str, (*command, "--out", place / "out", *sets, *more))]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def weak(place, failures: int, **more) -> dict:
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(STORE)
    (place / "left").write_text(str(failures))
    return {"PYTHONPATH": str(place), "WEAK": str(place / "left"), **more}


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("plain")
    assert train(data, place).returncode == 0
    return place / "out"


@pytest.mark.parametrize(
    ("failures", "limit", "expected"),
    [
        (3, "600", None),
        (-1, "1", "could not be written (no answer within 1 s)"),
    ],
    ids=["three-timeouts", "no-answer"],
)
def test_a_store_that_fails_costs_no_training(data, plain, tmp_path, failures, limit, expected):
    """Uploads that time out, or never end: a warning at most, and the weights of a run whose store is well."""
    told = weak(tmp_path / "store", failures, SYNTHCT_STATE_TIMEOUT=limit)
    done = train(data, tmp_path, "--checkpoint-dir", f"weak://{tmp_path}/states", **told)
    assert done.returncode == 0, done.stderr
    assert ("warning" in done.stdout) == bool(expected) and (expected or "") in done.stdout
    for name in WHOLE:
        assert (tmp_path / "out" / name).read_bytes() == (plain / name).read_bytes()


@pytest.fixture
def store(monkeypatch):
    """memory:// whose uploads fail as a test says."""
    fsspec.filesystem("memory").store.clear()
    faults = []
    put = MemoryFileSystem.put_file

    def put_file(self, *arguments, **more):
        if faults:
            raise faults.pop(0)
        return put(self, *arguments, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    monkeypatch.setattr(states, "WAITS", (0, 0, 0))
    return faults


def mine() -> StateFile:
    return StateFile("memory://bucket/runs", "impact_global_fold0", "a" * 64)


def test_the_state_before_a_failed_one_is_whole(store):
    one, said = mine(), []
    assert one.save({"step": 10}, said.append)
    store += [TimeoutError("slow")] * 2
    assert not one.save({"step": 20}, said.append, waits=(0,))
    assert "step 20 could not be written (slow)" in said[0]
    assert mine().load(said.append)["step"] == 10
    assert one.save({"step": 30}, said.append) and mine().load(said.append)["step"] == 30


def test_a_place_that_may_not_be_written_to_needs_a_person(store):
    store += [PermissionError("Forbidden")]
    with pytest.raises(InputError, match="may not be written to"):
        mine().save({"step": 10})


def test_twins_on_one_directory(store):
    """The job of a dead driver trains beside the resumed one: who is ahead keeps the state, neither is stopped."""
    old, said = mine(), []
    old.save({"step": 10}, said.append)
    new = mine()
    assert new.load(said.append)["step"] == 10
    assert old.save({"step": 30}, said.append)
    assert new.save({"step": 20}, said.append)  # behind: left alone
    assert mine().load(said.append)["step"] == 30 and "ahead of step 20" in said[-1]
    old.remove()
    assert new.save({"step": 40}, said.append)
    assert old.save({"step": 35}, said.append) and mine().load(said.append)["step"] == 40


def test_twins_write_under_names_of_their_own(tmp_path, monkeypatch):
    """On a shared disk, with the same host name and process number (containers have both), writes do not meet."""
    seen = []
    replace = states.os.replace
    monkeypatch.setattr(states.os, "replace", lambda a, b: (seen.append(a), replace(a, b)))
    for _ in range(2):
        StateFile(str(tmp_path), "run", "b" * 64).save({"step": 1, "weights": torch.ones(2)})
    assert len(set(seen)) == 2 and len(list(tmp_path.iterdir())) == 1
