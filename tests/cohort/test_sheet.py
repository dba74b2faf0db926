"""Samplesheets made from trees of files as they come, what is left out said, and taken by the pipeline's check."""

import csv

import numpy as np
import pytest
from conftest import bad_input
from dicom_series import SHAPE, edit, write_ct, write_mr
from models import call

from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume

IMAGE = Volume(np.arange(64, dtype=np.int16).reshape(4, 4, 4), Grid((4, 4, 4), (1, 1, 1), (0, 0, 0)))


def put(base, *names):
    for name in names:
        write_volume(IMAGE, base / name)


def made(source, *options, out=None):
    out = out or source.parent / "sheet.csv"
    process = call("sheet.py", source, "--out", out, *options)
    assert process.returncode == 0, process.stderr
    with open(out, newline="") as file:
        return list(csv.DictReader(file)), process.stdout


@pytest.fixture
def synthrad(tmp_path):
    tree = tmp_path / "synthrad"
    tree.mkdir()
    for name in ("1ABA001", "1HNC012"):
        put(tree, *(f"Task1/{name[1:3]}/{name}/{file}.mha" for file in ("mr", "ct", "mask")))
    put(tree, "Task1_Val/TH/1THB007/mr.mha", "Task1_Val/TH/1THB007/ct.mha", "Task1_Val/TH/1THB007/mask.mha")
    put(
        tree,
        "Task1/AB/1ABA002/mr.mha",
        "Task1/AB/1ABA002/mask.mha",
        "Task2/AB/2ABD003/cbct.mha",
        "Task2/AB/2ABD003/ct.mha",
    )
    (tree / "Task1" / "AB" / "overviews").mkdir()
    (tree / "Task1" / "AB" / "1ABA004").mkdir()
    return tree


def test_a_synthrad_tree(synthrad):
    rows, said = made(synthrad, "--kind", "synthrad", "--modality", "mr")
    assert [(r["patient"], r["region"], r["center"], r["split"]) for r in rows] == [
        ("1ABA001", "AB", "A", "train"),
        ("1HNC012", "HN", "C", "train"),
        ("1THB007", "TH", "B", "test"),
    ]
    assert rows[0]["image"] == "synthrad/Task1/AB/1ABA001/mr.mha" and rows[0]["mask"].endswith("mask.mha")
    for text in (
        "1ABA002: no CT",
        "2ABD003: task 2 (cbct)",
        "1ABA004: no mr.mha",
        "overviews: overviews",
        "4 left out",
    ):
        assert text in said, said
    rows, _ = made(synthrad, "--kind", "synthrad", "--modality", "mr", "--for", "predict")
    assert [row["patient"] for row in rows] == ["1ABA001", "1ABA002", "1HNC012", "1THB007"]
    bad_input(call("sheet.py", synthrad, "--kind", "synthrad", "--out", synthrad / "s.csv"), "both tasks", "--modality")
    rows, _ = made(synthrad, "--kind", "synthrad", "--modality", "cbct")
    assert rows[0]["patient"] == "2ABD003" and rows[0]["image"].endswith("cbct.mha") and "mask" not in rows[0]


def test_a_bids_data_set(tmp_path):
    tree = tmp_path / "bids"
    tree.mkdir()
    put(
        tree, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/ct/sub-01_ct.nii.gz", "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz"
    )
    put(tree, "derivatives/bodies/sub-01/anat/sub-01_desc-body_mask.nii.gz", "sub-02/ses-1/anat/sub-02_ses-1_ct.nii.gz")
    put(
        tree,
        "sub-03/anat/sub-03_acq-a_T1w.nii.gz",
        "sub-03/anat/sub-03_acq-b_T1w.nii.gz",
        "sub-04/anat/sub-04_T2w.nii.gz",
    )
    (tree / "participants.tsv").write_text("participant_id\tregion\tsite\nsub-01\tHN\tumc 1\nsub-02\tHN\tumc 1\n")
    rows, said = made(tree, "--kind", "bids")
    assert [(r["patient"], r["region"], r["center"]) for r in rows] == [
        ("sub-01", "HN", "umc_1"),
        ("sub-02", "HN", "umc_1"),
    ]
    assert rows[0]["mask"].endswith("body_mask.nii.gz") and rows[1]["mask"] == ""
    assert "sub-03: 2 images end in _T1w" in said and "sub-04: no _T1w" in said


def test_a_flat_folder_and_a_pattern(tmp_path):
    tree = tmp_path / "flat"
    tree.mkdir()
    put(
        tree,
        "HN-a1_mr.nii.gz",
        "HN-a1_ct.nii.gz",
        "HN-a1_mask.mha",
        "HN-a2_mr.mha",
        "HN-a2_dose.mha",
        "b 3.mha",
        "AB-c4_ct.mha",
    )
    (tree / "notes.txt").write_text("x")
    rows, said = made(tree, "--kind", "folder", "--pattern", "{region}-{patient}_{kind}", "--for", "predict")
    assert [(r["patient"], r["region"], r["center"]) for r in rows] == [("a1", "HN", "A"), ("a2", "HN", "A")]
    for text in ("'dose' is no image", "b 3.mha: does not follow", "notes.txt: no image", "c4: no mr image beside ct"):
        assert text in said, said
    process = call("sheet.py", tree, "--kind", "folder", "--pattern", "{patient}", "--out", tmp_path / "s.csv")
    bad_input(process, "{patient} and {kind}")
    assert not (tmp_path / "s.csv").exists()


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
    rows, said = made(tree, "--kind", "dicom")
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
    rows, _ = made(tree, "--kind", "dicom", "--modality", "cbct", "--region", "HN", "--center", "B")
    assert (rows[0]["image"], rows[0]["ct"]) == ("linac/p1/daily", "linac/p1/plan")
    assert (rows[0]["region"], rows[0]["center"]) == ("HN", "B")


def test_the_pipeline_takes_the_sheet(nextflow, root, synthrad, tmp_path):
    """Its own check names every fault of sheet and parameters at once: here the parameter that is none, and no row."""
    made(synthrad, "--kind", "synthrad", "--modality", "mr", out=tmp_path / "s.csv")
    done = nextflow(
        tmp_path, "run", root / "main.nf", "--input", tmp_path / "s.csv", "--modality", "mr", "--nonsense", 1
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "nonsense" in said and "s.csv" not in said, said
