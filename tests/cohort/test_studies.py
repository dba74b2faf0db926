"""Samplesheets made from DICOM studies: whose a series is, what it is, and what pairs it."""

import csv

import numpy as np
import pytest
from conftest import bad_input
from dicom_series import SHAPE, edit, write_ct, write_mr
from models import call
from pydicom.dataset import Dataset

from synthct.cohort.people import difference, gives_away, known_by, person
from synthct.cohort.scans import no_use, scan
from synthct.images.dicom.series import open_series
from synthct.images.dicom.writing import UNCERTAINTY, write_series

ARRAY = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.uint16)


def header(**tags):
    made = Dataset()
    made.Modality = "CT"
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def made(tree, *options):
    out = tree.parent / "sheet.csv"
    process = call("sheet.py", tree, "--kind", "dicom", "--out", out, *options)
    assert process.returncode == 0, process.stderr
    return list(csv.DictReader(out.read_text().splitlines())), process.stdout


def put(tree, place, write, **tags):
    """A series at `place`; its UID follows from there."""
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    write(tree / place, ARRAY, uid=f"1.2.{sum(ord(c) * 131**i for i, c in enumerate(place)) % 10**12}")
    for keyword, value in tags.items():
        edit(tree / place, keyword, value, slice(None))


def test_a_tree_of_dicom_studies(tmp_path):
    """Pairs by frame of reference; two candidates, a dose, a lone series and a broken file are said."""
    tree = tmp_path / "archive"
    array = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.uint16)

    def series(patient, place, write, uid, frame="1.2.9", **tags):
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        write(tree / place, array, uid=uid)
        for keyword, value in {"PatientID": patient, "FrameOfReferenceUID": frame, **tags}.items():
            edit(tree / place, keyword, value, slice(None))

    series("111", "anna/t2", write_mr, "1.2.1", BodyPartExamined="PELVIS")
    series("111", "anna/ct_plan", write_ct, "1.2.2")
    series("111", "anna/ct_old", write_ct, "1.2.3", frame="1.2.10")
    series("222", "bert/t1", write_mr, "1.2.4")
    series("222", "bert/ct1", write_ct, "1.2.5")
    series("222", "bert/ct2", write_ct, "1.2.6")
    series("333", "carl/pet", write_mr, "1.2.7", Modality="PT")
    series("444", "dora/t1", write_mr, "1.2.8")
    rows, said = made(tree)
    assert [(r["patient"], r["region"]) for r in rows] == [("anna", "AB")]
    assert rows[0]["image"] == "archive/anna/t2" and rows[0]["ct"] == "archive/anna/ct_plan"
    for text in (
        "bert: 1 mr and 2 CT",
        "carl/pet, series 4 (PT): neither",
        "anna/ct_old: anna is paired",
        "dora: no CT",
    ):
        assert text in said, said
    assert "Doe" not in said and "111" not in said
    next((tree / "anna" / "t2").iterdir()).write_bytes(b"")
    bad_input(call("sheet.py", tree, "--kind", "dicom", "--out", tmp_path / "s.csv"), "no patient for the sheet")


def test_cone_beam_studies(tmp_path):
    tree = tmp_path / "linac"
    hu = np.random.default_rng(0).integers(-900, 900, SHAPE)
    (tree / "p1").mkdir(parents=True)
    write_ct(tree / "p1" / "plan", hu, uid="1.2.1")
    write_ct(tree / "p1" / "daily", hu, uid="1.2.2")
    edit(tree / "p1" / "daily", "ManufacturerModelName", "On-Board Imager", slice(None))
    rows, _ = made(tree, "--modality", "cbct", "--region", "HN", "--center", "B")
    assert (rows[0]["image"], rows[0]["ct"]) == ("linac/p1/daily", "linac/p1/plan")
    assert (rows[0]["region"], rows[0]["center"]) == ("HN", "B")


@pytest.mark.parametrize("number", ["ANON", "", "4711"])
def test_two_people_are_no_pair(tmp_path, number):
    """Another birth date and sex is another person, whatever the ID, and so it is said."""
    tree = tmp_path / "tree"
    alike = {"PatientID": number, "PatientName": "Anonymous"}
    put(tree, "A/mr", write_mr, **alike, StudyInstanceUID="1.1", FrameOfReferenceUID="1.9")
    put(tree, "B/ct", write_ct, **alike, StudyInstanceUID="1.2", FrameOfReferenceUID="1.9", PatientSex="M")
    bad_input(call("sheet.py", tree, "--kind", "dicom", "--region", "AB", "--out", tmp_path / "s.csv"), "A: no CT")
    process = call("sheet.py", tree, "--kind", "dicom", "--for", "predict", "--out", tmp_path / "s.csv")
    warned = "A and B have one PatientID and differ in PatientSex" in process.stderr
    assert process.returncode == 0 and warned == (number == "4711"), process.stderr


@pytest.mark.parametrize(
    ("of_mr", "of_ct", "pairs"),  # study and frame of reference
    [
        (("1.1", "1.9"), ("1.1", ""), True),
        (("1.1", "1.9"), ("", "1.9"), True),
        (("1.1", "1.9"), ("1.2", "1.8"), False),
        (("", ""), ("", ""), False),
        (("1.1", "1.2.840.10008.1.4.1.1"), ("1.2", "1.2.840.10008.1.4.1.1"), False),  # an atlas' frame
    ],
)
def test_a_placeholder_pairs_nothing_by_itself(tmp_path, of_mr, of_ct, pairs):
    alike = {"PatientID": "ANON", "PatientName": "xxx", "PatientBirthDate": "", "PatientSex": ""}
    for write, place, (study, frame) in ((write_mr, "A/mr", of_mr), (write_ct, "A/ct", of_ct)):
        put(tmp_path / "tree", place, write, **alike, StudyInstanceUID=study, FrameOfReferenceUID=frame)
    process = call("sheet.py", tmp_path / "tree", "--kind", "dicom", "--region", "AB", "--out", tmp_path / "s.csv")
    assert (process.returncode == 0) == pairs, process.stdout + process.stderr
    assert pairs or "no CT" in process.stderr


def test_series_that_may_be_of_two_people(tmp_path):
    """A series without a sex ties a woman's and a man's under one ID: nobody can say whose it is."""
    tree = tmp_path / "tree"
    put(tree, "A/mr", write_mr, PatientSex="F")
    put(tree, "A/ct", write_ct, PatientSex="")
    put(tree, "A/old", write_ct, PatientSex="M")
    process = call("sheet.py", tree, "--kind", "dicom", "--region", "AB", "--out", tmp_path / "s.csv")
    bad_input(process, "A: series that differ in PatientSex", "A/mr, A/ct, A/old")


def test_who_a_header_is_of():
    jane = person(header(PatientID="47-11", PatientName="Doe^Jane", PatientSex="F", PatientBirthDate=""))
    assert jane == {"PatientID": "4711", "PatientName": "doe jane", "PatientSex": "f"}
    assert not difference([jane, person(header(PatientName="JANE DOE^", PatientID="47 11"))])
    assert difference([jane, person(header(PatientName="Doe^Jim"))]) == "PatientName"
    for nobody in ("ANON", "Anonymous^Patient", "unknown", "None", "0000", "XXX", "", "n/a", "No Name"):
        assert not person(header(PatientID=nobody, PatientName=nobody)), nobody
    pseudonym = person(header(PatientID="ANON017", PatientName="Anonymized3"))
    assert not known_by(pseudonym) and difference([pseudonym, person(header(PatientID="ANON018"))]) == "PatientID"


def test_what_synthct_made_is_no_input(tmp_path):
    """Neither sCT nor uncertainty, whatever an archive calls their files."""
    tree = tmp_path / "tree"
    put(tree, "P/mr", write_mr)
    put(tree, "P/ct", write_ct, FrameOfReferenceUID="1.2.77")
    source = open_series(tree / "P" / "mr")
    write_series(source.read(), source, tree / "P" / "sct")
    write_series(source.read(), source, tree / "P" / "spread", kind=UNCERTAINTY)
    for number, file in enumerate(sorted((tree / "P" / "sct").iterdir())):
        file.rename(file.with_name(f"{number}.ima"))
    rows, said = made(tree, "--region", "AB")
    assert [row["ct"] for row in rows] == ["tree/P/ct"]
    assert "P/sct, series 1004 (CT): made by synthct" in said and "P/spread, series 2004 (CT): made by" in said, said


def test_acquired_images_before_derived_ones(tmp_path):
    """The T1 before an ADC map in the CT's frame, the CT before one computed from it; a phase image never."""
    tree = tmp_path / "tree"
    put(tree, "P/t1", write_mr, FrameOfReferenceUID="1.1")
    put(tree, "P/adc", write_mr, FrameOfReferenceUID="1.2", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"])
    put(tree, "P/phase", write_mr, FrameOfReferenceUID="1.1", ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    put(tree, "P/ct", write_ct, FrameOfReferenceUID="1.2", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    put(tree, "P/moved", write_ct, FrameOfReferenceUID="1.1", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    rows, said = made(tree, "--region", "AB")
    assert [(row["image"], row["ct"]) for row in rows] == [("tree/P/t1", "tree/P/ct")]
    assert "P/phase, series 4 (MR): a phase image" in said and "P/adc: P is paired without it" in said, said
    assert no_use(header(Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]), "mr")
    assert not no_use(header(Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND"]), "mr")


@pytest.mark.parametrize(
    ("directories", "names"),
    [
        ({"4711": "4711", "b": "12"}, ["P001", "P002"]),
        ({"Doe_Jane": "4711"}, ["P001"]),
        ({"jane-doe": "4711"}, ["P001"]),
        ({"b": "4711", "a": "12"}, ["a", "b"]),
    ],
)
def test_no_directory_gives_its_patient_away(tmp_path, directories, names):
    tree = tmp_path / "tree"
    for directory, number in directories.items():
        put(tree, f"{directory}/mr", write_mr, PatientID=number)
        put(tree, f"{directory}/ct", write_ct, PatientID=number)
    rows, _ = made(tree, "--region", "AB")
    assert [row["patient"] for row in rows] == names


def test_parts_of_a_name_that_give_away():
    jane = person(header(PatientID="AB-4711", PatientName="Doe^Jane"))
    assert all(gives_away(called, jane) for called in ("ab4711", "AB_4711_mr", "doe", "JaneDoe2", "Doe-Jane"))
    assert not any(gives_away(called, jane) for called in ("p1", "anna", "AB_1", "P4712"))
    assert gives_away("Wu_Li", person(header(PatientName="Li^Wu")))


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("ct", {"SeriesDescription": "Planning CT Ethos", "ManufacturerModelName": "SOMATOM go.Sim"}),
        ("ct", {"SeriesDescription": "Planning CT for CBCT", "ManufacturerModelName": "Brilliance Big Bore"}),
        ("ct", {"SeriesDescription": "Planning CT Halcyon"}),
        ("cbct", {"SeriesDescription": "kV_CBCT_1a"}),
        ("cbct", {"ProtocolName": "Cone Beam pelvis"}),
        ("cbct", {"ManufacturerModelName": "On-Board Imager"}),
        ("cbct", {"Manufacturer": "ELEKTA", "ManufacturerModelName": "XVI"}),
        ("cbct", {"ManufacturerModelName": "Ethos"}),
    ],
)
def test_cone_beam_or_planning(tmp_path, kind, tags):
    assert scan(tmp_path, header(**tags)).kind == kind


@pytest.mark.parametrize(
    ("region", "tags"),
    [
        ("AB", {"BodyPartExamined": "PELVIS", "SeriesDescription": "brain protocol"}),
        ("AB", {"BodyPartExamined": "HIP", "StudyDescription": "MR hip, femoral neck"}),
        ("AB", {"StudyDescription": "MR hip, femoral neck"}),
        ("AB", {"StudyDescription": "bladder neck"}),
        ("HN", {"BodyPartExamined": "HEADNECK"}),
        ("HN", {"SeriesDescription": "t1_neck_tra"}),
        ("TH", {"SeriesDescription": "Lungs 1mm"}),
        ("", {"SeriesDescription": "t2_tse surface coil"}),
        ("", {"SeriesDescription": "hippocampus"}),
    ],
)
def test_regions(tmp_path, region, tags):
    assert scan(tmp_path, header(**tags)).region == region
