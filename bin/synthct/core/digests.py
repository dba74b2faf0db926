"""What a step read, for its record: files and directories told by their content, never by their place."""

import hashlib
import os
from pathlib import Path

from synthct.core.files import sha256_of


def inputs_of(**paths) -> dict[str, dict]:
    """What `content_of` says of each of `paths`, by its key; those that were not given (None, "") are left out.

    So is one that cannot be read: the step that opens it next says why, which is the message a user needs.
    """
    found = {}
    for role, path in paths.items():
        try:
            if path:
                found[role] = content_of(path)
        except OSError:
            continue
    return found


def content_of(path) -> dict:
    """{"name", "bytes", "sha256"} of a file; {"files", "bytes", "sha256"} of a directory, as a DICOM series is one.

    A directory's digest is that of its files' digests (at any depth), sorted, one a line, so no name and no order is in
    it: ``find -L DIR -type f -exec sha256sum {} + | cut -c-64 | LC_ALL=C sort | sha256sum``. Its own name, often that
    of a person, is left out. Raises `OSError` where something cannot be read.

    >>> content_of(os.devnull) == {"name": "null", "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    True
    """
    path = Path(path)
    if not path.is_dir():
        return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    files = [Path(place, name) for place, _, names in os.walk(path, followlinks=True) for name in names]
    lines = "".join(f"{digest}\n" for digest in sorted(map(sha256_of, files)))
    size = sum(file.stat().st_size for file in files)
    return {"files": len(files), "bytes": size, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
