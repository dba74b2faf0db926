"""Which of several candidates resembles the CT most: MAE, PSNR and MS-SSIM in one number.

The paper selects by "the highest aggregate image similarity across MAE, PSNR, MS-SSIM" and gives no formula. Here each
metric is scaled over the candidates to 0 (worst) … 1 (best), 0.5 where all are equal, and the three are averaged.
"""

from collections.abc import Iterable

import numpy as np

METRICS = {"mae": True, "psnr": False, "ms_ssim": False}  # whether lower is better


def similarity(candidates: list[dict[str, float]], metrics: Iterable[str] = METRICS) -> np.ndarray:
    """The aggregate of each candidate, 0 … 1, over `metrics`; NaN where one of them is.

    >>> similarity([{"mae": 60.0, "psnr": 30.0, "ms_ssim": 0.9}, {"mae": 50.0, "psnr": 29.0, "ms_ssim": 0.95}]).round(2)
    array([0.33, 0.67])
    """
    scaled = [min_max([one[key] for one in candidates], METRICS[key]) for key in metrics]
    return np.mean(scaled, axis=0)


def min_max(values: list[float], lower_is_better: bool) -> np.ndarray:
    """Values scaled to 0 (worst) … 1 (best); all 0.5 when they are equal; NaN stays NaN."""
    array = np.array(values, np.float64)
    finite = array[np.isfinite(array)]
    if not finite.size or finite.max() == finite.min():
        return np.where(np.isfinite(array), 0.5, np.nan)
    scaled = (array - finite.min()) / (finite.max() - finite.min())
    return 1 - scaled if lower_is_better else scaled
