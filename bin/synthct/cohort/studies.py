"""Patients found in a tree of DICOM studies: series paired by frame of reference, else by study, else by patient.

Patients are called by their directory, where each has one of its own below the source that does not give them away, or
P001, P002, ...: no name or number of a patient becomes its name in a sheet.
"""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

from synthct.cohort.folds import PATIENT
from synthct.cohort.people import difference, gives_away, known_by
from synthct.cohort.scans import Scan, no_use, scan, unreadable
from synthct.cohort.trees import Found, Row
from synthct.core.errors import InputError
from synthct.images.dicom.folder import Contents, contents
from synthct.images.dicom.headers import Frame, modality, text


def studies(source: Path, wanted: str, region: str, center: str) -> Found:
    """The rows of a tree of DICOM files; `wanted` is mr or cbct, `region` and `center` replace what is found."""
    found = Found()
    everything = contents(source, deep=True)
    for file, why in everything.unreadable:
        found.leave(file.relative_to(source), why)
    if not everything.frames:
        raise InputError(f"{source}: no DICOM image in there")
    groups = _people(_scans(everything, wanted, found))
    names = _names(groups, source)
    _warn_of_two(groups, names, found)
    for name, scans in sorted(zip(names, groups, strict=True), key=lambda one: one[0]):
        if pair := _pair(scans, name, wanted, source, found):
            image, ct = pair
            part = region or image.region or (ct.region if ct else "")
            found.rows.append(Row(name, part, center or "A", image.directory, ct.directory if ct else None))
    return found


def _scans(everything: Contents, wanted: str, found: Found) -> list[Scan]:
    """The series that a sheet can hold, by directory; the others are left out."""
    by_series: dict[tuple[Path, str], list[Frame]] = defaultdict(list)
    for frame in everything.frames:
        by_series[frame.file.parent, text(frame.header, "SeriesInstanceUID")].append(frame)
    together = defaultdict(set)
    for directory, uid in by_series:
        together[directory].add(uid)
    broken = {file.parent for file, _ in everything.unreadable}
    scans = []
    for (directory, _), frames in sorted(by_series.items(), key=lambda item: str(item[0])):
        header = frames[0].header
        number = text(header, "SeriesNumber") or "-"
        name = f"{directory.relative_to(everything.path)}, series {number} ({modality(header) or '?'})"
        if why := no_use(header, wanted):
            found.leave(name, why)
        elif len(together[directory]) > 1:
            found.leave(name, f"{len(together[directory])} series in one directory, a sheet names directories")
        elif directory in broken:
            found.leave(name, "a file of it cannot be read")
        elif why := unreadable(frames, directory):
            found.leave(name, why)
        else:
            scans.append(scan(directory, header))
    return scans


def _people(scans: list[Scan]) -> list[list[Scan]]:
    """The scans by person: what shares a tie is of one, unless two headers say otherwise."""
    tied = defaultdict(list)
    for number, one in enumerate(scans):
        for tie in set().union(*one.ties):
            tied[tie].append(number)
    group = {number: {number} for number in range(len(scans))}
    for numbers in tied.values():
        for a, b in combinations(numbers, 2):
            if group[a] is not group[b] and not difference([scans[a].person, scans[b].person]):
                merged = group[a] | group[b]
                group.update(dict.fromkeys(merged, merged))
    return [[scans[number] for number in sorted(one)] for one in {min(one): one for one in group.values()}.values()]


def _names(groups: list[list[Scan]], source: Path) -> list[str]:
    """What each patient is called."""
    tops = [{(*one.directory.relative_to(source).parts, "")[0] for one in scans} for scans in groups]
    names = [min(top) for top in tops]
    telling = any(gives_away(name, one.person) for name, scans in zip(names, groups, strict=True) for one in scans)
    own = max(map(len, tops), default=0) == 1 and len({name.lower() for name in names}) == len(names)
    if own and not telling and all(map(PATIENT.fullmatch, names)):
        return names
    order = sorted(range(len(groups)), key=lambda number: min(str(one.directory) for one in groups[number]))
    return [f"P{order.index(number) + 1:03d}" for number in range(len(groups))]


def _warn_of_two(groups: list[list[Scan]], names: list[str], found: Found):
    """Say where one ID stands for several people: a slip in a header looks the same."""
    known = defaultdict(list)
    for name, scans in zip(names, groups, strict=True):
        for tag, number in set().union(*(known_by(one.person) for one in scans)):
            if tag == "PatientID":
                known[number].append((name, [one.person for one in scans]))
    for several in known.values():
        for (name, some), (other, more) in combinations(several, 2):
            found.warn(f"{name} and {other} have one PatientID and differ in {difference(some + more)}: two people")


def _pair(scans: list[Scan], name: str, wanted: str, source: Path, found: Found) -> tuple[Scan, Scan | None] | None:
    """The image of one person and its CT, where no others can be meant; else None, and why is said."""
    images = [one for one in scans if one.kind == wanted]
    cts = [one for one in scans if one.kind == "ct"]
    where = ", ".join(str(one.directory.relative_to(source)) for one in images + cts)
    if tag := difference([one.person for one in scans]):
        found.leave(name, f"series that differ in {tag}, of one person or of two: {where}")
        return None
    if not images:
        found.leave(name, f"no {wanted} series, only {', '.join(sorted({one.kind for one in scans}))}")
        return None
    images = [one for one in images if not one.second_choice] or images
    pairs = _closest([(image, ct) for image in images for ct in cts])
    if len(pairs) == 1:
        image, ct = pairs[0]
    elif not pairs and len(images) == 1:
        image, ct = images[0], None
    else:
        found.leave(name, f"{len(images)} {wanted} and {len(cts)} CT series, none pair alone: {where}")
        return None
    for other in scans:
        if other not in (image, ct):
            found.leave(other.directory.relative_to(source), f"{name} is {'paired' if ct else 'taken'} without it")
    return image, ct


def _closest(pairs: list[tuple[Scan, Scan]]) -> list[tuple[Scan, Scan]]:
    """Those of the pairs that the closest tie ties, of acquired CTs where there are any."""
    tied = [(image, ct) for image, ct in pairs if any(map(set.intersection, image.ties, ct.ties))]
    tied = [(image, ct) for image, ct in tied if not ct.second_choice] or tied
    for rank in range(3):
        if best := [(image, ct) for image, ct in tied if image.ties[rank] & ct.ties[rank]]:
            return best
    return []
