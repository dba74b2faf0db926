"""Several GPUs of one node: one process each, started by torchrun; and the same on CPU with gloo."""

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from synthct.core.device import device_of
from synthct.core.errors import FAULT_FILE, InputError


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

    def least(self, number: torch.Tensor) -> int:
        """The smallest of the processes' whole numbers."""
        if self.world > 1:
            number = number.clone()
            distributed.all_reduce(number, distributed.ReduceOp.MIN)
        return int(number)

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


# torchrun, which says nothing of its own once a process has told what is wrong with the input
RUNNER = f"""
import logging, os, sys
from torch.distributed import run
def told(*_): return os.path.exists(os.environ["{FAULT_FILE}"])
say = logging.Logger.callHandlers
logging.Logger.callHandlers = lambda logger, record: told() or say(logger, record)
try:
    run.main(sys.argv[1:])
except Exception:
    if not told(): raise
    sys.exit(2)
"""


def take_place(device: str, most: int) -> Place:
    """This process's place in its run; with several visible GPUs and no torchrun, start again under it.

    `device` is auto, cpu or cuda; `most` processes have something to do. Call it when everything else has been checked:
    it may not return. What hangs on the number of processes can be refused before they `join`.
    """
    cuda = device_of(device).type == "cuda"
    if "LOCAL_RANK" not in os.environ:
        if cuda and (count := min(torch.cuda.device_count(), most)) > 1:
            sys.exit(launch(count, sys.argv))
        return Place(torch.device("cuda" if cuda else "cpu"))
    device_here = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    return Place(device_here, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def join(place: Place):
    """Meet the other processes of the run, if there are any; returns when all have met.

    The first process keeps the addresses: did it stop before the others have read them, their fault would be a
    network's and hide its own.
    """
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    distributed.init_process_group("nccl" if place.device.type == "cuda" else "gloo")
    distributed.barrier()


def launch(count: int, command: list[str]) -> int:
    """Run `command` (a script and its arguments) as `count` processes under torchrun; returns the exit status.

    SIGTERM is passed on, so that the state is saved, and comes back as status 143 (torchrun would make it 1). Raises
    `InputError` where a process found the input wrong: the first to say so speaks for all.
    """
    with tempfile.TemporaryDirectory(prefix="synthct-") as scratch:
        fault = Path(scratch) / "fault"
        status = _launch(count, command, os.environ | {FAULT_FILE: str(fault)})
        if status == 2 and fault.exists():
            raise InputError(fault.read_text(encoding="utf-8"))
    return status


def _launch(count: int, command: list[str], environment: dict[str, str]) -> int:
    torchrun = [sys.executable, "-c", RUNNER, "--standalone", "--nproc-per-node", str(count)]
    process = subprocess.Popen([*torchrun, *command], env=environment)
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
