"""Several GPUs of one node: one process each, started by torchrun; and the same on CPU with gloo."""

import os
import sys
from dataclasses import dataclass

import torch
from torch import distributed

from synthct.errors import InputError


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

    `device` is auto, cpu or cuda.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: no GPU that this torch can use")
    cuda = device != "cpu" and torch.cuda.is_available()
    if "LOCAL_RANK" not in os.environ:
        if cuda and torch.cuda.device_count() > 1:
            count = str(torch.cuda.device_count())
            os.execv(
                sys.executable,
                [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, *sys.argv],
            )
        return Place(torch.device("cuda" if cuda else "cpu"))
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
    return Place(place, distributed.get_rank(), distributed.get_world_size())


def leave():
    """Leave the process group, if this process is in one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
