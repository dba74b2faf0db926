#!/usr/bin/env python3
"""What networks add to registration: recipes of benchmarks/networks.toml on cases of known truth, on a GPU.

    networks.py CASES --recipes cbct=mind,layer1,impact_dense --recipes mr=mi,mi_layer1 --device cuda --out DIR

CASES are those of benchmarks/registration.py (CASES/mr/*, CASES/cbct/*), also ones made by simulate_mr.py. A worker
process registers case after case, since a GPU's start takes longer than a registration; `--jobs` of them share the
device, so that seconds (the search alone) are upper bounds. With --corrected real pairs are scored a second time, by
partners that have the pair's own residual in them: OUT/residual of `registration.py --native … --out OUT`. Errors are
in mm: mean, median and 95th percentile over the landmarks. Rows are written as they come.
"""

import csv
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import click  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.core.device import repeatable  # noqa: E402
from synthct.images.volume import read_volume  # noqa: E402
from synthct.registration import pairwise  # noqa: E402

COLUMNS = ("modality", "case", "recipe", "mean", "median", "p95", "corrected", "folding", "seconds")


@click.command(help=__doc__.split("\n")[0])
@click.argument("cases", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipes", "asked", multiple=True, required=True, help="modality=comma list of arms")
@click.option("--only", default="", help="comma list of parts of case names")
@click.option("--preset", default=str(ROOT / "benchmarks/networks.toml"), show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--jobs", default=4, show_default=True)
@click.option("--corrected", type=click.Path(exists=True, file_okay=False, path_type=Path), help="DIR/CASE.csv")
@click.option("--seconds", default=1e9, help="no case is begun after so many")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="directory of the table")
def main(cases, asked, only, preset, device, jobs, corrected, seconds, out):
    end = time.time() + seconds
    recipes = {modality: names.split(",") for modality, names in (one.split("=") for one in asked)}
    chosen = [one for modality in recipes for one in sorted(cases.glob(f"{modality}/*"))]
    chosen = [one for one in chosen if not only or any(part in one.name for part in only.split(","))]
    # recipe by recipe, so that what is cut off at the end is whole recipes
    longest = max(map(len, recipes.values()))
    tasks = [
        (one, recipes[one.parent.name][k])
        for k in range(longest)
        for one in chosen
        if k < len(recipes[one.parent.name])
    ]
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    context = multiprocessing.get_context("spawn")
    threads = max(1, (torch.get_num_threads() if device == "cpu" else multiprocessing.cpu_count()) // jobs)
    with (
        open(out / "networks.csv", "w", newline="", encoding="utf-8", buffering=1) as handle,
        ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(threads,)) as pool,
    ):
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for future in as_completed([pool.submit(measure, *task, preset, device, corrected, end) for task in tasks]):
            if row := future.result():
                rows.append(row)
                writer.writerow(row)
                print(
                    " ".join(f"{value:.2f}" if isinstance(value, float) else value for value in row.values()),
                    flush=True,
                )
    (out / "networks.md").write_text(table(rows))
    print(table(rows))


def measure(case: Path, arm: str, preset: str, device: str, corrected: Path | None, end: float) -> dict | None:
    """One registration and its error; None where its time has not come."""
    if time.time() > end:
        return None
    repeatable(device)
    modality = case.parent.name
    fixed, moving, mask = (read_volume(case / f"{name}.mha") for name in (modality, "ct", "mask"))
    section = presets.resolve(preset, modality)["registration"]
    made = pairwise.register(fixed, moving, mask, section, method=arm, modality=modality, moving_is="ct", device=device)
    truth, residual = case / "truth/landmarks.csv", (corrected or case) / f"{case.name}.csv"
    error = _errors(made.transform, np.loadtxt(truth, delimiter=",", skiprows=1))
    again = _errors(made.transform, np.loadtxt(residual, delimiter=",")) if residual.exists() else np.array([np.nan])
    return {
        "modality": modality,
        "case": case.name,
        "recipe": arm,
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "p95": float(np.percentile(error, 95)),
        "corrected": float(again.mean()),
        "folding": float(made.quality["folding_fraction"]),
        "seconds": float(made.quality["seconds"]),
    }


def _errors(transform, points: np.ndarray) -> np.ndarray:
    """Of each row (fixed x, y, z, moving x, y, z; mm) how far the fixed point ends from its partner."""
    found = np.array([transform.TransformPoint(point) for point in points[:, :3].tolist()])
    return np.linalg.norm(found - points[:, 3:], axis=1)


def table(rows: list[dict]) -> str:
    """Mean error / 95th percentile of each case and recipe (corrected mean in brackets), and the recipes' means."""
    lines = []
    for modality in sorted({row["modality"] for row in rows}):
        own = {(row["case"], row["recipe"]): row for row in rows if row["modality"] == modality}
        recipes = list(dict.fromkeys(recipe for _, recipe in own))
        lines += [f"| {modality} | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
        for case in sorted({case for case, _ in own}):
            lines.append(f"| {case} | {' | '.join(_cell([own.get((case, recipe))]) for recipe in recipes)} |")
        every = {name for name, _ in own}
        means = [[row for (_, recipe), row in own.items() if recipe == name] for name in recipes]
        lines.append(f"| **mean of {len(every)}** | {' | '.join(map(_cell, means))} |")
        spent = [f"{np.median([row['seconds'] for row in some]):.1f}" for some in means]
        lines += [f"| seconds (median) | {' | '.join(spent)} |", ""]
    return "\n".join(lines)


def _cell(rows: list[dict | None]) -> str:
    known = [row for row in rows if row]
    if not known:
        return "–"
    mean = {key: float(np.mean([row[key] for row in known])) for key in ("mean", "p95", "corrected")}
    more = "" if np.isnan(mean["corrected"]) else f" ({mean['corrected']:.2f})"
    return f"{mean['mean']:.2f} / {mean['p95']:.2f}{more}" + ("" if len(known) == len(rows) else f" of {len(known)}")


if __name__ == "__main__":
    main()
