"""The word on trust: what known patients teach, and what a new one is told."""

import json

import numpy as np
import pytest
from conftest import bad_input
from models import call, write_checkpoints, write_model
from scipy import ndimage

from synthct.core import presets
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume
from synthct.prediction import assembly, trust
from synthct.prediction.bundle import read_bundle

GRID = Grid((48, 44, 8), (2.0, 2.0, 3.0), (-48.0, -44.0, 0.0))


def patient(seed, grid=GRID):
    """A body with fat, muscle and bone in an MR's contrast, and its CT."""
    noise = np.random.default_rng(seed)
    z, y, x = np.mgrid[: grid.size[2], : grid.size[1], : grid.size[0]].astype(float)
    wide, deep = 18 + noise.uniform(-1, 1), 16 + noise.uniform(-1, 1)
    r = np.hypot((x - 24) / wide, (y - 22) / deep) * (1 - 0.01 * z)
    bone = np.hypot(x - 24, y - 30) < 4
    mr = np.select([r > 1, bone, r > 0.8], [0, 60, 700], 300) + noise.normal(0, 8, x.shape)
    ct = np.select([r > 1, bone, r > 0.8], [-1024, 500, -100], 40)
    return [Volume(a.astype(np.int16), grid) for a in (np.clip(mr, 0, None), ct, r <= 1)]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A bundle of random networks that knows six patients, two of them trained on."""
    work = tmp_path_factory.mktemp("trust")
    model = write_model(work)
    rows = ["patient,region,center,image,ct,mask"]
    for seed in range(6):
        for name, volume in zip(("mr", "ct", "mask"), patient(seed), strict=True):
            write_volume(volume, work / f"Secret{seed}_{name}.mha")
        rows.append(f"Secret{seed},AB,A,Secret{seed}_mr.mha,Secret{seed}_ct.mha,Secret{seed}_mask.mha")
    (work / "sheet.csv").write_text("\n".join(rows) + "\n")
    folds = {"folds": [{"train": ["Secret0"], "validation": ["Secret1"]}], "test": []}
    (work / "folds.json").write_text(json.dumps(folds))
    before = json.loads((model / "bundle.json").read_text())
    done = call("bundle.py", "trust", model, "--sheet", work / "sheet.csv", "--folds", work / "folds.json")
    assert done.returncode == 0, done.stderr
    return work, model, before, done.stdout


def test_the_record_holds_ranges_and_no_names(taught):
    _, model, before, said = taught
    text = (model / "bundle.json").read_text()
    about = json.loads(text)
    assert "Secret" not in text and about["digest"] != before["digest"] and about["files"] == before["files"]
    assert said.count("held out, MAE") == 4 and said.count("trained on") == 2
    record = about["trust"]["regions"]
    assert set(record) == {"", "AB"} and record["AB"]["patients"] == 6
    assert record["AB"]["ranges"]["slice_mm"] == [3.0, 3.0] and len(record["AB"]["spread_and_mae_hu"]) == 4
    assert call("bundle.py", "verify", model).returncode == 0


def predict(model, work, image, mask):
    write_volume(image, work / "new.mha")
    write_volume(mask, work / "new_mask.mha")
    return call(
        "predict.py",
        "--model",
        model,
        "--image",
        work / "new.mha",
        "--mask",
        work / "new_mask.mha",
        "--region",
        "AB",
        "--out",
        work / "sct.mha",
        "--summary",
        work / "summary.json",
        "--page",
        work / "page.html",
    )


def verdict(model, work, image, mask):
    process = predict(model, work, image, mask)
    assert process.returncode == 0, process.stderr
    said = json.loads((work / "summary.json").read_text())["patients"][0]["trust"]
    assert said["verdict"] in (work / "page.html").read_text() and said["verdict"] in process.stdout
    return said


def test_what_a_new_patient_is_told(taught, tmp_path):
    _, model, _, _ = taught
    image, ct, mask = patient(17)
    good = verdict(model, tmp_path, image, mask)
    assert good["verdict"] == trust.USE and good["expected_mae_hu"] > 0 and good["known_patients"] == 6
    refused = predict(model, tmp_path, ct, mask)
    assert refused.returncode == 2 and "which looks like HU, expected MR" in refused.stderr, refused.stderr
    corner = np.indices(ct.array.shape).sum(0) < 8
    cut = ct.with_array(np.where((ct.array < -500) & ~corner, 0, ct.array))  # hardly any air in HU
    said = verdict(model, tmp_path, cut, mask)
    assert said["verdict"] == trust.NO and "wrong modality" in said["reasons"][0]
    noisy = image.with_array(
        (image.array + np.random.default_rng(0).normal(0, 200, image.array.shape)).astype(np.int16)
    )
    assert any("noisier" in reason for reason in verdict(model, tmp_path, noisy, mask)["reasons"])
    thick = Grid(GRID.size, (2.0, 2.0, 9.0), GRID.origin)
    said = verdict(model, tmp_path, Volume(image.array, thick), Volume(mask.array, thick))
    assert said["verdict"] == trust.NO and any("slices too thick" in reason for reason in said["reasons"])
    half = Grid((24, 44, 8), GRID.spacing, GRID.origin)
    part = [Volume(np.ascontiguousarray(v.array[:, :, :24]), half) for v in (image, mask)]
    assert any("truncated" in reason for reason in verdict(model, tmp_path, *part)["reasons"])


def test_without_a_record_nothing_is_judged():
    image, _, mask = patient(1)
    said = trust.judge(None, image, mask, None, {}, "AB", "mr")
    assert said["verdict"] == "not judged" and "bundle.py trust" in said["reasons"][0]
    few = trust.learned([{"region": "AB", "features": {"noise": 0.1}, "mae_hu": None}] * 3)
    assert trust.judge(few, image, mask, None, {}, "AB", "mr")["verdict"] == "not judged"


def test_reasons_by_how_far_a_feature_lies_beyond_its_range():
    ranges = {"fat_hu": [-110.0, -90.0], "slice_mm": [3.0, 3.0]}
    assert trust.weighed({"fat_hu": -95.0, "slice_mm": 3.0}, ranges) == ("use", [])
    assert trust.weighed({"fat_hu": -74.0, "slice_mm": 3.0}, ranges)[0] == "look"
    said, reasons = trust.weighed({"fat_hu": -40.0, "slice_mm": 4.0}, ranges)
    assert said == "do not use" and reasons[0].startswith("HU of fat too high") and "slices too thick" in reasons[1]


def test_the_error_that_goes_with_a_spread():
    pairs = [[10, 30], [20, 50], [30, 70], [40, 90]]
    assert trust.expected(25, pairs) == 60.0 and trust.expected(25, pairs[:2]) is None


def test_a_sheet_without_masks_is_refused(taught, tmp_path):
    work, model, _, _ = taught
    for text, said in (("patient,image\nP1,{}\n", "expected a column 'mask'"), ("patient,image,mask\nP1,{},\n", "P1")):
        (tmp_path / "s.csv").write_text(text.format(work / "Secret0_mr.mha"))
        bad_input(call("bundle.py", "trust", model, "--sheet", tmp_path / "s.csv"), said)


def test_a_study_teaches_its_bundle_by_its_own_test(taught, tmp_path):
    """Features from predict.py's summary, errors from evaluate.py's metrics; the record lies beside bundle.json."""
    work, _, _, _ = taught
    tree = json.loads((work / "settings.json").read_text())
    model = assembly.from_training(
        write_checkpoints(tmp_path, tree, folds=1, groups={"global": ["AB"]}), tree, "impact", tmp_path / "model"
    ).path
    sheet = "patient,image,mask,region\n" + "".join(
        f"P{n},{work}/Secret{n}_mr.mha,{work}/Secret{n}_mask.mha,AB\n" for n in range(4)
    )
    (tmp_path / "list.csv").write_text(sheet)
    summary = tmp_path / "predictions" / "a.json"
    done = call(
        "predict.py",
        "--model",
        model,
        "--list",
        tmp_path / "list.csv",
        "--outdir",
        tmp_path / "o",
        "--summary",
        summary,
    )
    assert done.returncode == 0 and "not judged" in done.stdout, done.stderr
    (tmp_path / "metrics").mkdir()
    for n, (trained, tested, mae) in enumerate([("impact", "impact", 70.5)] * 3 + [("impact", "elastix", 999.0)]):
        scored = {"patient": f"P{n}", "trained_on": trained, "tested_on": tested, "checkpoint": "best", "mae": mae}
        (tmp_path / "metrics" / f"{n}.json").write_text(json.dumps(scored))
    about = (model / "bundle.json").read_text()
    learn = ("bundle.py", "learn", model, "--predictions", summary.parent, "--metrics", tmp_path / "metrics")
    done = call(*learn, "--out", model / "trust.json")
    assert done.returncode == 0 and "4 held-out patients" in done.stdout, done.stderr
    record = json.loads((model / "trust.json").read_text())
    assert [mae for _, mae in record["regions"]["AB"]["spread_and_mae_hu"]] == [70.5] * 3
    assert (
        record["regions"]["AB"]["ranges"]["slice_mm"] == [3.0, 3.0] and "P0" not in (model / "trust.json").read_text()
    )
    assert (model / "bundle.json").read_text() == about and read_bundle(model).about["trust"]["patients"] == 4
    assert call("bundle.py", "verify", model).returncode == 0
    (model / "trust.json").write_text(json.dumps(record | {"bundle": "another"}))
    assert "trust" not in read_bundle(model).about  # a record of another bundle is none


def test_a_body_turned_over_or_cut_in_half_is_noticed_where_the_known_ones_agree():
    """Six bodies alike, judged by image and mask alone; where known patients do not agree, nothing is claimed."""
    rules = presets.resolve("paper", "mr")["preprocessing"] | {"spacing": [2.0, 2.0, 3.0]}

    def seen(image, mask):
        return {"region": "AB", "mae_hu": None, **trust.measured(image, mask, None, rules, "mr")}

    def tapered(seed):
        image, _, mask = patient(seed)
        narrow = np.indices(mask.array.shape)[2] > 36 - 2 * np.indices(mask.array.shape)[0]
        return image.with_array(np.where(narrow, 0, image.array)), mask.with_array(mask.array * ~narrow)

    known = [seen(*tapered(seed)) for seed in range(6)]
    part = trust.learned(known)["regions"]["AB"]
    image, mask = tapered(17)
    assert trust.against(part, seen(image, mask))[0] == trust.USE
    for name, axis in (("upside down", 0), ("front to back", 1)):
        over = [v.with_array(np.flip(v.array, axis).copy()) for v in (image, mask)]
        verdict, reasons = trust.against(part, seen(*over))
        assert verdict == trust.NO and f"turned {name}" in reasons[0], (name, reasons)
    half = Grid((24, 44, 8), GRID.spacing, GRID.origin)
    cut = [Volume(np.ascontiguousarray(v.array[:, :, :24]), half) for v in (image, mask)]
    verdict, reasons = trust.against(part, seen(*cut))
    assert verdict != trust.USE and any("truncated" in reason for reason in reasons)
    mixed = [*known[:3], *(seen(*(v.with_array(np.flip(v.array, 1).copy()) for v in tapered(seed))) for seed in (7, 8))]
    part = trust.learned(mixed)["regions"]["AB"]
    back = [v.with_array(np.flip(v.array, 1).copy()) for v in (image, mask)]
    assert not any("turned front" in reason for reason in trust.against(part, seen(*back))[1])


def test_a_blur_is_noticed_among_known_patients_of_very_different_noise():
    """A factor of detail, not a difference: the range of noise is wide here, and its lower end lies near 0."""
    rules = presets.resolve("paper", "mr")["preprocessing"] | {"spacing": [2.0, 2.0, 3.0]}

    def grainy(seed, sigma):
        image, _, mask = patient(seed)
        grain = np.random.default_rng(seed).normal(0, sigma, image.array.shape)
        return image.with_array(np.clip(image.array + grain, 0, None).astype(np.float32)), mask

    def seen(image, mask):
        return {"region": "AB", "mae_hu": None, **trust.measured(image, mask, None, rules, "mr")}

    part = trust.learned([seen(*grainy(seed, 12 * (1 + seed))) for seed in range(6)])["regions"]["AB"]
    image, mask = grainy(17, 20)
    assert trust.against(part, seen(image, mask))[0] == trust.USE
    smooth = image.with_array(ndimage.gaussian_filter(image.array, (0, 3, 3)))
    older = part | {"ranges": {name: ends for name, ends in part["ranges"].items() if name != "detail"}}
    for known in (part, older):
        verdict, reasons = trust.against(known, seen(smooth, mask))
        assert verdict != trust.USE and any("blurred" in reason for reason in reasons), reasons


def test_a_negative_is_noticed_however_wide_the_known_contrasts_are():
    """Fat bright or dark in its tissue, air is dark in every patient."""
    rules = presets.resolve("paper", "mr")["preprocessing"] | {"spacing": [2.0, 2.0, 3.0]}

    def seen(image, mask):
        return {"region": "AB", "mae_hu": None, **trust.measured(image, mask, None, rules, "mr")}

    def negative(image, mask):  # in its body alone: another contrast, but no negative
        return image.with_array(np.where(mask.array > 0, 1000 - image.array, image.array)), mask

    given = [patient(seed)[::2] for seed in range(6)]
    pairs = [*given[:3], *(negative(*pair) for pair in given[3:])]
    part = trust.learned([seen(*pair) for pair in pairs])["regions"]["AB"]
    image, _, mask = patient(17)
    assert trust.against(part, seen(image, mask))[0] == trust.USE
    verdict, reasons = trust.against(part, seen(image.with_array(1000 - image.array), mask))
    assert verdict != trust.USE and any("inverted" in reason for reason in reasons), reasons
    whole = Grid((24, 24, 8), GRID.spacing, GRID.origin)  # nothing outside the body
    within = [Volume(np.ascontiguousarray(volume.array[:, 10:34, 12:36]), whole) for volume in (image, mask)]
    assert "outside" not in seen(*within)["features"]
