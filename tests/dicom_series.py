"""DICOM folders for the tests: written by pydicom, read back by SimpleITK (GDCM) as an independent second reader."""

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

from synthct.images.grid import from_sitk

SHAPE = (7, 44, 52)  # z, y, x
SPACING = (0.9, 1.1, 3.3)  # x, y, z, mm
OBLIQUE = ((0.9659258, 0.2588190, 0.0), (-0.25, 0.9330127, 0.2588190))
STRAIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def write_mr(directory, array, axes=STRAIGHT, origin=(-20.0, 33.0, -410.5), slope=1.0, intercept=0.0, uid="1.2.3.4"):
    """An MR series as a scanner's archive exports it: file names say nothing about the order of slices."""
    directory.mkdir(exist_ok=True)
    row, column = (np.array(axis) / np.linalg.norm(axis) for axis in axes)
    normal = np.cross(row, column)
    for z, plane in enumerate(array):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(z)])
        data.PatientName, data.PatientID, data.PatientSex, data.PatientBirthDate = "Doe^Jane", "p-17", "F", "19700101"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", uid, "1.2.9"
        data.AccessionNumber, data.ReferringPhysicianName, data.StudyTime = "a1", "", "101500"
        data.StudyDate, data.StudyID, data.Modality, data.SeriesNumber = "20250101", "s1", "MR", 4
        data.InstanceNumber = len(array) - z
        data.ImagePositionPatient = [f"{v:.6f}" for v in np.array(origin) + z * SPACING[2] * normal]
        data.ImageOrientationPatient = [f"{v:.8f}" for v in (*row, *column)]
        data.PixelSpacing, data.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        if (slope, intercept) != (1.0, 0.0):
            data.RescaleSlope, data.RescaleIntercept = slope, intercept
        data.PixelData = plane.astype("<u2").tobytes()
        data.save_as(directory / f"{(z * 5) % 7}_{z}.dcm", enforce_file_format=True)
    return directory


def by_sitk(directory):
    """The series as SimpleITK reads it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(directory)))
    return from_sitk(reader.Execute())


def edit(directory, keyword, value, which=slice(0, 1)):
    for name in sorted(directory.iterdir())[which]:
        data = pydicom.dcmread(name)
        if value is None:
            del data[keyword]
        elif keyword == "PixelPaddingValue":
            data.add_new(keyword, "US", value)  # pydicom asks for a choice of US or SS
        else:
            setattr(data, keyword, value)
        data.save_as(name)


def at(directory, z):
    return next(directory.glob(f"*_{z}.dcm"))


def write_ct(directory, hu, **kwargs):
    """A CT series of these HU: stored unsigned, intercept -1024."""
    write_mr(directory, np.asarray(hu) + 1024, slope=1.0, intercept=-1024.0, **kwargs)
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.Modality, data.PatientPosition = "CT", "HFS"
        data.save_as(name)
    return directory


def write_enhanced(directory, array, modality="MR", echoes=(2.46,), order=None, **values):
    """One enhanced object: for each echo time (ms) the stack `array` times its number; frames in any `order`."""
    directory.mkdir(exist_ok=True)
    kind = EnhancedMRImageStorage if modality == "MR" else EnhancedCTImageStorage
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(directory)])
    data.PatientName, data.PatientID, data.Modality = "Doe^Jane", "p-17", modality
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.9", "1.2.9"
    data.SeriesNumber, data.InstanceNumber, data.PatientPosition = 12, 1, "HFS"
    frames = [(echo, z) for echo in echoes for z in range(len(array))]
    frames = [frames[i] for i in (order if order is not None else range(len(frames)))]
    data.NumberOfFrames, (data.Rows, data.Columns) = len(frames), array.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    measures, turn, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
    data.SharedFunctionalGroupsSequence, groups, planes = [shared], [], []
    for echo, z in frames:
        group, place, scale, time = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-20.0, 33.0, -410.5 + z * SPACING[2]]
        scale.RescaleSlope, scale.RescaleIntercept = values.get("slope", 1.0), values.get("intercept", 0.0)
        time.EffectiveEchoTime = echo
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [scale]
        group.MREchoSequence = [time]
        groups.append(group)
        planes.append(array[z] * (1 + echoes.index(echo)))
    data.PerFrameFunctionalGroupsSequence = groups
    data.PixelData = np.stack(planes).astype("<u2").tobytes()
    data.save_as(directory / "enhanced.dcm", enforce_file_format=True)
    return directory


def drawn(file, *regions, kinds=("EXTERNAL",)):
    """An RTSTRUCT: regions are (name, contours), contours being points x 3, mm; `kinds` are the first ones' types."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.55"
    data.Modality, names, contours, observed = "RTSTRUCT", [], [], []
    for number, (name, outlines) in enumerate(regions, 1):
        roi, item, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, item.ReferencedROINumber = number, name, number
        observation.ReferencedROINumber, observation.RTROIInterpretedType = (
            number,
            (*kinds, *["ORGAN"] * number)[number - 1],
        )
        item.ContourSequence = []
        for points in outlines:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR" if len(points) > 1 else "POINT"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{one:.3f}" for one in np.ravel(points)]
            item.ContourSequence.append(contour)
        names.append(roi)
        contours.append(item)
        observed.append(observation)
    data.StructureSetROISequence, data.ROIContourSequence = names, contours
    data.RTROIObservationsSequence = observed
    data.save_as(file, enforce_file_format=True)
    return file
