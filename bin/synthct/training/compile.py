"""torch.compile of the network and of what it is trained on: whether, and where what is compiled is kept.

On an H100 the network's part of a step of `fast` takes 0.66 of its time compiled, SAM's 0.4 and VGG-19's 0.6
(benchmarks/RESULTS.md), after two minutes of compiling. It needs a C compiler and Python's headers on the machine.
"""

import atexit
import os
import shutil
import sysconfig
import tempfile
from pathlib import Path

import torch
from torch import nn

from synthct.core.cli import cpu_threads
from synthct.core.errors import InputError
from synthct.networks.perceptual import Scripted


def compiler() -> str | None:
    """The C compiler that torch.compile would use, where there is one and Python's headers, which it includes."""
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return None
    return next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang", "cc"))), None)


def compiles(choice: str, device: torch.device) -> bool:
    """What the setting `compile` means on `device`: "auto" is "on" for a GPU where there is a C compiler.

    Raises `InputError` for "on" on a GPU without one, where torch would end in a traceback at the first step.

    >>> compiles("auto", torch.device("cpu"))
    False
    """
    if device.type != "cuda" or choice == "off":
        return choice == "on"
    if choice == "on" and not compiler():
        raise InputError(
            "training.compile on: no C compiler on this machine (gcc, clang, or CC) or no headers of Python, which "
            "torch.compile needs; auto does without where they are absent"
        )
    return compiler() is not None


def compiled(module: nn.Module):
    """`module`, compiled when it is first called. TorchScript modules within it run as they are."""
    _keep_to_ourselves()
    for part in module.modules():
        if isinstance(part, Scripted):
            part.forward = torch.compiler.disable(part.forward)  # type: ignore[method-assign]
    return torch.compile(module)


def _keep_to_ourselves():
    """What is compiled goes into a directory of this process alone, and no more threads compile than it was given.

    torch's usual place has a name that every user of the machine can guess, and runs what lies there.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        place = os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="synthct-compile-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.environ.setdefault("TRITON_CACHE_DIR", os.path.join(os.environ["TORCHINDUCTOR_CACHE_DIR"], "triton"))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cpu_threads()))
