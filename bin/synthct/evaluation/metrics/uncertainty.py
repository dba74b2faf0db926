"""Does the ensemble's spread say where the sCT is wrong? Its relation to the absolute error, inside the mask."""

import math

import numpy as np

GROUPS = 10


def uncertainty_scores(uncertainty: np.ndarray, sct: np.ndarray, ct: np.ndarray, mask: np.ndarray) -> dict:
    """How the voxelwise standard deviation (HU) follows |sCT − CT| (HU) over the mask's voxels; arrays (z, y, x).

    Returns {"mean": HU, "pearson": −1…1, "groups": ten equal-sized groups of voxels by rising uncertainty, each
    {"uncertainty", "mae"} in HU}; NaN and no groups for an empty mask or an uncertainty that is the same everywhere.
    """
    inside = mask > 0
    spread = uncertainty[inside].astype(np.float64)
    error = np.abs(sct[inside].astype(np.float64) - ct[inside])
    if not spread.size:
        return {"mean": math.nan, "pearson": math.nan, "groups": []}
    varied = spread.std() > 0 and error.std() > 0
    order = np.argsort(spread, kind="stable")
    groups = [
        {"uncertainty": float(spread[part].mean()), "mae": float(error[part].mean())}
        for part in np.array_split(order, GROUPS)
        if part.size
    ]
    pearson = float(np.corrcoef(spread, error)[0, 1]) if varied else math.nan
    return {"mean": float(spread.mean()), "pearson": pearson, "groups": groups if spread.std() > 0 else []}
