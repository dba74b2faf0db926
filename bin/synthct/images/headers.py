"""What the header of a MetaImage, NIfTI or NRRD file promises: where its voxels lie, how many, of which type.

ITK reads these formats leniently: missing voxels, a spacing of zero, NaN in the geometry or a checksum that does not
fit raise no error. So each header is read here as well, by content and not by the file's name, before ITK reads it.
"""

import contextlib
import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPACINGS = ("ElementSpacing", "ElementSize")  # of MetaImage, the first before the second
META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
NIFTI_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
    128: "u1",  # RGB: refused by its three values a voxel
}
NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
LONGEST = 1 << 20  # bytes of a header
APART = 0.5  # voxels by which the two places of a NIfTI may differ: they are rounded differently
SQUARE = 5e-3  # largest cosine between two axes of an affine
NRRD_SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior")
SINGLE = ("raw", "gzip", "zlib")  # codings whose bytes are checked here; others are left to ITK


class HeaderError(ValueError):
    """A header that cannot be trusted: the message says what is wrong with it, not where it lies."""


@dataclass(frozen=True)
class Header:
    """How a file keeps its voxels: bytes [start, end) of `data`, coded as one of `SINGLE` or otherwise.

    Decoded they are `lead` bytes of header and `count` values of `dtype` (with its byte order), to which `slope` and
    `offset` are applied. `format` is "Meta", "Nifti" or "Nrrd"; `sizes` are the lengths of the axes, x first.
    """

    format: str
    data: Path
    start: int
    end: int
    coding: str
    dtype: np.dtype
    sizes: tuple[int, ...]
    lead: int = 0
    slope: float = 1.0
    offset: float = 0.0

    @property
    def count(self) -> int:
        """Values, all axes and components together."""
        return math.prod(self.sizes)

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return self.count * self.dtype.itemsize

    @property
    def scaled(self) -> bool:
        """Whether values are another than those stored."""
        return (self.slope, self.offset) != (1.0, 0.0)


def read_header(path) -> Header:
    """The header of a file, told by its content. Raises `HeaderError` for one that promises what cannot be."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            begin = file.read(16)
        zipped = begin[:2] == b"\x1f\x8b"
        if zipped:
            with gzip.open(path, "rb") as file:
                begin = file.read(540)
        else:
            with open(path, "rb") as file:
                begin = file.read(LONGEST)
        if begin[:4] == b"NRRD":
            return _nrrd(path, begin)
        if len(begin) >= 348 and {begin[:4], begin[:4][::-1]} & {struct.pack("<i", 348), struct.pack("<i", 540)}:
            return _nifti(path, begin, zipped)
        if b"NDims" in begin and b"ElementDataFile" in begin:
            return _meta(path, begin)
    except HeaderError:
        raise
    except EOFError:
        raise HeaderError("truncated: the compressed data end early") from None
    except (zlib.error, gzip.BadGzipFile):
        raise HeaderError("damaged: the compressed data cannot be unpacked") from None
    except (ValueError, KeyError, IndexError, struct.error, OverflowError) as fault:
        raise HeaderError(f"its header cannot be read ({' '.join(str(fault).split())[:120]})") from None
    raise HeaderError("cannot be read: no header of MetaImage, NIfTI or NRRD; is the file truncated?")


def _check_single(name: str):
    """Refuse voxels in several files: ITK reads zeros where one of them is not there."""
    if name.upper().startswith("LIST") or "%" in name:
        raise HeaderError(f"its voxels lie in several files ({name[:80]}), expected one")


def _beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names. Raises `HeaderError` where there is none, or could be none."""
    data = path.parent / name
    with contextlib.suppress(OSError, ValueError):  # a name too long, or with a NUL in it
        if data.is_file():
            return data
    raise HeaderError(f"its voxels lie in {name[:80]}, which is not there")


def _nifti(path: Path, head: bytes, zipped: bool) -> Header:
    if 540 in struct.unpack("<i", head[:4]) + struct.unpack(">i", head[:4]):
        raise HeaderError("is NIfTI-2, expected NIfTI-1, MetaImage or NRRD")
    first = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
    get = lambda form, at: struct.unpack_from(f"{first}{form}", head, at)  # noqa: E731
    dims = get("8h", 40)
    code = get("h", 70)[0]
    spacing = get("8f", 76)
    lead = int(get("f", 108)[0])
    slope, offset = get("2f", 112)
    magic = head[344:348]
    if magic[:3] not in (b"n+1", b"ni1"):
        raise HeaderError(f"magic {magic.rstrip(bytes(1))!r}, expected NIfTI (Analyze does not say left from right)")
    if magic[:2] == b"n+" and lead < 348:
        raise HeaderError(f"vox_offset {lead}, expected voxels behind the header")
    rank = dims[0]
    if not 1 <= rank <= 7 or min(dims[1 : rank + 1]) < 1:
        raise HeaderError(f"its header promises axes of {'×'.join(map(str, dims[1 : max(rank, 0) + 1]))} voxels")
    if code not in NIFTI_TYPES:
        raise HeaderError(f"voxel type {code} of NIfTI (complex, binary or unknown), expected numbers")
    for axis, step in zip("xyz", spacing[1 : min(rank, 3) + 1], strict=False):
        if not math.isfinite(step) or step <= 0:
            raise HeaderError(f"spacing {step:g} along {axis}, expected more than 0 mm")
    # the affine that is used: srow's numbers stand in the file whether or not a code says that they hold
    s_code = get("h", 254)[0]
    affine = get("12f", 280)
    if s_code > 0:
        _finite(affine, "affine (srow)")
    q_code = get("h", 252)[0]
    quaternion = get("6f", 256)
    if q_code > 0:
        _finite(quaternion, "quatern and qoffset")
    if rank >= 3:
        _check_place(affine if s_code > 0 else None, quaternion if q_code > 0 else None, spacing, dims)
    if not math.isfinite(slope) or slope == 0:  # says: not scaled
        if math.isfinite(offset) and offset != 0:
            raise HeaderError(f"scl_slope {slope:g} with scl_inter {offset:g}: is one meant to be added or not?")
        slope, offset = 1.0, 0.0
    elif not math.isfinite(offset):
        raise HeaderError(f"scl_inter {offset:g}, expected a number")
    size = path.stat().st_size
    kind = np.dtype(NIFTI_TYPES[code]).newbyteorder(">" if first == ">" else "<")
    sizes = tuple(max(1, n) for n in dims[1 : rank + 1]) + ((3,) if code == 128 else ())
    where = (0, size, "gzip") if zipped else (lead, size, "raw")
    return Header("Nifti", path, *where, kind, sizes, lead if zipped else 0, float(slope), float(offset))


def _check_place(affine, quaternion, spacing, dims):
    """Refuse a NIfTI that does not say where it lies, or says two things: each reader has its own choice then."""
    if affine is None and quaternion is None:
        raise HeaderError("neither sform nor qform says how it lies in the patient (both codes are 0)")
    if quaternion is None:
        _check_axes(affine, spacing, dims)
    if affine is None or quaternion is None:
        return
    b, c, d, *offset = quaternion
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.array(spacing[1:4]) * (1, 1, -1 if spacing[0] < 0 else 1)
    one = np.array(affine, float).reshape(3, 4)
    other = np.column_stack([turn * steps, offset])
    corners = np.array([[x, y, z, 1] for x in (0, dims[1] - 1) for y in (0, dims[2] - 1) for z in (0, dims[3] - 1)])
    apart = float(np.abs((one - other) @ corners.T).max())
    if apart > APART * min(map(abs, spacing[1:4])):
        raise HeaderError(f"sform and qform place it {apart:.3g} mm apart, expected one place")


def _check_axes(affine, spacing, dims):
    """Refuse an sform, where it alone says the place, that is no grid, or one of another spacing than pixdim's."""
    axes = np.array(affine, float).reshape(3, 4)[:, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths.all():
        raise HeaderError("sform has an axis of length 0, expected the three steps from voxel to voxel")
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    if np.abs(cosines).max() > SQUARE:
        raise HeaderError("sform is sheared: its axes are not at right angles, expected a grid; resample it first")
    given = np.abs(spacing[1:4])
    if (np.abs(lengths - given) * np.maximum(np.array(dims[1:4]) - 1, 1) > APART * given).any():
        one, other = ("×".join(f"{step:.4g}" for step in steps) for steps in (lengths, given))
        raise HeaderError(f"spacing {one} mm by its sform, {other} mm by its pixdim, expected one spacing")


def _meta(path: Path, begin: bytes) -> Header:
    at = begin.index(b"ElementDataFile")
    stop = begin.find(b"\n", at)
    stop = len(begin) if stop < 0 else stop
    fields = dict(_pairs(begin[:stop].decode("utf-8", "replace").splitlines(), "="))
    true = lambda *names: any(fields.get(name, "").lower() in ("true", "1") for name in names)  # noqa: E731
    for key in ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "TransformMatrix", "Orientation"):
        _finite(fields.get(key, "").split(), key)
        if key in SPACINGS and any(float(step) <= 0 for step in fields.get(key, "").split()):
            raise HeaderError(f"spacing {fields[key]}, expected more than 0 mm")
    if not any(fields.get(key) for key in SPACINGS):
        raise HeaderError("neither ElementSpacing nor ElementSize is there, expected the spacing in mm")
    rank = int(fields["NDims"])
    for key, count in (
        ("ElementSpacing", rank),
        ("ElementSize", rank),
        ("Offset", rank),
        ("Position", rank),
        ("Origin", rank),
        ("TransformMatrix", rank**2),
        ("Orientation", rank**2),
    ):
        if key in fields and len(fields[key].split()) != count:
            raise HeaderError(f"{key} {fields[key]}, expected {count} numbers as NDims says")
    for key, plain in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if float(fields.get(key, plain)) != plain:  # which ITK passes over
            raise HeaderError(f"{key} {fields[key]}, expected values that stand as they are ({plain})")
    if fields.get("BinaryData", "True").lower() in ("false", "0"):
        raise HeaderError("BinaryData = False, voxels as text, expected binary ones")
    if fields.get("DistanceUnits", "?").strip() not in ("?", "mm", ""):
        raise HeaderError(f"DistanceUnits {fields['DistanceUnits']}, expected mm")
    sizes = tuple(int(n) for n in fields["DimSize"].split())
    if len(sizes) != rank:
        raise HeaderError(f"DimSize {fields['DimSize']}, expected {fields['NDims']} numbers as NDims says")
    if min(sizes) < 1:
        raise HeaderError(f"its header promises axes of {'×'.join(map(str, sizes))} voxels")
    if fields["ElementType"] not in META_TYPES:
        raise HeaderError(f"ElementType {fields['ElementType']}, expected numbers such as MET_SHORT")
    big = true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    kind = np.dtype(META_TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<")
    channels = int(fields.get("ElementNumberOfChannels", 1))
    sizes += (channels,) if channels > 1 else ()
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    _check_single(name)
    binary = true("BinaryData") or "BinaryData" not in fields
    coding = ("zlib" if true("CompressedData") else "raw") if binary else "other"
    data = path if local or coding == "other" else _beside(path, name)
    end = data.stat().st_size
    start = stop + 1 if local else 0
    skip = int(fields.get("HeaderSize", 0))
    if skip < -1:
        raise HeaderError(f"HeaderSize {skip}, expected bytes, or -1 for what stands before the voxels")
    if int(fields.get("CompressedDataSize", 0)) < 0:
        raise HeaderError(f"CompressedDataSize {fields['CompressedDataSize']}, expected bytes")
    if skip and not local:
        start = skip if skip > 0 else end - math.prod(sizes) * kind.itemsize
    if coding == "zlib" and int(fields.get("CompressedDataSize", 0)) > 0:
        promised = start + int(fields["CompressedDataSize"])
        if promised > end:
            raise HeaderError(f"truncated ({end - start} of {promised - start} compressed bytes)")
        end = promised
    return Header("Meta", data, start, end, coding, kind, sizes)


def _nrrd(path: Path, begin: bytes) -> Header:
    begin = begin.replace(b"\r\n", b"\n") if b"\n\n" not in begin else begin
    stop = begin.find(b"\n\n")
    text = begin[: stop if stop >= 0 else len(begin)].decode("utf-8", "replace")
    fields = {key.lower(): value for key, value in _pairs(text.splitlines()[1:], ":") if not value.startswith("=")}
    for key in ("space directions", "space origin", "spacings", "thicknesses"):
        given = fields.get(key, "").replace("none", "")
        for sign in "(),":
            given = given.replace(sign, " ")
        skipped = key == "thicknesses" or (key == "spacings" and "space directions" in fields)
        _finite([] if skipped else given.split(), key)
    _check_nrrd_place(fields)
    units = {unit.strip().lower() for unit in fields.get("space units", "").split('"') if unit.strip()}
    if units - {"mm", "millimeter", "millimeters", "???"}:
        raise HeaderError(f"space units {', '.join(sorted(units))}, expected mm")
    sizes = tuple(int(n) for n in fields["sizes"].split())
    if min(sizes) < 1:
        raise HeaderError(f"its header promises axes of {'×'.join(map(str, sizes))} voxels")
    given = " ".join(fields["type"].split()).lower()
    kind = next((np.dtype(code) for code, names in NRRD_TYPES.items() if given in names), None)
    if kind is None:
        raise HeaderError(f"type {given}, expected numbers such as short")
    kind = kind.newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<")
    coding = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields["encoding"].lower(), "other")
    name = fields.get("data file", fields.get("datafile", ""))
    _check_single(name)
    if int(fields.get("line skip", fields.get("lineskip", 0))):
        coding = "other"
    data = _beside(path, name) if name and coding != "other" else path
    end = data.stat().st_size
    start = 0 if name else (stop + 2 if stop >= 0 else end)
    lead, skip = 0, int(fields.get("byte skip", fields.get("byteskip", 0)))
    if skip and coding == "gzip":
        lead = max(skip, 0)
    elif skip:
        start = start + skip if skip > 0 else end - math.prod(sizes) * kind.itemsize
    return Header("Nrrd", data, start, end, coding, kind, sizes, lead)


def _check_nrrd_place(fields: dict):
    """Refuse a NRRD that does not say how far apart its voxels lie, or in which patient axes."""
    if not fields.get("space directions") and not fields.get("spacings"):
        raise HeaderError("neither space directions nor spacings is there, expected the spacing in mm")
    space = fields.get("space", "").lower()
    short = ["".join(word[0] for word in name.split("-")) for name in NRRD_SPACES]
    if space.removesuffix("-time") not in NRRD_SPACES and space not in short:
        raise HeaderError(f"space {space or 'is missing'}, expected one of {', '.join(NRRD_SPACES)}")
    if "space directions" not in fields and any(float(step) <= 0 for step in fields["spacings"].split()):
        raise HeaderError(f"spacings {fields['spacings']}, expected more than 0 mm")


def _pairs(lines, sign: str):
    for line in lines:
        key, found, value = line.partition(sign)
        if found and not line.startswith("#"):
            yield key.strip(), value.strip()


def _finite(values, key: str):
    for value in values:
        try:
            known = math.isfinite(float(value))
        except ValueError:
            known = False
        if not known:
            raise HeaderError(f"{key} holds {value}, expected numbers")
