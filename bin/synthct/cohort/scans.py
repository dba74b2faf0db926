"""What one DICOM series is to a samplesheet: MR, cone-beam or planning CT, of whom, of which region, or of no use."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from synthct.cohort.people import known_by, person
from synthct.core.errors import InputError
from synthct.images.dicom.choice import single
from synthct.images.dicom.headers import Frame, modality, text
from synthct.images.dicom.identity import MANUFACTURER
from synthct.images.dicom.stack import stacked

FAN_BEAM = re.compile(
    r"(?i)somatom|brilliance|big.?bore|(light|bright)speed|discovery|optima|revolution|aquilion|biograph|gemini"
    r"|ingenuity|incisive|sensation|definition|emotion"
)
CONE_BEAM = re.compile(r"(?i)cone.?beam|cbct")
IMAGER = re.compile(rf"{CONE_BEAM.pattern}|(?<![a-z])(obi|xvi)(?![a-z])|on.?board|truebeam|halcyon|ethos|hypersight")
REGIONS = {  # SynthRAD2025's regions, and what they are called
    "HN": "head|neck|brain|skull|larynx|face",
    "TH": "chest|thorax|lung|breast|heart",
    "AB": "abdomen|pelvis|prostate|liver|bladder|rectum|hip",
}
ELSEWHERE = re.compile(  # words of a description that mean no patient's head or neck
    r"(?i)(femoral|femur|humeral|radial|bladder)[ _-]*(?:neck|head)|(?:neck|head) of|head[ _-]*first"
)
# values of ImageType: computed from other images, or made to plan others
SECOND_CHOICE = {"DERIVED", "ADC", "EADC", "FA", "MIP", "SUBTRACTION", "PROJECTION IMAGE", "LOCALIZER"}
STANDARD_FRAMES = "1.2.840.10008."  # frames of reference of atlases, which many people have


@dataclass(frozen=True)
class Scan:
    """A series that can be read, and what pairs it."""

    directory: Path
    kind: str  # "mr", "cbct", "ct"
    person: dict[str, str]
    study: str
    frame: str
    region: str
    second_choice: bool  # where another of its kind is there

    @property
    def ties(self) -> list[set[tuple[str, str]]]:
        """What another series of one person shares, the closest first: frame of reference, study, then ID or name."""
        uids = ("frame", self.frame), ("study", self.study)
        return [*({(name, uid)} if uid else set() for name, uid in uids), known_by(self.person)]


def scan(directory: Path, header: Dataset) -> Scan:
    """The series whose first header this is."""
    kind = {"MR": "mr", "CT": "cbct" if _cone_beam(header) else "ct"}.get(modality(header), "")
    frame = text(header, "FrameOfReferenceUID")
    return Scan(
        directory,
        kind,
        person(header),
        text(header, "StudyInstanceUID"),
        "" if frame.startswith(STANDARD_FRAMES) else frame,
        _region(header),
        bool(SECOND_CHOICE & set(_type(header))),
    )


def no_use(header: Dataset, wanted: str) -> str:
    """Why a series is no input of a sheet for `wanted` ("mr" or "cbct"), or ""."""
    if modality(header) not in ("MR", "CT"):
        return f"neither MR nor CT, the sheet is for {wanted}"
    # an archive may have renamed the files, so the header decides, and not `writing.ours`
    if text(header, "Manufacturer") == MANUFACTURER:
        return f"made by {MANUFACTURER}, not acquired"
    if modality(header) == "MR" and _phase(header):
        return "a phase image"
    return ""


def unreadable(frames: list[Frame], directory: Path) -> str:
    """Why the frames of a series are no stack that the pipeline reads, or ""."""
    try:
        stack = stacked(single(frames, directory), directory)
    except InputError as fault:
        return str(fault).removeprefix(f"DICOM {directory}: ")
    return "tilted gantry" if stack.tilted else ""


def _type(header: Dataset) -> list[str]:
    return [part.strip().upper() for part in text(header, "ImageType").split("\\")]


def _phase(header: Dataset) -> bool:
    of = _type(header)
    component = text(header, "ComplexImageComponent").strip().upper()
    return "P" in of[2:4] or component == "PHASE" or any(part.startswith("PHASE") for part in of)


def _cone_beam(header: Dataset) -> bool:
    """Whether a CT says that it is a cone-beam CT: by its machine, else by its description."""
    model = text(header, "ManufacturerModelName")
    if FAN_BEAM.search(model):
        return False  # whatever its description says it is for
    described = (text(header, tag) for tag in ("SeriesDescription", "ProtocolName", "ImageComments"))
    machine = f"{text(header, 'Manufacturer')} {model} {text(header, 'StationName')}"
    return bool(IMAGER.search(machine)) or any(map(CONE_BEAM.search, described))


def _region(header: Dataset) -> str:
    """The region of BodyPartExamined (HEADNECK begins with one), else the one of which a description has a word."""
    for name, parts in REGIONS.items():
        if re.search(rf"(?i)(?<![a-z])({parts})", text(header, "BodyPartExamined")):
            return name
    for tag in ("SeriesDescription", "StudyDescription"):
        described = ELSEWHERE.sub(r"\1 ", text(header, tag))
        for name, parts in REGIONS.items():
            if re.search(rf"(?i)(?<![a-z])({parts})s?(?![a-z])", described):
                return name
    return ""
