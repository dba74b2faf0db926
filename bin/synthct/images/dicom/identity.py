"""Whose image it is: the source's patient, study and frame of reference, for every object that we write.

A value of the source that breaks the standard is not copied: a planning system would refuse the whole series for it.
What the standard asks for and the source lacks is said by `lacking`.
"""

import os
import time
import warnings
from datetime import UTC, datetime

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds, validate_value

from synthct import __version__
from synthct.core.files import sha256_of
from synthct.images.dicom.headers import class_name, modality, text, value, whole
from synthct.images.dicom.series import Series

MANUFACTURER = "synthct"
REQUIRED = (  # the standard wants the tag, and allows it to be empty
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
KEPT = (
    "SpecificCharacterSet",
    *REQUIRED,
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
    "PatientPosition",
    "BodyPartExamined",
    "AcquisitionDate",
    "AcquisitionTime",
)
ONE_OF = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
LIMIT = 2**31 - 1  # of an integer string


def moment() -> datetime:
    """When the objects are made: now, or what SOURCE_DATE_EPOCH says, so that the same bytes can be made twice."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given), UTC) if given.isdigit() else datetime.fromtimestamp(int(time.time()))


def identity(source: Series, created: datetime) -> Dataset:
    """Patient, study, frame of reference and equipment of an object derived from `source`; made at `created`."""
    origin, made = source.frames[0].header, Dataset()
    for keyword in KEPT:
        kept = valid(origin, keyword)
        if kept is not None:
            setattr(made, keyword, kept)
        elif keyword in REQUIRED:
            setattr(made, keyword, None)
    if made.get("PatientIdentityRemoved") == "YES" and not (
        made.get("DeidentificationMethod") or made.get("DeidentificationMethodCodeSequence")
    ):
        made.DeidentificationMethod = "not stated by the source"
    if "BodyPartExamined" not in made:
        made.Laterality = None  # asked for, and allowed to be empty, where the part of the body is not known
    if "PatientPosition" not in made:
        made.PatientPosition = None
    # an anonymised source may have no UIDs, or one word in their place for everybody: then its content tells
    seed = valid(origin, "SeriesInstanceUID") or valid(origin, "SOPInstanceUID") or sha256_of(source.frames[0].file)
    made.StudyInstanceUID = valid(origin, "StudyInstanceUID") or generate_uid(entropy_srcs=[seed, "study"])
    made.FrameOfReferenceUID = valid(origin, "FrameOfReferenceUID") or generate_uid(entropy_srcs=[seed, "frame"])
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, "synthct"
    made.SoftwareVersions = __version__
    made.SeriesDate = made.InstanceCreationDate = created.strftime("%Y%m%d")
    made.SeriesTime = made.InstanceCreationTime = created.strftime("%H%M%S")
    return made


def lacking(source: Series) -> list[str]:
    """What a planning system may miss in the objects that we write, because the source does not say it."""
    origin, lines = source.frames[0].header, []
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if valid(origin, keyword) is None:
            lines.append(f"the DICOM source has no valid {keyword}, one was made up and matches no other of its study")
    if valid(origin, "PatientPosition") is None:
        lines.append("the DICOM source has no PatientPosition (such as HFS), a planning system may ask for it")
    dropped = [key for key in KEPT if key in origin and text(origin, key) and valid(origin, key) is None]
    if dropped:
        lines.append(f"values of the DICOM source that break the standard were left out: {', '.join(dropped)}")
    return lines


def valid(header: Dataset, keyword: str):
    """A tag's value where it is there and keeps to the standard, else None."""
    found = value(header, keyword)
    if found is None:
        return None
    kind = dictionary_VR(keyword)
    if kind == "SQ":
        return found if len(found) else None
    if kind == "DS":
        given = [found] if isinstance(found, int | float) else list(found) if hasattr(found, "__iter__") else []
        if not given or not all(isinstance(one, int | float) and abs(one) < 1e9 for one in given):
            return None
        made = [ds(float(one)) for one in given]
        return made if len(made) > 1 else made[0]
    if keyword in ONE_OF and found not in ONE_OF[keyword]:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for one in [found] if isinstance(found, str) or not hasattr(found, "__iter__") else found:
                validate_value(kind, str(one), config.RAISE)
    except Exception:  # pydicom raises ValueError, and others for what it cannot encode
        return None
    return found


def series_number(source: Series, offset: int) -> int:
    """A number for a new series: the source's and `offset`, where that is a number and fits."""
    number = whole(source.frames[0].header, "SeriesNumber")
    return number + offset if 0 <= number <= LIMIT - offset else offset


def equipment(source: Series) -> Dataset:
    """The scanner, as an item of ContributingEquipmentSequence."""
    origin, item = source.frames[0].header, Dataset()
    item.Manufacturer = valid(origin, "Manufacturer") or "unknown"
    for keyword in ("ManufacturerModelName", "StationName", "DeviceSerialNumber", "SoftwareVersions"):
        if (kept := valid(origin, keyword)) is not None:
            setattr(item, keyword, kept)
    item.ContributionDescription = f"acquired the {modality(origin)} images ({class_name(origin)})"[:1024]
    item.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    return item


def code(number: str, scheme: str, meaning: str) -> Dataset:
    """One coded concept."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = number, scheme, meaning
    return item


def reference(source: Series, index: int | None = None) -> list[Dataset]:
    """The source's object of slice `index`, or all of them, each once: items of a reference sequence.

    An object that its file does not name by UIDs is left out.
    """
    frames = source.frames if index is None else source.frames[index : index + 1]
    items: dict[str, Dataset] = {}
    for frame in frames:
        uid, kind = (valid(frame.header, keyword) for keyword in ("SOPInstanceUID", "SOPClassUID"))
        if not uid or not kind:
            continue
        item = items.setdefault(uid, Dataset())
        item.ReferencedSOPClassUID = kind
        item.ReferencedSOPInstanceUID = uid
        if frame.number is not None and index is not None:
            item.ReferencedFrameNumber = frame.number + 1
    return list(items.values())


def ds(number: float) -> str:
    """A number as DICOM writes it: at most 16 characters."""
    return format_number_as_ds(float(number) + 0.0)


def with_meta(made: Dataset, kind: str, uid: str) -> Dataset:
    """`made` as an object of class `kind` called `uid`, ready to be written as explicit little endian."""
    made.SOPClassUID, made.SOPInstanceUID = kind, uid
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = UID(kind), UID(uid)
    return made
