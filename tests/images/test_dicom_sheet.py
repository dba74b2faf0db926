"""DICOM in a samplesheet: every input opened before anything runs; targets and organs of an RTSTRUCT."""

import json

import numpy as np
import pytest
from conftest import bad_input
from dicom_series import SHAPE, drawn, write_ct, write_mr

from synthct.core.errors import InputError
from synthct.images.dicom import structures
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume

GRID = Grid((40, 36, 6), (1.0, 1.25, 3.0), (-20.0, -15.0, 100.0))
HEIGHTS = np.arange(100.0, 116.0, 3.0)


def box(x0, x1, y0, y1, heights=HEIGHTS):
    return [[(x, y, z) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))] for z in heights]


@pytest.fixture
def plan(tmp_path):
    """An RTSTRUCT of a planning system: outline, target, two organs, one of them never drawn."""
    regions = (("BODY", box(-18, 17, -12, 25)), ("Boost", box(-4, 4, 2, 9)), ("Cord", box(6, 9, 15, 20)), ("Lens", []))
    return drawn(tmp_path / "rs.dcm", *regions, kinds=("EXTERNAL", "PTV"))


def test_the_target_and_the_organs_of_an_rtstruct(plan, tmp_path):
    assert structures.regions_in(plan) == ["BODY", "Boost", "Cord"]
    name, mask = structures.target_of(plan, GRID)
    assert name == "Boost" and mask.array.sum() * np.prod(GRID.spacing) == pytest.approx(8 * 7 * 18, rel=0.15)
    assert [name for name, _ in structures.drawn(plan, GRID)] == ["Boost", "Cord"]  # the outline is no organ
    assert structures.target_of(plan, GRID, "cord")[1].array.sum() < mask.array.sum()
    two = drawn(tmp_path / "two.dcm", ("PTV1", box(-4, 4, 2, 9)), ("PTV2", box(6, 9, 15, 20)), kinds=("PTV", "PTV"))
    with pytest.raises(InputError, match="--target-roi; the regions are PTV1, PTV2"):
        structures.target_of(two, GRID)


def test_each_bad_input_of_a_sheet_is_a_line(plan, tmp_path, run_tool):
    array = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) % 900
    mr, ct = write_mr(tmp_path / "mr", array), write_ct(tmp_path / "ct", array)
    cut = write_mr(tmp_path / "cut", array)
    broken = sorted(cut.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:300])
    empty = drawn(tmp_path / "empty.dcm", ("BODY", []))
    rows = [("P1", "image", mr), ("P1", "ct", ct), ("P1", "mask", plan)]
    bad = [("P2", "image", ct), ("P2", "ct", cut), ("P3", "mask", empty)]

    def check(rows):
        text = "".join(f"{name},{column},{path},given/{path.name}\n" for name, column, path in rows)
        (tmp_path / "scans.csv").write_text("patient,column,path,named\n" + text)
        return run_tool("dicom.py", "check", tmp_path / "scans.csv", "--modality", "mr")

    good = check(rows)
    assert good.returncode == 0 and "3 inputs opened, 0 bad" in good.stdout, good.stderr
    done = check(rows + bad)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    *lines, last = done.stderr.strip().splitlines()
    assert "2 of 3 patients could not be used, --max_excluded 0.2 allows 1" in last and len(lines) == 3
    assert "patient P2, column image: DICOM given/ct: modality CT, expected MR" in lines[0]
    assert "patient P2, column ct: DICOM given/cut/" in lines[1] and str(tmp_path) not in lines[1]
    assert "patient P3, column mask" in lines[2] and "no region with a closed contour" in lines[2]


def test_one_bad_volume_costs_its_patient_and_strict_stops(tmp_path, run_tool):
    """Volumes are looked at too: header, place, promised bytes, a sample; one of three patients may be lost."""
    array = np.random.default_rng(0).normal(300, 50, GRID.shape).astype(np.float32)
    for name in "abc":
        write_volume(Volume(array, GRID), tmp_path / f"{name}.mha", compress=False)
    rows = "".join(f"P{name},image,{tmp_path}/{name}.mha,{name}.mha\n" for name in "abc")
    (tmp_path / "scans.csv").write_text("patient,column,path,named\n" + rows)
    whole = (tmp_path / "b.mha").read_bytes()

    def check(*more):
        return run_tool("dicom.py", "check", tmp_path / "scans.csv", "--modality", "mr", *more)

    for broken, why in (
        (whole[:-99], "truncated"),
        (whole[:-100] + np.float32(np.nan).tobytes() + whole[-96:], "NaN"),
        (whole.replace(b"ElementSpacing = 1", b"ElementSpacing = 0"), "spacing"),
    ):
        (tmp_path / "b.mha").write_bytes(broken)
        done = check()
        assert done.returncode == 0 and "3 inputs opened, 1 bad" in done.stdout, done.stderr
        assert "warning: samplesheet, patient Pb, column image: image b.mha: " in done.stderr and why in done.stderr
    done = check("--set", "curation.strict=true")
    assert done.returncode == 2 and "1 of 3 patients could not be used, --strict allows none" in done.stderr


def test_evaluation_and_registration_take_contours_as_mask(plan, tmp_path, run_tool):
    body = np.indices(GRID.shape)[2] < 30
    ct = np.where(body, 40, -1000).astype(np.int16)
    for name, array in (("ct", ct), ("sct", ct + 10), ("mr", np.where(body, 300, 0).astype(np.int16))):
        write_volume(Volume(array, GRID), tmp_path / f"{name}.mha")
    files = ("--sct", tmp_path / "sct.mha", "--ct", tmp_path / "ct.mha", "--mask", plan)
    done = run_tool("evaluate.py", *files, "--out", tmp_path / "m.json")
    assert done.returncode == 0, done.stderr
    scored = json.loads((tmp_path / "m.json").read_text())
    assert scored["voxels"] == structures.mask_of(plan, GRID).array.sum() and scored["mae"] == pytest.approx(10)
    pair = ("--fixed", tmp_path / "mr.mha", "--moving", tmp_path / "ct.mha", "--fixed-mask", plan)
    outs = [part for name in ("image", "displacement", "mask") for part in (f"--out-{name}", tmp_path / f"{name}.mha")]
    done = run_tool("register.py", "--method", "none", "--modality", "mr", *pair, *outs)
    assert done.returncode == 0, done.stderr
    (tmp_path / "no.dcm").write_bytes(b"\0" * 128 + b"DICM")
    bad_input(
        run_tool("evaluate.py", *files[:4], "--mask", tmp_path / "no.dcm", "--out", tmp_path / "m.json"), "no.dcm"
    )
