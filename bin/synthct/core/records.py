"""Pictures that say whose they are: an .npz of arrays with an identity (arm, patient, …) inside, whatever its name."""

import json
import zipfile
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.core.files import atomic

ABOUT = "about"  # the entry that holds the identity, as JSON


def write_arrays(path, about: dict, arrays: dict[str, np.ndarray]):
    """Write `arrays` and what they are of (`about`, plain values) atomically as one compressed .npz."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)


def read_arrays(path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without their identity; nothing in it is ever unpickled."""
    return {name: array for name, array in _stored(path).items() if name != ABOUT}


def read_about(path) -> dict:
    """What the arrays of an .npz file are of, {} where it does not say."""
    about = _stored(path, only=ABOUT).get(ABOUT)
    try:
        found = json.loads(str(about)) if about is not None else {}
    except ValueError as fault:
        raise InputError(f"pictures {path}: {ABOUT!r} is not JSON ({fault})") from None
    return found if isinstance(found, dict) else {}


def _stored(path, only: str | None = None) -> dict[str, np.ndarray]:
    try:
        with np.load(Path(path), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if only in (None, name)}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as fault:
        raise InputError(f"pictures {path}: cannot be read ({fault})") from None
