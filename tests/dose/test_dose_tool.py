"""bin/dose.py as a user runs it: what it writes, and what it says to wrong input."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import bad_input
from dicom_series import drawn

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
    ],
)
def test_wrong_options_are_one_line(patient, tmp_path, run_tool, arguments, reason):
    bad_input(run_tool("dose.py", *options(patient), "--out", tmp_path / "o.json", *arguments, cwd=tmp_path), reason)
