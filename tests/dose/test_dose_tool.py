"""bin/dose.py as a user runs it: what it writes, and what it says to wrong input."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import bad_input
from dicom_series import drawn, write_ct
from pydicom import config

from synthct.dose.case import Case
from synthct.dose.outputs import write_doses
from synthct.dose.plan import Dose
from synthct.images.grid import Grid, Volume
from synthct.images.volume import read_volume, write_volume

GRID = Grid((24, 24, 20), (4.0, 4.0, 4.0), (-46.0, -46.0, 10.0))


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A block of water with a cube to treat, and an sCT that is 40 HU too high."""
    place = tmp_path_factory.mktemp("patient")
    body = np.zeros(GRID.shape, bool)
    body[:, 2:22, 2:22] = True
    target = np.zeros(GRID.shape, bool)
    target[7:12, 9:14, 9:14] = True
    files = {
        "ct": np.where(body, 0, -1000).astype(np.int16),
        "sct": np.where(body, 40, -1000).astype(np.int16),
        "mask": body.astype(np.uint8),
        "target": target.astype(np.uint8),
        "air": np.where(target, -1000, np.where(body, 0, -1000)).astype(np.int16),
    }
    for name, array in files.items():
        write_volume(Volume(array, GRID), place / f"{name}.mha")
    return place


def options(patient, **changed):
    files = {name: patient / f"{name}.mha" for name in ("ct", "sct", "mask", "target")} | changed
    return [part for name, path in files.items() if path for part in (f"--{name}", path)]


def test_two_scts_of_one_plan(patient, tmp_path, run_tool):
    """One run: the CT itself and a wrong sCT, with doses as MHA and DICOM, and slices for the report."""
    outs = [tmp_path / "same.json", tmp_path / "high.json"]
    done = run_tool(
        "dose.py",
        *options(patient, sct=patient / "ct.mha"),
        *("--sct", patient / "sct.mha", "--beams", "proton", "--out", outs[0], "--out", outs[1]),
        *("--trained-on", "mi", "--trained-on", "none", "--tested-on", "mi", "--patient", "P1"),
        *("--doses", tmp_path / "doses", "--slices", tmp_path / "a.npz", "--slices", tmp_path / "b.npz"),
    )
    assert done.returncode == 0, done.stderr
    same, high = (json.loads(out.read_text()) for out in outs)
    assert "photon" not in same
    assert same["proton"]["mae_dose"] == 0
    assert same["proton"]["gamma_pass_percent"] == 100
    assert same["proton"]["range_shift_mm"] == 0
    assert -3 < high["proton"]["range_shift_mm"] < -1
    assert [record["trained_on"] for record in (same, high)] == ["mi", "none"]
    assert high["target"]["name"] == "target.mha"

    ct_dose = read_volume(tmp_path / "doses" / "proton__ct.mha")
    rtdose = pydicom.dcmread(tmp_path / "doses" / "proton__ct.dcm")
    assert np.allclose(rtdose.pixel_array * float(rtdose.DoseGridScaling), ct_dose.array, atol=1e-6)
    assert rtdose.DoseUnits == "GY"
    other = pydicom.dcmread(tmp_path / "doses" / "proton__high.dcm")
    assert other.SOPInstanceUID != rtdose.SOPInstanceUID
    # a reader of DICOM finds the dose where the MHA has it
    image = sitk.ReadImage(tmp_path / "doses" / "proton__ct.dcm")
    assert np.allclose(image.GetOrigin(), ct_dose.grid.origin)
    assert np.allclose(image.GetSpacing(), ct_dose.grid.spacing)

    with np.load(tmp_path / "b.npz") as slices:
        assert slices["proton_ct"].shape == slices["proton_sct"].shape == slices["hu"].shape
        assert slices["proton_ct"][slices["target"]].mean() == pytest.approx(1, abs=0.03)


def test_an_sct_that_cannot_be_read_costs_itself_alone(patient, tmp_path, run_tool):
    """It is the first of two: the other is judged, and the dose on the CT is written with it."""
    (tmp_path / "bad.mha").write_bytes(b"no volume")
    outs = [tmp_path / "bad.json", tmp_path / "good.json"]
    files = options(patient, sct=tmp_path / "bad.mha")
    arguments = (*files, "--sct", patient / "sct.mha", "--beams", "proton", "--out", outs[0], "--out", outs[1])
    bad_input(run_tool("dose.py", *arguments), "sCT", "bad.mha")
    done = run_tool("dose.py", *arguments, "--record-failure", "--doses", tmp_path / "doses")
    assert done.returncode == 0, done.stderr
    bad, good = (json.loads(out.read_text()) for out in outs)
    assert "bad.mha" in bad["failed"] and "failed" not in good and good["proton"]["mae_dose"] > 0
    written = sorted(file.name for file in (tmp_path / "doses").glob("*.mha"))
    assert written == ["proton__ct.mha", "proton__good.mha"]


def test_what_the_sct_did_not_see_is_said(patient, tmp_path, run_tool):
    """An sCT that ends in the body, from where a beam comes: the rest is air in it, and no error of the network."""
    half = read_volume(patient / "ct.mha")
    grid = Grid((16, *GRID.size[1:]), GRID.spacing, GRID.origin)
    write_volume(Volume(half.array[:, :, :16].copy(), grid), tmp_path / "half.mha")
    write_volume(Volume(half.array, Grid(GRID.size, GRID.spacing, (900.0, 0.0, 0.0))), tmp_path / "far.mha")
    outs = [tmp_path / f"{name}.json" for name in ("whole", "half", "far")]
    done = run_tool(
        "dose.py",
        *options(patient, sct=patient / "ct.mha"),
        *("--sct", tmp_path / "half.mha", "--sct", tmp_path / "far.mha", "--beams", "proton", "--record-failure"),
        *(part for out in outs for part in ("--out", out)),
    )
    assert done.returncode == 0, done.stderr
    whole, half, far = (json.loads(out.read_text()) for out in outs)
    assert whole["sct_coverage"] == 1 and half["sct_coverage"] == pytest.approx(14 / 20, abs=0.05)
    assert f"covers {half['sct_coverage']:.1%} of the body" in done.stderr and done.stderr.count("note:") == 1
    assert "nothing of the body" in far["failed"]


def test_target_and_organs_of_a_planning_system(patient, tmp_path, run_tool):
    """An RTSTRUCT is target (its PTV) and organs (the others, by their names, but for the outline)."""
    heights = np.arange(12.0, 90.0, 4.0)

    def box(low, high, heights):
        return [[(x, y, z) for x, y in ((low, low), (high, low), (high, high), (low, high))] for z in heights]

    regions = (("BODY", box(-40, 40, heights)), ("PTV 50", box(-10, 10, heights[6:12])), ("Cord", box(14, 24, heights)))
    plan = drawn(tmp_path / "rs.dcm", *regions, kinds=("EXTERNAL", "PTV"))
    given = options(patient, mask=plan, target=plan, structures=plan)
    done = run_tool("dose.py", *given, "--beams", "proton", "--out", tmp_path / "o.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["target"]["name"] == "PTV 50"
    assert "Cord" in json.dumps(found) and "BODY" not in json.dumps(found)
    bad_input(run_tool("dose.py", *given, "--target-roi", "GTV", "--out", tmp_path / "o.json"), "no region 'GTV'")


def test_air_where_the_target_is_is_that_patient_s_reason(patient, tmp_path, run_tool):
    arguments = options(patient, ct=patient / "air.mha")
    bad_input(run_tool("dose.py", *arguments, "--out", tmp_path / "o.json"), "which is air")
    assert not (tmp_path / "o.json").exists()
    recorded = run_tool("dose.py", *arguments, "--patient", "P1", "--record-failure", "--out", tmp_path / "o.json")
    assert recorded.returncode == 0
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["patient"] == "P1"
    assert "which is air" in found["failed"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--beams", "photon,carbon"], "expected photon or proton"),
        (["--hu-table", "proton=absent.csv"], "--hu-table"),
        (["--set", "dose.grid=2"], "unknown key"),
        (["--out", "second.json"], "one for each of 1 --sct"),
        (["--sct", "sct.mha", "--doses", "d", "--out", "b/o.json"], "would be called 'o', as"),
        (["--sct", "sct.mha", "--doses", "d", "--out", "ct.json"], "called 'ct', as the dose on the CT"),
    ],
)
def test_wrong_options_are_one_line(patient, tmp_path, run_tool, arguments, reason):
    (tmp_path / "sct.mha").symlink_to(patient / "sct.mha")
    bad_input(run_tool("dose.py", *options(patient), "--out", tmp_path / "o.json", *arguments, cwd=tmp_path), reason)


def flat(value: float) -> Dose:
    return Dose(np.full(GRID.shape, value, np.float32), [])


def written(place, ct, *, planned: float, hu: float = 0.0) -> dict[str, pydicom.Dataset]:
    """The RT Doses of a CT of `hu` that gets `planned` Gy, and of an sCT that gets 2."""
    none = np.zeros(GRID.shape, bool)
    mask = Volume(none, GRID)
    case = Case(
        GRID, {}, mask, none, none, "t", {}, np.full(GRID.shape, hu, np.float32), {}, {}, {"photon": flat(planned)}
    )
    write_doses(case, {"photon": flat(2.0)}, place, ct, "sct", first=True)
    return {name: pydicom.dcmread(place / f"photon__{name}.dcm") for name in ("ct", "sct")}


def test_a_dose_is_of_the_planned_series_whatever_lies_beside_it(tmp_path):
    """Structures without a frame of reference are the folder's first file; a tag of the CT breaks the standard."""
    ct = write_ct(tmp_path / "ct", np.arange(7 * 44 * 52).reshape(7, 44, 52) % 900 - 500)
    drawn(ct / "00.dcm", ("BODY", []))
    for name in ct.glob("*_*.dcm"):
        data = pydicom.dcmread(name)
        data["PatientAge"] = pydicom.DataElement("PatientAge", "AS", "45", validation_mode=config.IGNORE)
        data.save_as(name)
    for made in written(tmp_path / "a", ct, planned=1.0).values():
        assert (str(made.PatientName), made.PatientID) == ("Doe^Jane", "p-17")
        assert (made.StudyInstanceUID, made.FrameOfReferenceUID) == ("1.2.3", "1.2.9")
        assert "PatientAge" not in made


@pytest.mark.parametrize("dicom", [True, False])
def test_another_dose_is_another_object(tmp_path, dicom):
    """The same dose written twice has the same UIDs; one of another plan on the same CT has not."""
    ct = tmp_path / "ct.mha"
    if dicom:
        ct = write_ct(tmp_path / "ct", np.arange(7 * 44 * 52).reshape(7, 44, 52) % 900 - 500)
    first, again, other = (
        written(tmp_path / name, ct, planned=dose) for name, dose in (("a", 1.0), ("b", 1.0), ("c", 3.0))
    )
    for key in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first["ct"][key] == again["ct"][key] != other["ct"][key]
        assert first["ct"][key] != first["sct"][key] == other["sct"][key]
    for key in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({made[key].value for each in (first, again, other) for made in each.values()}) == 1
    if not dicom:  # two patients whose records are called alike are not one
        stranger = written(tmp_path / "d", ct, planned=1.0, hu=50.0)
        for key in ("StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            assert stranger["ct"][key] != first["ct"][key]
