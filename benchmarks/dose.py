#!/usr/bin/env python3
"""Dose against image metrics on real patients, and what a dose comparison costs.

    benchmarks/dose.py --cohort DIR --test P1,P2 [--train P3,P4] [--results OUTDIR] [--grid 5] [--out CSV]

DIR holds <patient>/{mr,ct,mask}.mha. For each test patient the plan is made on its CT; scored are the trivial
predictors fitted on the training patients (best constant, lookup table), the CT 30 HU too high, and with --results
the synthetic CTs of a study (its sct/<arm>/<patient>.mha against the CT of that arm's pair). Times are of this
process (CPU), in seconds; memory is its high-water mark.
"""

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.core import presets  # noqa: E402
from synthct.core.errors import PairError  # noqa: E402
from synthct.dose.case import about, compare, plan_case  # noqa: E402
from synthct.dose.plan import warm_up  # noqa: E402
from synthct.evaluation import baselines  # noqa: E402
from synthct.images.volume import read_volume  # noqa: E402


def fitted(cohort: Path, names: list[str]) -> dict:
    """The trivial predictors of the training patients."""
    with tempfile.TemporaryDirectory() as scratch:
        places = []
        for name in names:
            image, ct, mask = (read_volume(cohort / name / f"{kind}.mha").array for kind in ("mr", "ct", "mask"))
            places.append(Path(scratch, name))
            places[-1].mkdir()
            for kind, array in (("image", image), ("ct", ct)):
                scaled = array if kind == "ct" else array / max(1.0, float(np.abs(array).max())) * 30000
                kept = np.where(mask > 0, scaled, baselines.OUTSIDE)
                np.save(places[-1] / f"{kind}.npy", np.clip(kept, -32768, 32767).astype(np.int16))
        return baselines.fit(places)


def candidates(cohort: Path, name: str, trivial: dict, results: Path | None):
    """(pair, {sCT's name: volume}) for each CT that the patient is planned on."""
    image, ct, mask = (read_volume(cohort / name / f"{kind}.mha") for kind in ("mr", "ct", "mask"))
    made = {"30 HU too high": ct.with_array(np.where(mask.array > 0, ct.array + 30, ct.array))}
    for kind, values in baselines.predict(trivial, image.array, mask.array).items():
        array = np.full(ct.array.shape, -1000, np.float32)
        array[mask.array > 0] = values
        made[kind] = ct.with_array(array)
    yield "as given", ct, mask, made
    for pair in sorted(results.glob(f"registration/*/{name}")) if results else ():
        arm = pair.parent.name
        found = {}
        for trained in sorted(results.glob("sct/*")):
            own = trained / f"on_{arm}" / f"{name}.mha"
            path = own if own.exists() else trained / f"{name}.mha"
            if path.exists():
                found[trained.name] = read_volume(path)
        if found:
            yield arm, read_volume(pair / "ct.mha"), read_volume(pair / "mask.mha"), found


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--cohort", type=Path, required=True)
    asked.add_argument("--test", required=True)
    asked.add_argument("--train", default="")
    asked.add_argument("--results", type=Path)
    asked.add_argument("--grid", type=float, default=5.0)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    section = presets.resolve("paper", "mr", [f"dose.grid_mm={given.grid}"])["dose"]
    trivial = fitted(given.cohort, given.train.split(",") if given.train else given.test.split(","))
    warm_up()  # imports and compilation, which a process pays once
    print(f"start: {time.process_time():.0f} s")
    rows = []
    for name in given.test.split(","):
        for pair, ct, mask, scts in candidates(given.cohort, name, trivial, given.results):
            began = time.process_time()
            try:
                case = plan_case(ct, mask, section)
            except PairError as fault:
                print(f"{name} {pair}: {fault}")
                continue
            planned = time.process_time() - began
            print(f"{name} {pair}: plan {planned:.1f} s, {json.dumps(about(case)['plans'])}", flush=True)
            inside = mask.array > 0
            for trained, sct in scts.items():
                began = time.process_time()
                record, _ = compare(case, sct)
                row = {
                    "patient": name,
                    "pair": pair,
                    "sct": trained,
                    "mae_hu": float(np.abs(sct.array[inside].astype(float) - ct.array[inside]).mean()),
                    "bias_hu": float((sct.array[inside].astype(float) - ct.array[inside]).mean()),
                }
                for kind in case.plans:
                    for key in ("mae_dose", "dvh_metric", "gamma_pass_percent", "range_shift_mm", "range_shift_abs_mm"):
                        if key in record[kind]:
                            row[f"{kind}_{key}"] = record[kind][key]
                row |= {"plan_s": planned, "sct_s": time.process_time() - began}
                row["gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
                rows.append(row)
                print(
                    {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()},
                    flush=True,
                )
    for kind in ("photon", "proton"):
        for key in ("mae_dose", "gamma_pass_percent"):
            values = [row[f"{kind}_{key}"] for row in rows]
            rho = spearmanr([row["mae_hu"] for row in rows], values)
            print(f"MAE (HU) against {kind} {key}: rho {rho.statistic:.2f}, {len(rows)} sCTs")
    if given.out:
        with open(given.out, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
