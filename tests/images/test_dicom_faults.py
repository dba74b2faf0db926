"""What exporters, archives and anonymisers do to series: another image must not come of it, nor a traceback."""

import io
import shutil

import numpy as np
import pydicom
import pytest
from dicom_series import SHAPE, at, edit, write_ct, write_enhanced, write_mr
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from synthct.core.errors import InputError
from synthct.images.dicom.choice import Choice
from synthct.images.dicom.folder import contents
from synthct.images.dicom.series import open_series, read_series
from synthct.images.dicom.sheet import seen
from synthct.images.dicom.writing import write_series
from synthct.prediction import objects


@pytest.fixture
def array():
    return np.random.default_rng(5).integers(1, 900, SHAPE).astype(np.uint16)


def refused(directory, *texts, choice=None):
    with pytest.raises(InputError) as said:
        open_series(directory, choice)
    assert all(text in str(said.value) for text in texts), said.value
    assert "\n" not in str(said.value) and "p-" not in str(said.value)


def raw(directory, keyword, value: bytes, which=slice(0, 1)):
    """Put bytes into an element that pydicom would not take."""
    for name in sorted(directory.iterdir())[which]:
        data = pydicom.dcmread(name)
        setattr(data, keyword, "0" * len(value))
        data.save_as(name)
        told = name.read_bytes()
        assert told.count(b"0" * len(value)) >= 1
        tag = data[keyword].tag
        head = tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little")
        start = told.index(head) + 8
        name.write_bytes(told[:start] + value + told[start + len(value) :])


# slope and intercept


@pytest.mark.parametrize(
    ("keyword", "value"), [("RescaleIntercept", b"-1024,00"), ("RescaleSlope", b"0,50"), ("RescaleIntercept", b"none")]
)
def test_a_scale_that_is_no_number_is_named(tmp_path, array, keyword, value):
    """By the standard's default in its place every voxel would be 1024 HU off, or half."""
    directory = write_ct(tmp_path / "ct", array)
    raw(directory, keyword, value)
    refused(directory, sorted(directory.iterdir())[0].name, keyword, value.decode())


def test_a_scale_filled_up_with_zero_bytes_is_read(tmp_path, array):
    directory = write_ct(tmp_path / "ct", array)
    raw(directory, "RescaleIntercept", b"-1024\0", slice(None))
    assert np.array_equal(read_series(directory).array, array)


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_scale_in_some_slices_only_is_refused(tmp_path, array, keyword, value):
    directory = write_ct(tmp_path / "ct", array)
    edit(directory, keyword, value, slice(2, 3))
    refused(directory, sorted(directory.iterdir())[2].name, keyword)


def test_an_empty_range_of_padding_is_none(tmp_path):
    """Read as 0 it would reach from the padding value over all soft tissue."""
    hu = np.random.default_rng(1).integers(-900, 1500, SHAPE)
    directory = write_ct(tmp_path / "ct", hu)
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        data.PixelRepresentation, data.RescaleIntercept = 1, 0
        stored = data.pixel_array.astype("<i2") - 1024
        stored[0, 0] = -2000
        data.PixelData = stored.tobytes()
        data.add_new("PixelPaddingValue", "SS", -2000)
        data.add_new("PixelPaddingRangeLimit", "SS", None)
        data.save_as(name)
    hu[:, 0, 0] = -1024
    assert np.array_equal(read_series(directory).array, hu)


@pytest.mark.parametrize("compressed", [False, True])
def test_padding_of_monochrome1_is_dark(tmp_path, array, compressed):
    array[:, :3] = 0
    directory = write_mr(tmp_path / "mr", array)
    for name in directory.iterdir():
        data = pydicom.dcmread(name)
        data.PhotometricInterpretation = "MONOCHROME1"
        data.add_new("PixelPaddingValue", "US", 0)
        if compressed:
            data.compress(RLELossless)
        data.save_as(name)
    found = read_series(directory).array
    assert not found[:, :3].any() and np.array_equal(found[:, 3:], 65535 - array[:, 3:].astype(int))


# files and objects


def test_a_transfer_syntax_of_nobody_is_named(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    name = at(directory, 2)
    name.write_bytes(name.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"))
    refused(directory, name.name, "TransferSyntaxUID", "1.2.840.113619.5.2")


def test_the_check_of_a_sheet_finds_slices_without_their_pixels(tmp_path, array):
    whole, short, none = (write_mr(tmp_path / name, array) for name in ("whole", "short", "none"))
    at(short, 3).write_bytes(at(short, 3).read_bytes()[:-2000])
    edit(none, "PixelData", None, slice(3, 4))
    assert seen(whole, "image", "mr").fault == ""
    for directory, name in ((short, at(short, 3)), (none, sorted(none.iterdir())[3])):
        said = seen(directory, "image", "mr").fault
        assert said and name.name in said and "truncated" in said


def test_frames_that_their_groups_do_not_describe_are_not_dropped(tmp_path, array):
    directory = write_enhanced(tmp_path / "mr", array)
    data = pydicom.dcmread(directory / "enhanced.dcm")
    data.PerFrameFunctionalGroupsSequence = list(data.PerFrameFunctionalGroupsSequence)[:5]
    data.save_as(directory / "enhanced.dcm")
    refused(directory, "enhanced.dcm", "7 frames", "5 of them")


def test_a_damaged_group_is_a_line(tmp_path, array):
    """Four bytes where eight are a number: pydicom reads on in the middle of the next element."""
    directory = write_enhanced(tmp_path / "mr", array)
    file = directory / "enhanced.dcm"
    start = file.read_bytes().index(b"\x18\x00\x82\x90FD\x08\x00")  # the first EffectiveEchoTime
    told = bytearray(file.read_bytes())
    told[start + 6] = 4
    file.write_bytes(told)
    refused(directory, "enhanced.dcm", "cannot be read")
    assert contents(directory).unreadable


def test_a_bare_data_set_is_read(tmp_path, array):
    """No preamble, no group 2, as some archives store them."""
    directory = write_mr(tmp_path / "mr", array)
    for name in directory.iterdir():
        bare, stream = Dataset(), io.BytesIO()
        bare.update(pydicom.dcmread(name))
        pydicom.filewriter.dcmwrite(stream, bare, implicit_vr=True, little_endian=True)
        name.write_bytes(stream.getvalue())
    assert np.array_equal(read_series(directory).array, array)


def test_slices_packed_one_by_one_are_missed(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    for z in (5, 6):
        at(directory, z).rename(at(directory, z).with_suffix(".dcm.gz"))
    for name in directory.glob("*.gz"):
        name.write_bytes(b"\x1f\x8b" + name.read_bytes())
    refused(directory, ".dcm.gz", "unpack")


def test_the_viewer_on_a_patients_disc_is_passed_over(tmp_path, array):
    write_mr(tmp_path / "IMAGES", array)
    (tmp_path / "VIEWER").mkdir()
    for name in ("app.dat", "help.chm", "setup.msi", "font.ttf", "app.exe.config", "libview.so"):
        (tmp_path / "VIEWER" / name).write_bytes(b"MZ no slice" * 20)
    assert np.array_equal(read_series(tmp_path).array, array)


@pytest.mark.parametrize("choice", [None, Choice(series="4")])
def test_a_series_goes_on_in_a_directory_below_it_and_behind_a_link(tmp_path, array, choice):
    directory = write_mr(tmp_path / "mr", array)
    for place, z in ((directory / "more", 6), (tmp_path / "elsewhere", 5)):
        place.mkdir()
        at(directory, z).rename(place / f"_{z}.dcm")
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    (directory / "more" / "loop").symlink_to(directory)
    assert np.array_equal(read_series(directory, choice).array, array)


# one series, one image


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_two_of_what_a_series_has_once(tmp_path, array, keyword):
    directory = write_mr(tmp_path / "mr", array)
    edit(directory, keyword, "1.2.77", slice(4, None))
    refused(directory, keyword, "2 values")


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "StackID", "ConvolutionKernel"])
def test_two_images_half_a_step_apart_are_two(tmp_path, array, keyword):
    """Their slices interleave into one even stack."""
    directory = write_mr(tmp_path / "mr", array[:6])
    for z in range(6):
        data = pydicom.dcmread(at(directory, z))
        setattr(data, keyword, str(1 + z % 2))
        data.save_as(at(directory, z))
    refused(directory, f"--select {keyword}=VALUE")
    assert np.array_equal(read_series(directory, Choice(select=(f"{keyword}=2",))).array, array[1:6:2])


def test_two_series_of_one_number_are_listed_by_their_uids(tmp_path, array):
    write_mr(tmp_path / "a", array)
    write_mr(tmp_path / "b", array, uid="1.2.3.5")
    refused(tmp_path, "1.2.3.4 (MR", "1.2.3.5 (MR", choice=Choice(series="4"))


def test_an_object_that_is_there_twice_counts_once_whatever_its_packing(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    data = pydicom.dcmread(at(directory, 3))
    uid = data.SOPInstanceUID
    data.compress(RLELossless)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.save_as(directory / "copy.dcm")
    assert np.array_equal(read_series(directory).array, array)
    shutil.copy(at(directory, 3), directory / "copy.dcm")
    edit(directory, "RescaleSlope", 2, slice(-1, None))
    refused(directory, "copy.dcm", "another content")


# what is written


def test_nobody_elses_name_comes_upon_an_sct(tmp_path, array):
    """The series that says whose it is must be of the image's patient and frame of reference."""
    image, other = (open_series(write_mr(tmp_path / name, array)) for name in "ab")
    wanted = objects.Wanted(tmp_path / "sct")
    assert not [line for line in objects.check(wanted, other, image.grid, image) if "grid" in line]
    for keyword, value in (("PatientID", "p-99"), ("FrameOfReferenceUID", "1.2.99")):
        changed = write_mr(tmp_path / keyword, array)
        edit(changed, keyword, value, slice(None))
        with pytest.raises(InputError, match=keyword):
            objects.check(wanted, open_series(changed), image.grid, image)
    moved = open_series(write_mr(tmp_path / "moved", array, origin=(-22.0, 33.0, -410.5)))
    assert (
        "another grid" in objects.check(wanted, moved, image.grid)[0]
    )  # an image without a name: all that can be said


def test_what_is_said_of_time_burned_names_and_loss(tmp_path, array):
    directory = write_mr(tmp_path / "mr", array)
    for keyword, value in (
        ("TimezoneOffsetFromUTC", "+0900"),
        ("BurnedInAnnotation", "YES"),
        ("LossyImageCompression", "01"),
        ("LossyImageCompressionRatio", [4, 2.5]),
    ):
        edit(directory, keyword, value, slice(None))
    source = open_series(directory)
    made = write_series(source.read(), source, tmp_path / "sct")[0]
    assert "TimezoneOffsetFromUTC" not in made, "the series' time is this machine's"
    assert made.BurnedInAnnotation == "YES" and list(made.LossyImageCompressionRatio) == [4, 2.5]
