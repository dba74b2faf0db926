"""Which patch comes when: every sample of a run is a pure function of the seed and its number.

Nothing is remembered between samples, so a run continues exactly at any step, with any number of worker processes,
and several GPUs share one order.
"""

import contextlib
import signal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from synthct.cases import Case


class Batches(Dataset):
    """Training batches by step number: item `s` is the s-th batch of the run.

    An epoch visits every slice with body once as it is (if `originals`) and `copies` times flipped at random (each
    in-plane axis with `flip_probability`), in a new order; patches lie at random over the body. Of each batch, process
    `rank` of `world` gets its share. Items are (x float32 (b, channels, y, x), target float32 (b, 1, y, x), body bool
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
        self.rank, self.world = rank, world
        self.case = np.concatenate([np.full(len(c.body_slices), i, np.int32) for i, c in enumerate(cases)])
        self.z = np.concatenate([np.array(c.body_slices, np.int32) for c in cases])
        self.per_epoch = len(self.z) * (settings["copies"] + self.originals)
        self._epoch, self._order = -1, None

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
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.per_epoch)
        copy, index = divmod(int(self._order[position]), len(self.z))
        random = np.random.default_rng([self.seed, 1, number])
        case = self.cases[self.case[index]]
        y0, x0 = (_start(random, *extent) for extent in zip(case.corner, case.shape[1:], self.size, strict=True))
        arrays = case.patch(int(self.z[index]), y0, x0, self.size, self.channels)
        if copy or not self.originals:
            axes = [axis for axis in (1, 2) if random.random() < self.flip_probability]
            arrays = tuple(np.flip(array, axes) for array in arrays)
        return arrays


@contextlib.contextmanager
def reading(batches: Batches, start: int, stop: int, workers: int, pin: bool):
    """Yield an iterator of batches `start` to `stop`, in order, read ahead by `workers` processes (0: when asked).

    The processes end with the block, whatever ends it. The traceback of a fault keeps the iterator alive, and Python
    waits at its exit for processes that nobody told to stop.
    """
    data = iter(loader(batches, start, stop, workers, pin))
    try:
        yield data
    finally:
        if workers:
            data._shutdown_workers()  # torch has no public way but to drop the last reference


def loader(batches: Batches, start: int, stop: int, workers: int, pin: bool) -> DataLoader:
    """What `reading` iterates over: batches `start` to `stop`, in order, from `workers` processes (0: this one)."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_ignore_sigterm,
        prefetch_factor=2 if workers else None,  # the paper's batches (82 MB) of 4 workers fit 1 GiB of /dev/shm
        generator=torch.Generator(),  # its own, so that making a loader leaves the run's random state alone
    )


def _start(random: np.random.Generator, corner: int, extent: int, size: int) -> int:
    """A start that keeps the patch inside the body's box, or the box inside the patch when that is the larger."""
    low, high = sorted((corner, corner + extent - size))
    return int(random.integers(low, high + 1))


def _ignore_sigterm(_worker: int):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the training process saves its state first, then ends its workers
