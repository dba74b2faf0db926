"""The engine's side: the newest syntax, and cohorts far larger than a test can compute."""

import csv
import json
import re

from synthct.core.presets import resolve


def test_the_strict_syntax_runs_without_a_warning(nextflow, root, tmp_path):
    done = nextflow(
        tmp_path,
        "run",
        root / "main.nf",
        "-profile",
        "test",
        "-stub-run",
        "--outdir",
        tmp_path / "results",
        version="25.04.4",
        NXF_SYNTAX_PARSER="v2",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"WARN|deprecat|Warning", said), said


def test_help_and_version(nextflow, root, tmp_path):
    done = nextflow(tmp_path, "-q", "run", root / "main.nf", "--help")
    assert done.returncode == 0 and "--registration" in done.stdout and "samplesheet.csv" in done.stdout


def stub(nextflow, root, place, *arguments) -> dict[str, set[str]]:
    """Run the pipeline as a stub in `place`; the steps that it submitted and those it found cached."""
    done = nextflow(place, "run", root / "main.nf", "-profile", "test,stub", "-stub-run", "-resume", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {kind: re.findall(rf"{kind} process > (\S+)", done.stdout) for kind in ("Submitted", "Cached")}
    return {kind: {name.split(":")[-1] for name in names} for kind, names in found.items()}


def demo_rows(root) -> list[dict]:
    """The rows of the demo's sheet with absolute paths."""
    demo = root / "assets" / "demo"
    with open(demo / "samplesheet_mr.csv") as file:
        return [row | {name: demo / row[name] for name in ("image", "ct", "mask")} for row in csv.DictReader(file)]


def write_rows(place, rows: list[dict]):
    with open(place, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return place


def demo_sheet(root, place, **more):
    """The demo's sheet with absolute paths, from the last row to the first, and `more` columns."""
    return write_rows(place, [row | more for row in demo_rows(root)[::-1]])


def test_a_training_that_fails_ends_no_other(nextflow, root, tmp_path):
    """One fold fails for good: the other arm is trained, bundled and tested, and the run ends as failed. A task that
    ends before its program began, as one does that is signalled while its inputs are staged, is sent again."""
    faults = """
        process {
            withName: TRAIN { beforeScript = { task.index == 1 ? 'exit 1' : '' } }
            withName: BASELINES { beforeScript = { task.attempt == 1 ? 'exit 1' : '' } }
        }"""
    (tmp_path / "fault.config").write_text(faults)
    command = ("run", root / "main.nf", "-profile", "test,stub", "-stub-run", "-c", tmp_path / "fault.config")
    done = nextflow(tmp_path, *command, "--outdir", "out")
    assert done.returncode == 1, done.stdout
    assert "Re-submitted process > STUDY:BASELINES" in done.stdout
    assert "Execution is retried (3)" in done.stdout, "three times, then left out"
    assert "1 trainings failed" in done.stdout and "Error is ignored" in done.stdout
    (arm,) = (path.name for path in (tmp_path / "out/models").iterdir())
    assert (tmp_path / "out/sct" / arm).is_dir()
    failed = ({"elastix", "mi"} - {arm}).pop()
    logs = {path.name for path in (tmp_path / "out/training" / failed).iterdir()}
    assert any("global" in name for name in logs), "its other folds were trained"


def test_a_disk_that_took_no_more_of_a_task_s_own_files_is_named(nextflow, root, tmp_path):
    """The engine's wrapper cannot say it: what it would say it in is on that disk. (All of it: `make test-full`.)"""
    (tmp_path / "full.config").write_text(
        "process { withName: BASELINES { beforeScript = 'touch .command.out .exitcode; trap - EXIT; exit 1' } }"
    )
    command = ("run", root / "main.nf", "-profile", "test,stub", "-stub-run", "-c", tmp_path / "full.config")
    done = nextflow(tmp_path, *command, "--registration", "mi")
    assert done.returncode == 1
    assert "synthct: STUDY:BASELINES (mi): no room left on the disk of the work directory" in done.stdout


def test_what_does_not_matter_to_a_task_does_not_run_it_again(nextflow, root, tmp_path):
    """Another OUTDIR, another order of the sheet's rows, a number of the evaluation: nothing is trained again."""
    study = ("--registration", "elastix", "--folds", "2")
    first = stub(nextflow, root, tmp_path, *study, "--outdir", "one")
    assert not first["Cached"] and {"TRAIN", "BUNDLE", "EVALUATE"} <= first["Submitted"]
    (tmp_path / "my sheets").mkdir()
    sheet = demo_sheet(root, tmp_path / "my sheets" / "turned.csv")
    changed = (*study, "--outdir", "the other", "--input", sheet, "--set", "evaluation.hu_range=[-1000, 2000]")
    again = stub(nextflow, root, tmp_path, *changed)
    assert again["Submitted"] == {"CHECK", "EVALUATE", "TRUST", "REPORT"}  # TRUST learns from the scores
    assert (tmp_path / "the other" / "models" / "elastix" / "bundle.json").exists()
    patients = {path.name for path in (tmp_path / "the other" / "evaluation" / "patients").iterdir()}
    assert len(patients) == 2 and (tmp_path / "the other" / "evaluation" / "patients.csv").exists()
    regrouped = stub(nextflow, root, tmp_path, *changed, "--region_groups", "AB")
    assert {"FOLDS", "FINETUNE", "BUNDLE"} <= regrouped["Submitted"] and "TRAIN" in regrouped["Cached"]
    trained = stub(nextflow, root, tmp_path, *changed, "--seed", "7")
    assert {"FOLDS", "TRAIN"} <= trained["Submitted"]
    # back to what is cached: the bundle that was published goes back too, and what it taught stays beside it
    bundle = tmp_path / "the other" / "models" / "elastix"
    seeded = (bundle / "bundle.json").read_text()
    assert "BUNDLE" in stub(nextflow, root, tmp_path, *changed)["Cached"]
    assert (bundle / "bundle.json").read_text() != seeded and (bundle / "trust.json").exists()


def test_dose_intervals_cost_a_prediction_and_no_training(nextflow, root, tmp_path):
    """A plan costs not even that; the networks' own sCTs reach DOSE, and are not published."""
    study = ("--registration", "elastix,mi", "--folds", "2", "--outdir", "out")
    stub(nextflow, root, tmp_path, *study)
    planned = stub(nextflow, root, tmp_path, *study, "--dose", "photon")
    assert planned["Submitted"] == {"DOSE", "REPORT"}
    folds = stub(nextflow, root, tmp_path, *study, "--dose", "photon", "--set", "dose.members=true")
    assert folds["Submitted"] >= {"PREDICT", "DOSE"} and {"TRAIN", "BUNDLE"} <= folds["Cached"]
    assert not list((tmp_path / "out").rglob("members"))
    staged = [sorted(path.name for path in place.glob("members/*/*")) for place in tmp_path.glob("work/*/*")]
    # of each patient a plan on either arm's pair, with two models' sCTs
    assert sorted(filter(None, staged)) == [["STS_018"] * 2] * 2 + [["STS_047"] * 2] * 2


def test_a_larger_cohort_is_preprocessed_in_batches(nextflow, root, tmp_path):
    """40 patients, two batches. Linked results are no reason to compute anything again; a new patient changes the
    batch that it comes to, and no other."""
    (row, *_) = demo_rows(root)
    study = ("--registration", "elastix", "--folds", "2", "--holdout", "4", "--publish_dir_mode", "symlink")
    command = ("run", root / "main.nf", "-profile", "test,stub", "-stub-run", "-resume", "--outdir", "out", *study)
    told = []
    for count in (40, 40, 41):
        sheet = write_rows(tmp_path / "sheet.csv", [row | {"patient": f"P{i:02}", "split": ""} for i in range(count)])
        done = nextflow(tmp_path, *command, "--input", sheet)
        assert done.returncode == 0, done.stdout + done.stderr
        told.append({kind: re.findall(rf"{kind} process > (.+)", done.stdout) for kind in ("Submitted", "Cached")})
    first, same, one_more = told
    assert not first["Cached"] and not same["Submitted"]
    batches = [name for name in first["Submitted"] if ":PREPROCESS " in name]
    assert len(batches) == 2 and sum(int(re.search(r"(\d+) patients", name)[1]) for name in batches) == 40
    assert sum(":PREPROCESS " in name for name in one_more["Submitted"]) == 1
    assert sum(":REGISTER " in name for name in one_more["Submitted"]) == 1
    records = {path.name for path in (tmp_path / "work").glob("*/*/elastix__*__records/*.json")}
    assert records == {f"P{i:02}.json" for i in range(41)}


def test_a_bundle_replaced_in_place_predicts_again(nextflow, root, tmp_path):
    """Under the same name another bundle: its patients are predicted anew, and its settings are the run's."""
    bundle = tmp_path / "my model" / "bundle.json"
    bundle.parent.mkdir()
    place = ("--mode", "predict", "--model", bundle.parent, "--outdir", "out")
    for flips, expected in (("none", "Submitted"), ("none", "Cached"), ("none,x", "Submitted")):
        bundle.write_text(json.dumps(resolve("test", "mr", [f"inference.flips={flips}"]) | {"of": flips}))
        assert "PREDICT" in stub(nextflow, root, tmp_path, *place)[expected]
        said = json.loads((tmp_path / "out" / "pipeline_info" / "settings.json").read_text())
        assert (said["preset"], said["modality"], said["inference"]["flips"]) == ("test", "mr", flips)
    assert len(list((tmp_path / "out" / "sct" / "my_model").glob("*.mha"))) == 7
    # the same settings, other weights
    bundle.write_text(bundle.read_text().replace('"of": "none,x"', '"of": "others"'))
    assert stub(nextflow, root, tmp_path, *place)["Submitted"] >= {"CHECK", "PREDICT"}


def test_ones_own_preset_where_only_staged_files_are(nextflow, root, tmp_path):
    """A TOML file that inherits a shipped preset, of whose name it is: the task has both as its own files."""
    (tmp_path / "my own").mkdir()
    own = tmp_path / "my own" / "test.toml"
    own.write_text('inherit = "test"\n[inference]\nflips = "none"\n')
    weights = "/data/own weights/sam.pth"  # what the message of an absent file recommends to set
    more = ("--set", f"training.perceptual.weights={weights}", "--exclude", tmp_path / "my own" / "left out (MR).txt")
    more[-1].write_text("STS_028\n")
    stub(nextflow, root, tmp_path, "--registration", "elastix", "--preset", own, *more, "--outdir", "out")
    said = json.loads((tmp_path / "out" / "pipeline_info" / "settings.json").read_text())
    assert said["inference"]["flips"] == "none" and said["training"]["perceptual"]["weights"] == weights
    staged = {path.name for path in (tmp_path / "work").glob("*/*/presets/*.toml")}
    assert staged == {path.name for path in (root / "conf" / "presets").glob("*.toml")}
    own.write_text('inherit = "test"\n[inference]\nflops = "none"\n')
    done = nextflow(tmp_path, "run", root / "main.nf", "-profile", "test,stub", "-stub-run", "--preset", own)
    assert done.returncode != 0 and "unknown key inference.flops" in done.stdout
