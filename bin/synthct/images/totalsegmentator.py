"""TotalSegmentator's program as a function: a volume in, the label map of one of its tasks out.

The package's own program does the work (it loads nnU-Net, resamples, and brings the labels back to the volume's grid);
its weights lie where it keeps them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from synthct.core.errors import InputError
from synthct.images.grid import Volume
from synthct.images.volume import read_volume, write_volume


def segmented(image: Volume, task: str, *, fast: bool = False, device: str = "cpu", program: str | None = None):
    """The label map (a `Volume` on the grid of `image`, 0 background) of task `task`, e.g. "total" or "body_mr".

    `fast` chooses the task's coarse model, `device` is "cpu" or "cuda", `program` the executable (default: the one
    beside this Python, else on PATH). Raises `InputError` when the program or its weights are not there, or when what
    it writes does not lie on the image's grid.
    """
    program = program or _program()
    with tempfile.TemporaryDirectory() as work:
        source, result = Path(work, "image.nii.gz"), Path(work, "labels.nii.gz")
        write_volume(image, source)
        command = [program, "-i", str(source), "-o", str(result), "--ml", "--task", task]
        command += [*(["--fast"] if fast else []), "--device", "gpu" if device == "cuda" else "cpu"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, env=os.environ | _weights())
        except OSError as fault:
            raise InputError(f"segmentation: {program} cannot be started ({fault.strerror})") from None
        if run.returncode or not result.is_file():
            lines = (run.stderr or run.stdout).strip().splitlines() or ["no message"]
            weights = f"{task}_fast" if fast else task
            raise InputError(
                f"task {task} of TotalSegmentator failed ({lines[-1][:160]}); with its weights absent, fetch them once "
                f"with `bin/weights.py` or `totalseg_download_weights -t {weights}` (TOTALSEG_HOME_DIR says where)"
            )
        labels = read_volume(result, "TotalSegmentator labels", "labels")
    if difference := labels.grid.differs_from(image.grid):
        raise InputError(f"segmentation by TotalSegmentator: another grid than its image ({difference})")
    return Volume(labels.array, image.grid)


def _weights() -> dict[str, str]:
    """Our own place of weights, where it has trained networks and nobody has told TotalSegmentator of another."""
    ours = os.environ.get("SYNTHCT_WEIGHTS")
    there = ours and not os.environ.get("TOTALSEG_WEIGHTS_PATH") and any(Path(ours).glob("Dataset*"))
    return {"TOTALSEG_WEIGHTS_PATH": str(ours)} if there else {}


def _program() -> str:
    beside = Path(sys.executable).with_name("TotalSegmentator")
    found = str(beside) if beside.is_file() else shutil.which("TotalSegmentator")
    if found is None:
        raise InputError("segmentation: TotalSegmentator is not installed (pip install TotalSegmentator)")
    return found
