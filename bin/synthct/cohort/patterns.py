"""Patients found in a folder of files whose names follow a pattern, such as ``{patient}_{kind}``."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from synthct.cohort.trees import Found, Row
from synthct.core.errors import InputError
from synthct.core.files import below
from synthct.images.volume import SUFFIXES

SEQUENCES = {"t1": "T1", "t1w": "T1", "t2": "T2", "t2w": "T2"}
IMAGES = {"mr": ("mr", "mri", *SEQUENCES), "cbct": ("cbct",)}  # what a pattern's {kind} may be called
OTHERS = {"image": "image", "ct": "ct", "mask": "mask", "body": "mask"}
FIELDS = {"patient": "[^/]+", "kind": "[^/]+?", "region": "[^/]+?", "center": "[^/]+?"}  # a patient's may hold a "_"


@dataclass
class Group:
    """The files of one patient, by what they are; `sequence` of its image, where the name says it."""

    patient: str
    region: str
    center: str
    files: dict[str, Path] = field(default_factory=dict)
    sequence: str = ""


def folder(source: Path, modality: str, pattern: str, region: str, center: str) -> Found:
    """Files whose path below `source` follows `pattern`, such as ``{patient}_{kind}`` or ``{region}/{patient}/{kind}``.

    Fields: {patient}, {kind} (image; mr, t1, t2 or cbct; ct; mask), {region}, {center}; the suffix is left away.
    """
    found = Found()
    groups = _groups(source, modality, pattern, found)
    named = sorted(zip(_names(groups), groups, strict=True), key=lambda one: one[0])
    for name, group in named:
        if image := group.files.get("image"):
            where = group.region or region, group.center or center or "A"
            found.rows.append(Row(name, *where, image, group.files.get("ct"), group.files.get("mask")))
        else:
            found.leave(name, f"no {modality} image beside {', '.join(sorted(group.files))}")
    if not found.rows:
        raise InputError(f"{source}: no {modality} image by --pattern {pattern} ({found.reasons() or 'no file there'})")
    _warn_of_sequences(named, found)
    _warn_of_regions(groups, found)
    return found


def _groups(source: Path, modality: str, pattern: str, found: Found) -> list[Group]:
    """The files by patient: the same name in another region or centre is another patient."""
    rule = _compiled(pattern)
    groups: dict[tuple, Group] = {}
    for path in below(source):
        name = path.relative_to(source)
        if path.is_dir():
            continue
        suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
        match = rule.fullmatch(str(name)[: -len(suffix)]) if suffix else None
        if match is None:
            found.leave(name, f"does not follow {pattern}" if suffix else "no image of a known format")
            continue
        fields = {"region": "", "center": ""} | match.groupdict()
        called = fields["kind"].lower()
        kind = "image" if called in IMAGES[modality] else OTHERS.get(called)
        if kind is None:
            other = next((one for one, names in IMAGES.items() if called in names), "")
            found.leave(
                name, f"{other}, the sheet is for {modality}" if other else f"{called!r} is no image, ct or mask"
            )
            continue
        place = fields["patient"], fields["region"], fields["center"]
        group = groups.setdefault(place, Group(*place))
        if first := group.files.get(kind):
            found.leave(name, f"patient {group.patient} has {first.relative_to(source)} for {kind}")
            continue
        group.files[kind] = path
        if kind == "image":
            group.sequence = SEQUENCES.get(called, "")
    return list(groups.values())


def _names(groups: list[Group]) -> list[str]:
    """What each patient is called: where several would be called the same, centre and region come before it."""
    count = Counter(group.patient.lower() for group in groups)
    return [
        group.patient
        if count[group.patient.lower()] == 1
        else "_".join(filter(None, (group.center, group.region, group.patient)))
        for group in groups
    ]


def _warn_of_sequences(named: list[tuple[str, Group]], found: Found):
    """Say where one network would be trained on two kinds of image."""
    first = {group.sequence: name for name, group in reversed(named) if group.sequence}
    if len(first) > 1:
        images = " and ".join(f"{sequence} ({name})" for sequence, name in sorted(first.items()))
        found.warn(f"images of two sequences in one sheet, {images}: one network would learn from both")


def _warn_of_regions(groups: list[Group], found: Found):
    """Say where two regions have a patient of one name: were it one person, it could be in training and test."""
    regions = defaultdict(set)
    for group in groups:
        regions[group.center, group.patient].add(group.region)
    for (_, patient), several in sorted(regions.items()):
        if len(several) > 1:
            found.warn(f"{patient} stands in regions {', '.join(sorted(several))}: taken as {len(several)} people")


def _compiled(pattern: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", pattern)
    if unknown := set(parts[1::2]) - set(FIELDS):
        raise InputError(
            f"--pattern {pattern!r}: {{{min(unknown)}}}, expected {{patient}}, {{kind}}, {{region}}, {{center}}"
        )
    if not {"patient", "kind"} <= set(parts[1::2]) or len(set(parts[1::2])) < len(parts[1::2]):
        raise InputError(f"--pattern {pattern!r}: expected {{patient}} and {{kind}}, each field once")
    made = [re.escape(part) if i % 2 == 0 else f"(?P<{part}>{FIELDS[part]})" for i, part in enumerate(parts)]
    return re.compile("".join(made))
