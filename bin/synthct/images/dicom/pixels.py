"""Voxels of frames: decoded, padding told from measurements, brought to the units that the header promises.

Order of the standard (PS3.3 C.7.5.1.1.2, C.11.1): stored values, of which padding is none, then the modality LUT or
slope and intercept. MONOCHROME1 (low values bright) is turned over as GDCM turns it, so that air is dark as elsewhere.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import SecondaryCaptureImageStorage

from synthct.core.errors import InputError
from synthct.core.quiet import quiet
from synthct.images.dicom.headers import Frame, modality, number, read_header, reason, text, value, whole

AIR = -1024.0  # HU; lower values mean air, or nothing measured at all


def voxels(frames: list[Frame]) -> np.ndarray:
    """The frames' values, float32 (frame, y, x): HU for CT, the scanner's units for MR; what is padding is air.

    Air is -1024 HU in CT, where nothing lies lower either, and 0 elsewhere. Raises `InputError` naming the file for
    pixels that are absent, colour, or cannot be decoded.
    """
    ct = modality(frames[0].header) == "CT"
    planes, opened = [], {}
    for frame in frames:
        _gray(frame, ct)
        if frame.file not in opened:
            opened = {frame.file: _opened(frame)}  # one file at a time: an enhanced object is read once
        stored = _stored(frame, opened[frame.file])
        plane = _rescaled(stored, frame)
        plane[_padding(stored, frame)] = AIR if ct else 0.0
        planes.append(plane)
    array = np.stack(planes)
    return np.maximum(array, AIR, out=array) if ct else array


def _gray(frame: Frame, ct: bool):
    kind = text(frame.header, "PhotometricInterpretation").strip().upper()
    if kind not in ("MONOCHROME1", "MONOCHROME2", ""):
        raise InputError(f"DICOM {frame.file}: {kind} (a palette or colour), expected MONOCHROME2")
    if kind == "MONOCHROME1" and ct:
        raise InputError(f"DICOM {frame.file}: a CT in MONOCHROME1, whether its HU are turned over too cannot be known")


def _opened(frame: Frame) -> Dataset:
    try:
        data = read_header(frame.file, pixels=True)
    except ValueError as fault:
        raise InputError(f"DICOM {frame.file}: cannot be read ({fault}); is the file truncated?") from None
    if "PixelData" not in data:
        raise InputError(f"DICOM {frame.file}: no pixel data")
    return data


def _stored(frame: Frame, data: Dataset) -> np.ndarray:
    """The stored values of a frame, float32 (y, x), MONOCHROME1 turned over."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    packed = syntax is not None and syntax.is_encapsulated
    try:
        if packed:
            return _decoded(frame, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if frame.number is None:
                array = data.pixel_array
            else:
                array = data.pixel_array[frame.number] if data.pixel_array.ndim == 3 else data.pixel_array
    except Exception as fault:  # pydicom and GDCM raise many kinds for damaged pixel data
        why = reason(fault)
        if packed:
            raise InputError(f"DICOM {frame.file}: pixels cannot be decoded ({syntax.name}: {why})") from None
        raise InputError(f"DICOM {frame.file}: pixels cannot be read ({why}); is the file truncated?") from None
    array = array.astype(np.float32)
    if text(frame.header, "PhotometricInterpretation").strip() == "MONOCHROME1":
        top = -1 if whole(data, "PixelRepresentation") else 2 ** whole(data, "BitsStored", 16) - 1
        array = top - array
    return array


def _decoded(frame: Frame, data: Dataset) -> np.ndarray:
    """Compressed pixels, by GDCM; it is handed a single frame without slope and intercept, and gives stored values."""
    plain = Dataset()
    for element in data.group_dataset(0x0028):
        if element.keyword not in ("NumberOfFrames", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
            plain[element.tag] = element
    plain.file_meta = data.file_meta
    plain.SOPClassUID, plain.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    if whole(data, "NumberOfFrames", 1) > 1:
        one = get_frame(data.PixelData, frame.number or 0, number_of_frames=int(data.NumberOfFrames))
        one += b"\0" * (len(one) % 2)
        plain.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + len(one).to_bytes(4, "little") + one
        plain.PixelData += b"\xfe\xff\xdd\xe0\0\0\0\0"
    else:
        plain.PixelData = data.PixelData
    plain["PixelData"].VR, plain["PixelData"].is_undefined_length = "OB", True
    with tempfile.TemporaryDirectory() as work:
        file = Path(work, "frame.dcm")
        plain.save_as(file, enforce_file_format=True)
        with quiet(), warnings.catch_warnings():  # libjpeg tells of what it does in 12 bits
            warnings.simplefilter("ignore")
            try:
                return sitk.GetArrayFromImage(sitk.ReadImage(str(file), sitk.sitkFloat32))[0]
            except RuntimeError:
                return plain.pixel_array.astype(np.float32)  # what pydicom's decoders know and GDCM does not


def _padding(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Where a frame holds padding: PixelPaddingValue, or all up to PixelPaddingRangeLimit."""
    header = frame.header
    if value(header, "PixelPaddingValue") is None:
        return np.zeros(stored.shape, bool)
    ends = [_as_stored(header, "PixelPaddingValue")]
    ends.append(_as_stored(header, "PixelPaddingRangeLimit") if "PixelPaddingRangeLimit" in header else ends[0])
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(header: Dataset, keyword: str) -> float:
    """A padding value as the pixels store it: exporters write -2000 for unsigned and 63536 for signed pixels."""
    found, signed, bits = number(header, keyword, 0), whole(header, "PixelRepresentation"), 16
    if signed and found >= 2 ** (bits - 1):
        return found - 2**bits
    return found + 2**bits if found < 0 and not signed else found


def _rescaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    header = frame.header
    if value(header, "ModalityLUTSequence"):
        try:
            return np.asarray(apply_modality_lut(stored.astype(np.int32), header), np.float32)
        except Exception as fault:
            raise InputError(f"DICOM {frame.file}: its Modality LUT cannot be applied ({reason(fault)})") from None
    slope, intercept = number(header, "RescaleSlope", 1) or 1.0, number(header, "RescaleIntercept", 0)
    return stored * slope + intercept
