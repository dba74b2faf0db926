"""Is a NIfTI file whole? ITK's reader and writer print to stderr but raise no error when voxels are missing."""

import gzip
import os
import struct
import zlib
from pathlib import Path


def shortfall(path) -> str:
    """What a .nii or .nii.gz file lacks ("401234 of 1200352 bytes"), or "" when it holds all that its header asks for.

    A compressed file is unpacked only when the size noted at its end does not fit.
    """
    path = Path(path)
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(path, "rb") as file:
                expected = _expected(file.read(540))
            if expected is None or _noted(path) == expected % 2**32:
                return ""
            found = _unpacked(path)
        except (OSError, EOFError, zlib.error):
            return "the compressed data end early"
    else:
        with open(path, "rb") as file:
            expected = _expected(file.read(540))
        found = path.stat().st_size
    return "" if expected is None or found >= expected else f"{found} of {expected} bytes"


def _expected(header: bytes) -> int | None:
    """Bytes of header and voxels together; None when this is no single-file NIfTI."""
    for order in "<>":
        if len(header) >= 348 and struct.unpack(f"{order}i", header[:4])[0] == 348:
            dims = struct.unpack(f"{order}8h", header[40:56])
            bits, offset = struct.unpack(f"{order}h", header[72:74])[0], struct.unpack(f"{order}f", header[108:112])[0]
            break
        if len(header) >= 540 and struct.unpack(f"{order}i", header[:4])[0] == 540:
            dims = struct.unpack(f"{order}8q", header[16:80])
            bits, offset = struct.unpack(f"{order}h", header[14:16])[0], struct.unpack(f"{order}q", header[168:176])[0]
            break
    else:
        return None
    count = 1
    for size in dims[1 : 1 + max(0, min(7, dims[0]))]:
        count *= max(1, size)
    return int(offset) + count * bits // 8


def _noted(path: Path) -> int:
    """The unpacked size modulo 2^32 that gzip notes in its last four bytes (of its last member)."""
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return struct.unpack("<I", file.read(4))[0]


def _unpacked(path: Path) -> int:
    total = 0
    with gzip.open(path, "rb") as file:
        while block := file.read(1 << 20):
            total += len(block)
    return total
