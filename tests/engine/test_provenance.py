"""What the engine tells of a run for its provenance: which code, which parameters, and no place of a machine."""

import json

import pytest

PATHS = ["/home/Jane Doe/a.csv", "s3://bucket/x/b.csv", "c.csv", "/data/model/", ""]
TEXTS = ["elastix=/home/Jane Doe/a.txt,impact=b/c.txt", "a.b=/home/jane/n.pt;c=0.5", "AB+TH,HN"]
SCRIPT = f"""
workflow {{
    println('RESULT ' + groovy.json.JsonOutput.toJson([
        told: new groovy.json.JsonSlurper().parseText(Provenance.of(params, workflow)),
        paths: {PATHS}.collect {{ text -> Provenance.withoutPlaces(text, true) }},
        texts: {TEXTS}.collect {{ text -> Provenance.withoutPlaces(text, false) }},
        code: [params.one, params.other].collect {{ place -> CodeDigest.ofWorkflow(file(place)) }},
    ]))
}}
"""


@pytest.fixture
def told(nextflow, root, checkout, tmp_path):
    """What lib/Provenance.groovy says in a copy of the pipeline whose main.nf asks it, and of two other copies."""
    other = tmp_path / "other" / "synthct"
    other.parent.mkdir()
    other.symlink_to(root)
    (checkout / "main.nf").write_text(SCRIPT)
    given = ("--input", "/home/jane/sheet.csv", "--outdir", tmp_path / "my results", "--modality", "mr", "--seed", "7")
    given += (
        "--weights",
        "/home/jane/weights",
        "--queue",
        "long",
        "--k8s_user",
        "1000",
        "--one",
        root,
        "--other",
        other,
    )
    done = nextflow(checkout, "-q", "run", checkout / "main.nf", "-profile", "test", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.split("RESULT ")[1])


def test_a_run_is_told_by_what_decides_its_results(told):
    assert told["told"].keys() == {"workflow", "engine", "parameters"}
    parameters, workflow = told["told"]["parameters"], told["told"]["workflow"]
    assert parameters.items() >= {"mode": "train", "input": "sheet.csv", "modality": "mr", "seed": 7}.items()
    assert parameters["weights"] == "weights" and parameters["final"] is False
    assert not {"outdir", "queue", "k8s_user", "container_registry", "checkpoint_dir", "help"} & parameters.keys()
    assert (workflow["name"], workflow["version"], workflow["license"]) == ("synthct/synthct", "0.1.0", "MIT")
    assert told["told"]["engine"]["version"].count(".") == 2
    assert told["paths"] == ["a.csv", "b.csv", "c.csv", "model", ""]
    assert told["texts"] == ["elastix=a.txt,impact=c.txt", "a.b=n.pt;c=0.5", "AB+TH,HN"]


def test_the_code_of_the_workflow_has_a_digest_that_an_edit_changes_and_a_place_does_not(told):
    one, other = told["code"]
    assert one == other != told["told"]["workflow"]["code"], "main.nf of the copy is another"
