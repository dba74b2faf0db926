"""TotalSegmentator's label map of a CT or sCT, as the SynthRAD2025 leaderboard makes it for Dice and HD95.

Task "total" with its 3 mm model (``--fast``): the volume is resampled to 3 mm, segmented without mirroring, and the
labels are brought back to the volume's own grid. The package's program does the work; its weights lie where it keeps
them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from synthct.errors import InputError
from synthct.volume import Volume, read_volume, write_volume

LARGEST = 117  # the highest id of task "total"


def label_map(image: Volume, device: str = "cpu", program: str | None = None) -> Volume:
    """uint8 labels (z, y, x; TotalSegmentator v2 ids, 0 background) on the grid of `image` (HU).

    `device` is "cpu" or "cuda"; `program` the executable (default: the one beside this Python, else on PATH). Raises
    `InputError` when the program or its weights are not there, or when what it writes is not a label map of this grid.
    """
    program = program or _program()
    with tempfile.TemporaryDirectory() as work:
        source, result = Path(work, "image.nii.gz"), Path(work, "labels.nii.gz")
        write_volume(image, source)
        command = [program, "-i", str(source), "-o", str(result), "--ml", "--task", "total", "--fast"]
        try:
            run = subprocess.run(
                [*command, "--device", "gpu" if device == "cuda" else "cpu"], capture_output=True, text=True
            )
        except OSError as fault:
            raise InputError(f"segmentation: {program} cannot be started ({fault.strerror})") from None
        if run.returncode or not result.is_file():
            lines = (run.stderr or run.stdout).strip().splitlines() or ["no message"]
            raise InputError(
                f"segmentation by TotalSegmentator failed ({lines[-1][:160]}); with its weights absent, fetch them "
                "once with `totalseg_download_weights -t total_fast` (TOTALSEG_HOME_DIR says where)"
            )
        labels = read_volume(result, "TotalSegmentator labels")
    if difference := labels.grid.differs_from(image.grid):
        raise InputError(f"segmentation by TotalSegmentator: another grid than its image ({difference})")
    if labels.array.min() < 0 or labels.array.max() > LARGEST:
        raise InputError(
            f"segmentation by TotalSegmentator: labels up to {labels.array.max():g}, expected 0 to {LARGEST}"
        )
    return Volume(labels.array.astype(np.uint8), image.grid)


def _program() -> str:
    beside = Path(sys.executable).with_name("TotalSegmentator")
    found = str(beside) if beside.is_file() else shutil.which("TotalSegmentator")
    if found is None:
        raise InputError("segmentation: TotalSegmentator is not installed (pip install TotalSegmentator)")
    return found
