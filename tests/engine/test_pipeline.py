"""The study on the real engine: real patients in, report out; resumed, edited, killed."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import sys
from pathlib import Path

import crate_rules
import kills
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import copy_checkout
from published import missing

# as short as a study can be, and a small network; `make test-demo` trains the paper's
SHORT = (
    "registration.dense.iterations=[8, 6, 4];training.max_steps=8;training.validate_every=4;training.warmup=0;"
    "training.validation_slices=2;finetuning.max_steps=2;finetuning.validate_every=1;inference.flips=none;"
    "training.network.encoder=resnet18;training.network.decoder_channels=[16, 8, 8]"
)
CBCT = [
    "-profile",
    "test",
    "--modality",
    "cbct",
    "--registration",
    "mind",
    "--register_batch",
    "4",
    "--region_groups",
    "AB,HN",
    "--curate",
    "auto",
    "--checkpoint",
    "best,final",
    "--set",
    SHORT,
]
ELASTIX = "registration.elastix.iterations=[20, 10, 5];registration.elastix.region.AB.iterations=[20, 10, 5];"
DEMO = ["-profile", "test", "--set", ELASTIX + SHORT]


def events(done) -> dict[str, set[str]]:
    """What the engine says it did: {"Submitted": {"STUDY:TRAIN (…)", …}, "Cached": {…}}."""
    said = done if isinstance(done, str) else done.stdout
    return {kind: set(re.findall(rf"{kind} process > (.+)", said)) for kind in ("Submitted", "Cached")}


def steps(names) -> set[str]:
    return {name.split(" ")[0].split(":")[-1] for name in names}


def fingerprints(outdir) -> dict[str, str]:
    """SHA-256 of the voxels' file for each sCT."""
    files = sorted((outdir / "sct").rglob("*.mha"))
    return {str(path.relative_to(outdir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def provenance(results) -> dict[str, dict]:
    """The entities of a run's provenance, which keeps its rules, without the day."""
    content = crate_rules.read(results)
    assert not crate_rules.faults(content, results)
    found = crate_rules.entities(content)
    found["./"].pop("datePublished")
    return found


def inputs(found: dict[str, dict]) -> dict[str, str]:
    """{patient/column: SHA-256} of what the run read of its sheet."""
    return {one["identifier"]: one["sha256"] for name, one in found.items() if name.startswith("#input/")}


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sheet(place, *rows: dict):
    with open(place / "sheet.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return place / "sheet.csv"


@pytest.fixture(scope="module")
def demo(nextflow, root, tmp_path_factory):
    """The demo but for its training's length, once: real MR/CT patients, both registrations."""
    place = tmp_path_factory.mktemp("demo")
    done = nextflow(place, "run", root / "main.nf", *DEMO, "--outdir", place / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    yield place, done
    shutil.rmtree(place / "work")  # gigabytes of checkpoints


@pytest.fixture(scope="module")
def cbct(nextflow, root, tmp_path_factory):
    """A short study of simulated CBCT, uninterrupted, with a copy of the code, a pair that cannot be registered, and a
    patient without a mask; one task registers them all."""
    place = tmp_path_factory.mktemp("cbct")
    demo = root / "assets" / "demo"
    rows = table(demo / "samplesheet_cbct.csv")
    rows = [row | {name: str(demo / row[name]) for name in ("image", "ct", "mask")} for row in rows]
    sitk.WriteImage(sitk.ReadImage(rows[0]["ct"]) * 0 - 1000, str(place / "blank.mha"))
    rows.append(rows[0] | {"patient": "BLANK", "region": "TH", "ct": str(place / "blank.mha"), "split": "train"})
    rows = [row | {"mask": ""} if row["patient"] == "SIM_AB_TSG" else row for row in rows]
    arguments = [*CBCT, "--input", write_sheet(place, *rows), "--outdir", place / "results"]
    done = nextflow(place, "run", copy_checkout(place) / "main.nf", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    yield place, done
    shutil.rmtree(place / "work")


def test_the_demo_leaves_what_is_promised(demo, root):
    results = demo[0] / "results"
    sheet = table(root / "assets" / "demo" / "samplesheet_mr.csv")
    held_out = {row["patient"] for row in sheet if row["split"] == "test"}
    assert not missing(results, root / "assets" / "demo" / "samplesheet_mr.csv", ("elastix", "mi"))
    demo_files = root / "assets" / "demo"
    read = {f"{row['patient']}/{name}": demo_files / row[name] for row in sheet for name in ("image", "ct", "mask")}
    assert inputs(provenance(results)) == {name: sha256(path) for name, path in read.items()}
    for arm in ("elastix", "mi"):
        bundle = json.loads((results / "models" / arm / "bundle.json").read_text())
        assert bundle["modality"] == "mr" and {"AB-TH", "EX"} <= {name.replace("+", "-") for name in bundle["groups"]}
        for patient in held_out:
            sct = sitk.ReadImage(str(results / "sct" / arm / f"{patient}.mha"))
            image = sitk.ReadImage(str(root / "assets" / "demo" / "mr" / patient / "mr.mha"))
            assert sct.GetPixelID() == sitk.sitkInt16
            assert sct.GetSize() == image.GetSize() and sct.GetOrigin() == image.GetOrigin()
            assert sct.GetSpacing() == image.GetSpacing() and sct.GetDirection() == image.GetDirection()
    patients = table(results / "evaluation" / "patients.csv")
    combinations = {(row["trained_on"], row["tested_on"], row["patient"]) for row in patients}
    assert combinations == {(a, b, p) for a in ("elastix", "mi") for b in ("elastix", "mi") for p in held_out}
    html = (results / "report" / "report.html").read_text()
    assert "is missing from every score" not in html
    assert not re.search(r"(src|href)=[\"']https?:", html), "the report must open offline"
    assert len(html) < 10e6
    assert json.loads((results / "pipeline_info" / "settings.json").read_text())["preset"] == "test"


def test_registration_brings_the_pairs_together(demo):
    """In the demo's misaligned pairs the similarity that was optimised has grown, and nothing folds."""
    for path in (demo[0] / "results" / "registration").glob("*/STS_0*/qc.json"):
        qc = json.loads(path.read_text())
        assert qc["folding_fraction"] == 0, path
        assert qc["mutual_information_after"] > qc["mutual_information_before"], path


def test_once_more_with_resume_everything_is_cached(demo, nextflow, root):
    """Results elsewhere, and with them the place of training's state, are no reason to compute anything again."""
    place, first = demo
    again = nextflow(place, "run", root / "main.nf", *DEMO, "--outdir", place / "other results", "-resume")
    assert again.returncode == 0, again.stdout + again.stderr
    assert events(again)["Submitted"] == set()
    assert events(again)["Cached"] == events(first)["Submitted"]
    assert fingerprints(place / "other results") == fingerprints(place / "results")
    assert provenance(place / "other results") == provenance(place / "results")


def test_cbct_goes_through_the_same_code(cbct):
    """Eight steps teach nothing, but what the table says of each sCT must be true of the published file."""
    results = cbct[0] / "results"
    pair = results / "registration" / "mind" / "SIM_HN_034"
    ct, mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(pair / f"{name}.mha"))).astype(float) for name in ("ct", "mask")
    )
    rows = table(results / "evaluation" / "patients.csv")
    places = {
        "best": results / "sct" / "mind" / "on_mind",
        "final": results / "sct" / "mind" / "on_mind" / "final",
    }
    assert sorted(row["checkpoint"] for row in rows) == sorted(places)
    for row in rows:
        assert (row["trained_on"], row["tested_on"], row["patient"]) == ("mind", "mind", "SIM_HN_034")
        sct = sitk.GetArrayFromImage(sitk.ReadImage(str(places[row["checkpoint"]] / "SIM_HN_034.mha"))).astype(float)
        assert float(row["mae"]) == pytest.approx(np.abs(sct - ct)[mask > 0].mean(), rel=1e-9)
        assert abs(sct[mask > 0].mean()) < 300 and (sct[mask == 0] == -1024).mean() > 0.95
    bundle = json.loads((results / "models" / "mind" / "bundle.json").read_text())
    assert (bundle["modality"], bundle["channels"]) == ("cbct", 3)
    chosen = table(results / "evaluation" / "selection.csv")
    assert {row["checkpoint"] for row in chosen} == set(places)
    assert any(row["chosen_by_aggregate"] == "True" for row in chosen)


def test_pairs_kept_beyond_a_limit_are_named_where_the_run_ends(demo):
    """Curation is off in the demo, and its shortened Elastix leaves pairs that it would leave out."""
    place, done = demo
    kept = [row for arm in ("elastix", "mi") for row in table(place / "results" / "registration" / arm / "kept.csv")]
    doubted = sorted((row for row in kept if float(row["score"]) > 1), key=lambda row: -float(row["score"]))
    assert doubted and len(kept) == 14
    for text in (done.stdout, (place / "results" / "evaluation" / "verdict.txt").read_text()):
        assert f"{len(doubted)} pair{'s were' if len(doubted) > 1 else ' was'} kept with a measure" in text
        assert f"{doubted[0]['patient']} (" in text and doubted[0]["measure"] in text


def test_a_pair_that_cannot_be_registered_is_left_out_and_said(cbct):
    results = cbct[0] / "results"
    excluded = table(results / "registration" / "mind" / "excluded.csv")
    assert [row["patient"] for row in excluded] == ["BLANK"]
    assert "registration failed: fixed image: constant" in excluded[0]["reason"]
    assert {row["patient"] for row in table(results / "registration" / "mind" / "kept.csv")} == {
        "SIM_AB_TSG",
        "SIM_HN_034",
        "SIM_HN_090",
    }
    assert "BLANK" in (results / "report" / "report.html").read_text()
    assert not (results / "registration" / "mind" / "BLANK" / "ct.mha").exists()
    assert inputs(provenance(results))["BLANK/ct"] == sha256(cbct[0] / "blank.mha"), "read, and found to be no use"


def test_pairs_of_one_task_keep_their_own_files(cbct, root):
    demo = root / "assets" / "demo" / "cbct"
    for patient in ("SIM_AB_TSG", "SIM_HN_034", "SIM_HN_090"):
        place = cbct[0] / "results" / "registration" / "mind" / patient
        record = json.loads((place / "qc.json").read_text())
        expected = {"fixed": "ct", "moving": "cbct"} | ({} if patient == "SIM_AB_TSG" else {"mask": "mask"})
        read = {name: one["sha256"] for name, one in record["inputs"].items() if one}
        assert read == {name: sha256(demo / patient / f"{stem}.mha") for name, stem in expected.items()}
        assert record["patient"] == patient
        size = sitk.ReadImage(str(demo / patient / "cbct.mha")).GetSize()
        assert all(sitk.ReadImage(str(place / f"{name}.mha")).GetSize() == size for name in ("image", "ct", "mask"))


def test_a_new_patient_through_the_bundle(cbct, nextflow, root, tmp_path):
    """--mode predict gives the bits that the study gave, by the numbers and the modality that its bundle brings. The
    sheet has a CT, as raw ones are of another grid (here the lower half of the image's), so it is scored as well.
    """
    sheet = root / "assets" / "demo" / "samplesheet_cbct.csv"
    (row,) = [row for row in table(sheet) if row["patient"] == "SIM_HN_034"]
    given = {name: str(sheet.parent / row[name]) for name in ("image", "ct", "mask")}
    ct, mask = (sitk.ReadImage(given[name]) for name in ("ct", "mask"))
    half = ct.GetSize()[2] // 2
    sitk.WriteImage(ct[:, :, :half], str(tmp_path / "half.mha"))
    shutil.copy(given["image"], tmp_path / "a,b(1)&c.mha")
    given |= {"ct": str(tmp_path / "half.mha"), "image": str(tmp_path / "a,b(1)&c.mha")}
    one = write_sheet(tmp_path, {"patient": "SIM_HN_034", "region": "HN", **given})
    results, study = tmp_path / "my results", cbct[0] / "results"
    bundle = shutil.copytree(study / "models" / "mind", tmp_path / "my bundle")
    model = ["--mode", "predict", "--model", bundle, "--input", one, "--outdir", results]
    done = nextflow(tmp_path, "run", root / "main.nf", "-profile", "test", *model)
    assert done.returncode == 0, done.stdout + done.stderr
    made, before = results / "sct" / "my_bundle" / "SIM_HN_034.mha", study / "sct" / "mind" / "SIM_HN_034.mha"
    assert made.read_bytes() == before.read_bytes()
    said = json.loads((results / "pipeline_info" / "settings.json").read_text())
    brought = json.loads((bundle / "bundle.json").read_text())["inference"]
    assert said["inference"] == brought | {"checkpoint": "best"}
    assert said["inference"]["flips"] == "none" and said["modality"] == "cbct"
    (scored,) = table(results / "evaluation" / "patients.csv")
    sct, ct, mask = (
        sitk.GetArrayFromImage(image).astype(float)[:half] for image in (sitk.ReadImage(str(made)), ct, mask)
    )
    assert float(scored["mae"]) == pytest.approx(np.abs(sct - ct)[mask > 0].mean(), rel=1e-9)
    (evaluated,) = (results / "evaluation" / "patients").glob("*.json")
    found = json.loads(evaluated.read_text())
    assert found["ct_resampled"] is True and 0 < found["ct_coverage"] < 1
    # the word on trust: one held-out patient taught the bundle, and says so in the table and on the patient's page
    (predicted,) = table(results / "evaluation" / "predictions.csv")
    assert predicted["trust_verdict"] == "not judged" and "knows 1 patients" in predicted["trust_reasons"]
    assert "not judged" in (results / "sct" / "my_bundle" / "pages" / "SIM_HN_034.html").read_text()
    found = provenance(results)
    assert inputs(found) == {f"SIM_HN_034/{name}": sha256(Path(path)) for name, path in given.items()}
    assert found["#bundle/mind"]["identifier"] == json.loads((bundle / "bundle.json").read_text())["digest"]
    assert "sct/my_bundle/SIM_HN_034.mha" in found


def test_given_scts_with_label_maps(cbct, nextflow, root, tmp_path):
    """--mode evaluate --segment, with a stand-in for TotalSegmentator (its weights are not here) that labels by HU."""
    pair = cbct[0] / "results" / "registration" / "mind" / "SIM_HN_034"
    ct = sitk.ReadImage(str(pair / "ct.mha"))
    sitk.WriteImage(sitk.Clamp(ct + 150, sitk.sitkInt16, -1024, 3000), str(tmp_path / "sct.mha"))
    files = {name: pair / f"{name}.mha" for name in ("image", "ct", "mask")}
    row = {"patient": "A", "region": "HN", "sct": tmp_path / "sct.mha", **files}
    program = tmp_path / "TotalSegmentator"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nimport SimpleITK as sitk\no = dict(zip(sys.argv[1:], sys.argv[2:]))\n"
        "sitk.WriteImage(sitk.Cast(sitk.ReadImage(o['-i']) > 300, sitk.sitkUInt8) * 91, o['-o'])\n"
    )
    program.chmod(0o755)
    trained = tmp_path / "weights/Dataset297_TotalSegmentator_total_3mm_1559subj/trainer"  # CHECK looks for these names
    (trained / "fold_0").mkdir(parents=True)
    (trained / "plans.json").write_text("{}")
    (trained / "fold_0/checkpoint_final.pth").write_bytes(b"")
    (tmp_path / "own.config").write_text(f"process {{ withName: SEGMENT {{ ext.args = '--program {program}' }} }}\n")
    own = ["-c", tmp_path / "own.config", "--segment", "--weights", tmp_path / "weights"]
    common = ["--mode", "evaluate", "--modality", "cbct", "--input", write_sheet(tmp_path, row)]
    done = nextflow(
        tmp_path, "run", root / "main.nf", "-profile", "test", *own, *common, "--outdir", tmp_path / "results"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (scored,) = table(tmp_path / "results" / "evaluation" / "patients.csv")
    array = sitk.GetArrayFromImage(ct)
    bone, more = (array > 300).sum(), (array > 150).sum()
    assert float(scored["dice"]) == pytest.approx(2 * bone / (bone + more), rel=1e-6)
    assert float(scored["hd95"]) > 0 and scored["n_classes_scored"] == "1"
    found = provenance(tmp_path / "results")
    assert inputs(found) == {
        f"A/{name}": sha256(path) for name, path in row.items() if name not in ("patient", "region")
    }
    (network,) = (one for name, one in found.items() if name.startswith("#weights/"))
    assert network["sha256"] == sha256(trained / "fold_0/checkpoint_final.pth")


def test_an_edit_reruns_what_uses_it(cbct, nextflow, root, tmp_path):
    """A line in the loss: training again, and what follows from it; registration and preprocessing stay."""
    place, _first = cbct
    losses = place / "synthct" / "bin" / "synthct" / "networks" / "losses.py"
    losses.write_text(losses.read_text() + "\n# a line more\n")
    arguments = [*CBCT, "--input", cbct[0] / "sheet.csv", "--outdir", tmp_path / "results"]
    again = nextflow(place, "run", place / "synthct" / "main.nf", *arguments, "-resume")
    assert again.returncode == 0, again.stdout + again.stderr
    told = events(again)
    untouched = {"SCAN", "CHECK", "REGISTER", "CURATE", "PREPROCESS", "FOLDS", "BASELINES"}
    assert steps(told["Cached"]) == untouched
    assert steps(told["Submitted"]) == {"TRAIN", "FINETUNE", "BUNDLE", "PREDICT", "EVALUATE", "TRUST", "REPORT"}


def test_killed_at_drawn_moments_and_resumed_publishes_the_same(cbct, root, tmp_path):
    """The engine with all its tasks in a training, and at two other steps whatever the seed draws: the short form of
    `make test-chaos`. Every file that the uninterrupted run published is there in the end, and no other."""
    seed = int(os.environ.get("SEED", "16"))
    print(f"seed {seed}")  # pytest shows it where the test fails
    drawn = [moment for moment in kills.draw(seed, 2 * len(kills.STEPS)) if moment[0] not in kills.TRAININGS]
    moments = [("TRAIN", "all", 0.5), *random.Random(seed).sample(drawn, 2)]
    moments.sort(key=lambda moment: kills.STEPS.index(moment[0]))
    usual = kills.usual(next((cbct[0] / "results/pipeline_info").glob("trace_*.txt")))
    arguments = [*CBCT, "--input", cbct[0] / "sheet.csv", "--outdir", tmp_path / "my results"]
    run = kills.Run([root / "nextflow", "run", root / "main.nf", *arguments], tmp_path, usual)
    run.start()
    try:
        hits = {moment: run.kill(*moment, most=900) for moment in moments}
        assert run.finish() == 0, (tmp_path / f"start_{run.starts}.txt").read_text()
    finally:
        run.stop()
    assert hits["TRAIN", "all", 0.5] and sum(map(bool, hits.values())) > 1, hits
    assert "REGISTER" in steps(events((tmp_path / f"start_{run.starts}.txt").read_text())["Cached"])
    expected, found = (kills.published(place) for place in (cbct[0] / "results", tmp_path / "my results"))
    assert not kills.differences(expected, found), hits
    shutil.rmtree(tmp_path / "work")


def test_the_final_study_trains_everybody_and_holds_nobody_out(nextflow, root, tmp_path):
    """--final to its end: no test, each inner fold's models from all the others, a bundle that predicts, a report."""
    head, *rows = (root / "assets" / "demo" / "samplesheet_mr.csv").read_text().splitlines()
    chosen = [row for row in rows if row.split(",")[0] in ("STS_018", "STS_044", "STS_028", "STS_047")]
    own = [row.replace("mr/", f"{root}/assets/demo/mr/") for row in chosen]  # two of them are marked as test
    (tmp_path / "sheet.csv").write_text("\n".join([head, *own]) + "\n")
    small = "training.max_steps=2;training.validate_every=1;training.validation_slices=1;training.patch=[32, 32];"
    small += "training.network.encoder=resnet18;training.network.decoder_channels=[16, 8, 8];finetuning.max_steps=1;"
    small += "finetuning.validate_every=1;training.warmup=0"
    study = ("--input", tmp_path / "sheet.csv", "--registration", "none", "--region_groups", "AB,EX", "--folds", "2")
    done = nextflow(
        tmp_path, "run", root / "main.nf", "-profile", "test", *study, "--final", "--outdir", "r", "--set", small
    )
    assert done.returncode == 0, done.stdout
    assert {"TRAIN", "FINETUNE", "BUNDLE", "REPORT"} <= steps(events(done)["Submitted"])
    plan = json.loads(next((tmp_path / "r" / "folds").rglob("folds.json")).read_text())
    assert plan["test"] == [] and len(plan["folds"]) == 2
    everybody = {row.split(",")[0] for row in chosen}
    assert all({*fold["train"], *fold["validation"]} == everybody for fold in plan["folds"])
    about = json.loads((tmp_path / "r" / "models" / "none" / "bundle.json").read_text())
    assert {name: len(group["best"]) for name, group in about["groups"].items()} == {"global": 2, "AB": 2, "EX": 2}
    assert about["training"]["patients"] == 4 and about["training"]["held_out"] == 0
    assert (tmp_path / "r" / "report" / "report.html").exists()
