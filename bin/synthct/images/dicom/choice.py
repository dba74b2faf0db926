"""Which image of a directory is meant: one series of several, one echo, b-value or Dixon part within a series.

Nothing is guessed. Where more than one image is there, the message lists them and says how to choose.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import tag_for_keyword

from synthct.core.errors import InputError
from synthct.images.dicom.folder import Contents
from synthct.images.dicom.headers import Frame, modality, text
from synthct.images.dicom.pixels import check_pixels, voxels

# Tags that tell images of one series apart, the likeliest and best understood first.
TELLING = (
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "MetaboliteMapDescription",
    "ComplexImageComponent",
    "ImageType",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "ConvolutionKernel",
    "StackID",
    "InversionTime",
    "FlipAngle",
    "ScanOptions",
    "SequenceName",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "DiffusionGradientOrientation",
    "ContrastBolusAgent",
    "AcquisitionNumber",
    "ImageOrientationPatient",
    "Rows",
    "AcquisitionTime",
    "InstanceCreationTime",
)
CONTRAST = TELLING[:10]  # these make another image even where no two slices lie at one place
SHOWN = 8


@dataclass(frozen=True)
class Choice:
    """What the user asked for: `series` a UID or a number, `select` "TAG=VALUE" each, `straighten` a tilted stack."""

    series: str | None = None
    select: tuple[str, ...] = ()
    straighten: bool = False


def chosen(found: Contents, choice: Choice) -> list[Frame]:
    """The frames of one image: the chosen series' (or the only one's) that every "TAG=VALUE" fits.

    The same object twice counts once. Raises `InputError` where more than one image, or none, is left.
    """
    series = found.series()
    if choice.series is not None:
        wanted = choice.series.strip()
        series = {
            uid: frames
            for uid, frames in series.items()
            if uid == wanted or text(frames[0].header, "SeriesNumber").strip() == wanted
        }
        if not series:
            raise InputError(f"DICOM {found.path}: no series {wanted}; it holds {listed(found.series())}")
    if len(series) > 1:
        counts = ", ".join(str(len({frame.file for frame in frames})) for frames in series.values())
        raise InputError(
            f"DICOM {found.path}: {len(series)} series mixed in one directory ({counts} files), expected one; "
            f"choose with --series: {listed(series)}"
        )
    return single(next(iter(series.values())), found.path, choice.select)


def single(frames: list[Frame], path, select: tuple[str, ...] = ()) -> list[Frame]:
    """The frames of one series that make one image, each object once. Raises `InputError` where several are left."""
    frames = _without_doubles(frames)
    for wish in select:
        frames = _selected(frames, wish, path)
    if differing := telling(frames):
        keyword, values = differing
        raise InputError(
            f"DICOM {path}: {len(values)} images in one series, they differ in {keyword} "
            f"({counted(values)}); choose one with --select {keyword}=VALUE"
        )
    return frames


def listed(series: dict[str, list[Frame]]) -> str:
    """Series for a message: number, modality, description, slices."""
    numbers = Counter(text(frames[0].header, "SeriesNumber") for frames in series.values())
    lines = []
    for uid, frames in list(series.items())[:SHOWN]:
        header = frames[0].header
        name, number = text(header, "SeriesDescription")[:40], text(header, "SeriesNumber")
        lines.append(
            f"{number if number and numbers[number] == 1 else uid} ({modality(header) or 'no modality'}"
            f"{', ' + name if name else ''}, {len(frames)} slice{'s' * (len(frames) > 1)})"
        )
    return "; ".join(lines) + ("; …" if len(series) > SHOWN else "")


def telling(frames: list[Frame]) -> tuple[str, Counter] | None:
    """The tag that tells several images apart, with its values and how many frames have each; None for one image.

    Several images are there where two frames lie at one place, or where a tag of the contrast has several values.
    """
    for keyword in CONTRAST:
        values = Counter(shown(frame, keyword) for frame in frames)
        # a few slices with another value are a fault of the header; an image has several slices
        if len(values) > 1 and min(values.values()) > 1 and "" not in values:
            return keyword, values
    places = Counter(_place(frame) for frame in frames)
    if max(places.values()) == 1:
        return None
    for keyword in TELLING:
        values = Counter(shown(frame, keyword) for frame in frames)
        if 1 < len(values) < len(frames) and _apart(frames, keyword):
            return keyword, values
    return None  # the stack says which two lie at one place


def counted(values: dict[str, int]) -> str:
    """Values with their numbers of frames, for a message."""
    items = sorted(values.items(), key=lambda item: (_number(item[0]) is None, _number(item[0]) or 0, item[0]))
    text = ", ".join(f"{value or 'none'}: {count}" for value, count in items[:SHOWN])
    return text + (", …" if len(items) > SHOWN else "")


def shown(frame: Frame, keyword: str) -> str:
    """A tag's value as it is compared and listed: numbers without what rounding adds."""
    found = text(frame.header, keyword)
    value = _number(found)
    return found if value is None else f"{value:.5g}"


def _apart(frames: list[Frame], keyword: str) -> bool:
    """Whether frames with the same value of a tag lie at different places."""
    return max(Counter((shown(frame, keyword), _place(frame)) for frame in frames).values()) == 1


def _place(frame: Frame) -> tuple:
    """Where a frame lies, and how it is turned; frames without a place are told apart by name."""
    position = text(frame.header, "ImagePositionPatient"), text(frame.header, "ImageOrientationPatient")
    try:
        return tuple(tuple(np.round([float(one) for one in part.split("\\")], 2)) for part in position)
    except ValueError:
        return (frame.name,)


def _without_doubles(frames: list[Frame]) -> list[Frame]:
    """Each object once: an archive may have exported one under two names. Another content is another object."""
    kept: dict[tuple, Frame] = {}
    for frame in frames:
        uid = text(frame.header, "SOPInstanceUID")
        key = (uid, frame.number, _place(frame)) if uid else (frame.file, frame.number)
        if key not in kept:
            kept[key] = frame
        elif frame.file != kept[key].file and not _same_voxels(frame, kept[key]):
            raise InputError(
                f"DICOM {frame.file}: has the SOPInstanceUID of {kept[key].file.name} and another content, expected one"
            )
    return list(kept.values())


def _same_voxels(frame: Frame, other: Frame) -> bool:
    """Of the values, not of the bytes: one may be compressed, or scaled another way."""
    if frame.file.read_bytes() == other.file.read_bytes():
        return True
    for one in (frame, other):  # each alone: they may differ
        check_pixels([one])
    return np.array_equal(voxels([frame]), voxels([other]))


def _selected(frames: list[Frame], wish: str, path) -> list[Frame]:
    keyword, equals, wanted = (part.strip() for part in wish.partition("="))
    if not equals or not keyword or not wanted:
        raise InputError(f"--select {wish!r}: expected TAG=VALUE, such as EchoTime=2.46")
    if tag_for_keyword(keyword) is None:
        raise InputError(f"--select {wish!r}: {keyword!r} is no DICOM keyword, such as EchoTime or ImageType")
    kept = [frame for frame in frames if _fits(shown(frame, keyword), wanted)]
    if not kept:
        values = Counter(shown(frame, keyword) for frame in frames)
        raise InputError(f"DICOM {path}: no slice with {keyword}={wanted}; {keyword} is {counted(values)}")
    return kept


def _fits(value: str, wanted: str) -> bool:
    """Whether a value is the wanted one: as a number, as text, or (several values) as one of its parts."""
    a, b = _number(value), _number(wanted)
    if a is not None and b is not None:
        return abs(a - b) <= 1e-3 * max(1e-6, abs(b))
    return value.lower() == wanted.lower() or wanted.lower() in value.lower().split("\\")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
