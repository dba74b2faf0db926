"""DICOM at the edge: a folder with one image series in, a CT series of the synthetic CT out.

One file is one slice (CT, MR or enhanced-free CBCT objects). Slices are ordered by their position along the normal of
their plane; values are rescaled slice by slice. Written series keep the source's patient, study and frame of reference,
so that plans and structures drawn on the source lie where they should.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from synthct import __version__
from synthct.errors import InputError
from synthct.files import atomic_directory
from synthct.volume import Grid, Volume

MANUFACTURER = "synthct"
PARALLEL = 1e-4  # largest difference of direction cosines between slices of one series
EVEN = 0.1  # largest distance of a slice from its place on an even stack, as a part of the step
ROUNDED = 0.06  # mm, what is allowed in any case: positions may be written with one decimal
KEPT = (  # patient, study, equipment-independent tags of the source that the new series carries
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
    "BodyPartExamined",
    "Laterality",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
)


def read_series(path) -> Volume:
    """The series in directory `path` as a volume: float32, or int16 when all rescaled values are whole and fit.

    The grid's z axis is the slices' normal. Raises `InputError`, naming files and never patients, for a directory
    without DICOM images, with more than one series, with slices missing, doubled, of another size or unevenly spaced,
    sheared (gantry tilt), for colour and for multi-frame objects.
    """
    slices, grid = _ordered(path)
    planes = []
    for dataset, name in slices:
        try:
            planes.append(_pixels(dataset, name))
        except InputError:
            raise
        except Exception as fault:  # pydicom and GDCM raise many kinds for damaged pixel data
            raise InputError(f"DICOM {name}: pixels cannot be read ({_line(fault)}); is the file truncated?") from None
    array = np.stack(planes)
    whole = array.astype(np.int16, copy=True) if np.abs(array).max() <= 32767 else array
    return Volume(whole if np.array_equal(whole, array) else array, grid)


def modality_of(path) -> str:
    """The Modality tag ("MR", "CT", ...) of the series in directory `path`, or ""."""
    for name in _names(path):
        try:
            return str(pydicom.dcmread(name, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
        except (InvalidDicomError, OSError):
            continue
    return ""


def ours(file: Path) -> bool:
    """Whether a file is a slice that `write_series` wrote."""
    if not re.fullmatch(r"CT_\d{4,}\.dcm", file.name):
        return False
    try:
        return pydicom.dcmread(file, specific_tags=["Manufacturer"]).get("Manufacturer") == MANUFACTURER
    except (InvalidDicomError, OSError):
        return False


def write_series(sct: Volume, source, out, *, description: str = "Synthetic CT", model: str = "") -> list[str]:
    """Write `sct` (int16 HU, on the grid of `read_series(source)`) as a CT series in the new directory `out`.

    One file a slice, stored as HU + 1024 with RescaleIntercept -1024. Patient, study and frame of reference are the
    source's. The series and instance UIDs are new and follow from the source series, the voxels and `model` (a digest
    of what made them): the same sCT written twice is the same series, another one is another. Returns the file names.
    """
    slices, grid = _ordered(source)
    if difference := sct.grid.differs_from(grid):
        raise InputError(f"sCT and DICOM series {source}: another grid ({difference})")
    if min(sct.grid.spacing[:2]) <= 0 or sct.array.min() < -1024 or sct.array.max() > 64511:
        raise InputError("sCT for DICOM: values outside what HU + 1024 can store")
    voxels = hashlib.sha256(np.ascontiguousarray(sct.array)).hexdigest()
    seed = [str(slices[0][0].get("SeriesInstanceUID", "")), voxels, model]
    series = generate_uid(entropy_srcs=[*seed, "series"])
    names = []
    with atomic_directory(out, ours) as directory:
        for number, (origin, _) in enumerate(slices, 1):
            uid = generate_uid(entropy_srcs=[*seed, str(number)])
            dataset = _slice(origin, sct.array[number - 1], number, uid, series, sct.grid, description)
            name = f"CT_{number:04d}.dcm"
            dataset.save_as(directory / name, enforce_file_format=True)
            names.append(name)
    return names


def _slice(origin: Dataset, plane: np.ndarray, number: int, uid, series, grid: Grid, description: str) -> Dataset:
    dataset = Dataset()
    for keyword in KEPT:
        if keyword in origin:
            dataset[keyword] = origin[keyword]
    for keyword in (
        "PatientName",
        "PatientID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "PatientBirthDate",
        "PatientSex",
        "PositionReferenceIndicator",
    ):
        if keyword not in dataset:
            setattr(dataset, keyword, None)  # required by the standard, allowed to be empty
    if "FrameOfReferenceUID" not in dataset:
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(origin.get("SeriesInstanceUID", "")), "frame"])
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = uid
    dataset.SeriesInstanceUID = series
    dataset.Modality = "CT"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SeriesDescription = description[:64]
    dataset.SeriesNumber = int(origin.get("SeriesNumber", 0) or 0) + 1000
    dataset.InstanceNumber = number
    dataset.AcquisitionNumber = None
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "synthct"
    dataset.SoftwareVersions = __version__
    dataset.KVP = None
    dataset.RescaleType = "HU"
    dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
    dataset.DerivationDescription = (
        f"Synthetic CT predicted from a {origin.get('Modality', '')} series by a neural "
        "network (synthct); not acquired, for research use."
    )
    source = Dataset()
    source.ReferencedSOPClassUID = origin.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4")
    source.ReferencedSOPInstanceUID = origin.get("SOPInstanceUID", uid)
    dataset.SourceImageSequence = [source]
    dataset.ImagePositionPatient = origin.ImagePositionPatient
    dataset.ImageOrientationPatient = origin.ImageOrientationPatient
    dataset.PixelSpacing = origin.PixelSpacing
    dataset.SliceThickness = f"{grid.spacing[2]:.6g}"
    dataset.SpacingBetweenSlices = f"{grid.spacing[2]:.10g}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    return dataset


def _ordered(path) -> tuple[list[tuple[Dataset, Path]], Grid]:
    """Headers and files of the one series in `path`, ordered along the normal, and the grid they make."""
    found = []
    for name in _names(path):
        try:
            dataset = pydicom.dcmread(name, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue  # DICOMDIR notes, previews and text files lie beside series
        except Exception as fault:
            raise InputError(f"DICOM {name}: cannot be read ({_line(fault)}); is the file truncated?") from None
        if dataset.get("Rows") is not None:
            found.append((dataset, name))
    if not found:
        raise InputError(f"DICOM {path}: no image of a series in this directory")
    series: dict[str, int] = {}
    for dataset, _ in found:
        uid = str(dataset.get("SeriesInstanceUID", ""))
        series[uid] = series.get(uid, 0) + 1
    if len(series) > 1:
        counts = ", ".join(map(str, series.values()))
        raise InputError(f"DICOM {path}: {len(series)} series mixed in one directory ({counts} files), expected one")
    for dataset, name in found:
        _check(dataset, name)
    first, name = found[0]
    for dataset, other in found:
        if (dataset.Rows, dataset.Columns) != (first.Rows, first.Columns):
            raise InputError(
                f"DICOM {other}: {dataset.Columns}×{dataset.Rows} pixels, {name.name} has {first.Columns}×{first.Rows}"
            )
        if np.abs(np.subtract(dataset.ImageOrientationPatient, first.ImageOrientationPatient)).max() > PARALLEL:
            raise InputError(f"DICOM {other}: not parallel to {name.name}, expected one stack of slices")
        if np.abs(np.subtract(dataset.PixelSpacing, first.PixelSpacing)).max() > 1e-4:
            raise InputError(f"DICOM {other}: another pixel spacing than {name.name}")
    return _stack(found, path)


def _check(dataset: Dataset, name: Path):
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise InputError(f"DICOM {name}: {dataset.SamplesPerPixel} values per pixel (colour), expected one")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(f"DICOM {name}: a multi-frame (enhanced) object, expected one file a slice; convert it first")
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        if len(dataset.get(keyword) or ()) != count:
            raise InputError(f"DICOM {name}: no {keyword}, its place in space is unknown")


def _stack(found: list, path) -> tuple[list[tuple[Dataset, Path]], Grid]:
    first = found[0][0]
    row, column = np.array(first.ImageOrientationPatient[:3], float), np.array(first.ImageOrientationPatient[3:], float)
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    found = sorted(found, key=lambda item: float(np.dot(normal, np.array(item[0].ImagePositionPatient, float))))
    points = np.array([dataset.ImagePositionPatient for dataset, _ in found], float)
    heights = points @ normal
    if len(found) < 2:
        raise InputError(f"DICOM {path}: one slice, expected a 3-D series")
    steps = np.diff(heights)
    step = float(np.median(steps))
    if steps.min() < 1e-3:
        at = int(steps.argmin())
        raise InputError(f"DICOM {path}: {found[at][1].name} and {found[at + 1][1].name} lie at the same position")
    number = np.arange(len(heights))
    away = np.abs(heights - np.polyval(np.polyfit(number, heights, 1), number))
    wide = steps > 1.5 * max(step, float(steps.mean()))
    uneven = np.abs(steps - step) > max(EVEN * step, 2 * ROUNDED)
    if wide.any() or uneven.any() or away.max() > min(max(EVEN * step, ROUNDED), 0.25 * step):
        off = wide if wide.any() else np.abs(steps - step) == np.abs(steps - step).max()
        step = float(steps[~off].mean()) if not off.all() else step
        at = int(off.argmax())
        multiple = steps[off] / step
        gap = f"{steps[at]:.4g} mm from {found[at][1].name} to {found[at + 1][1].name}, {step:.4g} mm elsewhere"
        if np.abs(multiple - np.rint(multiple)).max() < 0.25 and np.rint(multiple).min() >= 2:
            missing = int((np.rint(multiple) - 1).sum())
            raise InputError(f"DICOM {path}: {missing} slice{'s' * (missing > 1)} missing ({gap})")
        raise InputError(f"DICOM {path}: slices are not evenly spaced ({gap})")
    sheared = points - points[0] - np.outer(heights - heights[0], normal)
    if np.abs(sheared).max() > max(0.1 * float(min(first.PixelSpacing)), 2 * ROUNDED):
        raise InputError(f"DICOM {path}: slices are shifted along their plane (gantry tilt), expected a straight stack")
    step = float((heights[-1] - heights[0]) / (len(found) - 1))
    direction = np.stack([row, column, normal], axis=1)
    spacing = (float(first.PixelSpacing[1]), float(first.PixelSpacing[0]), step)
    grid = Grid(
        (int(first.Columns), int(first.Rows), len(found)),
        spacing,
        tuple(map(float, points[0])),
        tuple(map(float, direction.ravel() + 0.0)),
    )
    return found, grid


def _pixels(dataset: Dataset, name: Path) -> np.ndarray:
    """One slice, rescaled, as float32; compressed transfer syntaxes are decoded by GDCM."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(name), sitk.sitkFloat32))[0]
    full = pydicom.dcmread(name)
    if "PixelData" not in full:
        raise InputError(f"DICOM {name}: no pixel data")
    stored = full.pixel_array.astype(np.float32)
    return stored * float(full.get("RescaleSlope", 1) or 1) + float(full.get("RescaleIntercept", 0) or 0)


def _names(path) -> list[Path]:
    return sorted(name for name in Path(path).iterdir() if name.is_file() and not name.name.startswith("."))


def _line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[-1].strip()[:160] if lines else type(fault).__name__
