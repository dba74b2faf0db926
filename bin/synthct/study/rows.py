"""A study's numbers: patient rows, their aggregation as in the paper and as in the challenge, the matrix, the
selection.

A row is one patient scored with one model on one image pair: a dict with "patient", "region", "trained_on" and
"tested_on" (registration arms), "checkpoint", and the metrics as floats (NaN where there is none). Nothing here draws
or tests.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.evaluation.similarity import similarity
from synthct.study.arms import arm_order


@dataclass(frozen=True)
class Metric:
    """How a metric is named, printed and compared."""

    key: str
    label: str
    unit: str
    lower_is_better: bool
    decimals: int
    leaderboard: bool = False  # computed as on the SynthRAD2025 leaderboard, and called so


METRICS = (
    Metric("mae", "MAE", "HU", True, 1, leaderboard=True),
    Metric("psnr", "PSNR", "dB", False, 2, leaderboard=True),
    Metric("ms_ssim", "MS-SSIM", "", False, 4, leaderboard=True),
    Metric("dice", "Dice", "", False, 3, leaderboard=True),
    Metric("hd95", "HD95", "mm", True, 2, leaderboard=True),
)
BY_KEY = {metric.key: metric for metric in METRICS}
PAPERS = tuple(BY_KEY[key] for key in ("mae", "psnr", "ms_ssim"))  # they choose the model and have dots by patient
AGGREGATED = "aggregated"  # every region weighs the same, as in the paper's tables
POOLED = "pooled"  # every patient weighs the same, as on the leaderboard


def rows_of(records: Iterable[tuple[Path, dict]]) -> list[dict]:
    """evaluate.py's records, each with its file, as rows in a fixed order; strings "nan" and "inf" become floats.

    An HD95 for which no class was found in the sCT's map is the leaderboard's 0.0; here it becomes NaN, so that it is
    counted and named instead of improving a mean; so do Dice and HD95 when the CT's map holds no scored class.
    """
    rows = []
    for path, record in records:
        try:
            row = {**record, **{metric.key: number(record.get(metric.key)) for metric in METRICS}}
        except (TypeError, ValueError) as fault:
            raise InputError(f"metrics {path}: not a metrics file ({fault})") from None
        row["patient"] = str(row.get("patient") or path.stem)
        for key in ("region", "trained_on", "tested_on", "checkpoint"):
            row[key] = str(row.get(key) or "")
        scored, missing = row.get("n_classes_scored"), row.get("n_classes_missing", 0)
        if scored is not None and scored == 0:
            row["dice"] = math.nan
        if scored is not None and scored == missing:
            row["hd95"] = math.nan
        rows.append(row)
    rows.sort(key=lambda row: tuple(row[key] for key in ("tested_on", "trained_on", "checkpoint", "region", "patient")))
    return rows


def number(value) -> float:
    """A float from a metrics file: numbers, "nan", "inf", or None (which is NaN)."""
    return math.nan if value is None or value == "" else float(value)


def metrics_in(rows: list[dict], among: tuple[Metric, ...] = METRICS) -> list[Metric]:
    """The metrics of `among` that at least one row has."""
    if among is not METRICS:
        return [m for m in among if any(not math.isnan(row[m.key]) for row in rows)]
    return [m for m in METRICS if any(not math.isnan(row[m.key]) for row in rows)] or list(PAPERS)


def by_the_leaderboard(metrics: Iterable[Metric] = METRICS) -> str:
    """A clause that names those of `metrics` that the leaderboard has; "" where it has none of them.

    >>> by_the_leaderboard([BY_KEY["mae"], BY_KEY["dice"]])
    'MAE and Dice as the SynthRAD2025 leaderboard computes them'
    """
    labels = [metric.label for metric in metrics if metric.leaderboard]
    if not labels:
        return ""
    *most, last = labels
    names = f"{', '.join(most)} and {last}" if most else last
    return f"{names} as the SynthRAD2025 leaderboard computes {'them' if most else 'it'}"


def aggregate(region_values: dict[str, list[float]] | dict[str, float]) -> float:
    """The paper's "Aggregated": the mean over regions, each with equal weight, of the regions' means.

    >>> aggregate({"AB": [50.0, 70.0], "TH": [100.0]})
    80.0
    """
    means = [float(np.mean(values)) for values in region_values.values()]
    return float(np.mean(means)) if means else math.nan


def describe(values: list[float]) -> dict[str, float]:
    """Mean, SD (population, as the challenge's code), minimum, quartiles and maximum; NaN without values."""
    if not values:
        return dict.fromkeys(("mean", "sd", "min", "q25", "median", "q75", "max"), math.nan)
    array = np.array(values, np.float64)
    low, q25, median, q75, high = np.quantile(array, (0, 0.25, 0.5, 0.75, 1))
    return {
        "mean": float(array.mean()),
        "sd": float(array.std()),
        "min": float(low),
        "q25": float(q25),
        "median": float(median),
        "q75": float(q75),
        "max": float(high),
    }


def split_finite(rows: list[dict], key: str) -> tuple[list[dict], list[str]]:
    """Rows with a finite value, and "patient (nan)" for the others: they are named, and never reach a mean."""
    kept = [row for row in rows if math.isfinite(row[key])]
    return kept, [f"{row['patient']} ({row[key]})" for row in rows if not math.isfinite(row[key])]


def summary(rows: list[dict]) -> list[dict]:
    """One entry for each combination of arms and checkpoint × region (and "aggregated", "pooled") × metric.

    Keys: trained_on, tested_on, checkpoint, region, metric, n, left_out, left_out_patients, mean, sd, min, q25, median,
    q75, max. For "aggregated" the mean and the SD weigh regions equally and there are no quartiles.
    """
    result = []
    for (trained, tested, checkpoint), members in combinations(rows).items():
        for metric in metrics_in(rows):
            by_region = {
                region: [row for row in members if row["region"] == region]
                for region in sorted({row["region"] for row in members})
            }
            for region, some in [*by_region.items(), (POOLED, members)]:
                kept, left_out = split_finite(some, metric.key)
                result.append(
                    {
                        "trained_on": trained,
                        "tested_on": tested,
                        "checkpoint": checkpoint,
                        "region": region,
                        "metric": metric.key,
                        "n": len(kept),
                        "left_out": len(left_out),
                        "left_out_patients": "; ".join(left_out),
                        **describe([row[metric.key] for row in kept]),
                    }
                )
            values = {
                region: [row[metric.key] for row in split_finite(some, metric.key)[0]]
                for region, some in by_region.items()
            }
            result.append(
                {**result[-1], "region": AGGREGATED, **_equal_weights({k: v for k, v in values.items() if v})}
            )
    return result


def _equal_weights(values: dict[str, list[float]]) -> dict[str, float]:
    mean = aggregate(values)
    spread = aggregate({region: [(value - mean) ** 2 for value in some] for region, some in values.items()})
    return {**describe([]), "mean": mean, "sd": math.sqrt(spread) if spread == spread else math.nan}


def combinations(rows: list[dict]) -> dict[tuple[str, str, str], list[dict]]:
    """Rows by (trained_on, tested_on, checkpoint), in order."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in sorted(
        rows, key=lambda row: (arm_order(row["trained_on"]), arm_order(row["tested_on"]), row["checkpoint"])
    ):
        groups.setdefault((row["trained_on"], row["tested_on"], row["checkpoint"]), []).append(row)
    return groups


def ranked(rows: list[dict], settings: dict) -> list[dict]:
    """Rows with the "rank" of their checkpoint in what the study's settings ask for ("final,best": final is 0).

    >>> ranked([{"checkpoint": "best"}], {"inference": {"checkpoint": "final,best"}})
    [{'checkpoint': 'best', 'rank': 1}]
    """
    asked = [name.strip() for name in settings.get("inference", {}).get("checkpoint", "").split(",")]
    return [{**row, "rank": asked.index(row["checkpoint"]) if row["checkpoint"] in asked else 0} for row in rows]


def of_chosen_checkpoint(rows: list[dict]) -> list[dict]:
    """Rows of one checkpoint, so that a patient counts once: the first that the settings name (see `ranked`)."""
    names = sorted({(row.get("rank", 0), row["checkpoint"] != "best", row["checkpoint"]) for row in rows})
    return [row for row in rows if row["checkpoint"] == names[0][-1]] if names else []


def own_images(rows: list[dict]) -> list[dict]:
    """Each model on test images registered as its training images were; all rows where no model has such."""
    return [row for row in rows if row["trained_on"] == row["tested_on"]] or rows


def shared(rows: list[dict], key: str = "mae") -> list[dict]:
    """Rows of the patients who have a finite number in every cell: only means over the same patients compare cells.

    A cell that has a number of nobody is none.

    >>> row = {"trained_on": "a", "tested_on": "a", "checkpoint": "", "patient": "P1", "mae": 50.0}
    >>> other = row | {"trained_on": "b"}
    >>> [one["patient"] for one in shared([row, other, other | {"patient": "P2"}])]
    ['P1', 'P1']
    """
    rows = split_finite(rows, key)[0]
    cells = [{row["patient"] for row in members} for members in combinations(rows).values()]
    common = set.intersection(*cells) if cells else set()
    return [row for row in rows if row["patient"] in common]


def matrix(rows: list[dict]) -> list[dict]:
    """The train × test matrix: one entry a cell with n and, for each metric, "<metric>_aggregated", "_pooled",
    "_sd".
    """
    cells: dict[tuple[str, str, str], dict] = {}
    for entry in summary(rows):
        key = (entry["trained_on"], entry["tested_on"], entry["checkpoint"])
        cell = cells.setdefault(key, {"trained_on": key[0], "tested_on": key[1], "checkpoint": key[2], "n": 0})
        if entry["region"] == POOLED:
            cell["n"] = max(cell["n"], entry["n"] + entry["left_out"])
            cell[f"{entry['metric']}_pooled"], cell[f"{entry['metric']}_sd"] = entry["mean"], entry["sd"]
        elif entry["region"] == AGGREGATED:
            cell[f"{entry['metric']}_aggregated"] = entry["mean"]
    return list(cells.values())


def selection(rows: list[dict], validation_mae: dict[tuple[str, str], float] | None = None) -> list[dict]:
    """Candidates (trained_on, checkpoint) ranked on each set of test images by the image metrics' aggregate.

    "score" is `synthct.evaluation.similarity.similarity` of each metric's aggregated mean; the mean rank stands beside
    it, and what validation MAE would have chosen (`validation_mae` by (arm, checkpoint), HU), where all have one.
    Candidates are compared on the same images only, those of patients that all of them have a number of.
    """
    validation_mae = validation_mae or {}
    result = []
    cells = matrix(rows)
    for tested in sorted({cell["tested_on"] for cell in cells}, key=arm_order):
        some = [cell for cell in cells if cell["tested_on"] == tested]
        if len(some) < 2:
            continue
        columns = {m.key: _aggregated([row for row in rows if row["tested_on"] == tested], some, m.key) for m in PAPERS}
        scores = similarity([{key: values[i] for key, values in columns.items()} for i in range(len(some))])
        ranks = np.mean([_ranks(columns[m.key], m.lower_is_better) for m in PAPERS], axis=0)
        validation = [validation_mae.get((cell["trained_on"], cell["checkpoint"] or "best"), math.nan) for cell in some]
        for i, cell in enumerate(some):
            result.append(
                {
                    "tested_on": tested,
                    "trained_on": cell["trained_on"],
                    "checkpoint": cell["checkpoint"],
                    **{key: values[i] for key, values in columns.items()},
                    "score": float(scores[i]),
                    "mean_rank": float(ranks[i]),
                    "validation_mae": validation[i],
                    "chosen_by_aggregate": bool(scores[i] == np.nanmax(scores)) if np.isfinite(scores).any() else False,
                    "chosen_by_validation_mae": bool(
                        np.isfinite(validation).all() and validation[i] == min(validation)
                    ),
                }
            )
    return result


def _aggregated(rows: list[dict], cells: list[dict], key: str) -> list[float]:
    """The aggregated mean of each of the `cells`, over the patients that all of them have."""
    found = {(cell["trained_on"], cell["checkpoint"]): cell for cell in matrix(shared(rows, key))}
    return [
        found.get((cell["trained_on"], cell["checkpoint"]), {}).get(f"{key}_aggregated", math.nan) for cell in cells
    ]


def _ranks(values: list[float], lower_is_better: bool) -> np.ndarray:
    array = np.array(values, np.float64) * (1 if lower_is_better else -1)
    better = (array[None, :] < array[:, None]).sum(1)
    equal = (array[None, :] == array[:, None]).sum(1)
    return np.where(np.isfinite(array), better + (equal + 1) / 2, np.nan)
