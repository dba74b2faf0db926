"""Writing so that nothing half-written ever carries its final name."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path` (same suffix); rename it to `path` when the block ends without an error.

    On an error the temporary file is removed and whatever stood at `path` before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path):
    """Yield a temporary directory beside `path`; it takes the name `path`, replacing what was there, at the end."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent)) / "old"
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old.parent, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path, text: str):
    """Write a text file atomically (UTF-8)."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, data):
    """Write JSON atomically, keys in the order given; NaN and infinities must have been made strings (see `plain`)."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def out_of_room(fault: BaseException | None) -> bool:
    """Whether a full disk is behind `fault`, whichever library raised it.

    torch hides the system's error behind one of its own, and safetensors has it in the text alone.
    """
    while fault is not None:
        if getattr(fault, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(fault):
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
