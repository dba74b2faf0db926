"""The regions of an RTSTRUCT or SEG object, read so that a damaged element costs one line that names it."""

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from synthct.core.errors import InputError, PatientError
from synthct.images.dicom.headers import class_name, frames_of, read_header, reason


@dataclass(frozen=True)
class Region:
    """A region's type ("EXTERNAL", "ORGAN", ""), its frame of reference ("" where none is said) and what draws it.

    `parts` are the closed contours of an RTSTRUCT's region, or the frames of a SEG's segment; none: it was never drawn.
    """

    number: int
    name: str
    kind: str
    frame: str
    parts: list


@dataclass(frozen=True)
class Drawing:
    """An RTSTRUCT or SEG as it was opened, with its regions."""

    path: Path
    data: Dataset
    regions: list[Region]

    @property
    def is_seg(self) -> bool:
        """Whether it holds segments and no contours."""
        return class_name(self.data) == "Segmentation Storage"

    def title(self, region: Region) -> str:
        """The region's name; where several have it, with its number."""
        alone = sum(one.name == region.name for one in self.regions) == 1
        return region.name if alone else f"{region.name} #{region.number}"

    def at(self, region: Region) -> str:
        """For messages: file and region."""
        return f"mask {self.path}: {self.title(region)}"

    def names(self) -> str:
        """For messages: all regions, and which of them were never drawn."""
        never = "no frame" if self.is_seg else "no closed contour"
        return ", ".join(self.title(one) + ("" if one.parts else f" ({never})") for one in self.regions) or "none"


def opened(path) -> Drawing:
    """The object with its regions. Raises `PatientError` for a file that is neither an RTSTRUCT nor a SEG."""
    path, where = Path(path), f"mask {path}"
    try:
        data = read_header(path, pixels=True)
    except ValueError as fault:
        raise PatientError(f"{where}: {fault}, expected an RTSTRUCT or SEG") from None
    except OSError as fault:
        raise PatientError(f"{where}: {fault.strerror or 'cannot be opened'}") from None
    kind = class_name(data)
    if kind == "RT Structure Set Storage":
        return Drawing(path, data, _rois(data, where))
    if kind == "Segmentation Storage":
        return Drawing(path, data, _segments(data, path, where))
    raise PatientError(f"{where}: {kind}, expected an RTSTRUCT or a SEG")


@contextlib.contextmanager
def readable(where: str, what: str):
    """What pydicom raises where it meets a damaged element is a fault of the file, and one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as fault:  # of many kinds, whatever int(), float() and struct raise among them
        raise PatientError(f"{where}: {what} cannot be read ({reason(fault)}); is the file damaged?") from None


def _read(item: Dataset, keyword: str, where: str):
    """The value of a tag, None where it is absent or empty."""
    with readable(where, keyword):
        found = item.get(keyword)
        return None if found is None or found == "" else found


def _shown(found) -> str:
    """A value for a message."""
    if isinstance(found, Sequence):  # whose items may be damaged too
        return "a sequence of items"
    return "absent" if found is None else repr(str(found)[:60])


def _items(item: Dataset, keyword: str, where: str) -> list[Dataset]:
    found = _read(item, keyword, where)
    if found is not None and not isinstance(found, Sequence):
        raise PatientError(f"{where}: {keyword} is {_shown(found)}, expected a sequence of items")
    return list(found or ())


def whole_of(item: Dataset, keyword: str, where: str) -> int:
    """The value of a tag as a whole number. Raises `PatientError` where it is none."""
    found = _read(item, keyword, where)
    if not isinstance(found, int):
        raise PatientError(f"{where}: {keyword} is {_shown(found)}, expected a whole number")
    return int(found)


def text_of(item: Dataset, keyword: str, where: str) -> str:
    """The value of a tag as text, "" where it is absent."""
    found = _read(item, keyword, where)
    if isinstance(found, Sequence):
        raise PatientError(f"{where}: {keyword} is {_shown(found)}, expected text")
    several = isinstance(found, MultiValue)
    return "" if found is None else ("\\".join(map(str, found)) if several else str(found)).strip()


def _rois(data: Dataset, where: str) -> list[Region]:
    """The regions of an RTSTRUCT, in its order."""
    types = {
        number: text_of(item, "RTROIInterpretedType", where).upper()
        for item in _items(data, "RTROIObservationsSequence", where)
        if isinstance(number := _read(item, "ReferencedROINumber", where), int)
    }
    closed = _closed(data, where)
    frame = text_of(data, "FrameOfReferenceUID", where)
    found: dict[int, Region] = {}
    for item in _items(data, "StructureSetROISequence", where):
        name = text_of(item, "ROIName", where)
        number = whole_of(item, "ROINumber", f"{where}: {name or 'a region without a name'}")
        if number in found:
            raise PatientError(f"{where}: {found[number].name} and {name} have one ROINumber, {number}, expected two")
        own = text_of(item, "ReferencedFrameOfReferenceUID", where)
        found[number] = Region(number, name, types.get(number, ""), own or frame, closed.get(number, []))
    return list(found.values())


def _closed(data: Dataset, where: str) -> dict[int, list[Dataset]]:
    """The closed contours of each region, by its number; a region's contours may stand in several items."""
    found: dict[int, list[Dataset]] = {}
    for item in _items(data, "ROIContourSequence", where):
        contours = [
            contour
            for contour in _items(item, "ContourSequence", where)
            if text_of(contour, "ContourGeometricType", where) in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
        ]
        if contours:
            found.setdefault(whole_of(item, "ReferencedROINumber", where), []).extend(contours)
    return found


def points_of(contour: Dataset, where: str) -> np.ndarray:
    """A contour's points x 3, mm."""
    given = _read(contour, "ContourData", where)
    try:
        points = np.array(given, float).reshape(-1, 3)
    except (TypeError, ValueError):
        points = np.empty((0, 3))
    if not len(points) or not np.isfinite(points).all():
        raise PatientError(f"{where}: ContourData is {_shown(given)}, expected points x, y, z")
    return points


def _segments(data: Dataset, path: Path, where: str) -> list[Region]:
    """The segments of a SEG, in its order."""
    frame = text_of(data, "FrameOfReferenceUID", where)
    with readable(where, "its frames"):
        frames = frames_of(data, path)
    shown = [(_read(one.header, "ReferencedSegmentNumber", where), one) for one in frames]
    found = []
    for item in _items(data, "SegmentSequence", where):
        name = text_of(item, "SegmentLabel", where)
        number = whole_of(item, "SegmentNumber", f"{where}: {name or 'a segment without a name'}")
        found.append(Region(number, name, "", frame, [one for segment, one in shown if segment in (number, None)]))
    return found
