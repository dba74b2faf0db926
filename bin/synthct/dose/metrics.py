"""Dose metrics as SynthRAD defines them (SynthRAD2023/metrics, functions/dose_metrics.py @b7ecdb1).

All take doses in Gy a fraction, (z, y, x) on one grid: that of the CT, which is the reference, and that of the same
plan on the synthetic CT. The quantiles and the conformity index are matRad's, which the organisers plan with.
"""

import math

import numpy as np

TINY = 1e-12  # added to each difference and denominator, as the organisers do
HIGH = 0.9  # part of the prescription from which voxels count for the MAE
LARGEST_ORGANS = 3


def mae_dose(ct: np.ndarray, sct: np.ndarray, prescription: float) -> float:
    """Mean of |D_CT − D_sCT| / prescription where the CT's dose is at least 0.9 of it; NaN where none is."""
    high = ct >= HIGH * prescription
    if not high.any():
        return math.nan
    return float(np.abs(ct[high].astype(np.float64) - sct[high]).mean() / prescription)


def dose_to(dose: np.ndarray, percent: float) -> float:
    """D_percent: what `percent` of a structure's voxels get at least, between voxels by a straight line."""
    return float(np.quantile(dose.astype(np.float64), 1 - percent / 100))


def conformity(dose: np.ndarray, target: np.ndarray, prescription: float) -> float:
    """matRad's conformity index: V² / (target × treated), V the target that gets 95 %, treated all that does."""
    treated = dose >= 0.95 * prescription
    inside = int((treated & target).sum())
    return inside**2 / (int(target.sum()) * max(1, int(treated.sum())))


def dvh_metric(ct: np.ndarray, sct: np.ndarray, target: np.ndarray, organs: dict[str, np.ndarray], prescription: float):
    """The challenge's DVH metric and its terms.

    Target: |ΔD98| / D98 + |ΔCI| / CI. Organs: of the three with the largest (D5 + mean) / 2 on the CT, mean of
    |ΔD2| / D2 plus mean of |Δmean| / mean; fewer than three: those there are, none: 0. `organs` are bool masks by name.
    Returns {"dvh_metric", "target_term", "organ_term", "d98_ct", "d98_sct", "conformity_ct", "conformity_sct",
    "organs": [names counted]}; doses in Gy.
    """
    d98 = [dose_to(dose[target], 98) for dose in (ct, sct)]
    index = [conformity(dose, target, prescription) for dose in (ct, sct)]
    target_term = _relative(*d98) + _relative(*index)
    exposed = {name: (dose_to(ct[mask], 5) + float(ct[mask].mean())) / 2 for name, mask in organs.items() if mask.any()}
    counted = sorted(exposed, key=lambda name: (-exposed[name], name))[:LARGEST_ORGANS]
    organ_term = 0.0
    if counted:
        near = [_relative(dose_to(ct[organs[name]], 2), dose_to(sct[organs[name]], 2)) for name in counted]
        mean = [_relative(float(ct[organs[name]].mean()), float(sct[organs[name]].mean())) for name in counted]
        organ_term = float(np.mean(near) + np.mean(mean))
    return {
        "dvh_metric": target_term + organ_term,
        "target_term": target_term,
        "organ_term": organ_term,
        "d98_ct": d98[0],
        "d98_sct": d98[1],
        "conformity_ct": index[0],
        "conformity_sct": index[1],
        "organs": counted,
    }


def dvh_points(dose: np.ndarray, mask: np.ndarray, edges: np.ndarray) -> list[float]:
    """The part of a structure's voxels that gets at least each dose of `edges` (Gy), 0…1."""
    values = np.sort(dose[mask].astype(np.float64))
    return ((len(values) - np.searchsorted(values, edges - 1e-9)) / max(1, len(values))).tolist()


def gamma_index(ct: np.ndarray, sct: np.ndarray, spacing: float, *, percent=2.0, distance=2.0, cutoff=10.0):
    """Gamma of the sCT's dose against the CT's, global: `percent` of the CT's largest dose, `distance` mm.

    float32 (z, y, x), NaN where the CT's dose is below `cutoff` percent of its largest; values above 2 are given as 2.
    Computed by pymedphys, the dose between voxels by straight lines in tenths of `distance`.
    """
    from pymedphys import gamma

    axes = tuple(np.arange(n) * float(spacing) for n in ct.shape)
    found = gamma(
        axes,
        ct.astype(np.float64),
        axes,
        sct.astype(np.float64),
        percent,
        distance,
        lower_percent_dose_cutoff=cutoff,
        interp_fraction=10,
        max_gamma=2.0,
    )
    return np.asarray(found, np.float32)


def passed(gamma: np.ndarray, where: np.ndarray) -> float:
    """Percent of the voxels of `where` that have a gamma, of those at most 1; NaN where none has one."""
    values = gamma[where & np.isfinite(gamma)]
    return float(100 * (values <= 1).mean()) if values.size else math.nan


def _relative(ct: float, sct: float) -> float:
    return (abs(ct - sct) + TINY) / (ct + TINY)
