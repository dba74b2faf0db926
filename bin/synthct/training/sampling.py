"""Which patch comes when: every sample of a run is a pure function of the seed and its number.

Nothing is remembered between samples, so a run continues exactly at any step, with any number of worker processes,
and several GPUs share one order.
"""

import contextlib
import errno
import os
import shutil
import signal
import traceback
from multiprocessing import queues

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from synthct.cases.store import Case
from synthct.core.errors import InputError
from synthct.core.files import out_of_room

SHARED_MEMORY = "/dev/shm"
NO_SHARED_MEMORY = errno.ENOSPC  # exit status of a loader's process


class Batches(Dataset):
    """Training batches by step number: item `s` is the s-th batch of the run.

    An epoch visits every slice with body once as it is (if `originals`) and `copies` times flipped at random (each
    in-plane axis with `flip_probability`), in a new order; patches lie at random over the body. A flip is drawn for
    each patient, copy and epoch, so that a volume's slices share it (`flip_per` "volume"), or for each slice ("slice").
    Of each batch, process `rank` of `world` gets its share. Items are (x float32 (b, channels, y, x), target float32
    (b, 1, y, x), body bool
    (b, 1, y, x)). Two int32 per slice is all that grows with the cohort.
    """

    def __init__(self, cases: list[Case], settings: dict, rank: int = 0, world: int = 1):
        self.cases = cases
        self.seed = settings["seed"]
        self.channels = settings["channels"]
        self.size = tuple(settings["patch"])
        self.batch = settings["batch"]
        self.originals = bool(settings["originals"])
        self.flip_probability = settings["flip_probability"]
        self.of_volume = settings["flip_per"] == "volume"
        self.rank, self.world = rank, world
        self.case = np.concatenate([np.full(len(c.body_slices), i, np.int32) for i, c in enumerate(cases)])
        self.z = np.concatenate([np.array(c.body_slices, np.int32) for c in cases])
        self.per_epoch = len(self.z) * (settings["copies"] + self.originals)
        self._epoch, self._order = -1, np.zeros(0, int)  # of no epoch yet

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch (the last one runs on into the next epoch)."""
        return -(-self.per_epoch // self.batch)

    def __getitem__(self, step: int):
        share = range(step * self.batch + self.rank, (step + 1) * self.batch, self.world)
        patches = [self.sample(number) for number in share]
        return tuple(torch.from_numpy(np.stack(arrays)) for arrays in zip(*patches, strict=True))

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patch `number` of the run: input, target, body."""
        epoch, copy, index = self._place(number)
        random = np.random.default_rng([self.seed, 1, number])
        patient = int(self.case[index])
        case = self.cases[patient]
        y0, x0 = (_start(random, *extent) for extent in zip(case.corner, case.shape[1:], self.size, strict=True))
        arrays = case.patch(int(self.z[index]), y0, x0, self.size, self.channels)
        if copy or not self.originals:
            draw = np.random.default_rng([self.seed, 2, epoch, copy, patient]) if self.of_volume else random
            axes = tuple(axis for axis in (1, 2) if draw.random() < self.flip_probability)
            x, y, inside = (np.flip(array, axes) for array in arrays)
            return x, y, inside
        return arrays

    def patients(self, step: int) -> list[str]:
        """Names of those whose slices the `step`-th batch holds, over all processes."""
        numbers = range(step * self.batch, (step + 1) * self.batch)
        return sorted({self.cases[self.case[self._place(number)[2]]].patient for number in numbers})

    def _place(self, number: int) -> tuple[int, int, int]:
        """Epoch, copy and slice of patch `number`."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.per_epoch)
        copy, index = divmod(int(self._order[position]), len(self.z))
        return epoch, copy, index


class OutOfSharedMemory(InputError):
    """/dev/shm, through which the loader's processes hand over their batches, is full."""


class Reader:
    """Batches of a DataLoader; a process of it that found no shared memory is an `OutOfSharedMemory`."""

    def __init__(self, data: DataLoader):
        self.data = iter(data)
        self.workers = getattr(self.data, "_workers", [])

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.data)
        except RuntimeError:
            for worker in self.workers:
                worker.join(1)
            if not {NO_SHARED_MEMORY, -signal.SIGBUS} & {worker.exitcode for worker in self.workers}:
                raise
        free = shutil.disk_usage(SHARED_MEMORY).free
        raise OutOfSharedMemory(
            f"{SHARED_MEMORY}: no room for what training.workers {len(self.workers)} read ahead, "
            f"{free / 2**20:.0f} MiB are free; give it more (docker --shm-size, a Memory volume in Kubernetes), or set "
            "training.workers=0"
        )

    def close(self):
        """End the processes."""
        if self.workers:
            # torch has no public way but to drop the last reference
            self.data._shutdown_workers()  # type: ignore[attr-defined]


@contextlib.contextmanager
def reading(batches: Batches, start: int, stop: int, workers: int, pin: bool):
    """Yield an iterator of batches `start` to `stop`, in order, read ahead by `workers` processes (0: when asked).

    The processes end with the block, whatever ends it. The traceback of a fault keeps the iterator alive, and Python
    waits at its exit for processes that nobody told to stop.
    """
    data = Reader(loader(batches, start, stop, workers, pin))
    try:
        yield data
    finally:
        data.close()


def loader(batches: Batches, start: int, stop: int, workers: int, pin: bool) -> DataLoader:
    """What `reading` iterates over: batches `start` to `stop`, in order, from `workers` processes (0: this one)."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_begin,
        prefetch_factor=2 if workers else None,  # the paper's batches (82 MB) of 4 workers fit 1 GiB of /dev/shm
        generator=torch.Generator(),  # its own, so that making a loader leaves the run's random state alone
    )


def _start(random: np.random.Generator, corner: int, extent: int, size: int) -> int:
    """A start that keeps the patch inside the body's box, or the box inside the patch when that is the larger."""
    low, high = sorted((corner, corner + extent - size))
    return int(random.integers(low, high + 1))


def _begin(_worker: int):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the training process saves its state first, then ends its workers
    # a thread of the queue moves batches to shared memory; where there is none left it would say so, drop the batch and
    # go on, and the training would wait for that batch for ever
    queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(fault: Exception, _batch):
    if out_of_room(fault) or "No space left on device" in str(fault):
        os._exit(NO_SHARED_MEMORY)
    traceback.print_exception(fault)
    os._exit(1)
