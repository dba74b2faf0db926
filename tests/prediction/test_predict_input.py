"""What predict.py refuses: one line that names the file and the fault, exit status 2, nothing left behind."""

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import bad_input
from models import call, write_model

from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume
from synthct.prediction import bundle as bundles

GRID = Grid((40, 40, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("bundle"), flips="none")


@pytest.fixture
def here(tmp_path):
    """A directory with an image and a mask that are in order."""
    array = np.random.default_rng(0).integers(0, 500, GRID.shape).astype(np.int16)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[:, 8:32, 8:32] = 1
    write_volume(Volume(array, GRID), tmp_path / "image.mha")
    write_volume(Volume(mask, GRID), tmp_path / "mask.mha")
    return tmp_path


def predict(model, here, *extra, image="image.mha", mask="mask.mha"):
    return call(
        "predict.py",
        "--model",
        model,
        "--image",
        here / image,
        "--mask",
        here / mask,
        "--region",
        "AB",
        "--out",
        here / "out" / "sct.mha",
        *extra,
    )


def refused(process, here, *texts):
    bad_input(process, *texts)
    left = list((here / "out").glob("*")) if (here / "out").exists() else []
    assert not left, "something was left behind"


def test_good_input_is_not_refused(model, here):
    process = predict(model, here)
    assert process.returncode == 0 and (here / "out" / "sct.mha").is_file(), process.stderr
    assert not process.stderr


def test_a_2d_image(model, here):
    sitk.WriteImage(sitk.Image(40, 40, sitk.sitkInt16), str(here / "flat.mha"))
    refused(predict(model, here, image="flat.mha"), here, "flat.mha", "2-dimensional")


def test_a_single_slice(model, here):
    sitk.WriteImage(sitk.Image(40, 40, 1, sitk.sitkInt16), str(here / "thin.mha"))
    refused(predict(model, here, image="thin.mha"), here, "thin.mha", "several slices")


def test_colour(model, here):
    sitk.WriteImage(sitk.Image([40, 40, 6], sitk.sitkVectorUInt8, 3), str(here / "rgb.mha"))
    refused(predict(model, here, image="rgb.mha"), here, "rgb.mha", "3 values per voxel")


def test_not_an_image(model, here):
    (here / "notes.mha").write_text("hello")
    refused(predict(model, here, image="notes.mha"), here, "notes.mha", "cannot be read")
    (here / "image.jpg").write_text("hello")
    refused(predict(model, here, image="image.jpg"), here, "image.jpg", "unknown format")


def test_nan_voxels(model, here):
    array = np.zeros(GRID.shape, np.float32)
    array[2, 3, 4] = np.nan
    write_volume(Volume(array, GRID), here / "nan.mha")
    refused(predict(model, here, image="nan.mha"), here, "nan.mha", "1 voxels are NaN")


def test_a_constant_image(model, here):
    write_volume(Volume(np.full(GRID.shape, 7, np.int16), GRID), here / "grey.mha")
    refused(predict(model, here, image="grey.mha"), here, "constant")


def test_an_empty_mask(model, here):
    write_volume(Volume(np.zeros(GRID.shape, np.uint8), GRID), here / "empty.mha")
    refused(predict(model, here, mask="empty.mha"), here, "empty.mha", "no voxel above 0")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": (40, 40, 7)}, "size"),
        ({"origin": (0.0, 5.0, 0.0)}, "origin"),
        ({"spacing": (1.0, 1.0, 2.5)}, "spacing"),
        ({"direction": (-1.0, 0, 0, 0, -1, 0, 0, 0, 1)}, "direction"),
    ],
)
def test_a_mask_of_another_grid(model, here, change, word):
    grid = Grid(**({"size": GRID.size, "spacing": GRID.spacing, "origin": GRID.origin} | change))
    write_volume(Volume(np.ones(grid.shape, np.uint8), grid), here / "other.mha")
    refused(predict(model, here, mask="other.mha"), here, "other.mha", "another grid", word)


@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".nrrd"])
def test_a_truncated_file(model, here, suffix):
    array = np.random.default_rng(1).integers(0, 500, GRID.shape).astype(np.int16)
    write_volume(Volume(array, GRID), here / f"short{suffix}")
    os.truncate(here / f"short{suffix}", (here / f"short{suffix}").stat().st_size * 2 // 3)
    refused(predict(model, here, image=f"short{suffix}"), here, f"short{suffix}", "truncated")


def copied(model, here):
    """A copy of the bundle whose files may be changed."""
    copy = here / "model"
    copy.mkdir()
    for source in model.iterdir():
        (copy / source.name).write_bytes(source.read_bytes())
    return copy


def test_a_bundle_with_a_changed_byte(model, here):
    copy = copied(model, here)
    name = next(copy.glob("*best.safetensors"))
    data = bytearray(name.read_bytes())
    data[-1000] ^= 1
    name.write_bytes(data)
    refused(predict(copy, here), here, name.name, "SHA-256")


def test_a_bundle_whose_description_was_changed(model, here):
    copy = copied(model, here)
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(text.replace('"margin": 64', '"margin": 63'))
    refused(predict(copy, here), here, "bundle.json was changed")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("preprocessing", "ct_range", "a"),
        ("preprocessing", "spacing", "x"),
        ("preprocessing", "spacing", [0.0001, 0.0001, 3.0]),
        ("preprocessing", "outside", None),
        ("preprocessing", "region", {"AB": {"spacing": "x"}}),
        ("inference", "flips", ["x"]),
        ("inference", "checkpoint", ["best"]),
        ("inference", "margin", "x"),
        ("inference", "margin", None),
        ("network", "encoder", 5),
        ("network", "decoder_channels", "abc"),
        ("network", "decoder_channels", [32.0, 32.0, 16.0, 16.0, 8.0]),
        ("", "trust", [1]),
        ("", "trust", {"x": 1}),
        ("", "preset", None),
        ("", "files", {"global_fold0_best.safetensors": 5}),
    ],
)
def test_a_bundle_that_says_what_cannot_be(model, here, section, key, value):
    """With a digest that fits: predict.py and bundle.py verify name the key, before anything is loaded."""
    copy = copied(model, here)
    about = json.loads((copy / "bundle.json").read_text())
    (about[section] if section else about)[key] = value
    about["digest"] = bundles._digest(about)
    (copy / "bundle.json").write_text(json.dumps(about))
    refused(predict(copy, here), here, "bundle.json", key if key != "files" else "global_fold0")
    bad_input(call("bundle.py", "verify", copy), "bundle.json", key if key != "files" else "global_fold0")


def test_a_bundle_for_cbct_needs_its_percentile(model, here):
    copy = copied(model, here)
    about = json.loads((copy / "bundle.json").read_text()) | {"modality": "cbct"}
    del about["preprocessing"]["cbct_percentile"]
    about["digest"] = bundles._digest(about)
    (copy / "bundle.json").write_text(json.dumps(about))
    refused(predict(copy, here), here, "bundle.json", "no preprocessing.cbct_percentile")


def test_a_bundle_of_another_release_opens(model, here):
    """Its keys may be others: fewer than today's, or some that are gone."""
    copy = copied(model, here)
    about = json.loads((copy / "bundle.json").read_text())
    for key in ("graph", "precision", "body_mask"):
        del about["inference"][key]
    about["inference"]["gone"] = about["network"]["gone"] = about["preprocessing"]["gone"] = "yes"
    about["digest"] = bundles._digest(about)
    (copy / "bundle.json").write_text(json.dumps(about))
    assert predict(copy, here).returncode == 0


def test_a_bundle_with_a_file_missing_and_no_bundle_at_all(model, here):
    copy = copied(model, here)
    next(copy.glob("*best.safetensors")).unlink()
    refused(predict(copy, here), here, "best.safetensors is missing")
    refused(predict(here, here), here, "no bundle.json")


def test_a_bundle_of_the_other_modality(model, here):
    refused(predict(model, here, "--modality", "cbct"), here, "made for modality mr", "cbct")


def test_checkpoints_that_the_bundle_has_not(model, here):
    refused(predict(model, here, "--set", "inference.checkpoint=last"), here, "expected best, final")
    refused(predict(model, here, "--set", "inference.flips=z"), here, "inference.flips")
    refused(predict(model, here, "--set", "inference.flip=z"), here, "unknown key 'flip'")


def test_dicom_output_needs_dicom_input(model, here):
    refused(predict(model, here, "--dicom", here / "out" / "dicom"), here, "no DICOM series")


def test_an_output_that_is_an_input(model, here):
    before = (here / "image.mha").read_bytes(), (here / "mask.mha").read_bytes()
    refused(predict(model, here, "--uncertainty", here / "image.mha"), here, "image.mha", "is the input")
    refused(predict(model, here, "--mask-out", here / "mask.mha"), here, "mask.mha", "is the input")
    assert before == ((here / "image.mha").read_bytes(), (here / "mask.mha").read_bytes())


def test_an_output_that_is_a_ct_of_the_list(model, here):
    """A CT lies where the sCT of its patient would go."""
    (here / "out").mkdir()
    ct = np.where(np.arange(GRID.shape[1])[:, None] < 8, -1000, np.random.default_rng(1).integers(-50, 99, GRID.shape))
    write_volume(Volume(ct.astype(np.int16), GRID), here / "out" / "a.mha")
    before = (here / "out" / "a.mha").read_bytes()
    (here / "list.csv").write_text("patient,image,mask,region,ct\na,image.mha,mask.mha,AB,out/a.mha\n")
    process = call("predict.py", "--model", model, "--list", here / "list.csv", "--outdir", here / "out")
    assert process.returncode == 2 and "is the input" in process.stderr
    assert (here / "out" / "a.mha").read_bytes() == before


def test_a_list_with_a_fault_is_refused_before_anything_is_computed(model, here):
    def run(rows):
        with open(here / "list.csv", "w", newline="") as handle:
            csv.writer(handle).writerows([("patient", "image", "mask", "region"), *rows])
        return call("predict.py", "--model", model, "--list", here / "list.csv", "--outdir", here / "out")

    good = ("a", "image.mha", "mask.mha", "AB")
    refused(run([good, ("b", "gone.mha", "", "AB")]), here, "line 3", "gone.mha")
    refused(run([good, good]), here, "line 3", "stands twice")
    refused(run([good, ("../b", "image.mha", "", "AB")]), here, "line 3")
    refused(run([]), here, "no patients")


def test_a_bad_patient_of_a_list_does_not_end_the_others(model, here):
    """Each is named with its image at the end, in a line of its own; what was predicted is there and in the report."""
    write_volume(Volume(np.full(GRID.shape, 7, np.int16), GRID), here / "grey.mha")
    (here / "short.mha").write_bytes((here / "image.mha").read_bytes()[:-500])
    (here / "scan").mkdir()
    rows = [("bad", "grey.mha"), ("a", "image.mha"), ("cut", "short.mha"), ("none", "scan"), ("b", "image.mha")]
    with open(here / "list.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([("patient", "image", "mask", "region"), *((*r, "mask.mha", "AB") for r in rows)])
    told = ("predict.py", "--model", model, "--list", here / "list.csv", "--outdir", here / "out")
    process = call(*told)
    lines = process.stderr.splitlines()
    assert process.returncode == 2 and len(lines) == 3, process.stderr
    for name, image in (("bad", "grey.mha"), ("cut", "short.mha"), ("none", "scan")):
        (line,) = [line for line in lines if line.startswith(f"predict.py: error: {name}: ")]
        assert image in line
    report = json.loads((here / "out" / "patients.json").read_text())
    assert [patient["patient"] for patient in report["patients"]] == ["a", "b"]
    assert sorted(path.name for path in (here / "out").glob("*.mha") if "uncert" not in path.name) == ["a.mha", "b.mha"]
    bad_input(call(*told, "--set", "inference.flips=z"), "inference.flips")
    recorded = call(*told[:-1], here / "again", "--record-failures")  # as the pipeline asks: no fault of the task's
    assert recorded.returncode == 0 and len(recorded.stderr.splitlines()) == 3, recorded.stderr
    summary = json.loads((here / "again" / "patients.json").read_text())
    assert set(summary["failed"]) == {"bad", "cut", "none"} and summary["patients"][1]["patient"] == "b"
    assert "constant" in summary["failed"]["bad"] and "short.mha" in summary["failed"]["cut"]


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_no_room_on_the_disk(model, here, suffix, small_disk):
    """On a file system of 8 KiB (where the user may mount one): the old file stays, nothing is half-written."""
    full = small_disk(2**13)
    (full / f"sct{suffix}").write_text("before")
    process = call(
        "predict.py",
        "--model",
        model,
        "--image",
        here / "image.mha",
        "--mask",
        here / "mask.mha",
        "--region",
        "AB",
        "--out",
        full / f"sct{suffix}",
    )
    bad_input(process, "cannot be written", "room on the disk")
    assert [path.name for path in full.iterdir()] == [f"sct{suffix}"]
    assert (full / f"sct{suffix}").read_text() == "before"


def test_an_mr_that_is_normalised_is_no_image_without_signal(model, here):
    """Mean 0 and standard deviation 1 in the body: its middle is 0, and it is no darker than its air."""
    body = np.zeros(GRID.shape, bool)
    body[:, 8:32, 8:32] = True
    values = np.random.default_rng(0).gamma(4.0, 1.0, GRID.shape)
    scored = np.where(body, (values - values.mean()) / values.std(), -2.0).astype(np.float32)
    write_volume(Volume(scored, GRID), here / "scored.mha")
    write_volume(Volume(body.astype(np.uint8), GRID), here / "body.mha")
    assert predict(model, here, image="scored.mha", mask="body.mha").returncode == 0


def test_a_mask_that_is_no_body(model, here):
    """Turned inside out, or a few voxels of one: an sCT of nothing would come of it."""
    body = np.zeros(GRID.shape, bool)
    body[:, 8:32, 8:32] = True
    lit = np.where(body, np.random.default_rng(0).integers(100, 500, GRID.shape), 1).astype(np.int16)
    write_volume(Volume(lit, GRID), here / "lit.mha")
    write_volume(Volume((~body).astype(np.uint8), GRID), here / "turned.mha")
    refused(predict(model, here, image="lit.mha", mask="turned.mha"), here, "turned.mha", "without signal")
    few = np.zeros(GRID.shape, np.uint8)
    few[2, 20:24, 20:24] = 1
    write_volume(Volume(few, GRID), here / "few.mha")
    refused(predict(model, here, image="lit.mha", mask="few.mha"), here, "few.mha", "16 voxels")


def test_settings_of_something_else(model, here):
    for text, words in (
        ('{"modality": "cbct", "inference": {"flips": "x"}}', ("modality cbct", "mr")),
        ('{"training": {"batch": 2}}', ("no section 'inference'",)),
        ('{"inference": {"flips": 3}}', ("flips", "3")),
    ):
        (here / "settings.json").write_text(text)
        refused(predict(model, here, "--settings", here / "settings.json"), here, "settings.json", *words)


def test_dicom_asked_for_a_patient_without_any_is_said(model, here):
    (here / "list.csv").write_text("patient,image,mask,region\na,image.mha,mask.mha,AB\n")
    asked = ("--list", here / "list.csv", "--outdir", here / "out", "--dicom", here / "dicom")
    process = call("predict.py", "--model", model, *asked)
    assert process.returncode == 0 and not (here / "dicom").exists(), process.stderr
    assert "predict.py: warning: a: no DICOM is written: the image is no DICOM series" in process.stderr
    (patient,) = json.loads((here / "out" / "patients.json").read_text())["patients"]
    assert any("no DICOM is written" in line for line in patient["warnings"])
