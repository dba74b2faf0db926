#!/usr/bin/env python3
"""What the checks of a compressed 512×512×200 volume cost: processor time of read_volume over SimpleITK alone.

Both read the same file in turn, in one process, threads held to one, PAIRS times, each first in every second pair: the
least of each is compared, and the median of the pairs' ratios. SimpleITK alone copies what it has read into an array,
as everybody does; read_volume takes it over.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bin"))
from synthct.images.volume import read_volume

PAIRS = 11


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main():
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[:200, :512, :512]
    body = ((y - 256) / 170) ** 2 + ((x - 256) / 210) ** 2 + 0 * z < 1
    ct = np.where(body, random.normal(30, 25, body.shape), -1000 + random.normal(0, 8, body.shape)).astype(np.int16)
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("mha", "nii.gz", "nrrd"):
            path = str(Path(place, f"ct.{suffix}"))
            sitk.WriteImage(sitk.GetImageFromArray(ct), path, True)
            works = (
                lambda: sitk.GetArrayFromImage(sitk.ReadImage(path)),  # noqa: B023
                lambda: read_volume(path, "CT", "ct"),  # noqa: B023
            )
            pairs = []
            for number in range(PAIRS):
                order = (0, 1) if number % 2 else (1, 0)
                times = {which: seconds(works[which]) for which in order}
                pairs.append((times[0], times[1]))
            plain, checked = (min(times) for times in zip(*pairs, strict=True))
            middle = statistics.median(mine / theirs for theirs, mine in pairs)
            print(
                f"{suffix}: {plain:.2f} s without checks, {checked:.2f} s with all: {checked / plain:.2f} times "
                f"(median of {PAIRS} pairs {middle:.2f})"
            )


if __name__ == "__main__":
    main()
