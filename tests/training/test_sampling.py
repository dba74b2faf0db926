"""Which flip a slice gets, and what happens where the loader's processes have no room to hand over their batches."""

import os
import subprocess
import sys

import numpy as np
import pytest
import small_training as small
from conftest import bad_input

from synthct.cases.store import find_cases
from synthct.training.sampling import Batches


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.cohort(tmp_path_factory.mktemp("cohort"), 3)


def flips(cases, epochs: int, **over) -> dict[tuple[int, int], list[tuple[bool, bool]]]:
    """{(epoch, patient): how each of its slices was flipped (y, x)}, told by a ramp in place of the image."""
    settings = small.settings("mr", "training.originals=false", "training.patch=[32, 32]")["training"] | over
    batches = Batches(cases, settings)
    found = {}
    for number in range(epochs * batches.per_epoch):
        epoch, _, index = batches._place(number)
        patient = int(batches.case[index])
        y, x = np.mgrid[:32.0, :32.0].astype(np.float32)
        ramp = np.stack([y, x])

        class Ramp:
            corner, shape, patch = (
                (0, 0),
                (1, 32, 32),
                staticmethod(lambda *_, ramp=ramp: (ramp, ramp[:1], ramp[:1] > 0)),
            )

        batches.cases = [Ramp] * len(cases)
        seen = batches.sample(number)[0]
        found.setdefault((epoch, patient), []).append((bool(seen[0, 0, 0]), bool(seen[1, 0, 0])))
    return found


def test_a_volume_is_flipped_as_one_and_anew_in_every_epoch(data):
    """The paper's "one random flip, refreshed each epoch"; the released probability of one half on each axis."""
    cases = list(find_cases([data[0]]).values())
    found = flips(cases, 60, flip_per="volume")
    assert all(len(set(of_slices)) == 1 and len(of_slices) > 3 for of_slices in found.values())
    drawn = np.array([of_slices[0] for of_slices in found.values()])
    assert len(drawn) == 180 and np.all(np.abs(drawn.mean(0) - 0.5) < 0.15)
    assert len({tuple(found[epoch, 0][0]) for epoch in range(60)}) == 4  # all four, in the course of time
    assert found == flips(cases, 60, flip_per="volume")
    alone = flips(cases, 5, flip_per="slice")
    assert any(len(set(of_slices)) > 1 for of_slices in alone.values())


def test_a_batch_names_its_patients(data):
    cases = list(find_cases([data[0]]).values())
    batches = Batches(cases, small.settings("mr")["training"] | {"batch": 4})
    seen = [batches.patients(step) for step in range(batches.steps_per_epoch)]
    assert all(1 <= len(names) <= 3 for names in seen) and {name for names in seen for name in names} == {
        "P0",
        "P1",
        "P2",
    }


def test_a_full_shared_memory_ends_the_training_with_one_line(data, tmp_path):
    """Not a wait for the batch that a loader's process could not hand over; the state of the last step is kept."""
    sets = (*small.TINY, "training.workers=2", "training.batch=8", "training.patch=[128, 128]", "training.max_steps=2")
    command = [sys.executable, small.ROOT / "bin" / "train.py", "--cases", data[0], "--folds", data[1], "--fold", "0"]
    command += ["--preset", "test", "--device", "cpu", "--out", tmp_path / "out"]
    command += [part for one in sets for part in ("--set", one)]
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"], capture_output=True
    ).returncode:
        pytest.skip("a /dev/shm of its own needs root")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    bad_input(done, "/dev/shm: no room", "training.workers=0")
