"""Records that say what and whose they are, whatever their files are called: a JSON object, or pictures as an .npz of
arrays with such an object inside. Its "record" is the kind (`KINDS`); arm, patient, fold, checkpoint name the rest.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.core.files import atomic
from synthct.core.tables import files_in, read_json, read_object

KIND = "record"  # the key that says what a record is of
KINDS = ("registration", "folds", "training", "bundle", "prediction", "segmentation", "metrics", "dose")
PICTURES = ("preview", "slices", "dose slices")
ABOUT = "about"  # the entry of an .npz that holds the identity, as JSON


def read_folds(path) -> list[tuple[list[str], list[str]]]:
    """Training and validation patients of each fold of a folds.json.

    Raises `InputError` where it is none, and where a model would be judged by patients that it has learnt from: one who
    is trained and validated on in a fold, or has a part in any although of the test.
    """
    data = read_object(path, "folds")
    folds = data.get("folds")
    if not isinstance(folds, list) or not all(isinstance(one, dict) for one in folds):
        raise InputError(f"folds {path}: folds is {folds!r:.60}, expected a list, as folds.py writes it")
    test = set(_names(data.get("test", []), f"folds {path}: test"))
    found = []
    for number, one in enumerate(folds):
        at = f"folds {path}, fold {number}"
        train, validation = (_names(one.get(part), f"{at}: {part}") for part in ("train", "validation"))
        if both := sorted(set(train) & set(validation)):
            raise InputError(f"{at}: patient {both[0]!r} is in train and in validation, expected one of them")
        if held := sorted(test & {*train, *validation}):
            raise InputError(f"{at}: patient {held[0]!r} is of the test, expected in no fold")
        found.append((train, validation))
    return found


def _names(names, at: str) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{at} is {names!r:.60}, expected a list of patients")
    if doubled := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{at}: patient {doubled[0]!r} stands there twice, expected once")
    return names


def write_arrays(path, about: dict, arrays: dict[str, np.ndarray]):
    """Write `arrays` and what they are of (`about`, plain values) atomically as one compressed .npz."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)


def gather(places: Iterable) -> Iterator[tuple[Path, dict]]:
    """(file, record) of every record among files and, at any depth, directories, in order of the files' paths: of a
    JSON file the object, of an .npz what its pictures are of. Files that hold no record are passed over.

    Raises `InputError` for a file that cannot be read.
    """
    for place in map(Path, places):
        for path in [place] if place.is_file() else [*files_in(place, ".json"), *files_in(place, ".npz")]:
            found = _about(path) if path.suffix == ".npz" else read_json(path, "record")
            if isinstance(found, dict) and found.get(KIND) in (PICTURES if path.suffix == ".npz" else KINDS):
                yield path, found


def _about(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return json.loads(str(stored[ABOUT])) if ABOUT in stored.files else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as fault:
        raise InputError(f"pictures {path}: cannot be read ({fault})") from None
