"""bin/segment.py around a stand-in for TotalSegmentator, whose weights no test machine has: call, grid, failures."""

import hashlib
import json
import stat
import sys

import numpy as np
import pytest
from conftest import bad_input

from synthct.images.grid import Grid, Volume
from synthct.images.volume import read_volume, write_volume

GRID = Grid((12, 10, 8), (1.2, 1.0, 3.0), (-7.5, 3.25, 20.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
STAND_IN = """#!{python}
import sys
import SimpleITK as sitk
options = dict(zip(sys.argv[1:], sys.argv[2:]))
assert options["--task"] == "total" and {{"--fast", "--ml"}} <= set(sys.argv) and options["--device"] == "cpu"
image = sitk.ReadImage(options["-i"])
{body}
"""


@pytest.fixture
def segment(tmp_path, run_tool):
    """Run segment.py on an oblique volume with a program that does `body`."""

    def run(body: str, *more):
        program = tmp_path / "TotalSegmentator"
        program.write_text(STAND_IN.format(python=sys.executable, body=body))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        array = np.arange(960, dtype=np.int16).reshape(GRID.shape) - 500
        write_volume(Volume(array, GRID), tmp_path / "ct.mha")
        process = run_tool(
            *("segment.py", "--image", tmp_path / "ct.mha", "--program", program, "--out", tmp_path / "labels.mha"),
            *more,
        )
        return process, array, tmp_path / "labels.mha"

    return run


def test_labels_lie_on_the_images_grid(segment):
    process, array, out = segment("sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8) * 5, options['-o'])")
    assert process.returncode == 0, process.stderr
    labels = read_volume(out)
    assert labels.grid.differs_from(GRID) == "" and labels.array.dtype == np.uint8
    assert (labels.array == np.where(array > 0, 5, 0)).all()


def test_the_network_that_labelled_is_told_by_its_digest(segment, tmp_path, monkeypatch):
    trained = tmp_path / "weights/Dataset297_TotalSegmentator_total_3mm_1559subj/trainer"
    (trained / "fold_0").mkdir(parents=True)
    (trained / "plans.json").write_text("{}")
    (trained / "fold_0/checkpoint_final.pth").write_bytes(b"weights")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    told = ("--record", tmp_path / "record.json")
    process, _, _ = segment("sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8) * 5, options['-o'])", *told)
    assert process.returncode == 0, process.stderr
    digest = hashlib.sha256(b"weights").hexdigest()
    name = "Dataset297_TotalSegmentator_total_3mm_1559subj/checkpoint_final.pth"
    assert json.loads((tmp_path / "record.json").read_text())["weights"] == {name: digest}


def test_failures_are_one_line_and_leave_nothing(segment):
    process, _, out = segment("sys.exit('no weights here')")
    bad_input(process, "no weights here", "totalseg_download_weights")
    assert not out.exists()
    bad_input(segment("sitk.WriteImage(image[:6] > 0, options['-o'])")[0], "another grid")
    bad_input(
        segment("sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkInt16) * 1000, options['-o'])")[0], "expected 0 to 117"
    )
