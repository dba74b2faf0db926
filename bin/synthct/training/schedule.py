"""How long a run lasts and what its learning rate is at each step; whether its settings fit together. Without torch."""

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


def check_norm(settings: dict, share: int):
    """`InputError` unless `share` patches, those of one process, are enough for BatchNorm.

    It needs two values a channel, also in the deepest layer, which sees a patch at its smallest.
    """
    stride = 2 ** len(settings["network"]["decoder_channels"])
    if share * (settings["patch"][0] // stride) * (settings["patch"][1] // stride) < 2:
        raise InputError(
            f"training.batch {settings['batch']} with training.patch {settings['patch']}: one value a channel in the "
            f"deepest layer of the network (stride {stride}), which BatchNorm cannot normalise; expected a larger one"
        )


def check_same_network(base: dict, tuned: dict):
    """`InputError` unless the sections of training (`base`) and fine-tuning (`tuned`) are of one network: the second
    starts from the weights of the first."""
    for name, of in (
        ("channels", lambda section: section["channels"]),
        ("network.encoder", lambda section: section["network"]["encoder"]),
        ("network.decoder_channels", lambda section: section["network"]["decoder_channels"]),
    ):
        if of(base) != of(tuned):
            raise InputError(f"finetuning.{name} {of(tuned)}: expected {of(base)}, as training has it")


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
