#!/usr/bin/env python3
"""What crossval.py's scores say: the train × test matrix, how the spread goes with the error, and the word on trust.

    crossval_tables.py SCORES --on truth [--figure PNG] [--out TABLES] [--cohort COHORT --picture PNG --patient NAME]

Each patient was held out once. The word on trust judges it by a record of the others of its arm, each measured by the
ensemble that had not seen it. Spread against error, by voxel: ten groups of each patient's voxels by rising spread;
by patient: the error that a line through the others expects, beside what their mean alone would say. Into TABLES:
matrix.csv (a row a trained arm, tested arm and patient), calibration.csv (a row a trained arm and patient). The figure
shows the MAE on the arm --on; the picture the middle slice of one patient, with the sCTs beside SCORES.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "benchmarks")]

import click  # noqa: E402
import matplotlib  # noqa: E402
import trust as spoilt  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.core.tables import write_table  # noqa: E402
from synthct.images.volume import read_mask, read_volume  # noqa: E402
from synthct.prediction import trust  # noqa: E402
from synthct.study.comparison import holm, paired  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@click.command(help=__doc__.split("\n")[0])
@click.argument("scores", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--figure", type=click.Path(path_type=Path))
@click.option("--on", help="tested arm that the figure shows")
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--cohort", type=click.Path(exists=True, path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path))
@click.option("--patient", default="")
def main(scores, figure, on, out, cohort, picture, patient):
    found: dict[str, dict] = {}  # {arm: {patient: scores}}
    for path in sorted(scores.glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["trained_on"], {}).update(one["patients"])
    matrix(found)
    points = {arm: calibration(arm, patients) for arm, patients in found.items()}
    for arm, patients in found.items():
        if any("spoilt" in one for one in patients.values()):
            print(f"\nThe word on trust, networks of {arm}\n")
            verdicts(patients)
    if figure:
        draw(found, points, on, figure)
    if picture:
        show_slice(found, scores.parent / "sct", cohort, on, patient, picture)
    if out:
        write(out, found, points)


def matrix(found: dict):
    arms = list(found)
    print(
        "| trained on | patients | "
        + " | ".join(f"tested on {arm}" for arm in arms)
        + " |\n"
        + "|---" * (len(arms) + 2)
        + "|"
    )
    for trained in arms:
        cells = []
        for tested in arms:
            errors = [one["tested"][tested]["mae"] for one in found[trained].values()]
            cells.append(f"{np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f}")
        print(f"| {trained} | {len(found[trained])} | " + " | ".join(cells) + " |")
    for tested in arms:
        pairs = [(a, b) for i, a in enumerate(arms) for b in arms[i + 1 :]]
        tests = []
        for pair in pairs:
            both = sorted(found[pair[0]].keys() & found[pair[1]].keys())
            errors = ([found[arm][name]["tested"][tested]["mae"] for name in both] for arm in pair)
            tests.append(paired(*errors, lower_is_better=True))
        for (a, b), test, p in zip(pairs, tests, holm([one["p"] for one in tests]), strict=True):
            print(
                f"on {tested}: {a} against {b} {test['mean_difference']:+.1f} HU, {a} better in {test['a_better']} of "
                f"{test['n']}, p {test['p']:.2g}, {p:.2g} after Holm ({test['smallest_p']:.2g} the smallest there is)"
            )


def calibration(arm: str, patients: dict) -> list[dict]:
    """A row a patient: its spread, its error, and what the others would have expected."""
    rows, told = [], {name: one["trust"] for name, one in patients.items()}
    for name, own in told.items():
        others = [one for other, one in told.items() if other != name]
        pairs = [[one["features"]["spread_hu"], one["mae_hu"]] for one in others]
        rows.append(
            {
                "trained_on": arm,
                "patient": name,
                "spread_hu": own["features"]["spread_hu"],
                "mae_hu": own["mae_hu"],
                "expected_hu": trust.expected(own["features"]["spread_hu"], pairs),
                "mean_of_others_hu": float(np.mean([one["mae_hu"] for one in others])),
                "pearson_voxels": patients[name]["tested"][arm]["uncertainty"]["pearson"],
            }
        )
    spread, error = (np.array([row[key] for row in rows]) for key in ("spread_hu", "mae_hu"))
    by_line, by_mean = (
        np.abs([row[key] - row["mae_hu"] for row in rows]).mean() for key in ("expected_hu", "mean_of_others_hu")
    )
    print(
        f"\n{arm}: spread {spread.min():.1f} to {spread.max():.1f} HU, MAE {error.min():.1f} to {error.max():.1f}, "
        f"correlation {np.corrcoef(spread, error)[0, 1]:.2f}; the line is off by {by_line:.1f} HU, "
        f"the mean of the others by {by_mean:.1f}; over voxels correlation "
        f"{np.mean([row['pearson_voxels'] for row in rows]):.2f}"
    )
    groups = voxels(patients, arm).mean(0)
    print("spread, MAE (HU) of ten groups: " + ", ".join(f"{a:.0f}, {b:.0f}" for a, b in groups.T))
    return rows


def voxels(patients: dict, arm: str) -> np.ndarray:
    """(patients, spread and MAE, group) in HU."""
    return np.array(
        [
            [[group[key] for group in one["tested"][arm]["uncertainty"]["groups"]] for key in ("uncertainty", "mae")]
            for one in patients.values()
        ]
    )


def verdicts(patients: dict):
    table: dict[str, Counter] = {}
    told = {name: one["trust"] | {"region": one["region"]} for name, one in patients.items()}
    for name, one in patients.items():
        record = trust.learned([other for key, other in told.items() if key != name])
        part = record["regions"].get(one["region"]) or record["regions"][""]
        for kind, seen in {"as it is": one["trust"], **one.get("spoilt", {})}.items():
            verdict, reasons = trust.against(part, seen)
            verdict = trust.NO if seen.get("wrong") else verdict
            table.setdefault(kind, Counter())[verdict] += 1
            if kind == "as it is" and verdict != trust.USE:
                print(f"{name}: {verdict}: {'; '.join(reasons)}\n")
    spoilt.show(table)


def styles(found: dict) -> dict:
    """{arm: its label, colour and marker}, in the preset's order."""
    arms = presets.resolve("paper", "mr")["registration"]["arms"]
    return {arm: arms[arm] for arm in sorted(found, key=lambda one: arms[one]["order"])}


def draw(found: dict, points: dict, on: str, figure: Path):
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    shown, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    known = styles(found)
    everyone = set.intersection(*(set(patients) for patients in found.values()))
    for name in sorted(everyone):
        errors = [found[arm][name]["tested"][on]["mae"] for arm in known]
        left.plot(range(len(known)), errors, color="0.7", linewidth=0.8, zorder=0)
    for number, (arm, about) in enumerate(known.items()):
        errors = [one["tested"][on]["mae"] for one in found[arm].values()]
        left.plot([number] * len(errors), errors, about["marker"], color=about["colour"])
        left.hlines(np.mean(errors), number - 0.3, number + 0.3, color=about["colour"], linewidth=2)
        for spread, error in voxels(found[arm], arm):
            middle.plot(spread, error, color=about["colour"], alpha=0.15, linewidth=0.8)
        average = voxels(found[arm], arm).mean(0)
        middle.plot(*average, color=about["colour"], marker=about["marker"], label=about["label"])
        x, y = ([row[key] for row in points[arm]] for key in ("spread_hu", "mae_hu"))
        right.plot(x, y, about["marker"], color=about["colour"], label=about["label"])
    left.set_xticks(range(len(known)), [about["label"].replace(" ", "\n") for about in known.values()])
    left.set(xlabel="networks trained on pairs of", ylabel="MAE (HU)", ylim=(0, None))
    left.set_title(f"each patient held out once, scored on: {known[on]['label']}", loc="left")
    middle.set(xlabel="spread of the ensemble (HU)", ylabel="mean absolute error (HU)", xscale="log", yscale="log")
    for axis in (middle.xaxis, middle.yaxis):
        axis.set_major_formatter("{x:g}")
    middle.set_title("tenths of a patient's voxels by spread", loc="left")
    right.set(xlabel="mean spread (HU)", ylabel="MAE on pairs of the own kind (HU)", xlim=(0, None), ylim=(0, None))
    right.set_title("held-out patients", loc="left")
    right.legend(frameon=False)
    shown.savefig(figure, dpi=110)


def show_slice(found: dict, scts: Path, cohort: Path, on: str, patient: str, picture: Path):
    """The middle axial slice: the image, the CT, each arm's sCT and its error."""
    image, ct = (
        read_volume(cohort / place / patient / f"{name}.mha") for place, name in (("given", "image"), (on, "ct"))
    )
    mask = read_mask(cohort / on / patient / "mask.mha", ct.grid).array > 0
    k = ct.array.shape[0] // 2
    rows_in, columns_in = (np.flatnonzero(mask[k].any(axis)) for axis in (1, 0))
    part = slice(rows_in[0], rows_in[-1] + 1), slice(columns_in[0], columns_in[-1] + 1)
    across = ct.grid.spacing[1] / ct.grid.spacing[0]
    known = styles(found)
    shown, rows = plt.subplots(2, 1 + len(known), figsize=(2.2 * (1 + len(known)), 4.9), layout="constrained")
    for axis in rows.flat:
        axis.axis("off")
    hu = {"cmap": "gray", "vmin": -400, "vmax": 800, "aspect": across, "interpolation": "bilinear"}
    rows[0, 0].imshow(np.where(mask[k], image.array[k], -1024)[part], **hu)
    rows[0, 0].set_title("image")
    rows[1, 0].imshow(ct.array[k][part], **hu)
    rows[1, 0].set_title("CT")
    for column, (arm, about) in zip(rows.T[1:], known.items(), strict=True):
        sct = read_volume(scts / arm / f"{patient}.mha")
        error = np.where(mask, sct.array.astype(float) - ct.array, np.nan)
        column[0].imshow(sct.array[k][part], **hu)
        column[0].set_title(f"sCT, trained on\n{about['label']}")
        drawn = column[1].imshow(error[k][part], cmap="RdBu_r", vmin=-500, vmax=500, aspect=across)
        column[1].set_title(f"MAE {np.nanmean(np.abs(error)):.0f} HU")
    shown.colorbar(drawn, ax=rows[1, -1], label="sCT − CT (HU)", shrink=0.8)
    shown.savefig(picture, dpi=100)


def write(out: Path, found: dict, points: dict):
    rows = [
        {"trained_on": trained, "tested_on": tested, "patient": name}
        | {key: round(scores[key], 4) for key in ("mae", "psnr", "ms_ssim")}
        for trained, patients in found.items()
        for name, one in patients.items()
        for tested, scores in one["tested"].items()
    ]
    for name, table in {"matrix": rows, "calibration": [row for part in points.values() for row in part]}.items():
        write_table(out / f"{name}.csv", table, list(table[0]))


if __name__ == "__main__":
    main()
