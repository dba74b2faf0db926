"""Several GPUs of one node: one process each, started by torchrun; and the same on CPU with gloo."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import torch
from torch import distributed

from synthct.device import device_of


@dataclass(frozen=True)
class Place:
    """This process among those of the run, and the device it computes on."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the outputs."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; every process must ask."""
        if self.world == 1:
            return flag
        shared = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return bool(shared.item())

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of `tensor` over the processes."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def share(self, module: torch.nn.Module):
        """Give every process the first one's buffers (BatchNorm's running statistics)."""
        if self.world > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)


def take_place(device: str) -> Place:
    """Join the run this process belongs to; with several visible GPUs and no torchrun, start again under it.

    `device` is auto, cpu or cuda. Call it when everything else has been checked: it may not return.
    """
    cuda = device_of(device).type == "cuda"
    if "LOCAL_RANK" not in os.environ:
        if cuda and torch.cuda.device_count() > 1:
            sys.exit(launch(torch.cuda.device_count(), sys.argv))
        return Place(torch.device("cuda" if cuda else "cpu"))
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
    return Place(place, distributed.get_rank(), distributed.get_world_size())


def launch(count: int, command: list[str]) -> int:
    """Run `command` (a script and its arguments) as `count` processes under torchrun; returns the exit status.

    SIGTERM is passed on, so that the state is saved, and comes back as status 143 (torchrun would make it 1).
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    process = subprocess.Popen([*torchrun, *command])
    terminated = False

    def pass_on(_signal, _frame):
        nonlocal terminated
        terminated = True
        process.terminate()

    old = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGTERM, old)
    return 128 + signal.SIGTERM if terminated and status else status


def leave():
    """Leave the process group, if this process is in one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
