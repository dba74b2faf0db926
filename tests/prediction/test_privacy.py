"""What a DICOM header says of a person stays in the DICOM: all that the tools write or say is searched for it."""

import json
import shutil

import crate_rules
import numpy as np
import pydicom
from conftest import ROOT
from dicom_series import SHAPE, write_mr
from models import call, write_checkpoints, write_settings

from synthct.prediction import assembly

PERSON = {
    "PatientName": "Zwiebelfisch^Quirin",
    "PatientID": "QX-774411",
    "PatientBirthDate": "19310704",
    "OtherPatientIDs": "QX-774412",
    "PatientComments": "Quirins comment",
    "ReferringPhysicianName": "Abendroth^Ottilie",
    "InstitutionName": "Sanatorium Schatzalp",
    "AccessionNumber": "ACC-559911",
    "StudyDescription": "knee of Zwiebelfisch",
}
WORDS = ("zwiebelfisch", "quirin", "qx-7744", "19310704", "abendroth", "ottilie", "schatzalp", "acc-5599")


def planted(directory):
    """An MR series of that person, who also stands in a private element."""
    array = np.random.default_rng(0).integers(1, 500, SHAPE)
    for path in write_mr(directory, array).glob("*.dcm"):
        data = pydicom.dcmread(path)
        for name, value in PERSON.items():
            setattr(data, name, value)
        data.private_block(0x0011, "SYNTHCT TEST", create=True).add_new(0x01, "LO", "Zwiebelfisch")
        data.save_as(path)
    return directory


def found(place, *said):
    """(where, word) of each planted word below `place`, in names and contents of files, and in what was `said`."""
    hits = [(text, word) for text in said for word in WORDS if word in text.lower()]
    for path in place.rglob("*"):
        content = path.read_bytes().lower() if path.is_file() else b""
        hits += [(path, word) for word in WORDS if word in path.name.lower() or word.encode() in content]
    return hits


def test_a_persons_name_stays_in_the_dicom(tmp_path):
    scan, out = planted(tmp_path / "Quirin"), tmp_path / "out"  # called after the person, as exports are
    out.mkdir()
    tree = write_settings(tmp_path / "settings.json", "mr", flips="none")
    model = assembly.from_training(
        write_checkpoints(tmp_path, tree, folds=1, groups={"global": ["AB"]}), tree, "mind", tmp_path / "model"
    ).path
    broken = planted(tmp_path / "broken")
    sorted(broken.glob("*.dcm"))[2].write_bytes(sorted(broken.glob("*.dcm"))[2].read_bytes()[:-900])
    (tmp_path / "list.csv").write_text("patient,image,region\nP1,Quirin,AB\nP2,broken,AB\n")
    predict = ("predict.py", "--model", model, "--list", tmp_path / "list.csv", "--outdir", out / "sct/mind")
    predicted = call(*predict, "--record-failures", "--page", out / "pages")
    assert predicted.returncode == 0 and (out / "sct/mind/P1.mha").exists() and not (out / "sct/mind/P2.mha").exists()
    mask = ("--mask", out / "sct/mind/masks/P1.mha")
    case = call("preprocess.py", "--modality", "mr", "--preset", "test", "--image", scan, *mask, "--out", out / "P1")
    assert case.returncode == 0, case.stderr
    pair = ("--fixed", scan, "--moving", out / "sct/mind/P1.mha", "--fixed-mask", mask[1], "--moving-is", "ct")
    told = ("--method", "none", "--modality", "mr", "--preset", "test", "--patient", "P1", "--record-failure")
    made = ("--out-image", out / "ct.mha", "--out-displacement", out / "field.mha", "--qc", out / "qc.json")
    registered = call("register.py", *told, *pair, *made, "--preview", out / "preview.npz")
    assert registered.returncode == 0 and (out / "qc.json").exists(), registered.stderr
    read = json.loads((out / "qc.json").read_text())["inputs"]
    assert read["fixed"].keys() == {"files", "bytes", "sha256"} and read["moving"]["name"] == "P1.mha"
    # the provenance of a run that predicts, which tells the series by its digest alone
    (out / "pipeline_info").mkdir()
    shutil.copy(ROOT / "main.nf", out / "pipeline_info")
    (tmp_path / "run.json").write_text(json.dumps(crate_rules.run_of("predict")))
    told = ("--cohort", tmp_path / "list.csv", "--settings", tmp_path / "settings.json", "--run", tmp_path / "run.json")
    crate = ("--crate", out / "ro-crate-metadata.json", "--outdir", out / "report", "--evaluation-out")
    reported = call("report.py", "--records", out / "sct", *told, *crate, out / "evaluation")
    assert reported.returncode == 0, reported.stderr
    inputs = [name for name in crate_rules.entities(crate_rules.read(out)) if name.startswith("#input/")]
    assert [name.rsplit("/", 1)[0] for name in inputs] == ["#input/P1/image", "#input/P2/image"]
    assert not found(out, *(one.stdout + one.stderr for one in (predicted, case, registered, reported)))
    assert found(scan), "the search itself must find what was planted"
