"""Where networks run: what --device says, against what this machine has."""

import torch

from synthct.core.errors import InputError

CHOICES = ("auto", "cpu", "cuda")


def device_of(name: str) -> torch.device:
    """The device for one of `CHOICES`; auto is the GPU where torch can use one. Raises `InputError` for one absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no GPU that this torch can use")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(count: int):
    """How many threads torch computes with on the processor."""
    torch.set_num_threads(count)
