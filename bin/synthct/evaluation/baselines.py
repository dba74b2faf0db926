"""The trivial predictors that an sCT must beat: one constant HU, and a lookup table from input intensity to HU.

Both are fitted on training cases only. The lookup table's abscissa is the input standardised inside the mask
(z = (v − mean) / SD), so that it means the same for every scanner and for any linear scaling that a case was
stored with.
"""

from pathlib import Path

import numpy as np

from synthct.cohort.folds import learners
from synthct.core.errors import InputError
from synthct.core.tables import read_object

OUTSIDE = -32768  # the cases' value outside the mask
BINS = 256


def fit(directories: list[Path], bins: int = BINS) -> dict:
    """Fit both on case directories (image.npy and ct.npy, int16, -32768 outside the mask).

    Returns {"patients", "constant": HU, "edges": bins − 1 standardised intensities, "lookup": bins HU values}. The
    constant is the median HU of all training voxels, which minimises the MAE; the table holds the mean HU of each
    quantile bin. Bin edges come from a histogram of the pooled z (1/100 SD), so that memory does not grow with the
    cohort.
    """
    if not directories:
        raise InputError("trivial predictors: no training case was given")
    fine = np.linspace(-20, 20, 4001)
    hu_counts = np.zeros(65536, np.int64)
    counts, totals = np.zeros(len(fine) + 1), np.zeros(len(fine) + 1)
    patients = []
    for directory in directories:
        image, ct = _load(directory, "image.npy"), _load(directory, "ct.npy")
        if image.shape != ct.shape:
            raise InputError(f"case {directory}: image.npy {image.shape} and ct.npy {ct.shape} differ in shape")
        inside = (image != OUTSIDE) & (ct != OUTSIDE)
        if not inside.any():
            continue
        hu = ct[inside].astype(np.int64)
        hu_counts += np.bincount(hu - OUTSIDE, minlength=65536)
        place = np.searchsorted(fine, standardised(image, inside), side="right")
        counts += np.bincount(place, minlength=len(counts))
        totals += np.bincount(place, weights=hu, minlength=len(counts))
        patients.append(directory.name)
    if not patients:
        raise InputError("trivial predictors: no training case has a voxel inside its mask")
    total = hu_counts.sum()
    constant = int(np.searchsorted(np.cumsum(hu_counts), (total + 1) // 2)) + OUTSIDE
    # Quantile edges among the fine ones; equal ones (a constant image) collapse.
    cumulative = np.cumsum(counts)
    wanted = np.searchsorted(cumulative, total * np.arange(1, bins) / bins)
    cuts = np.unique(np.clip(wanted, 0, len(fine) - 1))
    group = np.searchsorted(cuts, np.arange(len(counts)), side="left")
    sizes, sums = np.bincount(group, counts, len(cuts) + 1), np.bincount(group, totals, len(cuts) + 1)
    filled = sizes > 0
    lookup = np.interp(np.arange(len(sizes)), np.flatnonzero(filled), sums[filled] / sizes[filled])
    return {
        "format": 1,
        "patients": patients,
        "constant": constant,
        "edges": fine[cuts].tolist(),
        "lookup": lookup.tolist(),
    }


def predict(baselines: dict, image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """{"constant", "lookup"}: HU of the voxels inside `mask`, in array order; `image` raw, any linear scale."""
    inside = mask > 0
    place = np.searchsorted(np.array(baselines["edges"]), standardised(image, inside), side="right")
    return {
        "constant": np.full(place.shape, float(baselines["constant"])),
        "lookup": np.array(baselines["lookup"])[place],
    }


def standardised(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """z = (v − mean) / SD of the voxels inside; all 0 when they are equal."""
    values = image[inside].astype(np.float64)
    if not values.size:
        return values
    return (values - values.mean()) / (values.std() or 1.0)


def read(path) -> dict:
    """Read what bin/baselines.py wrote."""
    try:
        data = read_object(path, "trivial predictors")
        if len(data["lookup"]) != len(data["edges"]) + 1:
            raise ValueError("lookup and edges do not belong together")
        float(data["constant"])
    except (ValueError, KeyError, TypeError) as fault:
        raise InputError(f"trivial predictors {path}: not a file of baselines.py ({fault})") from None
    return data


def training_cases(cases: list[Path], folds: dict | None) -> list[Path]:
    """The directories among `cases` to fit on: with `folds`, those in any fold's train or validation list, never its
    test.
    """
    if folds is None:
        return sorted(cases)
    names = learners(folds) - set(folds.get("test", ()))
    return sorted(case for case in cases if case.name in names)


def _load(directory: Path, name: str) -> np.ndarray:
    try:
        return np.load(directory / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise InputError(f"case {directory}: {name} cannot be read ({fault})") from None
