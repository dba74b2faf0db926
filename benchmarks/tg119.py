#!/usr/bin/env python3
"""TG119, the phantom that ships with pyRadPlan, as the package plans it itself and as `synthct.dose` does.

    .venv/bin/python benchmarks/tg119.py [--beams photon,proton] [--grid 5]

Both have the same target (the outer one), beams, beamlets, prescription and objectives. The package works on the
phantom's HU and masks with its own HU table and dose grid; ours on densities averaged over the voxels of the planning
grid. Prints the target's dose in both plans, and how far the package's plan lies from itself once we calculate it anew
on our grid and densities, which is what an sCT goes through.
"""

import copy
import sys
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_erosion

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.core import presets  # noqa: E402
from synthct.dose import plan  # noqa: E402
from synthct.dose.case import plan_case  # noqa: E402
from synthct.dose.metrics import gamma_index, passed  # noqa: E402
from synthct.images.grid import from_sitk, resample  # noqa: E402


def packages_own(kind: str, ct, drawn, settings: dict):
    """The dose (Gy a fraction) of pyRadPlan's own way from the phantom to a plan, on the phantom's grid."""
    from pyRadPlan import calc_dose_influence, fluence_optimization, generate_stf
    from pyRadPlan.cst import ExternalVOI, StructureSet, Target
    from pyRadPlan.optimization.objectives import SquaredDeviation, SquaredOverdosing

    dose = settings["prescription_gy"]
    goals = {
        "target": [SquaredDeviation(d_ref=dose, priority=settings["target_priority"])],
        "body": [SquaredOverdosing(d_max=settings["body_limit"] * dose, priority=settings["body_priority"])],
    }
    kinds = {"target": Target, "body": ExternalVOI}
    structures = StructureSet(
        vois=[kinds[name](name=name, grid=ct.grid, mask=mask, objectives=goals[name]) for name, mask in drawn.items()],
        ct_image=ct,
    )
    configured = plan._configured(kind, settings)
    del configured.prop_dose_calc["hlut"], configured.prop_dose_calc["ignore_outside_densities"]
    with plan._quiet():
        steering = generate_stf(ct, structures, configured)
        influence = calc_dose_influence(ct, structures, steering, configured)
        weights = fluence_optimization(ct, structures, steering, influence, configured)
        found = influence.compute_result_ct_grid(weights)
    return found["physical_dose"], plan.Plan(kind, steering, np.asarray(weights, np.float64))


@click.command(help=__doc__.split("\n")[0])
@click.option("--beams", default="photon,proton", show_default=True)
@click.option("--grid", "grid_mm", default=5.0, show_default=True, help="of the dose, mm")
def main(beams, grid_mm):
    from pyRadPlan import load_tg119

    ct, phantom = load_tg119()
    settings = copy.deepcopy(presets.resolve("paper", "mr")["dose"]) | {"grid_mm": grid_mm}
    masks = {voi.name: sitk.Cast(voi.mask, sitk.sitkUInt8) for voi in phantom.vois}
    print("structures:", ", ".join(masks))
    body = next(mask for name, mask in masks.items() if "body" in name.lower())
    target = next(mask for name, mask in masks.items() if "outer" in name.lower())
    for kind in beams.split(","):
        cube, own = packages_own(kind, ct, {"target": target, "body": body}, settings)
        case = plan_case(from_sitk(ct.cube_hu), from_sitk(body), settings, beams=(kind,), target=from_sitk(target))
        here = (case.density[kind], case.target, case.body, case.grid, settings)
        theirs = resample(from_sitk(cube), case.grid, order=1).array.astype(np.float32)
        anew = plan.recalculate(own, *here).total
        dose = settings["prescription_gy"]
        core = binary_erosion(case.target)
        plans = {"pyRadPlan's": (theirs, own), "ours": (case.doses[kind].total, case.plans[kind])}
        for name, (found, made) in plans.items():
            values = found[core] / dose
            low, mean, high = np.percentile(values, 2), values.mean(), np.percentile(values, 98)
            print(
                f"{kind}, {name}: {len(made.weights)} beamlets, target a voxel from its edge: mean {100 * mean:.1f} %, "
                f"D98 {100 * low:.1f} %, D2 {100 * high:.1f} % of the prescription"
            )
        apart = 100 * np.abs(anew - theirs)[theirs > 0.1 * theirs.max()] / dose
        index = gamma_index(theirs, anew, grid_mm)
        print(
            f"{kind}, pyRadPlan's plan calculated anew: apart {apart.mean():.2f} % on average, "
            f"{np.percentile(apart, 95):.2f} % (95th percentile) of the prescription; "
            f"gamma 2 %/2 mm {passed(index, case.body):.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
