"""bin/evaluate.py and bin/baselines.py as a user calls them."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import bad_input
from dicom_series import SHAPE, write_ct

from synthct.evaluation import baselines
from synthct.evaluation.pair import read_pair
from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.images.volume import read_volume, write_volume

GRID = Grid((40, 36, 12), (1.5, 1.0, 3.0), (-10.0, 5.0, 20.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A patient on disk: an ellipse of tissue, an sCT that is 10 HU off, label maps."""
    folder = tmp_path_factory.mktemp("patient")
    z, y, x = np.indices(GRID.shape)
    mask = ((y - 18) / 15) ** 2 + ((x - 20) / 17) ** 2 < 1
    ct = np.where(mask, 40 + 5 * z, -1000).astype(np.int16)
    labels = np.where(mask & (z > 5), 5, 0).astype(np.uint8)
    arrays = {
        "ct": ct,
        "sct": (ct + 10).astype(np.int16),
        "mask": mask.astype(np.uint8),
        "empty": np.zeros_like(labels),
        "image": np.where(mask, 3 * ct + 700, 0).astype(np.int16),
        "labels": labels,
        "uncertainty": np.where(mask, x, 0).astype(np.float32),
    }
    paths = {}
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.mha"
        write_volume(Volume(array, GRID), paths[name])
    paths["moved"] = folder / "moved.mha"
    write_volume(Volume(arrays["sct"], Grid(GRID.size, GRID.spacing, (0.0, 0.0, 0.0))), paths["moved"])
    paths["shorter"] = folder / "shorter.mha"
    write_volume(Volume(arrays["sct"][:-1], Grid((40, 36, 11), GRID.spacing, GRID.origin)), paths["shorter"])
    return paths


@pytest.fixture
def evaluate(files, run_tool, tmp_path):
    """Run evaluate.py; returns the process and the JSON, or None."""

    def run(*options, sct="sct", mask="mask"):
        out = tmp_path / "metrics.json"
        process = run_tool(
            "evaluate.py", "--sct", files[sct], "--ct", files["ct"], "--mask", files[mask], "--out", out, *options
        )
        return process, json.loads(out.read_text()) if out.exists() else None

    return run


def test_everything_in_one_call(evaluate, files, tmp_path):
    fitted = {"format": 1, "patients": ["X"], "constant": 60, "edges": [0.0], "lookup": [50.0, 80.0]}
    (tmp_path / "baselines.json").write_text(json.dumps(fitted))
    process, scores = evaluate(
        "--hu-range", "-1024", "3000", "--patient", "1ABA001", "--trained-on", "impact", "--tested-on", "elastix",
        "--sct-seg", files["labels"], "--ct-seg", files["labels"], "--region", "AB", "--image", files["image"],
        "--uncertainty", files["uncertainty"], "--baselines", tmp_path / "baselines.json",
        "--slices", tmp_path / "slices.npz",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert scores["mae"] == 10 and scores["psnr"] == pytest.approx(20 * np.log10(4024 / 10))
    assert (scores["dice"], scores["hd95"], scores["n_classes_scored"], scores["n_classes_missing"]) == (1, 0, 1, 0)
    assert (scores["patient"], scores["region"], scores["trained_on"], scores["tested_on"]) == (
        "1ABA001",
        "AB",
        "impact",
        "elastix",
    )
    assert scores["hu_bins"] == {"air": "nan", "lung": "nan", "soft": 10, "bone": "nan"}
    assert scores["baselines"]["constant"]["mae"] > scores["baselines"]["lookup"]["mae"] > 0
    assert scores["uncertainty"]["mean"] > 0 and len(scores["uncertainty"]["groups"]) == 10
    with np.load(tmp_path / "slices.npz", allow_pickle=False) as slices:
        assert slices["axial_ct"].dtype == np.int16 and max(slices["axial_ct"].shape) <= 256
        height, width = slices["coronal_ct"].shape  # square pixels of 1.5 mm: 36 mm high, 60 mm wide
        assert (height, width) == (24, 40)
        assert slices["coronal_ct"][0, 20] > slices["coronal_ct"][-1, 20]  # the head, here the brighter end, on top
        assert {"axial_sct", "axial_image", "axial_mask", "axial_uncertainty"} <= set(slices.files)


def test_empty_mask_and_identical_images_are_strings(evaluate):
    process, scores = evaluate(mask="empty")
    assert process.returncode == 0 and "empty" in process.stderr
    assert (scores["mae"], scores["psnr"], scores["ms_ssim"]) == ("nan", "nan", "nan")
    _, scores = evaluate(sct="ct")
    assert (scores["mae"], scores["psnr"], scores["ms_ssim"]) == (0, "inf", 1)


def test_header_of_the_sct_is_taken_as_the_cts_and_that_is_said(evaluate):
    process, scores = evaluate(sct="moved")
    assert process.returncode == 0 and scores["mae"] == 10
    assert "origin" in scores["notes"][0] and "note" in process.stderr


def test_an_sct_stored_in_another_order_is_turned_and_not_compared_mirrored(evaluate, files, tmp_path):
    """What lies at one place in the patient is compared, for all 48 orders and directions of axes; else nothing is."""
    rng = np.random.default_rng(0)
    ct = read_volume(files["ct"]).array
    sct = (ct + rng.normal(0, 300, ct.shape)).astype(np.int16)
    for order, signs in (((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, -1)), ((1, 0, 2), (1, 1, 1))):
        image = sitk.PermuteAxes(to_sitk(Volume(sct, GRID)), order)
        image = sitk.Flip(image, [sign < 0 for sign in signs], False)
        files["turned"] = tmp_path / "turned.mha"
        write_volume(from_sitk(image), files["turned"])
        files["plain"] = tmp_path / "plain.mha"
        write_volume(Volume(sct, GRID), files["plain"])
        process, scores = evaluate(sct="turned")
        assert process.returncode == 0, process.stderr
        assert scores["notes"] == ["sCT: axes in another order or direction than the CT's; turned onto the CT's grid"]
        plain = evaluate(sct="plain")[1]
        assert plain["notes"] == [] and all(scores[key] == plain[key] for key in ("mae", "psnr", "ms_ssim"))


def test_a_mask_that_is_no_body_is_refused(evaluate, files, tmp_path):
    body = read_volume(files["mask"]).array
    soft = np.zeros(GRID.shape, np.uint8)
    soft[2:9, 5:30] = np.arange(40) * 6
    one = np.zeros_like(body)
    one[5, 18, 20:22] = 1
    for name, array, texts in (
        ("inverted", 1 - body, ("most of it is air", "-1000 HU")),
        ("one", one, ("0.009 cm³ (2 voxels)", "at least 1 cm³")),
        ("soft", soft, ("40 different values", "is it a soft mask?")),
    ):
        files[name] = tmp_path / f"{name}.mha"
        write_volume(Volume(array, GRID), files[name])
        bad_input(evaluate(mask=name)[0], f"mask {files[name]}", *texts)


def test_what_the_scores_do_not_show_is_noted(evaluate, files, tmp_path):
    labels = ("--sct-seg", files["labels"], "--ct-seg", files["labels"], "--region")
    process, scores = evaluate(*labels, "XX")
    assert scores["notes"] == []
    process, scores = evaluate("--sct-seg", files["mask"], "--ct-seg", files["mask"], "--region", "XX")
    assert (scores["dice"], scores["n_classes_scored"]) == (0, 0) and "no class of region XX" in scores["notes"][0]
    assert "no class of region XX" in process.stderr
    files["scaled"] = tmp_path / "scaled.mha"
    scaled = np.where(read_volume(files["mask"]).array, read_volume(files["sct"]).array / 1000, -1024)
    write_volume(Volume(scaled.astype(np.float32), GRID), files["scaled"])
    process, scores = evaluate(sct="scaled")
    assert process.returncode == 0 and "nearly constant" in scores["notes"][0], "an sCT may be bad, and is scored"


def test_a_standard_deviation_below_zero_is_refused(evaluate, files):
    bad_input(evaluate("--uncertainty", files["ct"])[0], "uncertainty", "below 0", "expected HU of 0 and more")


@pytest.fixture
def raw_ct(files, tmp_path):
    """The CT as a scanner leaves it: finer, wider, and of the sCT's twelve slices it saw six."""
    grid = Grid((80, 80, 16), (1.0, 0.6, 1.0), (-15.0, 0.0, 20.0))
    z, _, x = np.indices(grid.shape)
    write_volume(Volume(np.where(x < 3, -1000, 40 + 5 * z / 3).astype(np.float32), grid), tmp_path / "raw.mha")
    write_volume(Volume(np.where(z > 6, 5, 0).astype(np.uint8), grid), tmp_path / "raw_labels.mha")
    z, _, _ = np.indices(GRID.shape)
    write_volume(Volume(np.where(z > 2, 5, 0).astype(np.uint8), GRID), tmp_path / "labels.mha")
    return tmp_path / "raw.mha"


def test_a_ct_of_another_grid_is_resampled_where_that_is_asked_for(evaluate, files, raw_ct):
    bad_input(evaluate("--ct", raw_ct)[0], "sCT", "size")
    process, scores = evaluate("--ct", raw_ct, "--resample-ct", "--image", files["image"])
    assert process.returncode == 0, process.stderr
    assert scores["mae"] == pytest.approx(10, abs=0.01), "the ramp of the CT, 10 HU below the sCT, in millimetres"
    assert scores["ct_resampled"] is True and scores["ct_coverage"] == pytest.approx(6 / 12)
    whole = evaluate()[1]["voxels"]
    assert scores["voxels"] == whole / 2, "what the CT did not see is not scored"
    assert any("resampled" in note and "no registration" in note for note in scores["notes"])
    assert any("covers 50.0% of the mask" in note for note in scores["notes"])
    process, scores = evaluate("--resample-ct")
    assert (scores["ct_resampled"], scores["ct_coverage"], scores["voxels"], scores["notes"]) == (False, 1, whole, [])


def test_labels_that_the_resampled_ct_did_not_see_do_not_count(evaluate, raw_ct):
    labels = (
        "--sct-seg",
        raw_ct.with_name("labels.mha"),
        "--ct-seg",
        raw_ct.with_name("raw_labels.mha"),
        "--region",
        "AB",
    )
    _, scores = evaluate("--ct", raw_ct, "--resample-ct", *labels)
    assert (scores["n_classes_scored"], scores["dice"], scores["hd95"]) == (1, 1, 0)
    far = raw_ct.with_name("far.mha")
    air = np.array([-1000, 40, 40, 40], np.int16)[:, None, None] * np.ones((4, 4, 4), np.int16)
    write_volume(Volume(air, Grid((4, 4, 4), (1.0,) * 3, (900.0,) * 3)), far)
    process, scores = evaluate("--ct", far, "--resample-ct")
    assert process.returncode == 0 and scores["mae"] == "nan" and scores["ct_coverage"] == 0


def test_bad_input_is_one_line_and_writes_nothing(evaluate, files, tmp_path):
    process, scores = evaluate(sct="shorter")
    bad_input(process, "sCT", "size", "40×36×11")
    assert scores is None
    bad_input(evaluate("--sct-seg", files["labels"])[0], "--ct-seg")
    bad_input(evaluate("--sct-seg", files["labels"], "--ct-seg", files["labels"])[0], "--region")
    bad_input(evaluate("--hu-range", "10", "-10")[0], "--hu-range")
    (tmp_path / "b.json").write_text("{}")
    bad_input(evaluate("--baselines", tmp_path / "b.json", "--image", files["image"])[0], "b.json")


def case(folder, name, image, ct, outside=None):
    """A case directory as preprocess.py leaves it, as far as the trivial predictors look at it."""
    path = folder / name
    path.mkdir(parents=True)
    for file, array in (("image", image), ("ct", ct)):
        array = np.asarray(array, np.int16).reshape(1, 1, -1).copy()
        if outside is not None:
            array[..., outside] = baselines.OUTSIDE
        np.save(path / f"{file}.npy", array)
    (path / "case.json").write_text("{}")
    return path


def test_constant_is_the_median_and_test_patients_are_never_seen(tmp_path, run_tool):
    case(tmp_path / "cases", "A", [1, 2, 3, 9], [0, 10, 20, 3000], outside=3)
    case(tmp_path / "cases", "B", [1, 2, 3, 4], [30, 40, 50, 60])
    case(tmp_path / "cases", "T", [1, 2, 3, 4], [2000, 2000, 2000, 2000])
    (tmp_path / "folds.json").write_text(json.dumps({"test": ["T"], "folds": [{"train": ["A"], "validation": ["B"]}]}))
    process = run_tool(
        "baselines.py", "--cases", tmp_path / "cases", "--folds", tmp_path / "folds.json", "--out", tmp_path / "b.json"
    )
    assert process.returncode == 0, process.stderr
    fitted = json.loads((tmp_path / "b.json").read_text())
    assert fitted["patients"] == ["A", "B"] and fitted["constant"] == 30
    bad_input(run_tool("baselines.py", "--cases", tmp_path, "--out", tmp_path / "c.json"), "no training case")


def test_lookup_table_learns_a_relation_whatever_the_scale(tmp_path):
    random = np.random.default_rng(0)
    intensity = random.normal(500, 120, 20000)
    hu = 0.5 * intensity - 200
    paths = [case(tmp_path, "A", intensity, hu), case(tmp_path, "B", 10 * intensity + 77, hu)]
    fitted = baselines.fit(paths)
    assert len(fitted["lookup"]) == len(fitted["edges"]) + 1 > 200
    image = (3 * intensity - 100).reshape(1, 1, -1)
    guess = baselines.predict(fitted, image, np.ones(image.shape))
    assert np.abs(guess["lookup"] - hu).mean() < 1.5
    assert np.abs(guess["constant"] - hu).mean() > 40


def test_constant_image_has_one_bin(tmp_path):
    fitted = baselines.fit([case(tmp_path, "A", [7, 7, 7], [10, 20, 60])])
    guess = baselines.predict(fitted, np.full((1, 1, 2), 5), np.ones((1, 1, 2)))
    assert guess["lookup"].tolist() == [30, 30] and fitted["constant"] == 20


def test_two_frames_of_reference_are_said(tmp_path):
    """A CT that somebody brought onto the sCT has the sCT's; another one's millimetres mean nothing there."""
    hu = np.full(SHAPE, -1000)
    hu[:, 3:-3, 3:-3] = 40
    write_ct(tmp_path / "ct", hu)
    write_ct(tmp_path / "sct", hu + 10)
    assert not any("frame" in note for note in read_pair(tmp_path / "sct", tmp_path / "ct", resample_ct=True).notes)
    for path in (tmp_path / "ct").iterdir():
        data = pydicom.dcmread(path)
        data.FrameOfReferenceUID = "9.9.9"
        data.save_as(path)
    notes = read_pair(tmp_path / "sct", tmp_path / "ct", resample_ct=True).notes
    assert any("another frame of reference" in note for note in notes), notes
