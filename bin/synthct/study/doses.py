"""A study's dose records (JSON of dose.py) as rows like those of the image metrics, and whether the two agree."""

import math
from collections.abc import Iterable

from scipy.stats import spearmanr

from synthct.study.rows import Metric, number

KINDS = ("photon", "proton")
DOSE_METRICS = (
    Metric("photon_mae_dose", "photon MAE", "% of prescription", True, 2),
    Metric("photon_dvh_metric", "photon DVH metric", "", True, 3),
    Metric("photon_gamma_pass_percent", "photon gamma", "%", False, 1),
    Metric("proton_mae_dose", "proton MAE", "% of prescription", True, 2),
    Metric("proton_dvh_metric", "proton DVH metric", "", True, 3),
    Metric("proton_gamma_pass_percent", "proton gamma", "%", False, 1),
    Metric("proton_range_shift_abs_mm", "range shift", "mm", True, 2),
)
NAMES = ("patient", "region", "trained_on", "tested_on", "checkpoint")
FEWEST = 4  # patients for a rank correlation


def dose_records(records: Iterable[dict]) -> list[dict]:
    """The records of dose.py in order of patient and arms; those that say why one failed too."""
    named = [{**record, **{key: str(record.get(key) or "") for key in NAMES}} for record in records]
    return sorted(named, key=lambda record: tuple(record[key] for key in ("patient", "tested_on", "trained_on")))


def dose_rows(records: list[dict]) -> list[dict]:
    """One row a record that was planned: the names, and `DOSE_METRICS` as floats (MAE in percent), NaN for none."""
    rows = []
    for record in records:
        if "failed" in record:
            continue
        row = {key: record[key] for key in NAMES}
        for metric in DOSE_METRICS:
            kind, _, key = metric.key.partition("_")
            row[metric.key] = number(record.get(kind, {}).get(key)) * (100 if key == "mae_dose" else 1)
        row["proton_range_shift_mm"] = number(record.get("proton", {}).get("range_shift_mm"))
        rows.append(row)
    return rows


def failures(records: list[dict]) -> list[tuple[str, str]]:
    """(patient, reason) of those that could not be planned on, each once."""
    return list(dict.fromkeys((record["patient"], record["failed"]) for record in records if "failed" in record))


def agreement(rows: list[dict], doses: list[dict]) -> list[dict]:
    """Spearman's correlation over patients between MAE (HU) and each dose metric, within each cell of the matrix.

    `rows` are the image metrics' rows, `doses` those of `dose_rows`. Keys: trained_on, tested_on, metric, n, rho (above
    0: a larger MAE goes with a worse dose), p. Cells with fewer than four patients are left out.
    """
    scored = {(row["patient"], row["trained_on"], row["tested_on"]): row["mae"] for row in rows}
    cells: dict[tuple[str, str], list[dict]] = {}
    for row in doses:
        cells.setdefault((row["trained_on"], row["tested_on"]), []).append(row)
    found = []
    for (trained, tested), members in cells.items():
        for metric in DOSE_METRICS:
            pairs = [(scored.get((row["patient"], trained, tested), math.nan), row[metric.key]) for row in members]
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if len(pairs) < FEWEST or any(len({pair[i] for pair in pairs}) < 2 for i in (0, 1)):
                continue
            result = spearmanr(*zip(*pairs, strict=True))
            sign = 1 if metric.lower_is_better else -1
            found.append(
                {
                    "trained_on": trained,
                    "tested_on": tested,
                    "metric": metric.key,
                    "n": len(pairs),
                    "rho": sign * float(result.statistic),
                    "p": float(result.pvalue),
                }
            )
    return found
