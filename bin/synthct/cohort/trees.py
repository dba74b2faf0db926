"""Patients found in a tree of files: SynthRAD2025, BIDS, or a flat folder whose names follow a pattern.

Each finder returns rows of a samplesheet and, for all that it left out, a line that says what and why.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from synthct.core.errors import InputError
from synthct.core.tables import read_table
from synthct.images.volume import SUFFIXES

SYNTHRAD = re.compile(r"([12])([A-Z]{2})([A-Z])(\d{3})")  # task, region, centre, number: 1ABA001
TASKS = {"1": "mr", "2": "cbct"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
KINDS = {  # what a pattern's {kind} may be called
    "image": ("image", "mr", "mri", "cbct", "t1", "t2", "t1w", "t2w"),
    "ct": ("ct",),
    "mask": ("mask", "body"),
}


@dataclass(frozen=True)
class Row:
    """One row of a samplesheet; `ct` and `mask` may be None, and `split` is "", train or test."""

    patient: str
    region: str
    center: str
    image: Path
    ct: Path | None = None
    mask: Path | None = None
    split: str = ""


@dataclass
class Found:
    """`rows` of the sheet, `left_out` (what, why)."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def leave(self, what, why: str):
        """Note what was left out, and why."""
        self.left_out.append((str(what), why))


def synthrad(source: Path, modality: str) -> Found:
    """A SynthRAD2025 tree, as downloaded: directories of patients (1ABA001) at any depth, overviews beside them.

    Region and centre follow from the patient's id. Patients under a directory of the validation or the test become
    split "test" where they have a CT.
    """
    found = Found()
    named = ((path, SYNTHRAD.fullmatch(path.name)) for path in sorted(source.rglob("*")) if path.is_dir())
    directories = {path: match for path, match in named if match}
    if not directories:
        raise InputError(f"{source}: no patient of SynthRAD2025 in there, expected directories such as 1ABA001")
    seen: dict[str, Path] = {}
    held_out = any(_held_out(path, source) for path in directories)
    for path, match in directories.items():
        name = path.relative_to(source)
        task, region, center, _ = match.groups()
        if TASKS[task] != modality:
            found.leave(name, f"task {task} ({TASKS[task]}), the sheet is for {modality}")
            continue
        if path.name in seen:
            found.leave(name, f"the patient stands in {seen[path.name].relative_to(source)} already")
            continue
        image = _file(path, modality)
        if image is None:
            found.leave(name, f"no {modality}.mha")
            continue
        seen[path.name] = path
        split = ("test" if _held_out(path, source) else "train") if held_out else ""
        found.rows.append(Row(path.name, region, center, image, _file(path, "ct"), _file(path, "mask"), split))
    inside = set(directories)
    for path in sorted(source.rglob("*")):
        if path.is_dir() or inside & set(path.parents):
            continue
        if path.name.lower().endswith(SUFFIXES):
            found.leave(path.relative_to(source), "not in a patient's directory")
    for path in sorted({path for path in source.rglob("overview*") if path.is_dir()}):
        found.leave(path.relative_to(source), "overviews, no images")
    return found


def bids(source: Path, modality: str, suffix: str, region: str, center: str) -> Found:
    """A BIDS data set: sub-*/[ses-*/]anat/*_<suffix>.nii.gz with *_ct.nii.gz beside it, in ct/ or in anat/.

    Masks are *_mask.nii.gz there or under derivatives/. participants.tsv may give region and center (or site).
    """
    subjects = sorted(path for path in source.glob("sub-*") if path.is_dir())
    if not subjects:
        raise InputError(f"{source}: no sub-* in there, expected a BIDS data set")
    found, people = Found(), _participants(source / "participants.tsv")
    for subject in subjects:
        sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir()) or [subject]
        for session in sessions:
            name = subject.name if len(sessions) == 1 else f"{subject.name}_{session.name}"
            person = people.get(subject.name, {})
            images = _bids_files(session, suffix)
            cts, masks = _bids_files(session, "ct"), _bids_files(session, "mask")
            for derived in sorted((source / "derivatives").glob("*")):
                masks += _bids_files(derived / session.relative_to(source), "mask")
            if len(images) != 1:
                why = "no" if not images else f"{len(images)} images end in"
                names = "" if not images else f" ({', '.join(image.name for image in images)})"
                found.leave(session.relative_to(source), f"{why} _{suffix}.nii.gz{names}")
                continue
            for kind, files in (("CTs", cts), ("masks", masks)):
                if len(files) > 1:
                    found.leave(files[1].relative_to(source), f"{len(files)} {kind}, none taken")
            one = region or _word(person.get("region") or person.get("body_part") or "")
            where = center or _word(person.get("center") or person.get("site") or "") or "A"
            found.rows.append(Row(name, one, where, images[0], _only(cts), _only(masks)))
    return found


def folder(source: Path, modality: str, pattern: str, region: str, center: str) -> Found:
    """Files whose path below `source` follows `pattern`, such as ``{patient}_{kind}`` or ``{region}/{patient}/{kind}``.

    Fields: {patient}, {kind} (image, mr, cbct; ct; mask), {region}, {center}; the suffix is left away.
    """
    rule = _compiled(pattern)
    found = Found()
    groups: dict[str, dict] = {}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir():
            continue
        suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
        match = rule.fullmatch(str(name)[: -len(suffix)]) if suffix else None
        if match is None:
            found.leave(name, f"does not follow {pattern}" if suffix else "no image of a known format")
            continue
        fields = match.groupdict()
        kind = next((kind for kind, names in KINDS.items() if fields["kind"].lower() in names), None)
        if kind is None:
            found.leave(name, f"{fields['kind']!r} is no image, ct or mask")
            continue
        group = groups.setdefault(fields["patient"], {"region": fields.get("region"), "center": fields.get("center")})
        if kind in group:
            found.leave(name, f"patient {fields['patient']} has {group[kind].name} for {kind}")
            continue
        group[kind] = path
    for patient, group in sorted(groups.items()):
        if "image" not in group:
            found.leave(patient, f"no {modality} image beside {', '.join(sorted(set(group) & {'ct', 'mask'}))}")
            continue
        where = group["region"] or region, group["center"] or center or "A"
        found.rows.append(Row(patient, *where, group["image"], group.get("ct"), group.get("mask")))
    if not groups:
        raise InputError(f"{source}: no file follows {pattern} (of {len(found.left_out)}), expected --pattern to fit")
    return found


def _held_out(path: Path, source: Path) -> bool:
    parts = path.relative_to(source).parts[:-1]
    return any(re.search(r"(?i)(^|[_-])(val|validation|test)([_-]|$)", part) for part in parts)


def _file(directory: Path, stem: str) -> Path | None:
    return next(
        (directory / f"{stem}{suffix}" for suffix in SUFFIXES if (directory / f"{stem}{suffix}").is_file()), None
    )


def _bids_files(session: Path, suffix: str) -> list[Path]:
    folders = [session / "anat", session / "ct", session]
    return sorted({path for place in folders for path in place.glob(f"*_{suffix}.nii*") if path.is_file()})


def _participants(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    return {row.get("participant_id", ""): row for row in read_table(path, "participants", delimiter="\t")}


def _only(files: list[Path]) -> Path | None:
    return files[0] if len(files) == 1 else None


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", text.strip()).strip("_")


def _compiled(pattern: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", pattern)
    if unknown := set(parts[1::2]) - {"patient", "kind", "region", "center"}:
        raise InputError(
            f"--pattern {pattern!r}: {{{min(unknown)}}}, expected {{patient}}, {{kind}}, {{region}}, {{center}}"
        )
    if not {"patient", "kind"} <= set(parts[1::2]) or len(set(parts[1::2])) < len(parts[1::2]):
        raise InputError(f"--pattern {pattern!r}: expected {{patient}} and {{kind}}, each field once")
    made = [re.escape(part) if i % 2 == 0 else f"(?P<{part}>[^/]+?)" for i, part in enumerate(parts)]
    return re.compile("".join(made))
