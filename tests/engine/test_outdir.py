"""One run at a time in an --outdir: the second is refused, and what a killed run leaves is taken over."""

import os
import signal
import subprocess
import time

import pytest

HELD = (
    """process {{ beforeScript = 'export PATH="{root}/.venv/bin:$PATH"; while [ ! -e {go} ]; do sleep 0.1; done' }}"""
)


@pytest.fixture
def given(root, tmp_path):
    """A command that evaluates one patient's sCT as a stub, and the file that its tasks wait for."""
    demo = root / "assets" / "demo" / "cbct" / "SIM_HN_034"
    image, ct, mask = (next(demo.glob(f"{name}.*")) for name in ("cbct", "ct", "mask"))
    (tmp_path / "sheet.csv").write_text(f"patient,image,ct,mask,sct\nA,{image},{ct},{mask},{ct}\n")
    (tmp_path / "held.config").write_text(HELD.format(root=root, go=tmp_path / "go"))
    study = [
        "--mode",
        "evaluate",
        "--modality",
        "cbct",
        "--input",
        tmp_path / "sheet.csv",
        "--outdir",
        tmp_path / "out",
    ]
    return ["run", root / "main.nf", "-profile", "test", "-stub-run", "-c", tmp_path / "held.config", *study]


def test_a_second_run_in_one_outdir_is_refused(nextflow, root, given, tmp_path):
    lock = tmp_path / "out" / "pipeline_info" / "run.lock"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = subprocess.Popen(
        [str(root / "nextflow"), *map(str, given)],
        cwd=tmp_path / "first",
        stdout=subprocess.DEVNULL,
        env=os.environ | {"NXF_ANSI_LOG": "false"},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not lock.exists() or not lock.read_text():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.1)
        held = lock.read_text()
        pages = {path.name for path in lock.parent.iterdir()}
        second = nextflow(tmp_path / "second", *given)
        assert second.returncode == 1, second.stdout + second.stderr
        (line,) = [line for line in (second.stdout + second.stderr).splitlines() if "--outdir" in line]
        assert f"process {first.pid}" in line and "another run is at work" in line and str(lock) in line
        assert "Submitted" not in second.stdout
        assert lock.read_text() == held and pages <= {path.name for path in lock.parent.iterdir()}
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert lock.exists()  # nobody was left to take it away
    (tmp_path / "go").touch()
    third = nextflow(tmp_path / "second", *given)
    assert third.returncode == 0, third.stdout
    assert not lock.exists() and (tmp_path / "out" / "report" / "report.html").exists()
