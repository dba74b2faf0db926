"""Patients found in a tree of files: SynthRAD2025 or BIDS.

Each finder returns rows of a samplesheet and, for all that it left out, a line that says what and why.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from synthct.core.errors import InputError
from synthct.core.files import below
from synthct.core.tables import read_table
from synthct.images.volume import SUFFIXES

SYNTHRAD = re.compile(r"([12])([A-Z]{2})([A-Z])(\d{3})")  # task, region, centre, number: 1ABA001
ENTITY = re.compile(r"(?!desc-|label-)[a-z]+-[A-Za-z0-9]+")  # of a BIDS name; these two say what a mask is of
TASKS = {"1": "mr", "2": "cbct"}


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
    """`rows` of the sheet, `left_out` (what, why), and `warnings` of what was taken nevertheless."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def leave(self, what, why: str):
        """Note what was left out, and why."""
        self.left_out.append((str(what), why))

    def reasons(self) -> str:
        """The three commonest reasons, each with the first that was left out for it; for a message."""
        first = dict(reversed([(why, what) for what, why in self.left_out]))
        counts = Counter(why for _, why in self.left_out).most_common(3)
        return "; ".join(f"{first[why]}: {why}" + f" and {count - 1} more" * (count > 1) for why, count in counts)

    def warn(self, line: str):
        """Note what the user should look at."""
        self.warnings.append(line)


def synthrad(source: Path, modality: str) -> Found:
    """A SynthRAD2025 tree, as downloaded: directories of patients (1ABA001) at any depth, overviews beside them.

    Region and centre follow from the patient's id. Patients under a directory of the validation or the test become
    split "test" where they have a CT.
    """
    found = Found()
    tree = below(source)
    named = ((path, SYNTHRAD.fullmatch(path.name)) for path in tree if path.is_dir())
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
    for path in tree:
        if path.is_dir() or inside & set(path.parents):
            continue
        if path.name.lower().endswith(SUFFIXES):
            found.leave(path.relative_to(source), "not in a patient's directory")
    for path in [path for path in tree if path.name.startswith("overview") and path.is_dir()]:
        found.leave(path.relative_to(source), "overviews, no images")
    return found


def bids(source: Path, suffix: str, region: str, center: str) -> Found:
    """A BIDS data set: sub-*/[ses-*/]anat/*_<suffix>.nii.gz with *_ct.nii.gz beside it, in ct/ or in anat/.

    One session a subject is taken, the first that has both. Masks are *_mask.nii.gz there, or *body*_mask.nii.gz under
    derivatives/. participants.tsv may give region and center (or site).
    """
    subjects = sorted(path for path in source.glob("sub-*") if path.is_dir())
    if not subjects:
        raise InputError(f"{source}: no sub-* in there, expected a BIDS data set")
    found, people = Found(), _participants(source / "participants.tsv")
    for subject in subjects:
        session = _session(subject, source, suffix, found)
        if session is None:
            continue
        person = people.get(subject.name, {})
        one = region or _word(person.get("region") or person.get("body_part") or "")
        where = center or _word(person.get("center") or person.get("site") or "") or "A"
        (image,), ct = _bids_files(session, suffix), _only(_bids_files(session, "ct"), "CTs", source, found)
        mask = _only(_masks(session, source, found), "masks", source, found)
        found.rows.append(Row(subject.name, one, where, image, ct, mask))
    return found


def _session(subject: Path, source: Path, suffix: str, found: Found) -> Path | None:
    """The subject's first session with an image and a CT, or else with an image; the others are left out."""
    sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir())
    if not sessions or _bids_files(subject, suffix) or _bids_files(subject, "ct"):
        sessions = [subject, *sessions]
    usable = []
    for session in sessions:
        images = _bids_files(session, suffix)
        if len(images) == 1:
            usable.append(session)
            continue
        why = f"no _{suffix}.nii.gz"
        if images:
            why = f"{len(images)} images end in _{suffix}.nii.gz ({', '.join(image.name for image in images)})"
        found.leave(session.relative_to(source), why)
    if not usable:
        return None
    taken = next((one for one in usable if len(_bids_files(one, "ct")) == 1), usable[0])
    place = "anat" if taken == subject else taken.name
    for session in usable:
        if session != taken:
            why = f"{subject.name} is taken from {place}, one person must not be in training and test"
            found.leave(session.relative_to(source), why)
    return taken


def _masks(session: Path, source: Path, found: Found) -> list[Path]:
    """The session's masks of the body; in derivatives/ the name must say so, fMRIPrep's are the brain's."""
    own = _bids_files(session, "mask")
    places = [derived / session.relative_to(source) for derived in sorted((source / "derivatives").glob("*"))]
    masks = []
    for mask in own + [mask for place in places for mask in _bids_files(place, "mask")]:
        plain = all(ENTITY.fullmatch(part) for part in mask.name.split("_")[:-1])
        if "body" in mask.name.lower() or (mask in own and plain):
            masks.append(mask)
        else:
            found.leave(mask.relative_to(source), "its name does not say that it is a mask of the body")
    return masks


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


def _only(files: list[Path], kind: str, source: Path, found: Found) -> Path | None:
    if len(files) > 1:
        found.leave(files[1].relative_to(source), f"{len(files)} {kind}, none taken")
    return files[0] if len(files) == 1 else None


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", text.strip()).strip("_")
