#!/usr/bin/env python3
"""Time and memory of bin/evaluate.py against the metrics' plain definition (tests/naive_metrics.py), on one large
patient.

    .venv/bin/python benchmarks/metrics.py [--size 200 512 512] [--repeat 3]

Both run as processes of their own and read the same files; the peak is the process's largest resident set. Label
maps with 30 classes can be added by --labels. Prints one line each and the ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
NAIVE = """
import json, sys
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1] + "/bin"]
from synthct.images.volume import read_volume
import naive_metrics
folder, labels = sys.argv[2], sys.argv[3] == "True"
sct, ct, mask = (read_volume(f"{folder}/{name}.mha").array for name in ("sct", "ct", "mask"))
scores = naive_metrics.image_scores(sct, ct, mask)
if labels:
    from synthct.evaluation.metrics.segmentation import classes_of
    a, b = (read_volume(f"{folder}/{name}_seg.mha") for name in ("sct", "ct"))
    scores |= naive_metrics.segmentation_scores(a.array, b.array, a.grid.spacing[::-1], classes_of("AB"))
json.dump(scores, open(f"{folder}/naive.json", "w"))
"""


def main():
    """Make the patient, run both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs=3, type=int, default=(200, 512, 512), help="voxels (z, y, x)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--labels", action="store_true", help="Dice and HD95 too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_patient(Path(folder), tuple(options.size))
        tool = [sys.executable, str(ROOT / "bin" / "evaluate.py"), "--out", f"{folder}/tool.json"]
        tool += [part for name in ("sct", "ct", "mask") for part in (f"--{name}", f"{folder}/{name}.mha")]
        if options.labels:
            tool += ["--sct-seg", f"{folder}/sct_seg.mha", "--ct-seg", f"{folder}/ct_seg.mha", "--region", "AB"]
        naive = [sys.executable, "-c", NAIVE, str(ROOT), folder, str(options.labels)]
        seconds, cpu, peak = measure(tool, options.repeat)
        naive_seconds, naive_cpu, naive_peak = measure(naive, options.repeat)
        found, expected = (json.loads(Path(folder, f"{name}.json").read_text()) for name in ("tool", "naive"))
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    size = "×".join(map(str, options.size))
    print(f"size {size} (z, y, x), labels {options.labels}, OMP_NUM_THREADS {threads}")
    print("             wall (s)  CPU (s)  peak (GiB)")
    print(f"evaluate.py  {seconds:8.1f}  {cpu:7.1f}  {peak / 2**20:10.2f}")
    print(f"definition   {naive_seconds:8.1f}  {naive_cpu:7.1f}  {naive_peak / 2**20:10.2f}")
    print(f"ratio        {seconds / naive_seconds:8.3f}  {cpu / naive_cpu:7.3f}  {peak / naive_peak:10.3f}")
    print("difference   " + ", ".join(f"{key} {abs(found[key] - value):.1e}" for key, value in expected.items()))


def make_patient(folder: Path, shape: tuple[int, int, int]):
    """A body-like ellipse of smooth tissue with noise, its mask, a blurred and shifted sCT, and label maps of 30
    boxes.
    """
    sys.path.insert(0, str(ROOT / "bin"))
    from synthct.images.grid import Grid, Volume
    from synthct.images.volume import write_volume

    random = np.random.default_rng(0)
    grid = Grid(shape[::-1], (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    body = (y / 0.55) ** 2 + (x / 0.8) ** 2 < 1
    ct = np.full(shape, -1024, np.int16)
    sct = np.full(shape, -1024, np.int16)
    coarse = random.normal(0, 500, [max(n // 16, 2) for n in shape])
    for z in range(shape[0]):
        layer = ndimage.zoom(coarse[z * coarse.shape[0] // shape[0]], np.array(shape[1:]) / coarse.shape[1:], order=1)
        ct[z][body] = np.clip(layer + random.normal(0, 30, layer.shape), -1000, 2000)[body]
        sct[z][body] = np.clip(layer + random.normal(10, 40, layer.shape), -1000, 2000)[body]
    mask = np.broadcast_to(body, shape).astype(np.uint8)
    labels = np.zeros(shape, np.uint8)
    for label in (2, 3, 5, 6, *range(10, 15), *range(26, 47)):
        start = [random.integers(0, n * 3 // 4) for n in shape]
        labels[tuple(slice(a, a + n // 6) for a, n in zip(start, shape, strict=True))] = label
    for name, array in {
        "ct": ct,
        "sct": sct,
        "mask": mask,
        "ct_seg": labels,
        "sct_seg": np.roll(labels, (1, 3, 2), (0, 1, 2)),
    }.items():
        write_volume(Volume(array, grid), folder / f"{name}.mha")


def measure(command: list[str], repeat: int) -> tuple[float, float, int]:
    """Median wall seconds, median CPU seconds (of use on a busy machine) and largest resident set (KiB) of a
    command.
    """
    times, processor, peak = [], [], 0
    for _ in range(repeat):
        start = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        times.append(time.perf_counter() - start)
        processor.append(usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(command[:3])}")
        peak = max(peak, usage.ru_maxrss)
    return statistics.median(times), statistics.median(processor), peak


if __name__ == "__main__":
    main()
