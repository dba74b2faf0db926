"""Pictures that say whose they are: an .npz of arrays with an identity (arm, patient, …) inside, whatever its name."""

import json

import numpy as np

from synthct.core.files import atomic

ABOUT = "about"  # the entry that holds the identity, as JSON


def write_arrays(path, about: dict, arrays: dict[str, np.ndarray]):
    """Write `arrays` and what they are of (`about`, plain values) atomically as one compressed .npz."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)
