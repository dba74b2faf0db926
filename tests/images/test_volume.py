"""The one door for volumes: what is read is what was written, and what is damaged, short or unusable is refused."""

import gc
import gzip
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from catalogue import raw

from synthct.core.errors import InputError
from synthct.images import streams
from synthct.images.grid import Grid, Volume
from synthct.images.headers import read_header
from synthct.images.volume import look, read_mask, read_volume, write_volume

SHAPE = (8, 22, 26)
SUFFIXES = ("mha", "nii.gz", "nrrd", "nii")
KINDS = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8")


@pytest.fixture
def ct():
    """HU as a CT's: air about a body, with noise, so that a compressed file has bytes to lose."""
    array = np.random.default_rng(0).normal(0, 40, SHAPE)
    array[:, :4] = -1000
    return array.round().astype(np.int16)


def image_of(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 1.5, 3.0))
    image.SetOrigin((-20.0, 33.0, -410.5))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    return image


def write(array, path, compress=True):
    sitk.WriteImage(image_of(array), str(path), compress)
    return path


def refused(path, *texts, kind=""):
    with pytest.raises(InputError) as fault:
        read_volume(path, "CT", kind)
    assert str(fault.value).startswith(f"CT {path}: "), fault.value
    for text in texts:
        assert text in str(fault.value), fault.value


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_read_as_simpleitk_reads_it(tmp_path, ct, suffix, kind):
    array = (ct / 9 if kind.endswith("1") else ct).astype(kind)
    for compress in (True, False):
        path = write(array, tmp_path / f"v{compress}.{suffix}", compress)
        volume = read_volume(path)
        assert volume.array.dtype == array.dtype and np.array_equal(volume.array, array)
        assert volume.grid.size == SHAPE[::-1] and volume.grid.spacing == pytest.approx((0.5, 1.5, 3.0))
        assert volume.grid.direction == pytest.approx((0, -1, 0, 1, 0, 0, 0, 0, 1), abs=1e-6)


def test_the_checksum_alone_vouches_for_a_whole_file(tmp_path, ct, monkeypatch):
    """A whole file is unpacked once, by ITK; what the checks cost is a sum over the voxels."""

    def never(header):
        raise AssertionError("unpacked a second time")

    monkeypatch.setattr(streams, "unpacked", never)
    for suffix in ("mha", "nii.gz", "nrrd"):
        for kind in ("i2", "f4"):
            assert np.array_equal(read_volume(write(ct.astype(kind), tmp_path / f"{kind}.{suffix}")).array, ct)


@pytest.mark.parametrize("suffix", ["mha", "nii.gz", "nrrd"])
def test_a_flipped_bit_or_a_lost_page_is_never_read_as_another_patient(tmp_path, ct, suffix):
    data = write(ct, tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"bad.{suffix}"
    read = 0
    for place in np.random.default_rng(0).integers(len(data) // 4, len(data), 40):
        bad = bytearray(data)
        bad[place] ^= 0x10
        path.write_bytes(bad)
        try:
            assert np.array_equal(read_volume(path).array, ct)
            read += 1  # a bit that decides nothing (padding of the last byte)
        except InputError as fault:
            assert f"image {path}: " in str(fault)
    assert read <= 2
    bad = bytearray(data)
    bad[len(bad) // 2 : len(bad) // 2 + 512] = bytes(512)
    path.write_bytes(bad)
    refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_a_file_that_ends_early_is_called_truncated(tmp_path, ct, suffix, compress):
    path = write(ct, tmp_path / f"v.{suffix}", compress)
    data = path.read_bytes()
    for part in (0.3, 0.7, 0.999):
        path.write_bytes(data[: int(len(data) * part)])
        refused(path, "truncated")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_every_format(tmp_path, ct, suffix, compress, odd):
    array = ct.astype(np.float32)
    array[2, 3, 4] = odd
    refused(write(array, tmp_path / f"v.{suffix}", compress), "1 voxels are NaN or infinite")


def nifti(tmp_path, array, name="v.nii", **changes):
    """A NIfTI with fields of its header replaced: {offset: (format, values)}."""
    write(array, tmp_path / "plain.nii", False)
    data = bytearray((tmp_path / "plain.nii").read_bytes())
    for at, (form, *values) in changes.items():
        struct.pack_into(f"<{form}", data, int(at[1:]), *values)
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(data)) if name.endswith(".gz") else bytes(data))
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize(("slope", "offset"), [(2.0, 0.0), (1.0, -1024.0), (0.0039, 0.001), (0.0, 0.0), (np.nan, 0.0)])
def test_slopes_of_nifti_are_applied_as_simpleitk_applies_them(tmp_path, ct, name, slope, offset):
    path = nifti(tmp_path, ct, name, _112=("ff", slope, offset))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    volume = read_volume(path)
    assert volume.array.dtype == expected.dtype
    assert np.allclose(volume.array, expected, rtol=1e-6)
    assert volume.grid.direction == pytest.approx((0, -1, 0, 1, 0, 0, 0, 0, 1), abs=1e-6)


def test_damage_in_a_scaled_nifti_is_found_too(tmp_path, ct):
    path = nifti(tmp_path, ct, "v.nii.gz", _112=("ff", 2.0, 1.0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused(path, "damaged")


def test_units_of_nifti(tmp_path, ct):
    """Metres and micrometres that a header declares are turned into mm; those that it does not are named."""
    metres = {"_76": ("8f", 1, 0.001, 0.002, 0.003, 0, 0, 0, 0), "_252": ("hh", 1, 0)}
    assert read_volume(nifti(tmp_path, ct, _123=("B", 1), **metres)).grid.spacing == pytest.approx((1, 2, 3))
    refused(nifti(tmp_path, ct, _123=("B", 2), **metres), "spacing 0.001×0.002×0.003 mm", "unit")


def test_a_spacing_of_zero_is_not_one_millimetre(tmp_path, ct):
    refused(nifti(tmp_path, ct, _76=("8f", 1, 0, 1, 1, 0, 0, 0, 0)), "spacing 0 along x")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("ElementSpacing = 0.5", "ElementSpacing = nan", "ElementSpacing holds nan"),
        ("Offset = -20", "Offset = nan", "Offset holds nan"),
        ("ElementSpacing = 0.5", "ElementSpacing = 0", "spacing 0 1.5 3, expected more than 0 mm"),
        ("ElementSpacing = 0.5 1.5 3", "ElementSpacing = 9e-4 1e-3 3e-3", "another unit"),
        ("TransformMatrix = 0 1", "TransformMatrix = 0.5 1", "right angles"),
        ("TransformMatrix = 0 1 0", "TransformMatrix = 0 2 0", "right angles"),
        ("DimSize = 26 22 8", "DimSize = 26 22 9", "truncated"),
        ("DimSize = 26 22 8", "DimSize = 26 22 -8", "promises axes of 26×22×-8"),
        ("DimSize = 26 22 8", "DimSize = 90000 90000 90000", "memory"),
        ("DimSize = 26 22 8", "DimSize = 26 22", "expected 3 numbers as NDims"),
        ("MET_SHORT", "MET_STRING", "ElementType MET_STRING"),
        ("MET_SHORT", "MET_FLOAT", "truncated"),
        ("LOCAL", "gone.raw", "gone.raw, which is not there"),
        ("LOCAL", "gone" * 100, "gonegone, which is not there"),  # longer than a name can be: found by the fuzzer
        ("LOCAL", "go\0ne", "which is not there"),
    ],
)
def test_headers_that_cannot_be(tmp_path, ct, old, new, text):
    data = write(ct, tmp_path / "v.mha", False).read_bytes()
    assert old.encode() in data
    (tmp_path / "v.mha").write_bytes(data.replace(old.encode(), new.encode()))
    refused(tmp_path / "v.mha", text)


def test_an_image_larger_than_memory_is_refused_before_it_is_read(tmp_path, ct, monkeypatch):
    path = write(ct, tmp_path / "v.nii.gz")
    monkeypatch.setattr(streams, "free_memory", lambda: ct.nbytes)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda _: pytest.fail("read"))
    refused(path, "26×22×8 voxels", "GiB are free")


@pytest.mark.parametrize("name", ["V.MHA", "V.NII", "V.NII.GZ", "V.NRRD"])
def test_names_in_capitals(tmp_path, ct, name):
    write(ct, tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert np.array_equal(read_volume(tmp_path / name).array, ct)


def test_names_that_belie_their_content(tmp_path, ct):
    """gzip named .nii, a plain .nii.gz, and one format under another's name: read by what is inside."""
    write(ct, tmp_path / "a.nii.gz").rename(tmp_path / "zipped.nii")
    write(ct, tmp_path / "a.nii", False).rename(tmp_path / "plain.nii.gz")
    write(ct, tmp_path / "a.mha").rename(tmp_path / "meta.nrrd")
    for name in ("zipped.nii", "plain.nii.gz", "meta.nrrd"):
        assert np.array_equal(read_volume(tmp_path / name).array, ct), name
    (tmp_path / "web.nii.gz").write_text("<html>503 Service Unavailable</html>" * 50)
    refused(tmp_path / "web.nii.gz", "no header of MetaImage, NIfTI or NRRD")
    (tmp_path / "none.mha").write_bytes(b"")
    refused(tmp_path / "none.mha", "no header")


def test_a_gzip_of_several_members_and_one_with_zeros_behind(tmp_path, ct):
    data = write(ct, tmp_path / "plain.nii", False).read_bytes()
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(data[:3000]) + gzip.compress(data[3000:]))
    assert np.array_equal(read_volume(path).array, ct)
    path.write_bytes(gzip.compress(data) + bytes(512))
    assert np.array_equal(read_volume(path).array, ct)


def test_detached_headers(tmp_path, ct):
    for suffix in ("mhd", "nhdr"):
        path = write(ct, tmp_path / f"v.{suffix}")
        assert np.array_equal(read_volume(path).array, ct)
        data = read_header(path).data
        whole = data.read_bytes()
        data.write_bytes(whole[:-40])
        refused(path, "truncated")
        data.unlink()
        refused(path, "not there")


def test_big_endian_files(tmp_path, ct):
    head = write(ct, tmp_path / "v.mha", False).read_bytes().split(b"LOCAL\n")[0] + b"LOCAL\n"
    head = head.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True").replace(
        b"CompressedData = False", b"CompressedData = True"
    )
    packed = zlib.compress(ct.astype(">i2").tobytes())
    head = head.replace(b"ElementDataFile", b"CompressedDataSize = %d\nElementDataFile" % len(packed))
    (tmp_path / "v.mha").write_bytes(head + packed)
    assert np.array_equal(read_volume(tmp_path / "v.mha").array, ct)
    (tmp_path / "v.mha").write_bytes(head + packed[:-1] + bytes([packed[-1] ^ 1]))
    refused(tmp_path / "v.mha", "checksum")


@pytest.mark.parametrize("padding", [-2000, -3024, -32768, -3.4e38])
@pytest.mark.parametrize("kind", ["ct", "cbct"])
def test_padding_is_air(tmp_path, ct, padding, kind):
    array = ct.astype(np.float32 if padding < -32768 else np.int16)
    array[:, :, :5] = padding
    expected = ct.copy()
    expected[:, :, :5] = -1024
    assert np.array_equal(read_volume(write(array, tmp_path / "v.nii.gz"), kind=kind).array, expected)


def test_padding_of_an_mr_is_no_signal(tmp_path, ct):
    array = np.abs(ct).astype(np.float32)
    expected = array.copy()
    array[:, :2], expected[:, :2] = -3.4e38, 0
    assert np.array_equal(read_volume(write(array, tmp_path / "v.mha"), kind="mr").array, expected)


def test_values_that_no_computation_can_carry(tmp_path, ct):
    offset = write((ct + 1024).astype(np.uint16), tmp_path / "offset.mha")
    refused(offset, "no voxel below -200 HU (lowest ", "rescale intercept", kind="ct")
    refused(write(np.abs(ct) % 900, tmp_path / "mr.mha"), "is it another image?", kind="ct")
    refused(write(ct, tmp_path / "ct.mha"), "looks like HU", kind="mr")
    array = ct.astype(np.float32)
    array[1, 6, 6] = 1e7
    for kind, text in {
        "cbct": "times the 99.9th percentile",
        "ct": "expected at most 65535",
        "mr": "times the",
    }.items():
        hot = array if kind != "mr" else np.abs(array)
        refused(write(hot, tmp_path / f"hot_{kind}.mha"), "1e+07", text, kind=kind)
    array[:] = np.float32(3.4e38)
    refused(write(array, tmp_path / "none.mha"), "3.4e+38", kind="mr")


CIRCLE = np.hypot(*np.mgrid[-1:1:22j, -1:1:26j]) > 1


@pytest.mark.parametrize("padding", [-1024, -2000, -3024, None])
def test_a_ct_without_its_intercept_is_found_behind_its_padding(tmp_path, ct, padding):
    """Or behind one low voxel: what was measured is judged, and not the lowest value."""
    lost = ct + 1024
    lost[0, 0, 0] = -1000
    if padding:
        lost[:, CIRCLE] = padding
    refused(write(lost, tmp_path / "v.mha"), "practically no voxel below -200 HU", "rescale intercept", kind="ct")
    measured = ct.copy()
    if padding:
        measured[:, CIRCLE] = padding
    read_volume(write(measured, tmp_path / "good.mha"), kind="ct")


def test_cts_as_clinics_have_them_pass(tmp_path, ct):
    """Masked to the body; cropped within it, with some gas; a tenth of it bone; its corners outside the circle."""
    rng = np.random.default_rng(1)
    body = rng.normal(40, 30, SHAPE).round().astype(np.int16)
    masked, cropped = np.where(ct > -500, body, -1024), body.copy()
    cropped[3, 4:6, 4:6] = -900
    bony, rim = ct.copy(), ct.copy()
    bony[:, 10:12] = 1200
    rim[:, CIRCLE] = -3024
    edge = rim.astype(np.float32)
    edge[:, 5, :4] = np.linspace(-3000, -1100, 4)  # an interpolated edge
    for number, array in enumerate((masked, cropped, bony, rim, edge)):
        read_volume(write(array, tmp_path / f"{number}.nii.gz"), kind="ct")


def test_low_dose_cbct_and_bright_mr_pass(tmp_path, ct):
    noisy = (ct + np.random.default_rng(1).normal(0, 120, SHAPE)).astype(np.int16)
    assert (noisy < -1100).mean() > 0.02
    read_volume(write(noisy, tmp_path / "cbct.mha"), kind="cbct")
    bright = np.where(ct > -500, 40000 + 50 * ct.astype(np.int32), 0).clip(0, 65535).astype(np.uint16)
    assert np.array_equal(read_volume(write(bright, tmp_path / "mr.mha"), kind="mr").array, bright)
    said = ("lie below -1500 and are not one padding value", "unsigned values written as signed")
    refused(write(bright.view(np.int16), tmp_path / "wrapped.mha"), *said, kind="mr")
    twice = (noisy.astype(np.int32) * 2 - 1200).astype(np.int16)
    refused(write(twice, tmp_path / "twice.mha"), "applied twice", kind="cbct")


def test_a_ct_without_contrast_is_refused(tmp_path, ct):
    refused(write(np.full(SHAPE, -500, np.int16), tmp_path / "one.mha"), "one.mha: constant, -500 to -500", kind="ct")
    refused(write(np.full(SHAPE, -2000, np.int16), tmp_path / "none.mha"), "no voxel above -1024 HU", kind="ct")
    scaled = (ct / 1000).astype(np.float32)
    scaled[:, CIRCLE] = -1024
    refused(write(scaled, tmp_path / "scaled.mha"), "nearly constant", "were its values scaled?", kind="ct")


def test_labels_with_a_slope_are_whole_again(tmp_path):
    labels = np.random.default_rng(0).integers(0, 6, SHAPE)
    labels[0, 0, :2] = 5, 1
    stored = np.rint((labels - 0.0) / 0.0039).astype(np.int16)
    path = nifti(tmp_path, stored, _112=("ff", 0.0039, 0.0))
    assert not np.array_equal(read_volume(path).array, labels), "else there is nothing to mend"
    assert np.array_equal(read_volume(path, kind="labels").array, labels)
    assert np.array_equal(read_mask(path).array, labels > 0)
    refused(write(labels * 0.31, tmp_path / "soft.mha"), "expected whole numbers (labels)", kind="labels")


def test_a_mask_of_255_and_one_of_one(tmp_path):
    array = np.zeros(SHAPE, np.uint8)
    array[2:4, 5:9, 5:9] = 255
    assert read_mask(write(array, tmp_path / "m.mha")).array.sum() == 32
    assert read_mask(write((array > 0).astype(np.float32), tmp_path / "f.nii.gz")).array.sum() == 32
    array[2:4, 5:9, 5:9] = np.arange(32).reshape(2, 4, 4)
    assert read_mask(write(array, tmp_path / "labels.mha")).array.sum() == 31


def test_a_soft_mask_of_integers_is_refused(tmp_path):
    soft = np.zeros(SHAPE, np.uint8)
    soft[2:4] = np.linspace(0, 255, 26)
    soft[4:6] = np.linspace(3, 250, 26)
    with pytest.raises(InputError, match="different values in a sample, expected 0 and 1 .*is it a soft mask"):
        read_mask(write(soft, tmp_path / "m.mha"))


SFORM = {"_252": ("hh", 0, 1)}  # the sform alone says the place


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_an_sform_alone_is_a_grid_of_pixdims_spacing(tmp_path, ct, name):
    """ITK takes the spacing from pixdim and the axes from the sform."""
    assert read_volume(nifti(tmp_path, ct, name, **SFORM)).grid.spacing == pytest.approx((0.5, 1.5, 3.0))
    other = nifti(tmp_path, ct, name, **SFORM, _76=("8f", 1, 1, 1, 1, 0, 0, 0, 0))
    refused_by_both(other, "spacing 0.5×1.5×3 mm by its sform, 1×1×1 mm by its pixdim")
    sheared = ("12f", 0.0, 1.5, 0.0, 20.0, 0.5, 0.4, 0.0, -33.0, 0.0, 0.0, 3.0, -410.5)
    refused_by_both(nifti(tmp_path, ct, name, **SFORM, _280=sheared), "sform is sheared", "right angles")
    refused_by_both(nifti(tmp_path, ct, name, **SFORM, _280=("12f", *[0.0] * 12)), "sform has an axis of length 0")


def refused_by_both(path, *texts):
    """By `look`, which reads the header, and by `read_volume`."""
    refused(path, *texts)
    with pytest.raises(InputError) as fault:
        look(path, "CT")
    assert all(text in str(fault.value) for text in texts), fault.value


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("zipped", [True, False])
def test_nifti_2_is_called_by_its_name(tmp_path, order, zipped):
    data = struct.pack(f"{order}i", 540) + b"n+2\0\r\n\x1a\n" + bytes(1000)
    path = tmp_path / ("v.nii.gz" if zipped else "v.nii")
    path.write_bytes(gzip.compress(data) if zipped else data)
    refused_by_both(path, "is NIfTI-2, expected NIfTI-1")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ElementSpacing": None}, "neither ElementSpacing nor ElementSize is there"),
        ({"ElementSpacing": "-1 1 3"}, "spacing -1 1 3, expected more than 0 mm"),
        ({"ElementSpacing": None, "ElementSize": "1 0 3"}, "spacing 1 0 3, expected more than 0 mm"),
    ],
)
def test_a_metaimage_says_its_spacing(tmp_path, changes, text):
    (tmp_path / "v.mha").write_bytes(raw.mha(bytes(11520), **changes))
    refused_by_both(tmp_path / "v.mha", text)
    (tmp_path / "good.mha").write_bytes(raw.mha(bytes(11520), ElementSpacing=None, ElementSize="1 1 3"))
    assert read_volume(tmp_path / "good.mha").grid.spacing == (1, 1, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"space_directions": None}, "neither space directions nor spacings is there"),
        ({"space": None}, "space is missing, expected one of left-posterior-superior"),
        ({"space": "3D-left-handed"}, "space 3d-left-handed, expected one of"),
        ({"space": "scanner-xyz"}, "space scanner-xyz, expected one of"),
        ({"space_directions": None, "spacings": "1 -1 3"}, "spacings 1 -1 3, expected more than 0 mm"),
    ],
)
def test_a_nrrd_says_its_spacing_and_its_axes(tmp_path, changes, text):
    (tmp_path / "v.nrrd").write_bytes(raw.nrrd(bytes(11520), **changes))
    refused_by_both(tmp_path / "v.nrrd", text)
    for space in ("LPS", "RAS", "right-anterior-superior", "Left-Posterior-Superior"):
        (tmp_path / "good.nrrd").write_bytes(raw.nrrd(bytes(11520), space=space))
        sign = -1 if space.upper().startswith("R") else 1
        assert read_volume(tmp_path / "good.nrrd").grid.direction[:5:4] == (sign, sign)


def test_voxels_in_several_files_are_refused(tmp_path):
    for number in range(4):
        (tmp_path / f"s{number}.raw").write_bytes(bytes(1920))
    for elements in ("s%d.raw 0 3 1", "LIST\ns0.raw"):
        (tmp_path / "v.mhd").write_bytes(raw.mha(b"", elements))
        refused_by_both(tmp_path / "v.mhd", "voxels lie in several files", "expected one")
        (tmp_path / "v.nhdr").write_bytes(raw.nrrd(b"", data_file=elements))
        refused_by_both(tmp_path / "v.nhdr", "voxels lie in several files", "expected one")


def test_an_output_is_one_file(tmp_path, ct):
    volume = Volume(ct, Grid(SHAPE[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    for suffix in ("mhd", "nhdr", "jpg"):
        with pytest.raises(InputError, match="unknown format"):
            write_volume(volume, tmp_path / f"v.{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_read_is_the_readers_own(tmp_path, ct, suffix):
    """The voxels are taken over from ITK without a copy: they outlive its image, and are nobody else's."""
    path = write(ct, tmp_path / f"v.{suffix}")
    first = read_volume(path).array
    gc.collect()
    others = [read_volume(path).array for _ in range(20)]  # would be put where the first image was
    others[0][:] = 7
    assert first.flags.writeable and not first.flags.owndata
    assert np.array_equal(first, ct) and np.array_equal(others[1], ct) and (others[0] == 7).all()
