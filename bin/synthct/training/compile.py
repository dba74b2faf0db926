"""torch.compile of the network and of what it is trained on: whether, and where what is compiled is kept.

On an H100 the network's part of a step of `fast` takes 0.66 of its time compiled, SAM's 0.4 and VGG-19's 0.6
(benchmarks/RESULTS.md), after two minutes of compiling. It needs a C compiler and Python's headers on the machine.
"""

import atexit
import functools
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
    """What is compiled goes into a directory of this process alone, unless its user named one, and no more threads
    compile than it was given.

    torch's usual place, which it names when it is loaded, can be guessed by every user of the machine; and what lies
    there is run.
    """
    named = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    if not named.name or (named.parent == Path(tempfile.gettempdir()) and named.name.startswith("torchinductor_")):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = place = _place(os.getpid())
        os.environ["TRITON_CACHE_DIR"] = os.path.join(place, "triton")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cpu_threads()))


@functools.cache
def _place(_process: int) -> str:
    place = tempfile.mkdtemp(prefix="synthct-compile-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
