"""A study's dose records (JSON of dose.py) as rows like those of the image metrics, and whether the two agree."""

import math
from collections.abc import Iterable

from scipy.stats import spearmanr

from synthct.study.rows import Metric, number

KINDS = ("photon", "proton")
PART = "% of prescription"  # the unit of what records hold as a part of it
DOSE_METRICS = (
    Metric("photon_mae_dose", "photon MAE", PART, True, 2),
    Metric("photon_dvh_metric", "photon DVH metric", "", True, 3),
    Metric("photon_gamma_pass_percent", "photon gamma", "%", False, 1),
    Metric("proton_mae_dose", "proton MAE", PART, True, 2),
    Metric("proton_dvh_metric", "proton DVH metric", "", True, 3),
    Metric("proton_gamma_pass_percent", "proton gamma", "%", False, 1),
    Metric("proton_range_shift_abs_mm", "range shift", "mm", True, 2),
)
# what has a sign is not tested, for none is better; above 0: more on the sCT, farther
CHANGES = (
    *(
        Metric(f"{kind}_target_{key}_change", f"{kind} target {name}", PART, True, 2)
        for kind in KINDS
        for key, name in (("mean", "mean"), ("d98", "D98"), ("d2", "D2"))
    ),
    Metric("proton_range_shift_mm", "range shift, signed", "mm", True, 2),
)
NAMES = ("patient", "region", "trained_on", "tested_on", "checkpoint")
COVERED = "sct_coverage_percent"  # part of the body inside the sCT's field of view; the rest counts as air
FEWEST = 4  # patients for a rank correlation


def dose_records(records: Iterable[dict]) -> list[dict]:
    """The records of dose.py in order of patient and arms; those that say why one failed too."""
    named = [{**record, **{key: str(record.get(key) or "") for key in NAMES}} for record in records]
    return sorted(named, key=lambda record: tuple(record[key] for key in ("patient", "tested_on", "trained_on")))


def dose_rows(records: list[dict]) -> list[dict]:
    """One row a record that was planned: the names, `COVERED`, `DOSE_METRICS` and `CHANGES` as floats, NaN for none.

    Where each fold's own sCT was planned on, "<metric>_low" and "<metric>_high" over the folds as well, and the mean
    standard deviation of a voxel's dose over them, "<kind>_fold_sd_<target or body>". Parts of the prescription are in
    percent.
    """
    rows = []
    for record in records:
        if "failed" in record:
            continue
        row = {key: record[key] for key in NAMES} | {COVERED: 100 * number(record.get("sct_coverage"))}
        for metric in (*DOSE_METRICS, *CHANGES):
            kind, _, key = metric.key.partition("_")
            scores, scale = record.get(kind, {}), 100 if metric.unit == PART else 1
            row[metric.key] = number(scores.get(key)) * scale
            for end in ("low", "high") if "over_members" in scores else ():
                row[f"{metric.key}_{end}"] = number(scores["over_members"][end].get(key)) * scale
        for kind in KINDS:
            for place, deviation in record.get(kind, {}).get("over_members", {}).get("dose_sd", {}).items():
                row[f"{kind}_fold_sd_{place}"] = 100 * number(deviation["mean"])
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
