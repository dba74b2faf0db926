"""One patient's evaluation: everything that the report needs to know about an sCT, from arrays and their grid."""

import re

import numpy as np

from synthct import baselines as trivial
from synthct.metrics.image import HU_RANGE, hu_bin_scores, image_scores
from synthct.metrics.segmentation import segmentation_scores
from synthct.metrics.uncertainty import uncertainty_scores


def evaluate(
    sct: np.ndarray,
    ct: np.ndarray,
    mask: np.ndarray,
    *,
    hu_range=HU_RANGE,
    hu_bins=None,
    image=None,
    uncertainty=None,
    baselines=None,
) -> dict:
    """The image part of the metrics file; arrays (z, y, x) of one shape, sCT and CT in HU, the mask inside where > 0.

    `uncertainty` (HU) adds its relation to the error; `image` (raw) with `baselines` (see `synthct.baselines`) adds the
    MAE of both trivial predictors on this patient.
    """
    inside = mask > 0
    result = {**image_scores(sct, ct, mask, hu_range), "hu_range": list(hu_range), "voxels": int(inside.sum())}
    bins = hu_bin_scores(sct, ct, mask, hu_bins)
    result["hu_bins"] = {name: score["mae"] for name, score in bins.items()}
    result["hu_bin_bias"] = {name: score["bias"] for name, score in bins.items()}
    result["hu_bin_voxels"] = {name: score["voxels"] for name, score in bins.items()}
    if uncertainty is not None:
        result["uncertainty"] = uncertainty_scores(uncertainty, sct, ct, mask)
    if image is not None and baselines is not None:
        truth = ct[inside].astype(np.float64)
        result["baselines"] = {
            name: {"mae": float(np.abs(guess - truth).mean()) if truth.size else float("nan")}
            for name, guess in trivial.predict(baselines, image, mask).items()
        }
    return result


def evaluate_labels(sct_labels: np.ndarray, ct_labels: np.ndarray, spacing, region: str) -> dict:
    """The segmentation part: "dice", "hd95" (mm), the two counts, and "per_class"; `spacing` is (z, y, x) in mm."""
    scores = segmentation_scores(sct_labels, ct_labels, spacing, region)
    scores["per_class"] = {str(label): score for label, score in scores["per_class"].items()}
    return scores


def region_of(patient: str) -> str:
    """The region in a SynthRAD2025 patient name (characters 2 and 3 of 1ABA001), or ""."""
    found = re.match(r"[12](AB|TH|HN)[A-Z]\d{3}", patient or "")
    return found.group(1) if found else ""
