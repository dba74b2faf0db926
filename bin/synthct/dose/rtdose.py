"""A dose as DICOM RT Dose, on the frame of reference of the series that it was calculated for."""

import hashlib
import warnings

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, generate_uid

from synthct import __version__
from synthct.core.files import atomic
from synthct.images.dicom.headers import text
from synthct.images.dicom.identity import MANUFACTURER, identity, moment, with_meta
from synthct.images.dicom.series import Series
from synthct.images.grid import Grid

NOBODY = (  # the standard wants these tags, and allows them to be empty
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)


def write_rtdose(dose: np.ndarray, grid: Grid, path, *, source: Series | str, description: str):
    """Write `dose` (Gy a fraction, (z, y, x) on the planning `grid`, whose axes are the patient's) to `path` (.dcm).

    `source` is the planned series: patient, study and frame of reference are its own. For a CT of another format it is
    a text that tells this CT from every other: the patient is nobody then, and study and frame of reference are new
    ones, the same for each dose on this CT. Series and instance UIDs follow from `source`, the dose and its grid: the
    same dose written twice is the same object, another is another. 32 bit, physical dose of one fraction,
    DoseSummationType PLAN.
    """
    if isinstance(source, Series):
        dataset, origin = identity(source, moment()), text(source.frames[0].header, "SeriesInstanceUID")
    else:
        dataset, origin = _of_nobody(source), source
    dose = np.ascontiguousarray(dose, np.float32)
    seed = [origin, description, hashlib.sha256(dose.tobytes() + repr(grid).encode()).hexdigest()]
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*seed, "series"])
    dataset.Modality = "RTDOSE"
    dataset.SeriesDescription = description[:64]
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.OperatorsName = None
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    dataset.DoseComment = "one fraction, for research use"
    dataset.ImagePositionPatient = [f"{each:.10g}" for each in grid.origin]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{grid.spacing[1]:.10g}", f"{grid.spacing[0]:.10g}"]
    dataset.SliceThickness = f"{grid.spacing[2]:.10g}"
    dataset.GridFrameOffsetVector = [f"{number * grid.spacing[2]:.10g}" for number in range(grid.size[2])]
    dataset.FrameIncrementPointer = 0x3004000C
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = dose.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 32, 32, 31, 0
    scaling = max(float(dose.max()), 1e-6) / 2**31
    dataset.DoseGridScaling = f"{scaling:.10g}"
    dataset.PixelData = np.rint(dose.astype(np.float64) / float(dataset.DoseGridScaling)).astype("<u4").tobytes()
    made = with_meta(dataset, RTDoseStorage, generate_uid(entropy_srcs=[*seed, "dose"]))
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that a character set cannot hold: they are copied as they are
        made.save_as(temporary, enforce_file_format=True)


def _of_nobody(ct: str) -> Dataset:
    """Study and frame of reference for the doses on a CT that names none, which the text `ct` tells from others."""
    made = Dataset()
    for keyword in NOBODY:
        setattr(made, keyword, None)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(made, keyword, generate_uid(entropy_srcs=[ct, keyword]))
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MANUFACTURER, "synthct", __version__
    return made
