"""What a directory holds, as lines that a person can read: its series, what each lacks, and what lies beside them."""

from synthct.core.errors import InputError
from synthct.images.dicom.choice import TELLING, counted, shown, single
from synthct.images.dicom.folder import Contents, contents
from synthct.images.dicom.headers import Frame, modality, text
from synthct.images.dicom.stack import stacked
from synthct.images.grid import numbers


def lines(path) -> list[str]:
    """The listing of directory `path` and its subdirectories."""
    found = contents(path, deep=True)
    made = []
    for uid, frames in found.series().items():
        made += _series(uid, frames, found)
    by_kind: dict[str, list] = {}
    for file, kind in found.others:
        by_kind.setdefault(kind, []).append(file.relative_to(found.path))
    for kind, files in sorted(by_kind.items()):
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        made.append(f"beside: {kind}: {files[0]}{more}")
    for file, why in found.unreadable:
        made.append(f"unreadable: {file.relative_to(found.path)}: {why}")
    return made or ["no DICOM here"]


def _series(uid: str, frames: list[Frame], found: Contents) -> list[str]:
    first = frames[0].header
    files = {frame.file for frame in frames}
    enhanced = f" in {len(files)} file{'s' * (len(files) > 1)}" if len(files) < len(frames) else ""
    places = sorted({str(file.parent.relative_to(found.path)) for file in files})
    head = (
        f"series {text(first, 'SeriesNumber') or '-'}  {modality(first) or '?'}  "
        f"{text(first, 'SeriesDescription')[:64] or '(no description)'}  "
        f"{len(frames)} slice{'s' * (len(frames) > 1)}{enhanced}"
    )
    try:
        one = single(frames, found.path)
        stack = stacked(one, found.path)
        tilt = "  tilted gantry: needs --straighten" if stack.tilted else ""
        twice = f"  {len(frames) - len(one)} of them twice" if len(one) < len(frames) else ""
        head += f"  {numbers(stack.grid.size)} voxels of {numbers(round(s, 4) for s in stack.grid.spacing)} mm"
        notes = [tilt.strip(), twice.strip()]
    except InputError as fault:
        notes = [_differences(frames) or str(fault).removeprefix(f"DICOM {found.path}: ")]
    shown_places = "" if places == ["."] else f"  in {', '.join(places[:3])}{', …' if len(places) > 3 else ''}"
    return [head, f"    --series {uid}{shown_places}", *(f"    {note}" for note in notes if note)]


def _differences(frames: list[Frame]) -> str:
    """The tags by which the images of one series can be told apart, each with its values."""
    found = []
    for keyword in TELLING:
        values: dict[str, int] = {}
        for frame in frames:
            values[shown(frame, keyword)] = values.get(shown(frame, keyword), 0) + 1
        if 1 < len(values) <= 8 and min(values.values()) > 1:
            found.append(f"{keyword} ({counted(values)})")
    return f"several images: choose with --select TAG=VALUE by {'; '.join(found[:4])}" if found else ""
