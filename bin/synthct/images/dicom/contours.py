"""The body as an RTSTRUCT: what was predicted, outlined on the slices of the synthetic CT."""

import hashlib

import contourpy
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, generate_uid

from synthct.images.dicom.identity import ds, identity, moment, series_number, with_meta
from synthct.images.dicom.series import Series
from synthct.images.grid import Volume


def body_structure(mask: Volume, source: Series, slices: list[Dataset], name: str = "BODY") -> Dataset:
    """The RTSTRUCT of `mask` (z, y, x) on the `slices` of the CT series that was written on the same grid.

    Its one region is of type EXTERNAL; holes are contours of their own, as planning systems read them. A voxel is
    inside where its centre is: reading the contours back gives the mask. Series and instance UIDs follow from the CT
    series and the mask: where air is predicted as air, another mask may leave the same CT.
    """
    data = identity(source, moment())
    series = slices[0].SeriesInstanceUID
    data.Modality = "RTSTRUCT"
    digest = hashlib.sha256((mask.array > 0).tobytes() + repr(mask.grid).encode()).hexdigest()
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[series, name, digest, "series"])
    data.SeriesDescription = f"{name} of {slices[0].SeriesDescription}"[:64]
    data.SeriesNumber, data.InstanceNumber, data.OperatorsName = series_number(source, 3000), 1, None
    data.StructureSetLabel = "synthct"
    data.StructureSetDate, data.StructureSetTime = data.SeriesDate, data.SeriesTime
    data.ReferencedFrameOfReferenceSequence = [_frame(data, slices)]
    region, drawn, observed = Dataset(), Dataset(), Dataset()
    region.ROINumber, region.ROIName, region.ROIGenerationAlgorithm = 1, name, "AUTOMATIC"
    region.ReferencedFrameOfReferenceUID = data.FrameOfReferenceUID
    drawn.ReferencedROINumber, drawn.ROIDisplayColor = 1, [0, 200, 120]
    if items := _contours(mask, slices):
        drawn.ContourSequence = items
    observed.ObservationNumber, observed.ReferencedROINumber = 1, 1
    observed.RTROIInterpretedType, observed.ROIInterpreter = "EXTERNAL", None
    data.StructureSetROISequence, data.ROIContourSequence = [region], [drawn]
    data.RTROIObservationsSequence = [observed]
    data.ApprovalStatus = "UNAPPROVED"
    return with_meta(data, RTStructureSetStorage, generate_uid(entropy_srcs=[series, name, digest]))


def _frame(data: Dataset, slices: list[Dataset]) -> Dataset:
    frame, study, series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = data.FrameOfReferenceUID
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # retired, and still asked for
    study.ReferencedSOPInstanceUID = data.StudyInstanceUID
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(one) for one in slices]
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(slice_: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = slice_.SOPClassUID, slice_.SOPInstanceUID
    return item


def _contours(mask: Volume, slices: list[Dataset]) -> list[Dataset]:
    items = []
    for z, slice_ in enumerate(slices):
        for outline in outlines(mask.array[z]):
            index = np.column_stack([outline, np.full(len(outline), z)])
            points = np.array(mask.grid.origin) + index @ mask.grid.matrix.T
            item = Dataset()
            item.ContourImageSequence = [_image(slice_)]
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [ds(round(one, 4)) for one in points.ravel()]
            items.append(item)
    return items


def outlines(plane: np.ndarray) -> list[np.ndarray]:
    """The outlines of a plane of a mask: closed polygons (points x 2: x, y in pixels), none twice, none straight on."""
    padded = np.pad((plane > 0).astype(np.float32), 1)
    found = []
    for line in contourpy.contour_generator(z=padded).lines(0.5):
        points = np.asarray(line)[:-1] - 1
        along = np.roll(points, -1, axis=0) - points
        turns = np.abs(along[:, 0] * np.roll(along, 1, axis=0)[:, 1] - along[:, 1] * np.roll(along, 1, axis=0)[:, 0])
        points = points[turns > 1e-6]
        if len(points) >= 3:
            found.append(points)
    return found
