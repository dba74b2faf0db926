"""Samplesheets made from trees of files as they come, what is left out said, and taken by the pipeline's check."""

import csv

import numpy as np
import pytest
from conftest import bad_input
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


def test_folders_behind_links_are_followed(tmp_path):
    put(tmp_path, "store/p1_mr.mha", "store/p1_ct.mha", "store/1ABA001/mr.mha", "store/1ABA001/ct.mha")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "far").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "around").symlink_to(tmp_path / "tree")
    rows, _ = made(tmp_path / "tree", "--kind", "folder", "--region", "AB", "--pattern", "far/{patient}_{kind}")
    assert [row["patient"] for row in rows] == ["p1"]
    rows, _ = made(tmp_path / "tree", "--kind", "synthrad")
    assert [row["patient"] for row in rows] == ["1ABA001"]


def test_one_session_a_bids_subject(tmp_path):
    """Two sessions of one person could fall into training and test."""
    tree = tmp_path / "bids"
    for session in ("ses-1", "ses-2", "ses-3"):
        put(tree, f"sub-01/{session}/anat/sub-01_{session}_T1w.nii.gz")
    put(tree, *(f"sub-01/{session}/anat/sub-01_{session}_ct.nii.gz" for session in ("ses-2", "ses-3")))
    put(
        tree,
        *(
            f"sub-05/{place}_{kind}.nii.gz"
            for place in ("anat/sub-05", "ses-9/anat/sub-05_ses-9")
            for kind in ("T1w", "ct")
        ),
    )
    rows, said = made(tree, "--kind", "bids", "--region", "HN")
    assert [(row["patient"], row["image"].split("/")[2]) for row in rows] == [("sub-01", "ses-2"), ("sub-05", "anat")]
    for lost in ("sub-01/ses-1", "sub-01/ses-3", "sub-05/ses-9"):
        assert f"{lost}: {lost[:6]} is taken from " in said and "training and test" in said, said


def test_a_bids_mask_is_the_bodys(tmp_path):
    tree = tmp_path / "bids"
    for name in ("sub-01", "sub-02", "sub-03"):
        put(tree, *(f"{name}/anat/{name}_{kind}.nii.gz" for kind in ("T1w", "ct")))
    put(tree, "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask.nii.gz", "sub-02/anat/sub-02_mask.nii.gz")
    put(tree, "sub-03/anat/sub-03_label-lesion_mask.nii.gz")
    rows, said = made(tree, "--kind", "bids", "--region", "HN")
    assert [row["mask"] for row in rows] == ["", "bids/sub-02/anat/sub-02_mask.nii.gz", ""]
    assert "desc-brain_mask.nii.gz: its name does not say" in said and "label-lesion_mask.nii.gz: its" in said, said


def test_a_folder_of_two_modalities(tmp_path):
    tree = tmp_path / "flat"
    put(tree, "p1_mr.mha", "p1_cbct.mha", "p1_ct.mha")
    for modality, other in (("mr", "cbct"), ("cbct", "mr")):
        rows, said = made(tree, "--kind", "folder", "--region", "AB", "--modality", modality)
        assert [row["image"] for row in rows] == [f"flat/p1_{modality}.mha"]
        assert f"p1_{other}.mha: {other}, the sheet is for {modality}" in said
    (tree / "p1_mr.mha").unlink()
    process = call("sheet.py", tree, "--kind", "folder", "--region", "AB", "--out", tmp_path / "s.csv")
    bad_input(process, "no mr image", "p1_cbct.mha: cbct, the sheet is for mr")


def test_a_folder_of_two_sequences(tmp_path):
    tree = tmp_path / "flat"
    put(tree, "p1_t1.mha", "p1_t2.mha", "p1_ct.mha", "p2_T2w.mha", "p2_ct.mha")
    process = call("sheet.py", tree, "--kind", "folder", "--region", "AB", "--out", tmp_path / "s.csv")
    assert process.returncode == 0
    assert "sheet.py: warning: images of two sequences" in process.stderr and "T1 (p1) and T2 (p2)" in process.stderr


def test_one_name_in_two_places(tmp_path):
    """Of two centres: two people, never paired; of two regions: two people, and a warning; in two cases: one name."""
    tree = tmp_path / "centres"
    put(tree, "A/p1/mr.mha", "B/p1/ct.mha", "B/p2/mr.mha", "B/p2/ct.mha")
    options = ("--kind", "folder", "--region", "AB", "--pattern", "{center}/{patient}/{kind}")
    rows, said = made(tree, *options)
    assert [row["patient"] for row in rows] == ["p2"] and "A_p1: no CT" in said and "B_p1: no mr" in said
    put(tree, "A/p1/ct.mha", "B/p1/mr.mha")
    rows, said = made(tree, *options)
    assert [(r["patient"], r["center"], r["ct"]) for r in rows][:2] == [
        ("A_p1", "A", "centres/A/p1/ct.mha"),
        ("B_p1", "B", "centres/B/p1/ct.mha"),
    ]
    assert "0 left out" in said
    pattern = ("--pattern", "{region}/{patient}/{kind}")
    process = call("sheet.py", tree, "--kind", "folder", *pattern, "--out", tmp_path / "s.csv")
    assert "p1 stands in regions A, B: taken as 2 people" in process.stderr, process.stderr
    put(tmp_path / "cases", *(f"{name}_{kind}.mha" for name in ("P1", "p1") for kind in ("mr", "ct")))
    rows, said = made(tmp_path / "cases", "--kind", "folder", "--region", "AB")
    assert [row["patient"] for row in rows] == ["P1"] and "p1: patient 'p1' stands twice (above as 'P1')" in said
    put(tmp_path / "twice", "p1_mr.mha", "p1_mr.nii.gz", "p1_ct.mha")
    _, said = made(tmp_path / "twice", "--kind", "folder", "--region", "AB")
    assert "p1_mr.nii.gz: patient p1 has p1_mr.mha for image" in said


def test_names_with_underscores(tmp_path):
    put(tmp_path / "flat", *(f"pat_0{number}_{kind}.mha" for number in (1, 2) for kind in ("mr", "ct")))
    rows, _ = made(tmp_path / "flat", "--kind", "folder", "--region", "AB")
    assert [row["patient"] for row in rows] == ["pat_01", "pat_02"]
    put(tmp_path / "other", "p1_flair.mha", "p2_flair.mha", "p3.mha")
    process = call("sheet.py", tmp_path / "other", "--kind", "folder", "--out", tmp_path / "s.csv")
    bad_input(process, "p1_flair.mha: 'flair' is no image, ct or mask and 1 more", "p3.mha: does not follow")


def test_the_pipeline_takes_the_sheet(nextflow, root, synthrad, tmp_path):
    """Its own check names every fault of sheet and parameters at once: here the parameter that is none, and no row."""
    made(synthrad, "--kind", "synthrad", "--modality", "mr", out=tmp_path / "s.csv")
    done = nextflow(
        tmp_path, "run", root / "main.nf", "--input", tmp_path / "s.csv", "--modality", "mr", "--nonsense", 1
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "nonsense" in said and "s.csv" not in said, said
