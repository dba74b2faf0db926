"""Patients found in a tree of DICOM studies: series paired by frame of reference, else by study, else by patient.

Patients are told apart by PatientID and called by their directory, where each has one of its own below the source, or
P001, P002, ...: no name or number of a patient goes into a sheet.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from synthct.cohort.trees import NAME, Found, Row
from synthct.core.errors import InputError
from synthct.images.dicom.choice import single
from synthct.images.dicom.folder import contents
from synthct.images.dicom.headers import Frame, modality, text
from synthct.images.dicom.stack import stacked

CONE_BEAM = re.compile(r"(?i)cone.?beam|\bcbct\b|\bOBI\b|on.?board|\bXVI\b|\bkV.?CBCT\b|halcyon|ethos|hypersight")
REGIONS = (  # BodyPartExamined and descriptions: SynthRAD2025's regions
    ("HN", re.compile(r"(?i)head|neck|brain|skull|larynx|face")),
    ("TH", re.compile(r"(?i)chest|thorax|lung|breast|heart")),
    ("AB", re.compile(r"(?i)abdomen|pelvis|prostate|liver|bladder|rectum|hip")),
)


@dataclass(frozen=True)
class Scan:
    """A series that can be read, and what pairs it."""

    directory: Path
    kind: str  # "mr", "cbct", "ct"
    patient: str
    study: str
    frame: str
    region: str
    number: str


def studies(source: Path, wanted: str, region: str, center: str) -> Found:
    """The rows of a tree of DICOM files; `wanted` is mr or cbct, `region` and `center` replace what is found."""
    found = Found()
    everything = contents(source, deep=True)
    for file, why in everything.unreadable:
        found.leave(file.relative_to(source), why)
    if not everything.frames:
        raise InputError(f"{source}: no DICOM image in there")
    by_series: dict[tuple[Path, str], list[Frame]] = defaultdict(list)
    for frame in everything.frames:
        by_series[frame.file.parent, text(frame.header, "SeriesInstanceUID")].append(frame)
    together = defaultdict(set)
    for directory, uid in by_series:
        together[directory].add(uid)
    broken = {file.parent for file, _ in everything.unreadable}
    scans = []
    for (directory, _), frames in sorted(by_series.items(), key=lambda item: str(item[0])):
        scan = _scan(directory, frames, wanted)
        name = f"{directory.relative_to(source)}, series {scan.number or '-'} ({modality(frames[0].header) or '?'})"
        if len(together[directory]) > 1:
            found.leave(name, f"{len(together[directory])} series in one directory, a sheet names directories")
        elif directory in broken:
            found.leave(name, "a file of it cannot be read")
        elif not scan.kind:
            found.leave(name, f"neither MR nor CT, the sheet is for {wanted}")
        elif fault := _unusable(frames, directory):
            found.leave(name, fault)
        else:
            scans.append(scan)
    names = _names(scans, source)
    for patient in sorted({scan.patient for scan in scans}, key=lambda one: names[one]):
        _pair(
            [scan for scan in scans if scan.patient == patient], names[patient], wanted, region, center, source, found
        )
    return found


def _scan(directory: Path, frames: list[Frame], wanted: str) -> Scan:
    header = frames[0].header
    words = " ".join(
        text(header, key)
        for key in ("ManufacturerModelName", "StationName", "SeriesDescription", "ProtocolName", "ImageComments")
    )
    kind = {"MR": "mr", "CT": "cbct" if CONE_BEAM.search(words) else "ct"}.get(modality(header), "")
    part = f"{text(header, 'BodyPartExamined')} {text(header, 'StudyDescription')} {text(header, 'SeriesDescription')}"
    region = next((name for name, rule in REGIONS if rule.search(part)), "")
    patient = text(header, "PatientID") or text(header, "PatientName") or text(header, "StudyInstanceUID")
    study, frame = text(header, "StudyInstanceUID"), text(header, "FrameOfReferenceUID")
    return Scan(directory, kind, patient, study, frame, region, text(header, "SeriesNumber"))


def _unusable(frames: list[Frame], directory: Path) -> str:
    try:
        stack = stacked(single(frames, directory), directory)
    except InputError as fault:
        return str(fault).removeprefix(f"DICOM {directory}: ")
    return "tilted gantry" if stack.tilted else ""


def _names(scans: list[Scan], source: Path) -> dict[str, str]:
    """What each patient is called."""
    tops = defaultdict(set)
    for scan in scans:
        parts = scan.directory.relative_to(source).parts
        tops[scan.patient].add(parts[0] if parts else "")
    names = [next(iter(top)) for top in tops.values() if len(top) == 1]
    if len(names) == len(tops) == len(set(names)) and all(NAME.fullmatch(name) for name in names):
        return {patient: next(iter(top)) for patient, top in tops.items()}
    order = sorted(tops, key=lambda patient: min(str(s.directory) for s in scans if s.patient == patient))
    return {patient: f"P{number:03d}" for number, patient in enumerate(order, 1)}


def _pair(scans: list[Scan], name: str, wanted: str, region: str, center: str, source: Path, found: Found):
    images = [scan for scan in scans if scan.kind == wanted]
    cts = [scan for scan in scans if scan.kind == "ct"]

    def where(some: list[Scan]) -> str:
        return ", ".join(str(scan.directory.relative_to(source)) for scan in some)

    if not images:
        kinds = ", ".join(sorted({scan.kind for scan in scans}))
        found.leave(name, f"no {wanted} series, only {kinds}")
        return
    pairs = [(image, ct) for image in images for ct in cts]
    best: list[tuple[Scan, Scan]] = []
    for rule in (lambda a, b: a.frame and a.frame == b.frame, lambda a, b: a.study == b.study, lambda a, b: True):
        best = [(image, ct) for image, ct in pairs if rule(image, ct)]
        if best:
            break
    if len(best) == 1:
        image, ct = best[0]
    elif not cts and len(images) == 1:
        image, ct = images[0], None
    else:
        found.leave(name, f"{len(images)} {wanted} and {len(cts)} CT series, none pair alone: {where(images + cts)}")
        return
    for other in scans:
        if other not in (image, ct):
            found.leave(other.directory.relative_to(source), f"{name} is paired without it")
    part = region or image.region or (ct.region if ct else "")
    found.rows.append(Row(name, part, center or "A", image.directory, ct.directory if ct else None))
