"""torch.compile of the network and of what it is trained on: whether, and where what is compiled is kept.

On an H100 a step of `fast` with VGG-19 and SAM takes 0.68 of its time compiled, after compiling for two to three
minutes; with L1 alone 0.83 to 0.98, after one (benchmarks/RESULTS.md). It needs a C compiler and Python's headers on
the machine, on a CPU one of C++.
"""

import atexit
import functools
import os
import shlex
import shutil
import sysconfig
import tempfile
from pathlib import Path

import torch
from torch import nn

from synthct.core.cli import cpu_threads
from synthct.core.errors import InputError
from synthct.networks.perceptual import Scripted

WORTH_STEPS = 6000  # on an H100, with VGG-19 and SAM, 159 s of compiling are earned back after 2,700; and some room


def compiler(device: str = "cuda") -> str | None:
    """The compiler that torch.compile would use for `device`, where there is one and Python's headers, which it
    includes: of C for a GPU, of C++ for a CPU."""
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return None
    named, names = ("CC", ("gcc", "clang")) if device == "cuda" else ("CXX", ("g++",))  # as Triton and torch look
    if words := shlex.split(os.environ.get(named, "")):
        names = (words[0],)  # "ccache gcc" is two words
    return next(filter(None, map(shutil.which, names)), None)


def compiles(choice: str, device: torch.device, steps: int = WORTH_STEPS) -> bool:
    """What the setting `compile` means on `device` for a run of so many `steps`: "auto" is "on" for a GPU where there
    is a compiler and the run is long enough to earn its time back.

    Raises `InputError` for "on" without a compiler, where torch would end in a traceback at the first step.

    >>> compiles("auto", torch.device("cpu"))
    False
    """
    if choice == "on" and not compiler(device.type):
        raise InputError(
            f"training.compile on: no C{'' if device.type == 'cuda' else '++'} compiler on this machine or no headers "
            "of Python, which torch.compile needs; auto does without where they are absent"
        )
    return choice == "on" or (worthwhile(choice, device, steps) and compiler() is not None)


def worthwhile(choice: str, device: torch.device, steps: int) -> bool:
    """Whether "auto" would compile if it could."""
    return choice == "auto" and device.type == "cuda" and steps >= WORTH_STEPS


def compiled(module: nn.Module, choice: str = "on"):
    """`module`, compiled when it is first called, for inputs of one shape. TorchScript modules within it run as they
    are. With `choice` "auto" what torch fails to compile at its first call runs as it is, and torch warns of it."""
    _keep_to_ourselves()
    for part in module.modules():
        if isinstance(part, Scripted):
            part.forward = torch.compiler.disable(part.forward)  # type: ignore[method-assign]
    torch._dynamo.config.suppress_errors = choice == "auto"
    return torch.compile(module, dynamic=False)  # a second shape would else be compiled for all shapes: slower


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
