"""Writing so that nothing half-written ever carries its final name."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from synthct.core.errors import InputError, OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy's words


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path` (same suffix); rename it to `path` when the block ends without an error.

    On an error the temporary file is removed and whatever stood at `path` before is untouched.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    with _placed(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _placed(path):
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_replaceable(path, ours: Callable[[Path], bool], inputs=()):
    """`InputError` unless `path` may be written as a directory, replacing what is there.

    It may be absent, empty, or hold only what we made: `ours` says so of each file in it. No file or directory of
    `inputs` may be `path` or lie in it.
    """
    path = Path(path)
    if path.is_symlink() or not path.exists():
        return  # of a link the name is lost, and nothing that it leads to
    if not path.is_dir():
        raise InputError(f"output {path}: a file is there, expected a new or an empty directory")
    place = path.resolve()
    for one in inputs:
        if place in (Path(one).resolve(), *Path(one).resolve().parents):
            raise InputError(f"output {path}: holds the input {one}, expected a directory apart from it")
    if foreign := sorted(file.name for file in path.iterdir() if file.is_dir() or not ours(file)):
        raise InputError(
            f"output {path}: holds {foreign[0]}{' and more' * (len(foreign) > 1)}, which would be lost; expected a new "
            "or an empty directory, or one that this tool wrote"
        )


@contextlib.contextmanager
def atomic_directory(path, ours: Callable[[Path], bool]):
    """Yield a temporary directory beside `path`; it takes the name `path`, replacing what was there, at the end.

    Raises `InputError` at the start where something that is not `ours` would be lost (see `require_replaceable`).
    """
    path = Path(path)
    require_replaceable(path, ours)
    with _placed(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.is_symlink() or path.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent)) / "old"
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old.parent, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _placed(path: Path):
    """Say in one line that nothing can be written at `path`; a full disk has a line of its own (see `out_of_room`)."""
    try:
        yield
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the name
        if out_of_room(fault):
            raise
        why = getattr(fault, "strerror", None) or fault
        raise OutputError(f"output {path}: cannot be written ({why})") from None


def below(source, hidden: bool = True) -> list[Path]:
    """All files and directories below `source`, also behind links; a directory that two links lead to stands once.

    Unless `hidden`, those whose names start with a dot are left out, and what lies in them.
    """
    found, seen = [], set()
    for top, directories, files in os.walk(source, followlinks=True):
        directories[:] = sorted(name for name in directories if hidden or not name.startswith("."))
        place = os.path.realpath(top)
        if place in seen:  # a link may lead to a directory around it
            directories.clear()
            continue
        seen.add(place)
        found += [Path(top, name) for name in (*directories, *files) if hidden or not name.startswith(".")]
    return sorted(found)


def write_text(path, text: str):
    """Write a text file atomically (UTF-8)."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, data):
    """Write JSON atomically, keys in the order given; NaN and infinities must have been made strings (see `plain`)."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def sha256_of(path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def out_of_room(fault: BaseException | None) -> bool:
    """Whether a full disk or quota is behind `fault`, whichever library raised it.

    torch hides the system's error behind one of its own, safetensors has it in the text alone, and numpy says no more
    than how much it could write.
    """
    while fault is not None:
        if getattr(fault, "errno", None) in FULL or any(f"os error {code}" in str(fault) for code in FULL):
            return True
        if isinstance(fault, OSError) and SHORT.search(str(fault)):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def plain(value):
    """`value` with numpy scalars made Python's and non-finite floats made the strings "nan", "inf", "-inf"."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
