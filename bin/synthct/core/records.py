"""Files that one step writes and others read: folds.json, and pictures that say whose they are.

Such a picture is an .npz of arrays with an identity (arm, patient, …) inside, whatever its name.
"""

import json

import numpy as np

from synthct.core.errors import InputError
from synthct.core.files import atomic
from synthct.core.tables import read_object

ABOUT = "about"  # the entry that holds the identity, as JSON


def read_folds(path) -> list[tuple[list[str], list[str]]]:
    """Training and validation patients of each fold of a folds.json. Raises `InputError` where it is none."""
    data = read_object(path, "folds")
    try:
        return [(list(one["train"]), list(one["validation"])) for one in data["folds"]]
    except (KeyError, TypeError) as fault:
        raise InputError(f"folds {path}: not a folds file ({type(fault).__name__}: {fault})") from None


def write_arrays(path, about: dict, arrays: dict[str, np.ndarray]):
    """Write `arrays` and what they are of (`about`, plain values) atomically as one compressed .npz."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)
