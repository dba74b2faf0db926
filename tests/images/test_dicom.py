"""DICOM series in and out, read back by pydicom and by SimpleITK, and the folders that are refused."""

import numpy as np
import pydicom
import pytest
from conftest import bad_input
from dicom_series import OBLIQUE, SHAPE, SPACING, STRAIGHT, at, by_sitk, edit, write_mr
from models import call, write_model

from synthct.core.errors import InputError
from synthct.images.dicom.series import open_series, read_series
from synthct.images.dicom.writing import write_series
from synthct.images.volume import read_volume


@pytest.fixture
def array():
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 22) / 16) ** 2 + ((x - 26) / 20) ** 2 < 1
    return (body * (300 + 40 * z + 5 * y + 3 * x)).astype(np.uint16)


@pytest.mark.parametrize(
    "axes",
    [STRAIGHT, OBLIQUE, ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))],
    ids=["axial", "oblique", "sagittal", "mirrored"],
)
def test_a_series_is_read_as_simpleitk_reads_it(tmp_path, array, axes):
    directory = write_mr(tmp_path / "mr", array, axes)
    (directory / "LIESMICH.txt").write_text("not DICOM")
    volume = read_volume(directory)
    reference = by_sitk(directory)
    assert not volume.grid.differs_from(reference.grid)
    assert np.array_equal(volume.array, reference.array) and volume.array.dtype == np.int16
    assert volume.grid.spacing == pytest.approx(SPACING, abs=1e-5)


def test_rescale_is_applied(tmp_path, array):
    volume = read_series(write_mr(tmp_path / "a", array, slope=1.0, intercept=-1024.0))
    assert np.array_equal(volume.array, array.astype(int) - 1024) and volume.array.dtype == np.int16
    volume = read_series(write_mr(tmp_path / "b", array, slope=0.37, intercept=2.0))
    np.testing.assert_allclose(volume.array, array * 0.37 + 2, rtol=1e-6)


def test_rle_compressed_pixels(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    before = read_series(directory)
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        data.compress(pydicom.uid.RLELossless)
        data.save_as(name)
    assert np.array_equal(read_series(directory).array, before.array)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize(
    "axes", [STRAIGHT, OBLIQUE, ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))], ids=["axial", "oblique", "sagittal"]
)
def test_dicom_in_dicom_out_on_the_same_grid(tmp_path, array, model, axes):
    source = write_mr(tmp_path / "mr", array, axes)
    process = call(
        "predict.py",
        "--model",
        model,
        "--image",
        source,
        "--region",
        "AB",
        "--out",
        tmp_path / "sct.mha",
        "--dicom",
        tmp_path / "sct",
    )
    assert process.returncode == 0, process.stderr
    sct = read_volume(tmp_path / "sct.mha")
    assert sct.array.std() > 20
    for back in (by_sitk(tmp_path / "sct"), read_series(tmp_path / "sct")):
        assert np.array_equal(back.array, sct.array)
        assert not back.grid.differs_from(by_sitk(source).grid)
    files = sorted((tmp_path / "sct").iterdir())
    made = [pydicom.dcmread(name) for name in files]
    first = pydicom.dcmread(next(source.iterdir()))
    for data in made:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert data[keyword] == first[keyword]
        assert data.Modality == "CT" and data.SOPClassUID == pydicom.uid.CTImageStorage
        assert data.SeriesInstanceUID != first.SeriesInstanceUID
        assert "synthct" in data.DerivationDescription and data.ImageType[0] == "DERIVED"
        assert data.pixel_array.dtype == np.uint16 and data.RescaleIntercept == -1024 and data.RescaleSlope == 1
    assert len({data.SOPInstanceUID for data in made}) == len(made)
    assert {data.SOPInstanceUID for data in made}.isdisjoint(
        {pydicom.dcmread(n).SOPInstanceUID for n in source.iterdir()}
    )
    assert len({data.SeriesInstanceUID for data in made}) == 1
    assert [data.SourceImageSequence[0].ReferencedSOPInstanceUID for data in made] == [
        dataset.SOPInstanceUID
        for dataset in sorted((pydicom.dcmread(n) for n in source.iterdir()), key=lambda d: -d.InstanceNumber)
    ]


def test_uids_follow_from_the_content(tmp_path, array, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")  # else the objects say when they were made
    source = write_mr(tmp_path / "mr", array)
    sct = read_series(source)
    for name, volume in (("a", sct), ("b", sct), ("c", sct.with_array(sct.array + 1))):
        write_series(volume, open_series(source), tmp_path / name)
    first, again, other = ([p.read_bytes() for p in sorted((tmp_path / name).iterdir())] for name in "abc")
    assert first == again
    uids = [pydicom.dcmread(tmp_path / name / "CT_0001.dcm").SeriesInstanceUID for name in "abc"]
    assert uids[0] == uids[1] != uids[2]
    assert first != other


def test_a_directory_that_would_be_lost_is_refused(tmp_path, array, model):
    """Above all the scan itself; the series that the tool wrote before is replaced."""
    source = write_mr(tmp_path / "mr", array)
    for name in sorted(source.iterdir()):  # a scanner may call its files as we do
        name.rename(source / f"CT_{int(name.stem.split('_')[1]) + 1:04d}.dcm")
    before = {name.name: name.read_bytes() for name in source.iterdir()}
    (tmp_path / "work" / "plans").mkdir(parents=True)

    def told(image, dicom_out, *more):
        return call("predict.py", "--model", model, "--image", image, "--region", "AB", "--dicom", dicom_out, *more)

    for place in (source, tmp_path, tmp_path / "work"):
        bad_input(told(source, place, "--out", tmp_path / "sct.mha"), "output", place.name)
    copy = write_mr(tmp_path / "other", array, uid="1.2.3.7")
    bad_input(told(copy, source, "--out", tmp_path / "sct.mha"), "CT_0001.dcm", "would be lost")
    assert {name.name: name.read_bytes() for name in source.iterdir()} == before
    assert not (tmp_path / "sct.mha").exists()
    for _ in range(2):
        done = told(source, tmp_path / "sct", "--out", tmp_path / "sct.mha")
        assert done.returncode == 0 and len(list((tmp_path / "sct").iterdir())) == SHAPE[0], done.stderr


def refused(directory, *texts):
    with pytest.raises(InputError) as fault:
        read_series(directory)
    assert "\n" not in str(fault.value) and "Doe" not in str(fault.value)
    for text in texts:
        assert text in str(fault.value)


def test_mixed_series(tmp_path, array):
    write_mr(tmp_path / "mr", array)
    for name in write_mr(tmp_path / "other", array[:3], uid="1.2.3.5").iterdir():
        name.rename(tmp_path / "mr" / f"x{name.name}")
    refused(tmp_path / "mr", "2 series", "7, 3 files")


def test_missing_slices(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    at(directory, 3).unlink()
    refused(directory, "1 slice missing", "6.6 mm", "3.3 mm")


def stacked(directory, heights):
    """A series of these heights (mm)."""
    write_mr(directory, np.ones((len(heights), 8, 8), np.uint16))
    for z, height in enumerate(heights):
        data = pydicom.dcmread(at(directory, z))
        data.ImagePositionPatient[2] = f"{height:.6f}"
        data.save_as(at(directory, z))
    return directory


THIN = [(step, decimals) for step in (0.25, 0.4, 0.625, 0.9, 1.25) for decimals in (1, 2, 3)]


@pytest.mark.parametrize(("step", "decimals"), THIN)
def test_thin_slices_with_rounded_positions(tmp_path, step, decimals):
    """A step of 0.625 mm written with one decimal is 0.6 or 0.7 mm; a slice that is missing is still found."""
    heights = [round(-33.3 + step * z, decimals) for z in range(60)]
    volume = read_series(stacked(tmp_path / "all", heights))
    assert volume.grid.spacing[2] == pytest.approx(step, abs=0.1 / 59 + 1e-6)
    for gone in (1, 30, 58):
        refused(stacked(tmp_path / f"without{gone}", heights[:gone] + heights[gone + 1 :]), "1 slice missing")
    few = [*heights[:2], *heights[3:6]]
    refused(stacked(tmp_path / "few", few), "slice")


def test_steps_that_change_on_the_way(tmp_path):
    """Each differs little from the median; together they lead millimetres away."""
    heights = np.cumsum([1.0] * 30 + [1.04] * 30)
    refused(stacked(tmp_path / "mr", heights), "not evenly spaced")


def test_one_step_that_is_wider_than_the_others(tmp_path):
    """Half a millimetre hardly shows against a line through all slices; the step itself does."""
    heights = np.cumsum([3.0] * 6 + [3.5] + [3.0] * 6)
    refused(stacked(tmp_path / "mr", heights), "not evenly spaced", "3.5 mm")


def test_uneven_spacing(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    data = pydicom.dcmread(at(directory, 6))
    data.ImagePositionPatient[2] += 1.1
    data.save_as(at(directory, 6))
    refused(directory, "not evenly spaced", "4.4 mm")


def test_doubled_slice(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    data = pydicom.dcmread(at(directory, 2))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.77"
    data.save_as(directory / "copy.dcm")
    refused(directory, "same position")


def test_gantry_tilt(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    for z in range(SHAPE[0]):
        data = pydicom.dcmread(at(directory, z))
        data.ImagePositionPatient[1] += 0.6 * z
        data.save_as(at(directory, z))
    refused(directory, "gantry tilt")


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("SamplesPerPixel", 3, "colour"),
        ("NumberOfFrames", 5, "multi-frame"),
        ("ImagePositionPatient", None, "no ImagePosition"),
        ("Rows", 43, "pixels"),
        ("PixelData", None, "no pixel data"),
        ("PixelSpacing", [1.0, 1.0], "pixel spacing"),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], "not parallel"),
    ],
)
def test_slices_that_do_not_fit(tmp_path, array, keyword, value, text):
    directory = write_mr(tmp_path / "mr", array)
    edit(directory, keyword, value, slice(3, 4))
    refused(directory, text)


def test_no_dicom_and_one_slice(tmp_path, array):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("hello")
    refused(tmp_path / "none", "no image")
    refused(write_mr(tmp_path / "one", array[:1]), "one slice")


def test_truncated_pixels(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    name = at(directory, 4)
    name.write_bytes(name.read_bytes()[:-3000])
    refused(directory, name.name, "truncated")


def test_an_mr_series_is_refused_by_a_bundle_for_cbct(tmp_path, array, model):
    source = write_mr(tmp_path / "ct", array)
    edit(source, "Modality", "CT", slice(None))
    process = call("predict.py", "--model", model, "--image", source, "--region", "AB", "--out", tmp_path / "sct.mha")
    assert process.returncode == 2 and "DICOM modality CT, the bundle is for mr" in process.stderr
    assert not (tmp_path / "sct.mha").exists()
