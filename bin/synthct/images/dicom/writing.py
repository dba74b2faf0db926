"""A volume as a DICOM CT series that a planning system takes: the synthetic CT, or the ensemble's spread beside it.

The series keeps the source's patient, study and frame of reference, so that plans and structures drawn on the source
lie where they should, whatever grid the volume lies on.
"""

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, generate_uid

from synthct.core.errors import InputError
from synthct.core.files import atomic_directory
from synthct.images.dicom.headers import modality, text
from synthct.images.dicom.identity import (
    MANUFACTURER,
    code,
    ds,
    equipment,
    identity,
    moment,
    reference,
    series_number,
    valid,
    with_meta,
)
from synthct.images.dicom.series import Series
from synthct.images.grid import Volume


@dataclass(frozen=True)
class Kind:
    """How values are stored: unsigned 16 bits, value = stored × slope + intercept."""

    description: str
    number: int  # what the series' number is the source's and
    slope: float
    intercept: float
    third: str  # third value of ImageType
    window: tuple[float, float]
    derivation: str


SCT = Kind(
    "Synthetic CT",
    1000,
    1.0,
    -1024.0,
    "AXIAL",
    (40, 400),
    "Synthetic CT predicted from a {modality} series by a neural network (synthct); not acquired, for research use.",
)
UNCERTAINTY = Kind(
    "Synthetic CT: uncertainty",
    2000,
    0.1,
    0.0,
    "AXIAL",
    (100, 200),
    "Standard deviation (HU) of an ensemble's synthetic CTs predicted from a {modality} series (synthct); these are no "
    "CT numbers, not for dose.",
)


def ours(file: Path) -> bool:
    """Whether a file is a slice that `write_series` wrote."""
    if not re.fullmatch(r"CT_\d{4,}\.dcm", file.name):
        return False
    try:
        return pydicom.dcmread(file, specific_tags=["Manufacturer"]).get("Manufacturer") == MANUFACTURER
    except (InvalidDicomError, OSError):
        return False


def write_series(
    volume: Volume,
    source: Series,
    out,
    *,
    kind: Kind = SCT,
    description: str = "",
    model: str = "",
    comments: str = "",
) -> list[Dataset]:
    """Write `volume` (HU, z, y, x) as a CT series in the new directory `out`; `source` says whose it is.

    One file a slice. The series and instance UIDs are new and follow from the source series, the voxels and `model` (a
    digest of what made them): the same sCT written twice is the same series, another one is another. `comments` goes
    into ImageComments. Returns what was written, slice by slice.
    """
    stored = np.rint((volume.array.astype(np.float64) - kind.intercept) / kind.slope)
    if stored.min() < 0 or (kind is SCT and stored.max() > 65535):
        raise InputError("sCT for DICOM: values outside what HU + 1024 can store")
    stored = np.minimum(stored, 65535).astype("<u2")
    digest = hashlib.sha256(stored.tobytes() + repr(volume.grid).encode()).hexdigest()
    seed = [text(source.frames[0].header, "SeriesInstanceUID"), kind.description, digest, model]
    made = _slices(volume, stored, source, kind, description or kind.description, seed, comments)
    with atomic_directory(out, ours) as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that a character set cannot hold: they are copied as they are
        for number, dataset in enumerate(made, 1):
            dataset.save_as(directory / f"CT_{number:04d}.dcm", enforce_file_format=True)
    return made


def _slices(volume: Volume, stored, source: Series, kind: Kind, description: str, seed: list, comments: str) -> list:
    created = moment()
    shared = identity(source, created)
    shared.Modality = "CT"
    shared.ImageType = ["DERIVED", "SECONDARY", kind.third]
    shared.SeriesInstanceUID = generate_uid(entropy_srcs=[*seed, "series"])
    shared.SeriesDescription = description[:64]
    shared.SeriesNumber = series_number(source, kind.number)
    shared.AcquisitionNumber = None
    shared.KVP = None
    shared.ContentDate, shared.ContentTime = shared.SeriesDate, shared.SeriesTime
    shared.RescaleType = "HU"
    shared.RescaleIntercept, shared.RescaleSlope = ds(kind.intercept), ds(kind.slope)
    burned = text(source.frames[0].header, "BurnedInAnnotation").strip() == "YES"
    shared.BurnedInAnnotation = "YES" if burned else "NO"  # a name in the image may still be read in what it became
    shared.DerivationDescription = kind.derivation.format(modality=modality(source.frames[0].header))
    shared.DerivationCodeSequence = [code("SCT", "99SYNTHCT", "Synthetic CT by a neural network")]
    shared.ContributingEquipmentSequence = [equipment(source)]
    if comments:
        shared.ImageComments = comments[:1000]
    _lossy(shared, source)
    grid = volume.grid
    axes = np.array(grid.direction).reshape(3, 3)
    shared.ImageOrientationPatient = [ds(one) for one in (*axes[:, 0], *axes[:, 1])]
    shared.PixelSpacing = [ds(grid.spacing[1]), ds(grid.spacing[0])]
    shared.SliceThickness = ds(grid.spacing[2])
    shared.SpacingBetweenSlices = ds(grid.spacing[2])
    shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
    shared.Rows, shared.Columns = stored.shape[1:]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 16, 15, 0
    shared.WindowCenter, shared.WindowWidth = map(ds, kind.window)
    same = not grid.differs_from(source.grid)
    all_of_them = None if same else reference(source)
    made = []
    for number, plane in enumerate(stored, 1):
        dataset = Dataset()
        dataset.update(shared)
        dataset.InstanceNumber = number
        position = np.array(grid.origin) + axes[:, 2] * grid.spacing[2] * (number - 1)
        dataset.ImagePositionPatient = [ds(one) for one in position]
        if items := reference(source, number - 1) if same else all_of_them:
            purpose = code("121322", "DCM", "Source image for image processing operation")
            for item in items:
                item.PurposeOfReferenceCodeSequence = [purpose]
            dataset.SourceImageSequence = items
        dataset.PixelData = plane.tobytes()
        made.append(with_meta(dataset, CTImageStorage, generate_uid(entropy_srcs=[*seed, str(number)])))
    return made


def _lossy(made: Dataset, source: Series):
    """An image that was ever compressed with loss says so, and so does what was made of it."""
    origin = source.frames[0].header
    made.LossyImageCompression = "01" if text(origin, "LossyImageCompression") == "01" else "00"
    if made.LossyImageCompression == "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if (kept := valid(origin, keyword)) is not None:
                setattr(made, keyword, kept)
