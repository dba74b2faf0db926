"""The provenance of a run: it keeps the rules of its format, says what was read, and names no place and no person."""

import copy
import hashlib
import json
import shutil

import crate_rules
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import ROOT, bad_input
from crate_rules import entities, linked, run_of
from dicom_series import SHAPE, write_mr
from rocrate.rocrate import ROCrate

from synthct.core.files import write_json
from synthct.report.crate import crate
from synthct.report.inputs import Inputs, read_inputs
from synthct.report.origins import networks, published, sheet_files

DAY = "2025-01-31"
DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in "abcdefgh"}


def content(name: str, letter: str) -> dict:
    return {"name": name, "bytes": 7, "sha256": DIGESTS[letter]}


FILES = {"sheet": content("sheet.csv", "a"), "settings": content("settings.json", "b"), "main": content("main.nf", "c")}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, run_tool):
    """(results, inputs) of a small run of --mode evaluate, by the tools as its steps call them: P1's image is a DICOM
    series in a directory called after a person, P2 has no mask.
    """
    given, results = tmp_path_factory.mktemp("given"), tmp_path_factory.mktemp("results")
    random = np.random.default_rng(0)
    series = write_mr(given / "Zwiebelfisch", random.integers(1, 500, SHAPE))
    grid = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    body = np.zeros(SHAPE, bool)
    body[:, 5:-5, 5:-5] = True
    hu = {name: np.where(body, random.normal(9, 50, SHAPE), -1000).astype(np.int16) for name in ("ct", "sct")}
    for name, array in {**hu, "mask": body.astype(np.uint8)}.items():
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(grid)
        sitk.WriteImage(image, str(given / f"{name}.mha"))
    (given / "sheet.csv").write_text(
        f"patient,image,ct,mask,sct\nP1,{series},{given}/ct.mha,{given}/mask.mha,{given}/sct.mha\n"
        f"P2,{given}/sct.mha,{given}/ct.mha,,{given}/sct.mha\n"
    )
    records = results / "evaluation" / "patients"
    for patient, image, mask in (("P1", series, ("--mask", given / "mask.mha")), ("P2", given / "sct.mha", ())):
        pair = ("--sct", given / "sct.mha", "--ct", given / "ct.mha", *mask, "--image", image)
        arms = ("--patient", patient, "--trained-on", "given", "--tested-on", "given")
        done = run_tool("evaluate.py", *pair, *arms, "--out", records / f"given__given__{patient}.json")
        assert done.returncode == 0, done.stderr
    done = run_tool(
        *("versions.py", "--process", "VERDICT:EVALUATE", "--code", "00ff", "--out", given / "versions.yml", "numpy")
    )
    assert done.returncode == 0, done.stderr
    (results / "pipeline_info").mkdir()
    shutil.copy(ROOT / "main.nf", results / "pipeline_info")
    write_json(results / "pipeline_info" / "settings.json", {"preset": "test", "modality": "mr"})
    write_json(given / "run.json", run_of("evaluate", segment=False, predict_batch=8))
    done = run_tool("report.py", *options(given, results))
    assert done.returncode == 0, done.stderr
    return results, given


def options(given, results) -> tuple:
    """Of report.py, as the step has them."""
    told = ("--records", results / "evaluation" / "patients", "--cohort", given / "sheet.csv")
    told += ("--settings", results / "pipeline_info" / "settings.json", "--versions", given / "versions.yml")
    told += ("--run", given / "run.json", "--crate", results / "ro-crate-metadata.json")
    return (*told, "--outdir", results / "report", "--evaluation-out", results / "evaluation")


def test_it_keeps_the_rules_and_another_reader_reads_it(evaluated):
    results, _given = evaluated
    written = crate_rules.read(results)
    assert not crate_rules.faults(written, results)
    read = ROCrate(results)
    assert read.mainEntity.id == "pipeline_info/main.nf"
    assert {"report/report.html", "evaluation/patients.csv"} <= {entity.id for entity in read.data_entities}
    assert read.mainEntity["programmingLanguage"].id == "https://w3id.org/workflowhub/workflow-ro-crate#nextflow"


BROKEN = {
    "a reference without an entity": lambda graph: graph["#run"]["object"].append({"@id": "#nobody"}),
    "a part that is not there": lambda graph: graph["report/"]["hasPart"].append({"@id": "report/gone.html"}),
    "a file that was not published": lambda graph: graph["report/report.html"].update({"@id": "report/gone.html"}),
    "a file that nothing leads to": lambda graph: graph["report/"].update(hasPart=[]),
    "no date": lambda graph: graph["./"].pop("datePublished"),
    "another profile": lambda graph: graph["./"].update(conformsTo=[]),
    "no descriptor": lambda graph: graph["ro-crate-metadata.json"].update(about={"@id": "#run"}),
    "a nested entity": lambda graph: graph["./"].update(license={"name": "CC0"}),
    "a short digest": lambda graph: graph["#samplesheet"].update(sha256="0123"),
    "a path": lambda graph: graph["#samplesheet"].update(name="/data/sheet.csv"),
    "a run that is not mentioned": lambda graph: graph["./"].update(mentions=[]),
    "a value of no parameter": lambda graph: graph["#parameter/mode/value"].pop("exampleOfWork"),
    "no workflow": lambda graph: graph["pipeline_info/main.nf"].update({"@type": "File"}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_rules_notice(evaluated, fault):
    results, _given = evaluated
    written = copy.deepcopy(crate_rules.read(results))
    BROKEN[fault](entities(written))
    assert crate_rules.faults(written, results)


def test_every_input_is_told_by_patient_column_and_digest(evaluated):
    results, given = evaluated
    found = entities(crate_rules.read(results))
    read = {entity["identifier"]: entity for name, entity in found.items() if name.startswith("#input/")}
    assert read.keys() == {"P1/image", "P1/ct", "P1/mask", "P1/sct", "P2/image", "P2/ct", "P2/sct"}
    for name in ("ct", "sct", "mask"):
        data = (given / f"{name}.mha").read_bytes()
        assert read[f"P1/{name}"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert read[f"P1/{name}"]["contentSize"] == str(len(data)) and read[f"P1/{name}"]["name"] == f"{name}.mha"
    files = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (given / "Zwiebelfisch").iterdir())
    assert read["P1/image"]["sha256"] == hashlib.sha256("".join(f"{one}\n" for one in files).encode()).hexdigest()
    assert read["P1/image"]["name"] == f"a directory of {len(files)} files"
    assert found["#samplesheet"]["sha256"] == hashlib.sha256((given / "sheet.csv").read_bytes()).hexdigest()
    assert {entity["@id"] for entity in read.values()} <= set(linked(found["#run"], "object"))


def test_no_directory_and_no_name_of_a_header_is_in_it(evaluated):
    results, given = evaluated
    text = (results / "ro-crate-metadata.json").read_text()
    for word in ("Zwiebelfisch", "Doe", "p-17", "19700101", str(given), str(results), str(ROOT)):
        assert word not in text


def test_code_and_software_of_each_step_are_told(evaluated):
    found = entities(crate_rules.read(evaluated[0]))
    assert found["#step/EVALUATE"]["softwareVersion"] == "0.1.0+00ff"
    assert linked(found["pipeline_info/main.nf"], "hasPart") == ["#step/EVALUATE"]
    needs = [found[name] for name in linked(found["#step/EVALUATE"], "softwareRequirements")]
    packages = {one["name"]: one["softwareVersion"] for one in needs}
    assert packages["numpy"] == np.__version__ and "python" in packages
    assert f"pkg:pypi/numpy@{np.__version__}" in found
    assert found["#workflow/code"]["value"] == "0123456789abcdef" and "#workflow/commit" not in found
    assert found["#parameter/segment/value"]["value"] is False


def test_the_same_run_gives_the_same_bytes_and_a_changed_input_another_digest(evaluated, run_tool, tmp_path):
    results, given = evaluated
    before = (results / "ro-crate-metadata.json").read_text()
    again = shutil.copytree(results, tmp_path / "again")
    done = run_tool("report.py", *options(given, again))
    assert done.returncode == 0, done.stderr
    day = json.loads(before)["@graph"][1]["datePublished"]
    after = (again / "ro-crate-metadata.json").read_text()
    assert after.replace(json.loads(after)["@graph"][1]["datePublished"], day) == before
    data = bytearray((given / "ct.mha").read_bytes())
    data[-1] ^= 1
    (tmp_path / "ct.mha").write_bytes(data)
    pair = ("--sct", given / "sct.mha", "--ct", tmp_path / "ct.mha", "--mask", given / "mask.mha")
    arms = ("--image", given / "Zwiebelfisch", "--patient", "P1", "--trained-on", "given", "--tested-on", "given")
    assert run_tool("evaluate.py", *pair, *arms, "--out", again / "evaluation/patients/given__given__P1.json")
    assert run_tool("report.py", *options(given, again)).returncode == 0
    changed = {name for name in entities(crate_rules.read(again)) if name.startswith("#input/P1/")}
    assert f"#input/P1/ct/{hashlib.sha256(data).hexdigest()[:12]}" in changed
    assert len(changed - entities(json.loads(before)).keys()) == 1


def test_what_a_training_study_read_is_what_its_registrations_opened():
    """The deformed image is no input, nor are other steps' pairs; an arm may have the CT of another column."""
    row = {"patient": "P1", "image": "i", "ct": "c", "mask": "", "ct_aligned": "t", "target": "t", "structures": ""}
    a, b, c, d = (content(f"{letter}.mha", letter) for letter in "abcd")
    pair = {"patient": "P1", "inputs": {"fixed": a, "moving": b, "mask": d}}
    records = {
        "registration": [
            {"method": "elastix", "moving_is": "ct", **pair},
            {"method": "impact", "moving_is": "image", "patient": "P1", "inputs": {"fixed": b, "moving": a}},
            {"recipe": {"ct": "ct_aligned"}, "moving_is": "ct", "patient": "P1", "inputs": {"fixed": a, "moving": c}},
        ],
        "prediction": [{"inputs": {"P1": {"image": d}}}],
        "metrics": [{"patient": "P1", "inputs": {"ct": d, "image": d, "sct": d}}],
        "dose": [{"patient": "P1", "inputs": {"ct": d, "target": c, "structures": d}}],
    }
    found = {key[:2]: one["name"] for key, one in sheet_files(records, [row], "train").items()}
    told = {"image": "a.mha", "ct": "b.mha", "ct_aligned": "c.mha", "target": "c.mha"}
    assert found == {("P1", column): name for column, name in told.items()}


def test_a_new_patients_ct_is_read_by_the_evaluation_and_a_mask_of_our_own_is_no_input():
    cohort = [{"patient": "P1", "image": "i", "ct": "c", "mask": ""}]
    read = {"image": content("i.mha", "a")}
    metrics = {"ct": content("c.mha", "b"), "mask": content("P1.mha", "c"), "sct": content("P1.mha", "d")}
    records = {"prediction": [{"inputs": {"P1": read}}], "metrics": [{"patient": "P1", "inputs": metrics}]}
    assert [key[:2] for key in sheet_files(records, cohort, "predict")] == [("P1", "ct"), ("P1", "image")]
    changed = {"prediction": [{"inputs": {"P1": read}}, {"inputs": {"P1": {"image": content("i.mha", "e")}}}]}
    assert len(sheet_files(changed, cohort, "predict")) == 2, "changed on the way, it is told with both contents"


def test_weights_and_bundles():
    """Networks of registrations and losses, once each; a study's bundle is a result, one that was given a source."""
    bundle = {"arm": "mind", "digest": DIGESTS["d"], "files": {"global_fold0_best.safetensors": DIGESTS["e"]}}
    records = {
        "registration": [{"method": "i", "patient": p, "recipe": {"weights": {"M730.pt": DIGESTS["f"]}}} for p in "12"],
        "training": [{"arm": "i", "weights": {"vgg19.pth": DIGESTS["g"]}}],
        "bundle": [bundle],
        "prediction": [{"place": "mind/on_mi", "patients": [{"patient": "P1"}], "weights": {}}],
        "segmentation": [{"weights": {"Dataset297_x/checkpoint_final.pth": DIGESTS["h"]}}],
    }
    labelled = ("Dataset297_x/checkpoint_final.pth", DIGESTS["h"])
    assert list(networks(records)) == [labelled, ("M730.pt", DIGESTS["f"]), ("vgg19.pth", DIGESTS["g"])]
    left = published(records, "train")
    assert left["models/mind/global_fold0_best.safetensors"] == DIGESTS["e"]
    assert {"sct/mind/on_mi/P1.mha", "sct/mind/on_mi/uncertainty/P1.mha", "training/i/"} <= left.keys()
    assert not any(name.startswith("models/") for name in published(records, "predict"))
    inputs = Inputs(records=records, settings={"modality": "mr", "preset": "test"})
    made = entities(crate(inputs, run_of("predict"), [], FILES, DAY))
    assert linked(made["#bundle/mind"], "hasPart") == ["#bundle/mind/global_fold0_best.safetensors"]
    assert made["#bundle/mind"]["identifier"] == DIGESTS["d"]
    study = entities(crate(inputs, run_of("train"), [], FILES, DAY))
    assert study["models/mind/global_fold0_best.safetensors"]["sha256"] == DIGESTS["e"]
    assert "#bundle/mind" not in study and study[f"#weights/M730.pt/{DIGESTS['f'][:12]}"]["sha256"] == DIGESTS["f"]


def test_what_is_wrong_with_the_options_is_one_line(evaluated, run_tool, tmp_path):
    results, given = evaluated
    told = [*map(str, options(given, results))]
    without = [part for part in told if part not in ("--run", str(given / "run.json"))]
    bad_input(run_tool("report.py", *without), "needs --run")
    write_json(tmp_path / "run.json", {"workflow": {}})
    other = [str(tmp_path / "run.json") if part == str(given / "run.json") else part for part in told]
    bad_input(run_tool("report.py", *other), "expected workflow, engine and parameters")
    away = [str(tmp_path / "ro-crate-metadata.json") if part.endswith("metadata.json") else part for part in told]
    bad_input(run_tool("report.py", *away), "lies outside")


def test_records_are_kept_as_they_are(evaluated):
    results, _given = evaluated
    inputs = read_inputs([results / "evaluation" / "patients"])
    assert [record["patient"] for record in inputs.records["metrics"]] == ["P1", "P2"]
