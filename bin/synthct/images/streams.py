"""Are the voxels of a file the ones that were written? Promised and found bytes, checksums, NaN that ITK would hide.

A compressed stream notes the checksum of what it unpacks to (gzip: CRC-32, zlib: Adler-32), and ITK looks at neither.
What ITK has read is summed again, which costs a fraction of unpacking; only where the sums differ is the stream
unpacked a second time, to say why.
"""

import math
import os
import zlib
from pathlib import Path

import numpy as np

from synthct.images.headers import SINGLE, Header, HeaderError

BLOCK = 1 << 22  # bytes
DAMAGED = "damaged: the compressed data do not fit their own checksum"


def check_promise(header: Header, room: int | None = None):
    """Raise `HeaderError` where the voxels cannot be all there, or need more than `room` bytes (default: free memory).

    Twice what the voxels need is asked for: whatever is computed with them stands beside them.
    """
    room = free_memory() if room is None else room
    needed = header.size * 2 if not header.scaled else header.count * 4 + header.size
    if needed > room:
        raise HeaderError(
            f"its header promises {'×'.join(map(str, header.sizes))} voxels, for which {needed / 2**30:.1f} GiB of "
            f"memory are needed and {room / 2**30:.1f} GiB are free"
        )
    found = header.end - header.start
    if header.coding == "raw" and found < header.size:
        raise HeaderError(f"truncated ({max(found, 0)} of {header.size} bytes of voxels)")
    if header.coding == "raw":
        _check_rest(header, found)


def _check_rest(header: Header, found: int):
    """Refuse a file that holds a slice more than it promises: of another type or size than its header says.

    Less is let be: writers fill up a block, or end a file with a line.
    """
    a_slice = header.dtype.itemsize * math.prod(header.sizes[:2])
    if found >= header.size + a_slice:
        raise HeaderError(f"{found} bytes of voxels, expected {header.size} as its header promises")


def check_array(header: Header, array: np.ndarray):
    """Raise `HeaderError` where `array`, as ITK has read it (unscaled), is not what the file holds."""
    if header.coding == "raw":
        if header.format == "Nifti" and header.dtype.kind == "f":  # ITK has made zeros of NaN
            with open(header.data, "rb") as file:
                file.seek(header.start)
                _check_finite(np.fromfile(file, header.dtype, header.count))
    elif header.coding in SINGLE and not header.scaled:
        if _noted(header) == _summed(header, array):
            return
        stored = unpacked(header)
        _check_finite(stored)
        if not np.array_equal(stored, array.ravel()):
            raise HeaderError("cannot be read: its voxels are not those that its header describes")


def check_sample(header: Header):
    """Raise `HeaderError` where the first `BLOCK` of the voxels holds what is no number, or cannot be unpacked."""
    if header.coding not in SINGLE:
        return
    with open(header.data, "rb") as file:
        file.seek(header.start)
        data = file.read(min(BLOCK, header.end - header.start))
    if header.coding != "raw":
        try:
            data = zlib.decompressobj(47).decompress(data, BLOCK)[header.lead :]
        except zlib.error:
            raise HeaderError(DAMAGED) from None
    count = min(len(data) // header.dtype.itemsize, header.count)
    _check_finite(np.frombuffer(data, header.dtype, count))


def unpacked(header: Header) -> np.ndarray:
    """The stored values (1-D) of a compressed file, its checksum verified. Raises `HeaderError` for a damaged one."""
    lead, data, wanted = header.lead, bytearray(), header.size
    with open(header.data, "rb") as file:
        file.seek(header.start)
        left = header.end - header.start
        while left > 0 or wanted > len(data):
            stream, rest = zlib.decompressobj(47), b""  # a member of gzip, or a stream of zlib
            while not stream.eof:
                block = rest or file.read(min(BLOCK, left))
                left -= 0 if rest else len(block)
                if not block:
                    raise HeaderError(f"truncated: the compressed data end early ({len(data)} of {wanted} bytes)")
                try:
                    part = stream.decompress(block, BLOCK)
                except zlib.error:
                    raise HeaderError(DAMAGED) from None
                rest = stream.unconsumed_tail
                skipped = min(lead, len(part))
                lead -= skipped
                data += part[skipped:]
                if len(data) > wanted:
                    _check_rest(header, len(data))
            file.seek(-len(stream.unused_data), os.SEEK_CUR)
            left += len(stream.unused_data)
            if len(data) >= wanted and not _more(file, left):
                break
    if len(data) < wanted:
        raise HeaderError(f"truncated ({len(data)} of {wanted} bytes of voxels)")
    return np.frombuffer(data, header.dtype, header.count)  # not what may follow


def scaled(header: Header, kind) -> np.ndarray:
    """The values (1-D, of type `kind`) of a compressed file that stores them with a slope and an offset."""
    stored = unpacked(header)
    _check_finite(stored)
    values = np.empty(header.count, kind)
    for at in range(0, header.count, BLOCK):
        part = slice(at, at + BLOCK)
        values[part] = stored[part] * np.float64(header.slope) + np.float64(header.offset)
    return values


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its control group where that has less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            top = Path(limit).read_text().strip()
            if top.isdigit():
                cached = _cached(Path(used).with_name("memory.stat"))
                free = min(free, int(top) - int(Path(used).read_text()) + cached)
        except OSError:
            continue
    return free


def _cached(stat: Path) -> int:
    """Bytes of a control group that are files' and are given back when memory is asked for."""
    found = dict(line.split() for line in stat.read_text().splitlines() if len(line.split()) == 2)
    return int(found.get("inactive_file", 0)) + int(found.get("active_file", 0))


def _more(file, left: int) -> bool:
    """Whether another member of gzip follows; zeros that pad a file do not count."""
    at = file.tell()
    begin = file.read(min(2, left))
    file.seek(at)
    return begin == b"\x1f\x8b"


def _noted(header: Header) -> int:
    """The checksum at the stream's end: CRC-32 and length (little-endian) of gzip, Adler-32 (big-endian) of zlib."""
    with open(header.data, "rb") as file:
        file.seek(header.start)
        zipped = file.read(2) == b"\x1f\x8b"
        length = 8 if zipped else 4
        if header.end - header.start < length:
            return -1
        file.seek(header.end - length)
        found = file.read(length)
    return int.from_bytes(found[:4], "little" if zipped else "big")


def _summed(header: Header, array: np.ndarray) -> int:
    """The same checksum over what ITK has read, and what stood before it."""
    with open(header.data, "rb") as file:
        file.seek(header.start)
        begin = file.read(2)
        file.seek(header.start)
        zipped = begin == b"\x1f\x8b"
        lead = b""
        if header.lead:
            lead = zlib.decompressobj(47).decompress(file.read(header.lead + 65536), header.lead)
    if array.size != header.count or array.dtype != header.dtype.newbyteorder("="):
        return -2
    values = np.ascontiguousarray(array)
    if not header.dtype.isnative:
        values = values.byteswap()
    add = zlib.crc32 if zipped else zlib.adler32
    return add(values.reshape(-1).view(np.uint8).data, add(lead))


def _check_finite(stored: np.ndarray):
    if stored.dtype.kind == "f" and (odd := int(stored.size - np.isfinite(stored).sum())):
        raise HeaderError(f"{odd} voxels are NaN or infinite, expected numbers")
