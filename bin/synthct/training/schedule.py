"""How long a run lasts and what its learning rate is at each step."""

import math

from synthct.core.errors import InputError


def learning_rate(step: int, total: int, settings: dict) -> float:
    """The rate of step `step` (from 0) of `total`.

    schedule "step": × `lr_factor` every `lr_every` steps. "cosine": from the full rate to 0 over the run. Either
    rises linearly over the first `warmup` steps.

    >>> settings = {"learning_rate": 1e-3, "warmup": 0, "schedule": "step", "lr_factor": 0.5, "lr_every": 100}
    >>> [learning_rate(step, 300, settings) for step in (0, 99, 100, 250)]
    [0.001, 0.001, 0.0005, 0.00025]
    """
    rate = settings["learning_rate"] * min(1.0, (step + 1) / max(1, settings["warmup"]))
    if settings["schedule"] == "step":
        return rate * settings["lr_factor"] ** (step // settings["lr_every"])
    if settings["schedule"] == "cosine":
        part = (step - settings["warmup"]) / max(1, total - settings["warmup"])
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, part))))
    raise InputError(f"training.schedule {settings['schedule']!r}: expected step or cosine")


def check_length(settings: dict):
    """`InputError` for a training section whose epochs hold nothing or whose run would never end."""
    if not settings["copies"] and not settings["originals"]:
        raise InputError("training.copies 0 without training.originals: an epoch would hold nothing")
    last_step(1, settings)


def last_step(steps_per_epoch: int, settings: dict) -> int:
    """Steps of the whole run: `max_steps` or `max_epochs`, whichever ends first; 0 means no such limit.

    >>> last_step(40, {"max_steps": 0, "max_epochs": 25})
    1000
    """
    limits = [settings["max_steps"], settings["max_epochs"] * steps_per_epoch]
    limits = [limit for limit in limits if limit > 0]
    if not limits:
        raise InputError("training.max_steps and training.max_epochs are both 0: the run would never end")
    return min(limits)
