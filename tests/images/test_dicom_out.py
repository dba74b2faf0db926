"""What a planning system is handed: CT series, structures and their places, checked by the tools of the field."""

import shutil
import subprocess
import zipfile

import numpy as np
import pydicom
import pytest
from conftest import bad_input
from dicom_series import OBLIQUE, SHAPE, SPACING, STRAIGHT, at, by_sitk, drawn, edit, write_ct, write_enhanced, write_mr
from matplotlib.path import Path as Outline
from models import call, write_checkpoints, write_model, write_settings
from pydicom import config
from pydicom.dataset import Dataset

from synthct.core.errors import InputError
from synthct.images.dicom.contours import body_structure
from synthct.images.dicom.filling import filled
from synthct.images.dicom.identity import lacking
from synthct.images.dicom.series import open_series, read_series
from synthct.images.dicom.structures import mask_of
from synthct.images.dicom.writing import write_series
from synthct.images.grid import Grid, Volume
from synthct.images.volume import read_mask, read_volume, write_volume
from synthct.prediction import assembly
from synthct.prediction.objects import Wanted, write

SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


@pytest.fixture
def array():
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 22) / 16) ** 2 + ((x - 26) / 20) ** 2 < 1
    return (body * (300 + 40 * z + 5 * y + 3 * x)).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("bundle"))


def objects(source, out, **wanted):
    """An sCT of the source's own voxels, its uncertainty and a body with a hole, written; returns the mask too."""
    series = open_series(source)
    volume = series.read()
    mask = volume.with_array((volume.array > 0).astype(np.uint8))
    mask.array[2, 18:25, 20:30] = 0
    sct = volume.with_array(np.clip(volume.array, -1024, 3000).astype(np.int16))
    spread = volume.with_array(np.full(volume.array.shape, 12.3, np.float32))
    files = write(Wanted(out / "sct", out / "unc", out / "rs.dcm", **wanted), series, sct, spread, mask, model="m")
    return files, sct, mask


def complaints(file):
    """The errors of dciodvfy (dicom3tools) about a file."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("kind", ["mr", "ct", "enhanced", "oblique"])
def test_dciodvfy_has_no_complaint(tmp_path, array, kind):
    if kind == "ct":
        source = write_ct(tmp_path / "in", array.astype(int) - 300)
    elif kind == "enhanced":
        source = write_enhanced(tmp_path / "in", array)
    else:
        source = write_mr(tmp_path / "in", array, OBLIQUE if kind == "oblique" else STRAIGHT)
    files, sct, _ = objects(source, tmp_path)
    assert len(files) == 2 * SHAPE[0] + 1
    for file in (files[0], files[SHAPE[0]], files[-1]):
        assert complaints(file) == []
    assert np.array_equal(by_sitk(tmp_path / "sct").array, sct.array)
    np.testing.assert_allclose(by_sitk(tmp_path / "unc").array, 12.3, atol=1e-4)
    frames = {pydicom.dcmread(file).FrameOfReferenceUID for file in files}
    assert frames == {"1.2.9"}


@pytest.mark.parametrize("name", ["ct_rtutils", "ds_overflow", "enh_philips", "enh_siemens_d2n", "jpeg12bit"])
def test_series_of_real_scanners_become_series_without_complaint(shared, tmp_path, name):
    source = open_series(shared / "cases" / "dicom" / name)
    sct = source.read()
    sct = sct.with_array(np.clip(sct.array, -1024, 3000).astype(np.int16))
    write_series(sct, source, tmp_path / "sct")
    assert complaints(tmp_path / "sct" / "CT_0001.dcm") == []
    back = by_sitk(tmp_path / "sct")
    assert np.array_equal(back.array, sct.array) and not back.grid.differs_from(sct.grid)


def test_what_breaks_the_standard_is_not_copied(tmp_path, array):
    """Decimals of 18 characters, no frame of reference, no study, an age of two digits, a number that overflows."""
    source = write_mr(tmp_path / "in", array)
    for name in source.iterdir():
        data = pydicom.dcmread(name)
        position = [f"{float(one):.14f}" for one in data.ImagePositionPatient]
        for keyword, kind, value in (
            ("ImagePositionPatient", "DS", position),
            ("PatientAge", "AS", "45"),
            ("StudyDate", "DA", "19.01.2020"),
            ("AccessionNumber", "SH", "ACCESSION-NUMBER-OVER-16-CHARS"),
            ("FrameOfReferenceUID", "UI", ""),
        ):
            data[keyword] = pydicom.DataElement(keyword, kind, value, validation_mode=config.IGNORE)
        del data.StudyInstanceUID
        data.SeriesNumber = 2147483640
        data.PatientIdentityRemoved, code = "YES", Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic Profile"
        data.DeidentificationMethodCodeSequence = [code]
        data.LossyImageCompression, data.LossyImageCompressionRatio = "01", 7.2
        data.save_as(name)
    lines = " ".join(lacking(open_series(source)))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientAge", "StudyDate", "AccessionNumber"):
        assert keyword in lines
    assert "Doe" not in lines
    files, _, _ = objects(source, tmp_path)
    made = pydicom.dcmread(files[0])
    assert made.SeriesNumber == 1000 and made.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert made.LossyImageCompression == "01" and made.LossyImageCompressionRatio == 7.2
    assert made.StudyInstanceUID and made.BurnedInAnnotation == "NO" and made.SeriesDate and made.InstanceCreationTime
    assert made.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        assert all(len(one.original_string) <= 16 for one in made[keyword].value)
    for file in (files[0], files[-1]):
        assert complaints(file) == []


@pytest.mark.parametrize("word", ["", "REMOVED"])
def test_two_people_without_uids_are_two_studies(tmp_path, array, word):
    """An anonymiser that empties UIDs, or writes a word in their place: neither one patient nor one place in space."""
    made = []
    for who in (1, 2):
        source = write_mr(tmp_path / f"in{who}", array + who)
        for name in source.iterdir():
            data = pydicom.dcmread(name)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
                data[keyword] = pydicom.DataElement(keyword, "UI", word, validation_mode=config.IGNORE)
            data.save_as(name)
        (tmp_path / f"out{who}").mkdir()
        files, _, _ = objects(source, tmp_path / f"out{who}")
        of_one = [pydicom.dcmread(file) for file in files]
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            assert len({each[keyword].value for each in of_one}) == 1
        assert "SourceImageSequence" not in of_one[0]
        made.append(of_one[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID"):
        assert made[0][keyword].value != made[1][keyword].value


def test_a_series_number_that_is_text(tmp_path, array):
    source = write_mr(tmp_path / "in", array)
    for name in source.iterdir():
        data = pydicom.dcmread(name)
        tag = pydicom.tag.Tag("SeriesNumber")
        data._dict[tag] = pydicom.dataelem.RawDataElement(tag, "IS", 4, b"loc ", 0, False, True)
        data.save_as(name)
    files, _, _ = objects(source, tmp_path)
    assert pydicom.dcmread(files[0]).SeriesNumber == 1000


# structures


GRID = Grid((40, 36, 6), (1.0, 1.25, 3.0), (-20.0, -15.0, 100.0))
SQUARE = [(-12.3, -8.2), (11.4, -8.2), (11.4, 17.3), (-12.3, 17.3)]
HOLE = [(-4.1, 0.2), (5.2, 0.2), (5.2, 9.4), (-4.1, 9.4)]


def planes(outline, heights):
    return [[(x, y, z) for x, y in outline] for z in heights]


def test_contours_of_every_second_slice_with_a_hole(tmp_path):
    """Against matplotlib's test of points in polygons; slices between take the nearer plane's contours."""
    heights = (100.0, 106.0, 112.0)
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, heights) + planes(HOLE, heights[1:2])), ("Liver", []))
    mask = mask_of(file, GRID)
    y, x = np.mgrid[:36, :40]
    centres = np.column_stack([x.ravel() - 20.0, y.ravel() * 1.25 - 15.0])
    square, hole = (Outline(part).contains_points(centres).reshape(36, 40) for part in (SQUARE, HOLE))
    assert np.array_equal(mask.array[0], square) and np.array_equal(mask.array[2], square & ~hole)
    assert mask.array[:5].any((1, 2)).all()


def test_contours_across_the_slices(tmp_path):
    """Axial contours on a sagittal image, as a planning system draws them on an MR."""
    file = drawn(tmp_path / "rs.dcm", ("BODY", planes(SQUARE, np.arange(90, 130, 2.0))))
    sagittal = Grid((30, 30, 20), (1.0, 1.0, 2.0), (-19.0, -14.0, 124.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
    mask = mask_of(file, sagittal)
    z, y, x = np.mgrid[:20, :30, :30]
    points = np.stack([x, y, z], -1).reshape(-1, 3) @ sagittal.matrix.T + sagittal.origin
    inside = Outline(SQUARE).contains_points(points[:, :2]).reshape(mask.array.shape)
    assert (mask.array != inside).mean() < 0.02 and mask.array.any()


def test_which_region_is_the_mask(tmp_path):
    body, liver = planes(SQUARE, (100.0, 103.0)), planes(HOLE, (100.0, 103.0))
    file = drawn(tmp_path / "a.dcm", ("Aussen", body), ("Liver", liver), ("Iso", [[(0, 0, 100.0)]]))
    assert np.array_equal(mask_of(file, GRID).array, mask_of(file, GRID, "aussen").array)
    assert mask_of(file, GRID, "Liver").array.sum() < mask_of(file, GRID).array.sum()
    for roi, text in (("Kidney", "Aussen, Liver, Iso"), ("Iso", "no closed contour")):
        with pytest.raises(InputError, match=text):
            mask_of(file, GRID, roi)
    file = drawn(tmp_path / "b.dcm", ("A", body), ("B", liver), kinds=("ORGAN",))
    with pytest.raises(InputError, match="--roi"):
        mask_of(file, GRID)
    far = drawn(tmp_path / "c.dcm", ("BODY", planes(SQUARE, (900.0, 903.0))))
    with pytest.raises(InputError, match="outside the image"):
        read_mask(far, GRID)


def test_the_structures_of_a_real_cone_beam_ct_are_points(shared, tmp_path):
    with zipfile.ZipFile(shared / "data" / "cbct_phantom" / "catphan_varian_obi.zip") as file:
        name = next(name for name in file.namelist() if "/RS." in name)
        file.extract(name, tmp_path)
    with pytest.raises(InputError, match="AcqIsocenter \\(no closed contour\\)"):
        mask_of(tmp_path / name, GRID)


def test_the_body_is_outlined_and_read_back(tmp_path, array):
    """By our reader, and by matplotlib's polygons with every contour of a plane counted."""
    for name, axes in (("axial", STRAIGHT), ("oblique", OBLIQUE)):
        (tmp_path / name).mkdir()
        files, _, mask = objects(write_mr(tmp_path / name / "in", array, axes), tmp_path / name)
        assert np.array_equal(mask_of(files[-1], mask.grid).array, mask.array)
    structure = pydicom.dcmread(tmp_path / "axial" / "rs.dcm")
    grid, y, x = mask.grid, *np.mgrid[: SHAPE[1], : SHAPE[2]]
    count = np.zeros(SHAPE, int)
    slices = {pydicom.dcmread(f).SOPInstanceUID: f for f in (tmp_path / "axial" / "sct").iterdir()}
    for contour in structure.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        z = round((points[0, 2] + 410.5) / SPACING[2])
        where = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert where.name == f"CT_{z + 1:04d}.dcm"
        centres = np.column_stack([x.ravel() * SPACING[0] - 20.0, y.ravel() * SPACING[1] + 33.0])
        count[z] += Outline(points[:, :2]).contains_points(centres).reshape(SHAPE[1:])
    assert np.array_equal(count % 2, mask.array) and grid


def test_another_body_on_the_same_ct_is_another_object(tmp_path, array):
    """Where air is predicted as air, a mask with a wider rim leaves the sCT as it is."""
    source = open_series(write_mr(tmp_path / "in", array))
    sct = source.read()
    slices = write_series(sct, source, tmp_path / "sct")
    wide, narrow = (sct.with_array((sct.array > least).astype(np.uint8)) for least in (-1, 0))
    first, again, other = (body_structure(mask, source, slices) for mask in (wide, wide, narrow))
    for key in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[key] == again[key] != other[key]


def test_a_segmentation_object_as_mask(tmp_path, array):
    hd = pytest.importorskip("highdicom")
    source = write_mr(tmp_path / "mr", array)
    volume = read_series(source)
    inside = volume.array > 0
    frames = [frame.file for frame in open_series(source).frames]
    about = hd.seg.SegmentDescription(
        1,
        "Body",
        hd.sr.CodedConcept("123037004", "SCT", "Body"),
        hd.sr.CodedConcept("123037004", "SCT", "Body"),
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    made = hd.seg.Segmentation(
        [pydicom.dcmread(f) for f in frames],
        inside.astype(np.uint8),
        hd.seg.SegmentationTypeValues.BINARY,
        [about],
        "1.2.8.1",
        3,
        "1.2.8.2",
        1,
        "x",
        "x",
        "1",
        "1",
    )
    made.save_as(tmp_path / "seg.dcm")
    assert np.array_equal(read_mask(tmp_path / "seg.dcm", volume.grid, roi="Body").array, inside)
    with pytest.raises(InputError, match="no region 'Liver'; it has Body"):
        read_mask(tmp_path / "seg.dcm", volume.grid, roi="Liver")


def test_polygons_are_filled_by_centres():
    triangle = np.array([(0, 0, 0), (8, 0, 0), (0, 8, 0)], float)
    inside = filled([triangle], Grid((9, 9, 2), (1, 1, 1), (0, 0, 0)), "test")[0]
    y, x = np.mgrid[:9, :9]
    assert (inside[(x + y < 8) & (x > 0)]).all() and not inside[x + y > 8].any()


# predict.py


def predicted(model, *arguments):
    return call("predict.py", "--model", model, "--region", "AB", *arguments)


def test_a_sagittal_mr_becomes_axial_slices_with_everything_beside_it(tmp_path, array, model):
    source = write_mr(tmp_path / "mr", array, SAGITTAL)
    out = tmp_path / "out"
    process = predicted(
        model,
        "--image",
        source,
        "--out",
        out / "sct.mha",
        "--dicom",
        out / "sct",
        "--axial",
        2.5,
        "--dicom-uncertainty",
        out / "unc",
        "--dicom-structures",
        out / "rs.dcm",
        "--mask-out",
        out / "mask.mha",
        "--uncertainty",
        out / "u.mha",
    )
    assert process.returncode == 0, process.stderr
    sct, axial = read_volume(out / "sct.mha"), by_sitk(out / "sct")
    assert axial.grid.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1) and axial.grid.spacing == pytest.approx((0.9, 0.9, 2.5))
    low = np.array(sct.grid.origin) + sct.grid.matrix @ [0, SHAPE[1] - 1, SHAPE[0] - 1]
    assert np.abs(np.array(axial.grid.origin) - low).max() < 1e-6
    # the same HU at the same place in the patient: voxel centres of the sagittal sCT against axial slices nearby
    inside = np.argwhere(sct.array > -900)[::97]
    points = inside[:, ::-1] @ sct.grid.matrix.T + sct.grid.origin
    index = np.rint((points - axial.grid.origin) / axial.grid.spacing).astype(int)
    near = axial.array[tuple(index[:, ::-1].T)]
    assert np.corrcoef(near, sct.array[tuple(inside.T)])[0, 1] > 0.8
    assert not by_sitk(out / "unc").grid.differs_from(axial.grid)
    assert np.array_equal(mask_of(out / "rs.dcm", axial.grid).array.any((1, 2)), (axial.array > -1024).any((1, 2)))
    made = pydicom.dcmread(out / "sct" / "CT_0001.dcm")
    assert made.FrameOfReferenceUID == "1.2.9" and "trust: not judged" in made.ImageComments


def test_a_volume_file_takes_its_patient_from_a_dicom_folder(tmp_path, array, model):
    source = write_mr(tmp_path / "mr", array)
    volume = read_series(source)
    write_volume(volume, tmp_path / "image.nii.gz")
    bad_input(
        predicted(model, "--image", tmp_path / "image.nii.gz", "--out", tmp_path / "s.mha", "--dicom", tmp_path / "d"),
        "no DICOM series",
        "--dicom-from",
    )
    process = predicted(
        model,
        "--image",
        tmp_path / "image.nii.gz",
        "--out",
        tmp_path / "s.mha",
        "--dicom",
        tmp_path / "d",
        "--dicom-from",
        source,
    )
    assert process.returncode == 0, process.stderr
    assert pydicom.dcmread(tmp_path / "d" / "CT_0003.dcm").PatientID == "p-17"
    assert np.array_equal(by_sitk(tmp_path / "d").array, read_volume(tmp_path / "s.mha").array)
    far = Volume(volume.array, Grid(volume.grid.size, volume.grid.spacing, (900.0, 0.0, 0.0)))
    write_volume(far, tmp_path / "far.mha")
    process = predicted(
        model,
        "--image",
        tmp_path / "far.mha",
        "--out",
        tmp_path / "f.mha",
        "--dicom",
        tmp_path / "e",
        "--dicom-from",
        source,
    )
    bad_input(process, "apart from the image")
    assert not (tmp_path / "f.mha").exists() and not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("--dicom-uncertainty", "d"), "--dicom-uncertainty"),
        (("--dicom-uncertainty", "d/unc"), "--dicom-uncertainty"),
        (("--dicom-structures", "d/rs.dcm"), "--dicom-structures"),
        (("--members", "d"), "output"),
        (("--page", "d/p.html"), "output"),
    ],
)
def test_no_output_lies_where_another_is_replaced(tmp_path, array, model, extra, told):
    """Both series in one directory, and the second was all that was left, called CT_0001.dcm as the sCT is."""
    source = write_mr(tmp_path / "mr", array)
    option, place = extra
    given = ("--out", tmp_path / "s.mha", "--dicom", tmp_path / "d", option, tmp_path / place)
    bad_input(predicted(model, "--image", source, *given), told, "replaced as a whole")
    assert not (tmp_path / "d").exists() and not (tmp_path / "s.mha").exists()


def test_an_rtstruct_is_the_mask_and_a_choice_reaches_the_series(tmp_path, array, model):
    source = write_mr(tmp_path / "mr", array)
    files, _, mask = objects(source, tmp_path)
    write_mr(tmp_path / "both", array)
    for name in write_mr(tmp_path / "other", array[:3], uid="1.2.3.5").iterdir():
        name.rename(tmp_path / "both" / f"x{name.name}")
    process = predicted(
        model,
        "--image",
        tmp_path / "both",
        "--series",
        "1.2.3.4",
        "--out",
        tmp_path / "s.mha",
        "--mask",
        files[-1],
        "--roi",
        "BODY",
    )
    assert process.returncode == 0, process.stderr
    assert np.array_equal(read_volume(tmp_path / "s.mha").array > -1024, mask.array > 0)
    bad_input(
        predicted(model, "--image", source, "--out", tmp_path / "t.mha", "--mask", files[-1], "--roi", "Liver"),
        "no region 'Liver'; it has BODY",
    )


def test_one_odd_patient_of_a_list_costs_that_patient(tmp_path, array, model):
    write_mr(tmp_path / "good", array)
    odd = write_mr(tmp_path / "odd", array)
    edit(odd, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0], slice(None))
    dose = write_mr(tmp_path / "pt", array)
    edit(dose, "Modality", "PT", slice(None))
    at(write_mr(tmp_path / "empty", array), 0).write_bytes(b"")
    (tmp_path / "list.csv").write_text("patient,image\nA,odd\nB,good\nC,empty\nD,pt\n")
    process = predicted_list(model, tmp_path)
    assert process.returncode == 2 and (tmp_path / "out" / "B.mha").exists()
    for text in ("A: DICOM", "no direction", "C: DICOM", "0 bytes", "D: image", "modality PT"):
        assert text in process.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.mha")) == ["B.mha", "B_uncertainty.mha"]
    assert (tmp_path / "dicom" / "B" / "CT_0001.dcm").exists()


def test_a_real_cone_beam_ct_folder_as_it_is(shared, tmp_path):
    """With its RTSTRUCT of points beside the slices, and an RTSTRUCT of the body as the mask; networks are random."""
    with zipfile.ZipFile(shared / "data" / "cbct_phantom" / "catphan_varian_obi.zip") as file:
        file.extractall(tmp_path)
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    tree = write_settings(tmp_path / "settings.json", "cbct", flips="none")
    tree["preprocessing"]["spacing"] = [4.0, 4.0, 0.0]
    directories = write_checkpoints(tmp_path / "c", tree, folds=1, groups={"global": ["HN"]})
    model = assembly.from_training(directories, tree, "impact", tmp_path / "model").path
    grid = open_series(source).grid
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    circle = np.column_stack([260 + 220 * np.cos(angle), 256 + 200 * np.sin(angle)])  # voxels
    outline = [
        np.column_stack([circle, np.full(90, z)]) @ grid.matrix.T + grid.origin for z in range(10, grid.size[2] - 10)
    ]
    body = drawn(tmp_path / "body.dcm", ("BODY", outline))
    arguments = ("--model", model, "--region", "HN", "--image", source, "--out", tmp_path / "s.mha")
    own = next(path for path in source.iterdir() if path.name.startswith("RS."))
    bad_input(call("predict.py", *arguments, "--mask", own, "--roi", "AcqIsocenter"), "no closed contour")
    process = call("predict.py", *arguments, "--mask", body, "--roi", "BODY", "--dicom", tmp_path / "sct")
    assert process.returncode == 0, process.stderr
    back, mask = by_sitk(tmp_path / "sct"), mask_of(body, grid)
    assert not back.grid.differs_from(by_sitk(source).grid) and back.grid.size == (512, 512, 64)
    assert np.array_equal(back.array > -1024, mask.array > 0) and mask.array.any((1, 2)).sum() == 44
    made, origin = pydicom.dcmread(tmp_path / "sct" / "CT_0001.dcm"), open_series(source).frames[0].header
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert made[keyword].value == origin[keyword].value


def predicted_list(model, work):
    return call(
        "predict.py", "--model", model, "--list", work / "list.csv", "--outdir", work / "out", "--dicom", work / "dicom"
    )


def test_sent_to_a_server_and_stored_as_it_was(tmp_path, array, model):
    """A round trip over the loopback interface: what the server keeps is what lies on the disk."""
    pynetdicom = pytest.importorskip("pynetdicom")
    kept = {}

    def store(event):
        data = event.dataset
        data.file_meta = event.file_meta
        kept[data.SOPInstanceUID] = data
        return 0x0000

    entity = pynetdicom.AE(ae_title="ARCHIVE")
    entity.supported_contexts = pynetdicom.StoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    port = server.socket.getsockname()[1]
    try:
        source = write_mr(tmp_path / "mr", array)
        arguments = ("--image", source, "--out", tmp_path / "s.mha", "--dicom", tmp_path / "d")
        process = predicted(
            model, *arguments, "--dicom-structures", tmp_path / "rs.dcm", "--send", f"127.0.0.1:{port}:ARCHIVE"
        )
        assert process.returncode == 0, process.stderr
    finally:
        server.shutdown()
    files = [*sorted((tmp_path / "d").iterdir()), tmp_path / "rs.dcm"]
    assert len(kept) == len(files) == SHAPE[0] + 1
    for file in files:
        data = pydicom.dcmread(file)
        assert kept[data.SOPInstanceUID] == data
    bad_input(predicted(model, *arguments, "--send", f"127.0.0.1:{port}:ARCHIVE"), "--send", "no association")
    bad_input(predicted(model, *arguments, "--send", "nowhere"), "HOST:PORT:AET")
