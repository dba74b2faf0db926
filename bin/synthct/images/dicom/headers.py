"""Values of DICOM headers, read so that a header that breaks the standard costs a line and never a traceback.

An enhanced (multi-frame) object is flattened: each frame gets a header as a single-frame file would have it, its
functional groups laid over what all frames share.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from synthct.core.errors import InputError

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
ALIASES = {"EffectiveEchoTime": "EchoTime", "FrameType": "ImageType"}  # enhanced name: the single-frame one


@dataclass(frozen=True)
class Frame:
    """One plane: a single-frame file (`number` None), or frame `number` (from 0) of an enhanced object."""

    file: Path
    number: int | None
    header: Dataset

    @property
    def name(self) -> str:
        """For messages: the file's name, and the frame's number as viewers count it."""
        return self.file.name if self.number is None else f"{self.file.name}, frame {self.number + 1}"


def read_header(file: Path, *, pixels: bool = False) -> Dataset:
    """The data set of a DICOM file, with or without the preamble that the standard asks for.

    Raises `ValueError` with the reason where the file is none, or ends within its header.
    """
    if not file.exists():
        raise ValueError("a link that leads nowhere" if file.is_symlink() else "no such file")
    with open(file, "rb") as stream:
        start = stream.read(132)
    if not start:
        raise ValueError("empty, 0 bytes")
    bare = start[128:132] != b"DICM"
    # without a preamble a data set starts with its first element: group 0002 or 0008, in either byte order
    if bare and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        raise ValueError("not DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(file, force=bare, stop_before_pixels=not pixels)
            known = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")
    except Exception as fault:  # pydicom raises many kinds for files that end early or hold rubbish
        raise ValueError(f"its header cannot be read, {reason(fault)}") from None
    if not known:
        raise ValueError("its header ends early or is no DICOM (no SOPClassUID)")
    if "TransferSyntaxUID" not in data.file_meta:  # a bare data set says by its own form how it is written
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def frames_of(data: Dataset, file: Path) -> list[Frame]:
    """The frames of one image object: one, or as many as an enhanced object holds.

    Raises `ValueError` where the groups of an enhanced one are not those of its frames, or cannot be read.
    """
    try:
        return _frames(data, file)
    except ValueError:
        raise
    except Exception as fault:  # pydicom raises many kinds for damaged elements
        raise ValueError(f"its frames cannot be read, {reason(fault)}") from None


def _frames(data: Dataset, file: Path) -> list[Frame]:
    per_frame = data.get(PER_FRAME)
    if not per_frame:
        return [Frame(file, None, data)]
    if len(per_frame) != (count := whole(data, "NumberOfFrames", 1)):
        raise ValueError(f"{count} frames and functional groups for {len(per_frame)} of them")
    root, shared, frames = _elements(data), data.get(SHARED) or [], []
    for number, groups in enumerate(per_frame):
        flat = Dataset()
        flat.update(root)
        flat.file_meta = data.file_meta
        for part in (*shared, groups):
            _lay_over(flat, part)
        frames.append(Frame(file, number, flat))
    return frames


def _elements(data: Dataset) -> dict:
    skipped = {pydicom.datadict.tag_for_keyword(name) for name in (SHARED, PER_FRAME)}
    return {tag: data.get_item(tag) for tag in data.keys() if tag not in skipped}  # noqa: SIM118, not a dict


def _lay_over(flat: Dataset, groups: Dataset):
    """Put the elements of each functional group (a sequence of one item) into `flat`."""
    for element in groups:
        if element.VR != "SQ" or element.tag.is_private or len(element.value) != 1:
            continue
        item = element.value[0]
        flat.update({tag: item.get_item(tag) for tag in item.keys()})  # noqa: SIM118, not a dict
        for theirs, ours in ALIASES.items():
            if theirs in item:
                setattr(flat, ours, item[theirs].value)


def value(header: Dataset, keyword: str, default=None):
    """The value of a tag, or `default` where it is absent, empty or of a form that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = header.get(keyword)
    except Exception:  # pydicom converts a value when it is asked for, and raises what float() or int() raise
        return default
    return default if found is None or found == "" else found


def text(header: Dataset, keyword: str) -> str:
    """The value of a tag as text, several values joined as DICOM joins them (``ORIGINAL\\PRIMARY``), "" for none."""
    found = value(header, keyword, "")
    if isinstance(found, str | bytes) or not isinstance(found, Sequence):  # a person's name is iterable, and one value
        return str(found)
    return "\\".join(str(one) for one in found)


def numbers(frame: Frame, keyword: str, count: int) -> tuple[float, ...]:
    """The `count` numbers of a tag. Raises `InputError` where they are absent, or no numbers (a decimal comma)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = frame.header.get(keyword)
            given = [raw] if isinstance(raw, str | int | float) else list(raw or ())
    except Exception as fault:
        raise InputError(f"DICOM {frame.file}: {keyword} cannot be read ({reason(fault)}), expected numbers") from None
    if len(given) != count:
        found = f"{len(given)} values, expected {count}" if given else "absent"
        raise InputError(f"DICOM {_at(frame)}: no {keyword} ({found}), its place in space is unknown")
    return _floats(frame, keyword, given, "numbers")


def number(header: Dataset, keyword: str, default: float) -> float:
    """One number, or `default` where the tag is absent, empty or no number."""
    try:
        return float(value(header, keyword, default))
    except (TypeError, ValueError):
        return default


def decimal(frame: Frame, keyword: str) -> float | None:
    """One number that voxels are made by, None where the tag is absent or empty.

    Raises `InputError` for what is no number: the standard's value in its place would be another image.
    """
    element = frame.header.get_item(keyword)
    if element is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = frame.header.get(keyword)
    except Exception:  # pydicom raises what float() raises
        given = element.value
    if isinstance(given, bytes | str):
        given = (given.decode("latin-1") if isinstance(given, bytes) else given).strip(" \0")
    return None if given is None or given == "" else _floats(frame, keyword, [given], "a number")[0]


def _floats(frame: Frame, keyword: str, given: list, expected: str) -> tuple[float, ...]:
    """The values of a tag as numbers; `InputError` where one is none, or not finite."""
    try:
        made = tuple(float(one) for one in given)
    except (TypeError, ValueError):
        shown = "\\".join(map(str, given))[:60]
        hint = "; a decimal comma?" if "," in shown else ""
        raise InputError(f"DICOM {_at(frame)}: {keyword} is {shown!r}, expected {expected}{hint}") from None
    if not all(abs(one) < 1e9 for one in made):
        raise InputError(f"DICOM {_at(frame)}: {keyword} is {made}, expected finite numbers")
    return made


def whole(header: Dataset, keyword: str, default: int = 0) -> int:
    """One whole number, or `default` where the tag is absent, empty or no number."""
    found = number(header, keyword, default)
    return int(found) if found == found and abs(found) < 2**62 else default


def modality(header: Dataset) -> str:
    """The Modality tag ("MR", "CT", ...); where it is empty, what the object's class says, or ""."""
    found = text(header, "Modality").strip().upper()
    kind = class_name(header)
    return found or next((short for short in ("MR", "CT") if f"{short} Image" in kind), "")


def class_name(header: Dataset) -> str:
    """What kind of object it is, in the standard's words ("CT Image Storage")."""
    uid = text(header, "SOPClassUID")
    if not uid and "file_meta" in dir(header):
        uid = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    return UID(uid).name if uid else ""


def reason(fault: Exception) -> str:
    """The last line of an exception's message, for a message of ours."""
    lines = str(fault).strip().splitlines()
    return lines[-1].strip()[:160] if lines else type(fault).__name__


def _at(frame: Frame) -> str:
    return str(frame.file) if frame.number is None else f"{frame.file}, frame {frame.number + 1}"
