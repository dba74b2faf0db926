"""Folders as scanners and archives leave them: what is read of them, what is asked back, and what is refused."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import SHAPE, SPACING, at, by_sitk, edit, write_ct, write_enhanced, write_mr
from models import call
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, RTDoseStorage, RTStructureSetStorage

from synthct.core.errors import InputError
from synthct.images.dicom.choice import Choice
from synthct.images.dicom.series import modality_of, read_series


@pytest.fixture
def array():
    generator = np.random.default_rng(5)
    return generator.integers(1, 900, SHAPE).astype(np.uint16)


def refused(directory, *texts, choice=None):
    with pytest.raises(InputError) as fault:
        read_series(directory, choice)
    assert "\n" not in str(fault.value) and "Doe" not in str(fault.value)
    for text in texts:
        assert text in str(fault.value), fault.value


def beside(file, kind, modality="", **values):
    """A DICOM object that is no image series."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.66"
    data.Modality, data.PatientName = modality, "Doe^Jane"
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.save_as(file, enforce_file_format=True)


# voxels


@pytest.mark.parametrize(
    ("padding", "limit", "signed", "empty"),
    [(63488, None, 0, [63488]), (-2048, None, 1, [-2048]), (0, 20, 0, [0, 7, 20]), (-2000, -1500, 1, [-2000, -1500])],
)
def test_padding_is_air(tmp_path, padding, limit, signed, empty):
    """The circle's outside is stored as a value that the tag names; as HU it would double the range."""
    hu = np.random.default_rng(1).integers(-900, 1500, SHAPE)
    directory = write_ct(tmp_path / "ct", hu)
    for z in range(SHAPE[0]):
        data = pydicom.dcmread(at(directory, z))
        stored = data.pixel_array.astype(np.int32)
        stored[0, : len(empty)] = empty
        data.PixelRepresentation = signed
        data.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        data.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
        if limit is not None:
            data.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", limit)
        data.save_as(at(directory, z))
    expected = hu.copy()
    expected[:, 0, : len(empty)] = -1024
    assert np.array_equal(read_series(directory).array, expected)


def test_padding_of_an_mr_is_dark(tmp_path, array):
    array[:, :3] = 65535
    directory = write_mr(tmp_path / "mr", array)
    edit(directory, "PixelPaddingValue", 65535, slice(None))
    array[:, :3] = 0
    assert np.array_equal(read_series(directory).array, array)


def test_a_ct_has_nothing_below_air(tmp_path):
    hu = np.full(SHAPE, 40)
    directory = write_ct(tmp_path / "ct", hu)
    edit(directory, "RescaleIntercept", -3024, slice(None))
    assert read_series(directory).array.max() == -1024


@pytest.mark.parametrize("compressed", [False, True])
def test_monochrome1_is_turned_over_as_gdcm_turns_it(tmp_path, array, compressed):
    directory = write_mr(tmp_path / "mr", array)
    edit(directory, "PhotometricInterpretation", "MONOCHROME1", slice(None))
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        if compressed:
            data.compress(pydicom.uid.RLELossless)
        data.save_as(name)
    found = read_series(directory).array
    assert np.array_equal(found, by_sitk(directory).array) and np.array_equal(found, 65535.0 - array)


def test_a_palette_a_ct_turned_over_and_a_damaged_frame_are_named(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    edit(directory, "PhotometricInterpretation", "PALETTE COLOR", slice(2, 3))
    refused(directory, "PALETTE COLOR")
    directory = write_ct(tmp_path / "ct", array)
    edit(directory, "PhotometricInterpretation", "MONOCHROME1", slice(None))
    refused(directory, "MONOCHROME1", "HU")
    directory = write_mr(tmp_path / "broken", array)
    data = pydicom.dcmread(at(directory, 3))
    data.compress(pydicom.uid.RLELossless)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000
    data.save_as(at(directory, 3))
    refused(directory, at(directory, 3).name, "cannot be decoded", "JPEG 2000")


def test_a_modality_lut_is_applied(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    table = (np.arange(1024) ** 1.3).astype(np.uint16)
    for name in directory.iterdir():
        data, lut = pydicom.dcmread(name), Dataset()
        lut.add_new("LUTDescriptor", "US", [1024, 0, 16])
        lut.add_new("ModalityLUTType", "LO", "US")
        lut.add_new("LUTData", "US", table.tolist())
        data.ModalityLUTSequence = [lut]
        data.save_as(name)
    assert np.array_equal(read_series(directory).array, table[array])


# files


def test_a_file_that_should_be_a_slice_is_named(tmp_path, array):
    """End slices that cannot be read do not vanish: whichever way a download or a disk spoilt them."""

    def spoilt(name, spoil):
        directory = write_mr(tmp_path / name, array)
        file = at(directory, 6)
        spoil(file)
        refused(directory, file.name, "cannot be read")

    spoilt("empty", lambda file: file.write_bytes(b""))
    spoilt("html", lambda file: file.write_bytes(b"<html>503 Service Unavailable</html>" * 50))
    spoilt("preamble", lambda file: file.write_bytes(file.read_bytes()[:120]))
    spoilt("header", lambda file: file.write_bytes(file.read_bytes()[:500]))

    def dangle(file):
        file.unlink()
        file.symlink_to("/nowhere/x.dcm")

    spoilt("link", dangle)


def test_files_that_say_what_they_are_lie_beside_a_series(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    for name in ("notes.txt", "README", "preview.jpg", "Thumbs.db", ".DS_Store", "report.PDF"):
        (directory / name).write_bytes(b"something else")
    beside(directory / "DICOMDIR", MediaStorageDirectoryStorage)
    beside(directory / "0_rs.dcm", RTStructureSetStorage, "RTSTRUCT")
    beside(directory / "0_dose.dcm", RTDoseStorage, "RTDOSE", Rows=4, Columns=4, NumberOfFrames=2)
    assert np.array_equal(read_series(directory).array, array)
    assert modality_of(directory) == "MR"  # of the series, not of the first file
    for name in directory.glob("?_?.dcm"):
        name.unlink()
    refused(directory, "no image of a series", "RT Dose Storage (1 file)", "RT Structure Set")


def test_the_same_object_twice_counts_once(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    (directory / "copy.dcm").write_bytes(at(directory, 2).read_bytes())
    assert np.array_equal(read_series(directory).array, array)
    data = pydicom.dcmread(directory / "copy.dcm")
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(directory / "copy.dcm")
    refused(directory, "SOPInstanceUID", "another content")


def test_files_without_a_preamble(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    for name in directory.iterdir():
        name.write_bytes(name.read_bytes()[132:])
    assert np.array_equal(read_series(directory).array, array)


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("PixelSpacing", "1,1\\0,9", "decimal comma"),
        ("ImageOrientationPatient", "0\\0\\0\\0\\0\\0", "no direction"),
        ("ImagePositionPatient", "a\\b\\c", "expected numbers"),
    ],
)
def test_a_header_that_breaks_the_standard_costs_one_line(tmp_path, array, keyword, value, text):
    directory = write_mr(tmp_path / "mr", array)
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        element = pydicom.DataElement(keyword, "LO", value.split("\\"))
        data[keyword] = element
        raw = pydicom.dataelem.RawDataElement(element.tag, "DS", len(value), value.encode(), 0, False, True)
        data._dict[element.tag] = raw
        data.save_as(name)
    refused(directory, keyword, text)


# several images


def test_several_series_are_listed_and_one_is_chosen(tmp_path, array):
    (tmp_path / "study").mkdir()
    write_mr(tmp_path / "study" / "t1", array)
    write_mr(tmp_path / "study" / "t2", array[:5], uid="1.2.3.5")
    edit(tmp_path / "study" / "t2", "SeriesNumber", 7, slice(None))
    edit(tmp_path / "study" / "t2", "SeriesDescription", "t2 tse", slice(None))
    refused(tmp_path / "study", "2 series", "--series", "7 (MR, t2 tse, 5 slices)", "4 (MR, 7 slices)")
    for series in ("7", "1.2.3.5"):
        assert np.array_equal(read_series(tmp_path / "study", Choice(series=series)).array, array[:5])
    refused(tmp_path / "study", "no series 9", "t2 tse", choice=Choice(series="9"))
    done = call("dicom.py", "list", tmp_path / "study")
    assert done.returncode == 0 and "Doe" not in done.stdout
    for text in ("t2 tse", "--series 1.2.3.5", "52×44×5 voxels", "in t1"):
        assert text in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("keyword", "values", "wish"),
    [
        ("EchoTime", [2.46, 4.92], "4.920"),
        ("ImageType", ["ORIGINAL\\PRIMARY\\M\\W", "ORIGINAL\\PRIMARY\\M\\F"], "F"),
        ("DiffusionBValue", [0.0, 800.0], "800"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["same places", "alternating"])
def test_images_within_a_series_are_told_apart(tmp_path, array, keyword, values, wish, together):
    """Two echoes, Dixon parts or b-values at the same places, or slice by slice in turn."""
    directory = write_mr(tmp_path / "mr", array)
    if together:
        for name in write_mr(tmp_path / "second", array + 1000).iterdir():
            data = pydicom.dcmread(name)
            data.SOPInstanceUID += ".2"
            data.save_as(directory / f"second_{name.name}")
    for name in directory.iterdir():
        second = name.name.startswith("second") if together else int(name.stem[-1]) % 2 == 1
        data = pydicom.dcmread(name)
        setattr(data, keyword, values[second])
        data.save_as(name)
    refused(directory, "2 images in one series", keyword, "--select")
    chosen = read_series(directory, Choice(select=(f"{keyword}={wish}",)))
    assert np.array_equal(chosen.array, array + 1000 if together else array[1::2])
    refused(directory, "no slice with", keyword, choice=Choice(select=(f"{keyword}=77",)))
    refused(directory, "TAG=VALUE", choice=Choice(select=("EchoTime",)))
    refused(directory, "no DICOM keyword", choice=Choice(select=("EchoTim=3",)))


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_enhanced_objects(tmp_path, array, modality):
    """One file, its frames in any order, each with its own place; read as SimpleITK reads single-frame files."""
    order = np.random.default_rng(3).permutation(len(array))
    scale = {"slope": 1.0, "intercept": -1024.0} if modality == "CT" else {"slope": 0.5}
    volume = read_series(write_enhanced(tmp_path / "e", array, modality, order=order, **scale))
    expected = array - 1024.0 if modality == "CT" else array * 0.5
    assert np.array_equal(volume.array, expected) and volume.grid.spacing == pytest.approx(SPACING)
    assert not volume.grid.differs_from(by_sitk(write_mr(tmp_path / "mr", array)).grid)
    assert modality_of(tmp_path / "e") == modality


def test_an_enhanced_object_of_two_echoes(tmp_path, array):
    directory = write_enhanced(tmp_path / "e", array, echoes=(2.46, 4.92))
    refused(directory, "2 images", "EchoTime (2.46: 7, 4.92: 7)")
    second = read_series(directory, Choice(select=("EchoTime=4.92",)))
    assert np.array_equal(second.array, array * 2)


def test_a_compressed_enhanced_object(tmp_path, array):
    directory = write_enhanced(tmp_path / "e", array, slope=0.5)
    data = pydicom.dcmread(directory / "enhanced.dcm")
    data.compress(pydicom.uid.RLELossless)
    data.save_as(directory / "enhanced.dcm")
    assert np.array_equal(read_series(directory).array, array * 0.5)


def test_a_tilted_gantry_is_made_straight_on_request(tmp_path):
    """A field that is linear in space is the same field on the straight grid, at every voxel that the slices saw."""
    directory = write_mr(tmp_path / "mr", np.zeros(SHAPE, np.uint16))
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for k in range(SHAPE[0]):
        data = pydicom.dcmread(at(directory, k))
        data.ImagePositionPatient[1] += 0.7 * k
        plane = 1000 + 8 * (x[k] * SPACING[0]) + 10 * (y[k] * SPACING[1] + 0.7 * k) + 20 * (k * SPACING[2])
        data.PixelData = np.rint(plane * 20).astype("<u2").tobytes()
        data.RescaleSlope, data.RescaleIntercept = 0.05, 0
        data.save_as(at(directory, k))
    refused(directory, "gantry tilt", "12.0 degrees", "--straighten")
    volume = read_series(directory, Choice(straighten=True))
    assert volume.grid.size == (52, 48, 7) and volume.grid.origin == pytest.approx((-20.0, 33.0, -410.5))
    z, y, x = np.mgrid[: volume.grid.size[2], : volume.grid.size[1], : volume.grid.size[0]]
    field = 1000 + 8 * x * SPACING[0] + 10 * y * SPACING[1] + 20 * z * SPACING[2]
    seen = (y * SPACING[1] >= 0.7 * z) & (y * SPACING[1] <= 43 * SPACING[1] + 0.7 * z)
    assert np.abs(volume.array - field)[seen].max() < 0.06


# series of real scanners


@pytest.mark.parametrize("name", ["ds_overflow", "exact_dup", "no_preamble", "enh_siemens_d2n", "enh_philips"])
def test_real_series_are_read(shared, name):
    volume = read_series(shared / "cases" / "dicom" / name)
    assert volume.grid.size in ((42, 64, 5), (256, 256, 8)) and volume.array.max() > 200


def test_an_enhanced_series_of_a_real_scanner_equals_gdcm(shared):
    file = shared / "cases" / "dicom" / "enh_siemens_d2n" / "IM-0001-0001-0001.dcm"
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert np.array_equal(read_series(file.parent).array, reference)


def test_real_12_bit_jpeg_is_read_quietly(shared, capfd):
    volume = read_series(shared / "cases" / "dicom" / "jpeg12bit")
    assert volume.array.min() == -1024 and capfd.readouterr().err == ""


def test_the_padding_of_a_real_ct(shared):
    assert read_series(shared / "cases" / "dicom" / "ct_rtutils").array.min() == -1024


def test_a_real_cone_beam_ct_with_its_structures_beside_it(shared, tmp_path):
    import zipfile

    with zipfile.ZipFile(shared / "data" / "cbct_phantom" / "catphan_varian_obi.zip") as file:
        file.extractall(tmp_path)
    directory = next(tmp_path.iterdir())
    volume, reference = read_series(directory), by_sitk(directory)
    assert np.array_equal(volume.array, reference.array) and not volume.grid.differs_from(reference.grid)
