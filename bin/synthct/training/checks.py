"""Whether a training can be run at all: its settings, and the share of each process."""

import math

from synthct.core.device import device_of
from synthct.core.errors import InputError
from synthct.images.streams import free_memory
from synthct.training.compile import compiles
from synthct.training.launch import Place
from synthct.training.schedule import check_length, check_norm


def check_settings(chosen: dict, device: str):
    """`InputError` for what would end in a traceback hours later, or at once in one that says nothing.

    `chosen` is the training section, `device` what --device says.
    """
    check_length(chosen)
    patch, room = chosen["patch"], free_memory()
    needed = 4 * chosen["batch"] * (chosen["channels"] + 1) * math.prod(patch)  # bytes: the slices and the CT
    if needed > room:
        raise InputError(
            f"training.batch {chosen['batch']} with training.patch {patch}: {needed / 2**30:.1f} GiB of memory are "
            f"needed for a batch alone and {room / 2**30:.1f} GiB are free"
        )
    compiles(chosen["compile"], device_of(device))


def check_share(chosen: dict, place: Place):
    """`InputError` unless each process of the run has patches, and enough of them for BatchNorm."""
    if place.world > chosen["batch"]:
        raise InputError(f"training.batch {chosen['batch']}: fewer patches than the {place.world} processes of the run")
    check_norm(
        chosen, chosen["batch"] if place.world == 1 or _synchronised(chosen, place) else chosen["batch"] // place.world
    )


def _synchronised(chosen: dict, place: Place) -> bool:
    return chosen["sync_batchnorm"] and place.device.type == "cuda"
