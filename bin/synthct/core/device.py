"""Where networks run: what --device says, against what this machine has."""

import os

import torch

from synthct.core.cli import cpu_threads
from synthct.core.errors import InputError

CHOICES = ("auto", "cpu", "cuda")


def device_of(name: str) -> torch.device:
    """The device for one of `CHOICES`; auto is the GPU where torch can use one. Raises `InputError` for one absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no GPU that this torch can use")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def repeatable(name: str, tf32: bool = False) -> torch.device:
    """The device of `name`, with torch told to give the same bits twice there, at a small cost in speed.

    `tf32` lets a GPU round what it multiplies to ten binary places, which is several times as fast.
    """
    set_threads(cpu_threads())
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # matrix products that repeat, NVIDIA's condition
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    return device_of(name)


def set_threads(count: int):
    """How many threads torch computes with on the processor."""
    torch.set_num_threads(count)
