"""A dose as DICOM RT Dose, on the frame of reference of the series that it was calculated for."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage, generate_uid

from synthct import __version__
from synthct.core.files import atomic
from synthct.images.dicom.identity import MANUFACTURER
from synthct.images.grid import Grid

PATIENT = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)


def write_rtdose(dose: np.ndarray, grid: Grid, path, *, header: Dataset | None, seed: list[str], description: str):
    """Write `dose` (Gy a fraction, (z, y, x) on the planning `grid`, whose axes are the patient's) to `path` (.dcm).

    `header` is any slice of the planned series: patient, study and frame of reference are its own. Without one they
    are new, and follow, as every UID, from `seed`: the same dose written twice is the same object. 32 bit, physical
    dose of one fraction, DoseSummationType PLAN.
    """
    dataset = Dataset()
    for keyword in PATIENT:
        if header is not None and keyword in header:
            dataset[keyword] = header[keyword]
        elif keyword != "SpecificCharacterSet":
            setattr(dataset, keyword, None)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, generate_uid(entropy_srcs=[*seed[:1], keyword]))
    dataset.SOPClassUID = RTDoseStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*seed, description, "dose"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*seed, description, "series"])
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = "RTDOSE", MANUFACTURER, "synthct"
    dataset.SoftwareVersions = __version__
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
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = RTDoseStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with atomic(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
