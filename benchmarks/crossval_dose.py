#!/usr/bin/env python3
"""Dose beside HU for crossval.py's synthetic CTs: means by trained and tested arm, paired tests, rank correlations.

    crossval_dose.py DOSES --scores OUT/scores [--out CSV]

DOSES holds one JSON of bin/dose.py an sCT, with --trained-on, --tested-on and --patient. A table a tested arm: means
over each arm's own patients; tests, and how the MAE in HU ranks the arms within a patient as dose does, over the arms
that have all patients.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import click  # noqa: E402

from synthct.core.tables import write_table  # noqa: E402
from synthct.study.comparison import paired  # noqa: E402

COLUMNS = {  # what is told: (kind of beam, key, factor, lower is better)
    "photon MAE (%)": ("photon", "mae_dose", 100, True),
    "photon gamma (%)": ("photon", "gamma_pass_percent", 1, False),
    "target (%)": ("photon", "target_mean_change", 100, None),
    "proton MAE (%)": ("proton", "mae_dose", 100, True),
    "proton gamma (%)": ("proton", "gamma_pass_percent", 1, False),
    "range shift (mm)": ("proton", "range_shift_mm", 1, None),
    "its size (mm)": ("proton", "range_shift_abs_mm", 1, True),
}


@click.command(help=__doc__.split("\n")[0])
@click.argument("doses", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--scores", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
def main(doses, scores, out):
    hu = {}
    for path in sorted(scores.glob("*.json")):
        one = json.loads(path.read_text())
        for name, told in one["patients"].items():
            hu |= {(one["trained_on"], tested, name): scored["mae"] for tested, scored in told["tested"].items()}
    rows = [row for path in sorted(doses.glob("*.json")) if (row := _row(json.loads(path.read_text()), hu))]
    for tested in sorted({row["tested_on"] for row in rows}):
        table([row for row in rows if row["tested_on"] == tested], tested)
    if out:
        write_table(out, rows, list(rows[0]))


def _row(record: dict, hu: dict) -> dict:
    if "failed" in record:
        print(f"{record['patient']}: {record['failed']}")
        return {}
    about = {key: record[key] for key in ("trained_on", "tested_on", "patient")}
    dose = {name: round(record[kind][key] * factor, 4) for name, (kind, key, factor, _) in COLUMNS.items()}
    return about | {"MAE (HU)": round(hu[tuple(about.values())], 2)} | dose


def table(rows: list[dict], tested: str):
    by_arm: dict[str, dict[str, dict]] = {}
    for row in rows:
        by_arm.setdefault(row["trained_on"], {})[row["patient"]] = row
    whole = max(map(len, by_arm.values()))
    arms = [arm for arm, patients in by_arm.items() if len(patients) == whole]
    names = ["MAE (HU)", *COLUMNS]
    print(
        f"\n| trained on, tested on {tested} | patients | "
        + " | ".join(names)
        + " |"
        + "\n"
        + "|---" * (len(names) + 2)
        + "|"
    )
    for arm, patients in by_arm.items():
        means = (np.mean([row[name] for row in patients.values()]) for name in names)
        print(f"| {arm} | {len(patients)} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    patients = sorted(set.intersection(*(set(by_arm[arm]) for arm in arms)))
    judged = {"MAE (HU)": True} | {name: lower for name, (*_, lower) in COLUMNS.items() if lower is not None}
    for i, a in enumerate(arms):
        for b in arms[i + 1 :]:
            for name, lower in judged.items():
                x, y = ([by_arm[arm][one][name] for one in patients] for arm in (a, b))
                test = paired(x, y, lower)
                better = f"better {test['a_better']} of {test['n']}, p {test['p']:.2g}"
                print(f"{a} − {b}, {name}: {test['mean_difference']:+.2f}, {better}")
    for name in COLUMNS:
        ranks = []
        for one in patients:
            x, y = ([abs(by_arm[arm][one][key]) for arm in arms] for key in ("MAE (HU)", name))
            if np.ptp(y):  # where all arms pass, nobody is ahead
                ranks.append(spearmanr(x, y).statistic)
        print(f"rank correlation of MAE (HU) and {name}, {len(arms)} arms, mean of patients: {np.mean(ranks):+.2f}")


if __name__ == "__main__":
    main()
