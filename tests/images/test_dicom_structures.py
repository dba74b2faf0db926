"""RTSTRUCT and SEG as systems leave them: of another patient, drawn twice, with slices left out, damaged."""

import numpy as np
import pydicom
import pytest
from dicom_series import SHAPE, drawn, write_ct, write_mr
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from synthct.core.errors import InputError
from synthct.images.dicom import regions, structures
from synthct.images.dicom.series import open_series
from synthct.images.dicom.sheet import faults, seen
from synthct.images.dicom.structures import mask_of
from synthct.images.grid import Grid
from synthct.images.volume import read_mask, read_volume, write_volume

GRID = Grid((40, 36, 13), (1.0, 1.25, 3.0), (-20.0, -15.0, 100.0))
HEIGHTS = [100.0 + 3 * z for z in range(13)]
SQUARE = [(-12.3, -8.2), (11.4, -8.2), (11.4, 17.3), (-12.3, 17.3)]
HOLE = [(-4.1, 0.2), (5.2, 0.2), (5.2, 9.4), (-4.1, 9.4)]


def planes(outline, heights):
    return [[(x, y, z) for x, y in outline] for z in heights]


def mended(file, change):
    """The object with `change` made to it."""
    data = pydicom.dcmread(file)
    change(data)
    data.save_as(file)
    return file


def damaged(item, keyword, kind, value):
    """An element whose bytes are none of its kind, as a cut or a foreign writer leaves it."""
    tag = Tag(keyword)
    item._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)


def slices(mask):
    """Which slices have something in them."""
    return np.flatnonzero(mask.array.any((1, 2))).tolist()


@pytest.fixture
def series(tmp_path):
    """An MR series, frame of reference 1.2.9, with a body in it."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 22) / 16) ** 2 + ((x - 26) / 20) ** 2 < 1
    return write_mr(tmp_path / "mr", (body * (300 + z + y + x)).astype(np.uint16))


@pytest.fixture
def on_series(tmp_path):
    """An RTSTRUCT with a BODY on that series."""
    outline = [(-15, 38), (15, 38), (15, 70), (-15, 70)]
    return drawn(tmp_path / "rs.dcm", ("BODY", planes(outline, -410.5 + 3.3 * np.arange(7))))


# frame of reference


@pytest.mark.parametrize("where", ["of the object", "of the region"])
def test_a_region_of_another_frame_of_reference_is_refused(series, on_series, tmp_path, where):
    image = read_volume(series)

    def change(data):
        data.FrameOfReferenceUID = "9.9.9" if where == "of the object" else "1.2.9"
        if where == "of the region":
            data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "9.9.9"

    assert read_mask(on_series, image.grid).array.any()  # it names none
    mended(on_series, change)
    for read in (
        lambda: read_mask(on_series, image.grid),
        lambda: structures.target_of(on_series, image.grid),
    ):
        with pytest.raises(InputError, match=r"rs\.dcm: BODY .* reference 9\.9\.9, expected the image's, 1\.2\.9"):
            read()
    write_volume(image, tmp_path / "image.mha")  # says no frame of reference
    assert read_mask(on_series, read_volume(tmp_path / "image.mha").grid).array.any()


def test_the_check_of_a_sheet_finds_a_mask_of_another_frame_of_reference(series, on_series, tmp_path):
    def rows(*images):
        inputs = [*(("image", path) for path in images), ("mask", on_series)]
        return [{"patient": "P1", "column": column, "path": str(path), "named": ""} for column, path in inputs]

    write_volume(read_volume(series), tmp_path / "image.mha")
    mended(on_series, lambda data: setattr(data, "FrameOfReferenceUID", "1.2.9"))
    assert not faults(rows(series), "mr")
    mended(on_series, lambda data: setattr(data, "FrameOfReferenceUID", "9.9.9"))
    ((patient, line),) = faults(rows(series), "mr")
    assert patient == "P1" and "column mask" in line and "another frame of reference" in line
    assert not faults(rows(tmp_path / "image.mha"), "mr") and not faults(rows(series, tmp_path / "image.mha"), "mr")


def test_a_region_s_own_frame_of_reference_goes_before_the_object_s(series, on_series):
    def change(data):
        data.FrameOfReferenceUID = "9.9.9"
        data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.9"

    assert read_mask(mended(on_series, change), read_volume(series).grid).array.any()


def test_organs_of_another_frame_of_reference_are_refused(tmp_path):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 900 - 1000
    grid = read_volume(write_ct(tmp_path / "ct", array), "CT", "ct").grid
    organ = drawn(tmp_path / "o.dcm", ("Cord", planes([(0, 40), (9, 40), (9, 49)], [-410.5, -407.2])), kinds=())
    assert [name for name, _ in structures.drawn(organ, grid)] == ["Cord"]
    mended(organ, lambda data: setattr(data, "FrameOfReferenceUID", "9.9.9"))
    with pytest.raises(InputError, match="Cord is drawn in the frame of reference"):
        list(structures.drawn(organ, grid))


# contours


@pytest.mark.parametrize("which", ["one plane", "all", "turned round"])
def test_a_contour_exported_twice_counts_once(tmp_path, which):
    body = planes(SQUARE, HEIGHTS) + planes(HOLE, HEIGHTS[2:4])
    more = {
        "one plane": planes(SQUARE, HEIGHTS[4:5]),
        "all": body,
        "turned round": planes([*SQUARE[2::-1], SQUARE[3]], HEIGHTS),
    }[which]
    once = mask_of(drawn(tmp_path / "a.dcm", ("BODY", body)), GRID)
    twice = mask_of(drawn(tmp_path / "b.dcm", ("BODY", body + more)), GRID)
    assert np.array_equal(once.array, twice.array) and once.array[2].sum() < once.array[1].sum()


@pytest.mark.parametrize(
    ("there", "filled"),
    [
        ([*range(7), 8, 10, 12], range(13)),  # each slice, then every second
        ([0, 2, 4, 6, 7, 8, 9, 10, 11, 12], range(13)),
        ([*range(5), 6, *range(7, 13)], range(13)),  # one was left out
        ([0, 1, 2, 3, 6, 9, 12], range(13)),  # each slice, then every third
        ([0, 3, 5, 7, 10, 11, 12], range(13)),  # by hand
        ([0, 1, 2, 3, 7, 8, 9], [0, 1, 2, 3, 7, 8, 9]),  # two parts
        ([0, 1, 2, 3, 9, 11], [0, 1, 2, 3, *range(8, 13)]),  # two parts, one of every second slice
        ([5], [5]),
    ],
)
def test_slices_between_contours_of_one_part_are_filled(tmp_path, there, filled):
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, [HEIGHTS[z] for z in there])))
    assert slices(mask_of(file, GRID)) == list(filled)


def test_a_real_gap_across_the_slices_stays_one(tmp_path):
    """Axial contours on a sagittal image, by their own planes: every second slice is filled, two parts stay two."""
    heights = [*np.arange(90.0, 102, 2), *np.arange(104.0, 113, 4), *np.arange(124.0, 130, 2)]
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, heights)))
    sagittal = Grid((30, 44, 20), (1.0, 1.0, 2.0), (-19.0, -14.0, 132.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
    column = mask_of(file, sagittal).array[10, :, 10]  # along z, from 132 mm down
    up = 132 - np.flatnonzero(column)
    assert set(range(90, 113)) <= set(up) and not set(range(116, 122)) & set(up) and set(range(124, 129)) <= set(up)


def test_two_regions_of_one_name(tmp_path):
    file = drawn(tmp_path / "a.dcm", ("Body", planes(HOLE, HEIGHTS)), ("BODY", planes(SQUARE, HEIGHTS)), kinds=())
    assert mask_of(file, GRID, "Body").array.sum() < mask_of(file, GRID, "BODY").array.sum()
    with pytest.raises(InputError, match=r"2 regions are called body, expected one of #1 \(Body\), #2 \(BODY\)"):
        mask_of(file, GRID, "body")
    assert np.array_equal(mask_of(file, GRID, "#2").array, mask_of(file, GRID, "BODY").array)
    same = drawn(tmp_path / "b.dcm", ("BODY", planes(HOLE, HEIGHTS)), ("BODY", planes(SQUARE, HEIGHTS)), kinds=())
    for roi, text in (("BODY", r"expected one of #1 \(BODY\), #2 \(BODY\)"), (None, "regions are BODY #1, BODY #2")):
        with pytest.raises(InputError, match=text):
            mask_of(same, GRID, roi)
    assert np.array_equal(mask_of(same, GRID, "BODY #2").array, mask_of(file, GRID, "BODY").array)
    once = drawn(tmp_path / "c.dcm", ("BODY", []), ("BODY", planes(SQUARE, HEIGHTS)), kinds=())
    assert np.array_equal(mask_of(once, GRID, "body").array, mask_of(file, GRID, "BODY").array)


def test_two_organs_of_one_name_are_each_drawn(tmp_path):
    small = [(1, 1), (3.5, 1), (3.5, 3.8), (1, 3.8)]
    regions = (("PTV", planes(SQUARE, HEIGHTS)), ("Cord", planes(HOLE, HEIGHTS)), ("Cord", planes(small, HEIGHTS)))
    file = drawn(tmp_path / "rs.dcm", *regions, kinds=("PTV",))
    organs = {name: int(mask.array.sum()) for name, mask in structures.drawn(file, GRID)}
    assert list(organs) == ["PTV", "Cord #2", "Cord #3"] and organs["Cord #2"] > organs["Cord #3"] > 0
    assert structures.regions_in(file) == list(organs)
    assert structures.target_of(file, GRID, "ptv")[0] == "PTV"  # as `drawn` calls it: no organ then


def test_contours_of_a_region_in_two_items_are_joined(tmp_path):
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, HEIGHTS[:8])), ("Rest", planes(SQUARE, HEIGHTS[8:])))
    mended(file, lambda data: setattr(data.ROIContourSequence[1], "ReferencedROINumber", 1))
    assert slices(mask_of(file, GRID, "BODY")) == list(range(13))


# damage


def without(*path):
    def change(data):
        *way, last = path
        for keyword, index in way:
            data = data[keyword].value[index]
        del data[last]

    return change


def contour(data):
    return data.ROIContourSequence[0].ContourSequence[2]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (without(("ROIContourSequence", 0), ("ContourSequence", 2), "ContourData"), "contour 3: ContourData is absent"),
        (without(("StructureSetROISequence", 0), "ROINumber"), "BODY: ROINumber is absent"),
        (without(("ROIContourSequence", 0), "ReferencedROINumber"), "ReferencedROINumber is absent"),
        (lambda data: setattr(contour(data), "ContourData", [1, 2, 3, 4]), "ContourData is .*expected points"),
        (lambda data: damaged(contour(data), "ContourData", "DS", b"1,5\\2\\3 "), "3: ContourData is .*1,5.*points"),
        (lambda data: damaged(contour(data), "ContourData", "DS", b"nan\\2\\3 "), "ContourData is .*expected points"),
        (lambda data: damaged(contour(data), "ContourData", "Q9", b"1\\2\\3 "), "ContourData cannot be read"),
        (lambda data: damaged(data.StructureSetROISequence[0], "ROIName", "SQ", b""), "ROIName is a sequence"),
        (lambda data: damaged(data, "ROIContourSequence", "LO", b"none"), "ROIContourSequence is 'none'"),
        (
            lambda data: damaged(data.StructureSetROISequence[0], "ROINumber", "IS", b"x "),
            "ROINumber is 'x', expected a whole",
        ),
        (lambda data: damaged(data.StructureSetROISequence[0], "ROINumber", "IS", b"1\\2 "), "ROINumber is '.1, 2.'"),
        (lambda data: setattr(data.StructureSetROISequence[1], "ROINumber", 1), "BODY and Liver have one ROINumber, 1"),
    ],
)
def test_a_damaged_rtstruct_is_one_line(tmp_path, monkeypatch, change, text):
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, HEIGHTS)), ("Liver", planes(HOLE, HEIGHTS)))
    data = pydicom.dcmread(file)
    change(data)
    monkeypatch.setattr(regions, "read_header", lambda *_, **__: data)  # pydicom writes no damage of its own
    with pytest.raises(InputError, match=text) as raised:
        mask_of(file, GRID, "BODY")
    assert f"mask {file}: " in str(raised.value) and "\n" not in str(raised.value)


def test_several_values_for_one_are_no_fault_of_the_program(series, on_series):
    mended(on_series, lambda data: setattr(data.RTROIObservationsSequence[0], "ReferencedROINumber", [1, 2]))
    assert read_mask(on_series, read_volume(series).grid).array.any()
    mended(on_series, lambda data: setattr(data, "FrameOfReferenceUID", ["1.2.9", "1.2.10"]))
    with pytest.raises(InputError, match="reference 1.2.9.1.2.10, expected the image's"):
        read_mask(on_series, read_volume(series).grid)


def test_a_damaged_rtstruct_of_a_sheet_is_a_line(tmp_path):
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, HEIGHTS)))
    mended(file, without(("StructureSetROISequence", 0), "ROINumber"))
    assert "BODY: ROINumber is absent" in seen(file, "mask", "mr").fault


# SEG


@pytest.fixture
def segmented(series, tmp_path):
    """Writes a SEG of the series by highdicom: `array` (slices, rows, columns[, segments]); nothing where it is 0."""
    hd = pytest.importorskip("highdicom")
    code = hd.sr.CodedConcept("123037004", "SCT", "Body")

    def write(array, kind="BINARY", labels=("Body",)):
        about = [
            hd.seg.SegmentDescription(n, label, code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
            for n, label in enumerate(labels, 1)
        ]
        files = [pydicom.dcmread(frame.file) for frame in open_series(series).frames]
        way = hd.seg.SegmentationTypeValues[kind]
        made = hd.seg.Segmentation(files, array, way, about, "1.2.8.1", 3, "1.2.8.2", 1, "x", "x", "1", "1")
        made.save_as(tmp_path / "seg.dcm")
        return tmp_path / "seg.dcm"

    return write


def test_half_of_a_probability_is_inside(series, segmented):
    volume = read_volume(series)
    chance = np.where(volume.array > 0, 0.9, 0.05).astype(np.float32)
    chance[:, :20] *= 0.3
    found = mask_of(segmented(chance, "FRACTIONAL"), volume.grid, "Body")
    assert np.array_equal(found.array, chance >= 0.5)


@pytest.mark.parametrize("spacing", ["said", "absent", "wrong"])
@pytest.mark.parametrize("there", [[0, 1, 2, 4, 5, 6], [0, 2, 4, 6], [1, 5], [3], [0], [6]])
def test_a_seg_without_its_empty_frames(series, segmented, there, spacing):
    """Its frames lie where their positions say; how thick they are the object says, else the image."""
    volume = read_volume(series)
    inside = np.zeros(SHAPE, np.uint8)
    inside[there] = volume.array[there] > 0

    def change(data):
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = "0.7"
        if spacing == "absent":
            del measures.SpacingBetweenSlices

    file = segmented(inside)
    if spacing != "said":
        mended(file, change)
    assert np.array_equal(mask_of(file, volume.grid, "Body").array, inside)


def test_a_segment_on_one_slice_of_an_image_between_the_slices(series, segmented):
    """On another grid the slice is as thick as the segments' frames lie apart."""
    volume = read_volume(series)
    inside = np.zeros((*SHAPE, 2), np.uint8)
    inside[..., 0] = volume.array > 0
    inside[3, ..., 1] = volume.array[3] > 0
    file = segmented(inside, labels=("Body", "Spot"))
    grid = Grid((26, 22, 21), (1.8, 2.2, 1.1), (-20.0, 33.0, -410.5))

    def change(data):
        del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices

    assert slices(mask_of(mended(file, change), grid, "Spot")) == [8, 9, 10]


def test_a_seg_of_another_frame_of_reference_is_refused(series, segmented):
    volume = read_volume(series)
    file = segmented((volume.array > 0).astype(np.uint8))
    assert mask_of(file, volume.grid, "Body").array.any()
    mended(file, lambda data: setattr(data, "FrameOfReferenceUID", "9.9.9"))
    with pytest.raises(InputError, match=r"seg\.dcm: Body .* 9\.9\.9, expected the image's, 1\.2\.9"):
        mask_of(file, volume.grid, "Body")


def test_a_damaged_seg_is_one_line(series, segmented):
    volume = read_volume(series)
    array = (volume.array > 0).astype(np.uint8)
    for change, text in (
        (lambda data: delattr(data.SegmentSequence[0], "SegmentNumber"), "Body: SegmentNumber is absent"),
        (lambda data: setattr(data, "PixelData", data.PixelData[:20]), "its pixels cannot be read"),
        (lambda data: data.PerFrameFunctionalGroupsSequence.pop(), "its frames cannot be read"),
        (lambda data: delattr(data, "BitsAllocated"), "its pixels cannot be read"),
    ):
        with pytest.raises(InputError, match=text) as raised:
            mask_of(mended(segmented(array), change), volume.grid, "Body")
        assert "seg.dcm" in str(raised.value) and "\n" not in str(raised.value)
    fraction = mended(segmented(array * 1.0, "FRACTIONAL"), lambda data: delattr(data, "MaximumFractionalValue"))
    with pytest.raises(InputError, match="MaximumFractionalValue is absent"):
        mask_of(fraction, volume.grid, "Body")
