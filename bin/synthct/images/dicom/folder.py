"""What a directory holds: image series, other DICOM objects beside them, and files that fail to be slices."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.uid import UID

from synthct.core.errors import InputError
from synthct.core.files import below
from synthct.images.dicom.headers import Frame, class_name, frames_of, modality, number, read_header, text, value

# Objects with rows and columns, or without, that are no images of a patient's anatomy; they lie beside series.
BESIDE = re.compile(
    r"RT (Structure|Plan|Dose|Ion|Beams|Brachy|Treatment)|Segmentation|Presentation State|Parametric Map|Registration"
    r"|\bSR\b|Report|Key Object|Encapsulated|Raw Data|Directory|Waveform|Fiducials|Surface|Real World Value"
    r"|Tractography"
)
# Names that say that a file is something else than a slice; the second line are the viewers on patients' CDs.
ELSE = re.compile(
    r"(?i)(?:.*\.(?:txt|pdf|html?|xml|json|csv|tsv|md|log|ini|inf|cfg|exe|dll|js|css|jar|jpe?g|png|gif|bmp|tiff?|svg|ico"
    r"|dat|chm|hlp|msi|cab|ttf|otf|woff2?|config|manifest|properties|plist|class|rtf|so|dylib|sys|com|reg|xslt?|dtd|swf"
    r"|mha|mhd|raw|nii|gz|nrrd|nhdr|zip|tar|db|mat|py|sh|bat|docx?|xlsx?|pptx?|bvec|bval|toml|ya?ml|lnk|url|lock)"
    r"|dicomdir|readme|license|licence|version|changes|autorun|liesmich|index|lockfile|[a-z]+sums?)"
)
# A slice in an archive of its own is a slice that is not read.
PACKED = re.compile(r"(?i).*\.(?:dcm|dicom|dic|ima)\.(?:gz|bz2|xz|zst|zip)|[^.]*\.gz")


@dataclass(frozen=True)
class Contents:
    """`frames` of image series, `others` (file, kind) of DICOM objects beside them, `unreadable` (file, why)."""

    path: Path
    frames: list[Frame] = field(default_factory=list)
    others: list[tuple[Path, str]] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)

    def series(self) -> dict[str, list[Frame]]:
        """Frames by SeriesInstanceUID, in the order of the series' numbers."""
        found: dict[str, list[Frame]] = {}
        for frame in self.frames:
            found.setdefault(text(frame.header, "SeriesInstanceUID"), []).append(frame)
        return dict(sorted(found.items(), key=lambda item: (number(item[1][0].header, "SeriesNumber", 1e9), item[0])))

    def directly(self) -> "Contents":
        """What lies in the directory itself."""
        frames = [frame for frame in self.frames if frame.file.parent == self.path]
        others = [one for one in self.others if one[0].parent == self.path]
        return Contents(self.path, frames, others, [one for one in self.unreadable if one[0].parent == self.path])

    def beside(self) -> str:
        """The objects that are no image series, for a message: "RT Dose Storage (2 files)"."""
        kinds = Counter(kind for _, kind in self.others)
        return ", ".join(f"{kind} ({count} file{'s' * (count > 1)})" for kind, count in sorted(kinds.items()))


def contents(path, deep: bool = False) -> Contents:
    """What the directory `path` holds itself, and with `deep` what its subdirectories hold too. Pixels are not read."""
    found = Contents(Path(path))
    for file in _files(found.path, deep):
        try:
            data = read_header(file)
        except ValueError as fault:
            if PACKED.fullmatch(file.name):
                found.unreadable.append((file, "compressed as a whole, unpack it first"))
            elif not ELSE.fullmatch(file.name):
                found.unreadable.append((file, str(fault)))
            continue
        except OSError as fault:
            found.unreadable.append((file, fault.strerror or "cannot be opened"))
            continue
        kind = class_name(data) or "an object without a class"
        if BESIDE.search(kind) or modality(data) in ("RTDOSE", "RTSTRUCT", "RTPLAN", "SEG", "SR", "PR", "KO", "REG"):
            found.others.append((file, kind))
        elif value(data, "Rows") is None:
            if "Image" in kind or not UID(text(data, "SOPClassUID") or "1").is_valid:
                found.unreadable.append((file, "its header ends before Rows and Columns"))
            else:
                found.others.append((file, kind))
        else:
            try:
                found.frames.extend(frames_of(data, file))
            except ValueError as fault:
                found.unreadable.append((file, str(fault)))
    return found


def image_contents(path, deep: bool = False) -> Contents:
    """`contents` of the directory, or of its subdirectories too where it has no images itself, or where a series of it
    goes on in them; something must be there.

    Raises `InputError` for a directory without images, and for a file in it that should be a slice and cannot be read.
    """
    below = not deep and any(file.is_dir() for file in Path(path).iterdir())
    found = contents(path, deep or below)
    if below and (own := found.directly()).frames:
        here = own.series()
        frames = [frame for uid, frames in found.series().items() if uid in here for frame in frames]
        found = replace(found, frames=frames) if len(frames) > len(own.frames) else own
    if found.unreadable:
        file, why = found.unreadable[0]
        more = f" and {len(found.unreadable) - 1} more" if len(found.unreadable) > 1 else ""
        raise InputError(
            f"DICOM {file}{more}: cannot be read ({why}); is the file truncated? "
            "Expected slices, or names that say that a file is something else (.txt, DICOMDIR)"
        )
    if not found.frames:
        only = f", only {found.beside()}" if found.others else ""
        raise InputError(f"DICOM {path}: no image of a series in this directory{only}")
    return found


def _files(path: Path, deep: bool) -> list[Path]:
    """Files in order of their names, links followed, what starts with a dot left out."""
    names = below(path, hidden=False) if deep else sorted(path.iterdir())
    return [name for name in names if not name.name.startswith(".") and not name.is_dir()]
