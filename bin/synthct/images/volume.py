"""Images at the edge: reading, checking and writing volumes.

SimpleITK's files stay behind this door: the other rooms see arrays and grids. A DICOM series is read by
`synthct.images.dicom.series`, through the same `read_volume`.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import InputError, OutputError, PatientError
from synthct.core.files import atomic
from synthct.core.quiet import quiet
from synthct.images import streams
from synthct.images.checks import check_grid, checked, inside_of
from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.images.headers import Header, HeaderError, read_header
from synthct.images.orientation import orientation_of

SUFFIXES = (".mha", ".mhd", ".nii", ".nii.gz", ".nrrd", ".nhdr")
WRITTEN = (".mha", ".nii", ".nii.gz", ".nrrd")  # one file each, so that none is ever half there


def read_volume(path, what: str = "image", kind: str = "", choice=None) -> Volume:
    """Read a scalar 3-D volume: MHA, NIfTI, NRRD, or a directory with one DICOM series.

    `kind` ("ct", "cbct", "mr", "labels", or "" for any) says which values are expected, see `synthct.images.checks`.
    Raises `PatientError` for a file that is missing, truncated, damaged, not 3-D, not scalar, or that no computation
    can use. `what` names the image in the message ("CT", "mask"); `choice` (`images.dicom.choice.Choice`) says which
    image of a DICOM directory is meant. File names, not patient names, appear in messages.
    """
    path = Path(path)
    if path.is_dir():
        from synthct.images.dicom.series import read_series  # the only reader that needs pydicom

        try:
            volume = read_series(path, choice)
        except InputError as fault:
            raise PatientError(str(fault)) from None
        return checked(volume, path, what, kind)
    if not path.is_file():
        raise PatientError(f"{what} {path}: no such file")
    if not path.name.lower().endswith(SUFFIXES):
        raise PatientError(f"{what} {path}: unknown format, expected {', '.join(SUFFIXES)} or a DICOM series directory")
    try:
        volume = _read(path)
    except HeaderError as fault:
        raise PatientError(f"{what} {path}: {fault}") from None
    except RuntimeError as fault:
        raise PatientError(f"{what} {path}: cannot be read ({_reason(fault)}); is the file truncated?") from None
    return checked(volume, path, what, kind)


def look(path, what: str = "image"):
    """`PatientError` for a file whose header, place or first voxels (a few megabytes) show that it cannot be used.

    Costs a fraction of reading it: damage further on, and what all values together tell, `read_volume` finds.
    """
    path = Path(path)
    try:
        header = read_header(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO(f"{header.format}ImageIO")
        with _named(path, header) as name, quiet():
            reader.SetFileName(str(name))
            reader.ReadImageInformation()
        _check_shape(reader)
        streams.check_promise(header)
        check_grid(_grid(reader), f"{what} {path}")
        streams.check_sample(header)
    except HeaderError as fault:
        raise PatientError(f"{what} {path}: {fault}") from None
    except RuntimeError as fault:
        raise PatientError(f"{what} {path}: cannot be read ({_reason(fault)}); is the file truncated?") from None


def _read(path: Path) -> Volume:
    header = read_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(f"{header.format}ImageIO")  # by content: ITK goes by the name, and knows no capitals
    try:
        with _named(path, header) as name, quiet():
            reader.SetFileName(str(name))
            reader.ReadImageInformation()
            _check_shape(reader)
            streams.check_promise(header)
            if header.coding == "gzip" and header.scaled:
                grid = _grid(reader)
                kind = np.float64 if reader.GetPixelID() == sitk.sitkFloat64 else np.float32
                return Volume(streams.scaled(header, kind).reshape(grid.shape), grid)
            image = reader.Execute()
    except RuntimeError:
        if header.coding in ("gzip", "zlib"):
            streams.unpacked(header)  # says more of what is wrong
        raise
    volume = from_sitk(image)
    streams.check_array(header, volume.array)
    return volume


def _check_shape(reader: sitk.ImageFileReader):
    """Refuse what is no scalar 3-D volume; a fourth axis of length 1 is dropped."""
    dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimension == 4 and reader.GetSize()[3] == 1:
        dimension = 3
        reader.SetExtractSize([*reader.GetSize()[:3], 0])
    if dimension != 3:
        raise HeaderError(f"{dimension}-dimensional, expected a 3-D volume")
    if components != 1:
        raise HeaderError(f"{components} values per voxel (RGB or vector), expected one")


def is_drawn(path) -> bool:
    """Whether a file is a DICOM RTSTRUCT or SEG, which has no grid of its own, and not an image."""
    if not Path(path).is_file() or Path(path).name.lower().endswith(SUFFIXES):
        return False
    from synthct.images.dicom import structures  # pydicom is only imported where there is DICOM

    return structures.is_dicom(path)


def read_mask(path, grid: Grid | None = None, what: str = "mask", roi: str | None = None) -> Volume:
    """Read a mask as uint8 0/1 (any label above 0 is inside); it must not be empty and, with `grid`, must lie on it.

    A mask at the same place whose axes are stored in another order or direction is turned onto `grid`.
    A DICOM RTSTRUCT or SEG is drawn onto `grid`: its region `roi`, or the patient's outline where none is named.
    """
    if is_drawn(path):
        if grid is None:
            raise InputError(f"{what} {path}: contours need an image's grid, expected one of {', '.join(SUFFIXES)}")
        from synthct.images.dicom import structures

        return structures.mask_of(path, grid, roi)
    mask = read_volume(path, what, "labels")
    if grid is not None:
        mask = turned_onto(mask, grid)
        if difference := mask.grid.differs_from(grid):
            raise PatientError(f"{what} {path}: another grid than its image ({difference})")
    inside = inside_of(mask.array, f"{what} {path}")
    if not inside.any():
        raise PatientError(f"{what} {path}: empty, no voxel above 0")
    return Volume(inside.astype(np.uint8), grid or mask.grid)


def turned_onto(volume: Volume, grid: Grid) -> Volume:
    """`volume` on `grid` where that is its own with axes in another order or direction, else as it is.

    No voxel is interpolated: each stays where it lies in the patient.
    """
    own, wanted = orientation_of(volume.grid), orientation_of(grid)
    if own == wanted or own.turn_grid(volume.grid).differs_from(wanted.turn_grid(grid)):
        return volume
    return Volume(wanted.turn_back(own.turn(volume.array)), grid)


def read_displacement(path) -> Volume:
    """Read a displacement field: float32 (z, y, x, 3), mm, LPS, mapping fixed points to moving points."""
    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat32)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise PatientError(f"displacement field {path}: expected 3 components on a 3-D grid")
    return from_sitk(image)


def write_volume(volume: Volume, path, compress: bool = True):
    """Write a volume atomically; the suffix chooses the format. The same volume gives the same bytes."""
    path = Path(path)
    if not path.name.endswith(WRITTEN):
        raise InputError(f"output {path}: unknown format, expected one of {', '.join(WRITTEN)}")
    with atomic(path) as temporary:
        try:
            with quiet():
                sitk.WriteImage(to_sitk(volume), str(temporary), compress)
        except RuntimeError as fault:
            raise OutputError(
                f"output {path}: cannot be written ({_reason(fault)}); is there room on the disk?"
            ) from None
        try:  # ITK's writers raise no error when voxels are missing
            header = read_header(temporary)
            streams.check_promise(header, room=sys.maxsize)
            if volume.array.ndim == 3:
                streams.check_array(header, volume.array)
        except HeaderError as fault:
            raise OutputError(f"output {path}: cannot be written ({fault}); is there room on the disk?") from None


@contextlib.contextmanager
def _named(path: Path, header: Header):
    """A name that ITK's NIfTI reader understands: it tells by the suffix, in small letters, whether to unpack."""
    suffix = ".nii.gz" if header.coding == "gzip" else ".nii"
    if header.format != "Nifti" or (path.name.endswith(".nii.gz") if suffix == ".nii.gz" else path.suffix == ".nii"):
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        link = Path(place, f"image{suffix}")
        link.symlink_to(path.resolve())
        yield link


def _grid(reader: sitk.ImageFileReader) -> Grid:
    rank = reader.GetDimension()
    matrix = np.array(reader.GetDirection()).reshape(rank, rank)[:3, :3]
    return Grid(
        reader.GetSize()[:3], reader.GetSpacing()[:3], reader.GetOrigin()[:3], tuple(map(float, matrix.ravel()))
    )


def _reason(fault: Exception) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1].split("ERROR:")[-1].strip()[:160] if lines else type(fault).__name__
