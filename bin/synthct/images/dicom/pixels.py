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
from pydicom.uid import DeflatedExplicitVRLittleEndian, SecondaryCaptureImageStorage

from synthct.core.errors import InputError
from synthct.core.quiet import quiet
from synthct.images.dicom.headers import Frame, decimal, modality, number, read_header, reason, text, value, whole

SCALE = ("RescaleSlope", "RescaleIntercept")
AIR = -1024.0  # HU; lower values mean air, or nothing measured at all


def check_pixels(frames: list[Frame]):
    """Raise `InputError` for what no voxel can be read from, as far as headers and files' sizes tell."""
    ct = modality(frames[0].header) == "CT"
    for frame in frames:
        _gray(frame, ct)
        _packed(frame)
        _whole(frame)
    for keyword in SCALE:
        given = {_scale(frame, keyword) is not None: frame for frame in frames}
        if len(given) > 1:
            raise InputError(
                f"DICOM {given[False].file}: no {keyword}, which {given[True].name} of the same series has; expected "
                "it in all slices or in none"
            )


def voxels(frames: list[Frame]) -> np.ndarray:
    """The frames' values, float32 (frame, y, x): HU for CT, the scanner's units for MR; what is padding is air.

    Air is -1024 HU in CT, where nothing lies lower either, and 0 elsewhere. The frames went through `check_pixels`.
    Raises `InputError` naming the file for pixels that are absent or cannot be decoded.
    """
    ct = modality(frames[0].header) == "CT"
    planes, opened = [], {}
    for frame in frames:
        if frame.file not in opened:
            opened = {frame.file: _opened(frame)}  # one file at a time: an enhanced object is read once
        stored = _stored(frame, opened[frame.file])
        plane = _rescaled(_dark_low(stored, frame), frame)
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


def _packed(frame: Frame) -> bool:
    """Whether the pixels are compressed. Raises `InputError` for a transfer syntax that nobody knows."""
    syntax = frame.header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return False
    try:
        return syntax.is_encapsulated
    except ValueError:
        shown = str(syntax)[:70]
        raise InputError(f"DICOM {frame.file}: TransferSyntaxUID {shown} is not one of the standard's") from None


def _whole(frame: Frame):
    """Raise `InputError` for a file that is shorter than its pixels."""
    header = frame.header
    values = whole(header, "Rows") * whole(header, "Columns") * max(1, whole(header, "NumberOfFrames", 1))
    promised = values * whole(header, "BitsAllocated", 16) // 8
    deflated = header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if not _packed(frame) and not deflated and frame.file.stat().st_size < promised:
        raise InputError(
            f"DICOM {frame.file}: {frame.file.stat().st_size} bytes, its pixels alone take {promised}; no pixel data, "
            "or is the file truncated?"
        )


def _opened(frame: Frame) -> Dataset:
    try:
        data = read_header(frame.file, pixels=True)
    except ValueError as fault:
        raise InputError(f"DICOM {frame.file}: cannot be read ({fault}); is the file truncated?") from None
    if "PixelData" not in data:
        raise InputError(f"DICOM {frame.file}: no pixel data")
    return data


def _stored(frame: Frame, data: Dataset) -> np.ndarray:
    """The stored values of a frame, float32 (y, x)."""
    packed = _packed(frame)
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
            name = data.file_meta.TransferSyntaxUID.name
            raise InputError(f"DICOM {frame.file}: pixels cannot be decoded ({name}: {why})") from None
        raise InputError(f"DICOM {frame.file}: pixels cannot be read ({why}); is the file truncated?") from None
    return array.astype(np.float32)


def _dark_low(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Stored values with MONOCHROME1 turned over."""
    header = frame.header
    if text(header, "PhotometricInterpretation").strip() != "MONOCHROME1":
        return stored
    top = -1 if whole(header, "PixelRepresentation") else 2 ** whole(header, "BitsStored", 16) - 1
    return top - stored


def _decoded(frame: Frame, data: Dataset) -> np.ndarray:
    """Compressed pixels, by GDCM; it is handed a single frame without slope and intercept, and gives stored values."""
    plain = Dataset()
    for element in data.group_dataset(0x0028):
        if element.keyword not in ("NumberOfFrames", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
            plain[element.tag] = element
    plain.file_meta = data.file_meta
    plain.PhotometricInterpretation = "MONOCHROME2"  # else it turns the other kind over
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
    ends = [_as_stored(frame.header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if np.isnan(ends[0]):
        return np.zeros(stored.shape, bool)
    return (stored >= np.nanmin(ends)) & (stored <= np.nanmax(ends))


def _as_stored(header: Dataset, keyword: str) -> float:
    """A padding value as the pixels store it, NaN for none: exporters write -2000 for unsigned pixels and 63536 for
    signed ones."""
    found, signed, bits = number(header, keyword, np.nan), whole(header, "PixelRepresentation"), 16
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
    slope, intercept = (_scale(frame, keyword) for keyword in SCALE)
    return stored * (slope or 1.0) + (intercept or 0.0)


def _scale(frame: Frame, keyword: str) -> float | None:
    """Slope or intercept, None where the header has none, or a LUT in its place."""
    return None if value(frame.header, "ModalityLUTSequence") else decimal(frame, keyword)
