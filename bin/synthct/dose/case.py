"""One patient: a plan on the CT, and what becomes of it on a synthetic CT."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from synthct.core.errors import PairError
from synthct.dose import metrics
from synthct.dose.density import averaged, check_table, densities, planning_grid, share
from synthct.dose.plan import Dose, Plan, make_plan, recalculate
from synthct.dose.ranges import range_shifts, summary, water_differences
from synthct.dose.target import STANDARD, require_plannable, standard_target
from synthct.images.grid import Grid, Volume

DVH_POINTS = 61  # doses from 0 to 120 % of the prescription


@dataclass
class Case:
    """A patient planned on the CT. Arrays (z, y, x) on `grid`, the dose grid; doses in Gy a fraction."""

    grid: Grid
    settings: dict  # the preset's dose section
    mask: Volume  # body, on its own grid
    body: np.ndarray
    target: np.ndarray
    target_name: str
    organs: dict[str, np.ndarray]
    hu: np.ndarray
    density: dict[str, np.ndarray]
    plans: dict[str, Plan] = field(default_factory=dict)
    doses: dict[str, Dose] = field(default_factory=dict)


def plan_case(
    ct: Volume,
    mask: Volume,
    settings: dict,
    *,
    beams=("photon", "proton"),
    target: Volume | None = None,
    target_name: str = "target",
    structures: Volume | Iterable[tuple[str, Volume]] | None = None,
) -> Case:
    """Plan every kind of `beams` on `ct` (HU) inside `mask` (body, inside > 0).

    `target` (inside > 0) and `structures` (a label map, each value above 0 an organ, or pairs of a name and a mask) may
    lie on grids of their own;
    without a target the standard one is made (see `synthct.dose.target`). Raises `PairError` for a patient that cannot
    be planned on, whatever the settings.
    """
    for kind in beams:
        check_table(settings[kind]["hu_table"], f"dose.{kind}.hu_table")
    grid = planning_grid(ct.grid, settings["grid_mm"])
    body = share(mask, grid) >= 0.5
    if not body.any():
        raise PairError("body mask: nothing of it inside the CT's field of view")
    hu = averaged(ct, grid, outside=-1024)
    rules = settings["target"]
    if target is None:
        inside = standard_target(body, grid.spacing[0], rules["semi_axes_mm"], rules["clearance_mm"])
        kept, target_name = 1.0, STANDARD
    else:
        part = share(target, grid)
        inside = part >= 0.5
        drawn = float((target.array > 0).sum()) * float(np.prod(target.grid.spacing))
        kept = min(1.0, float(part.sum()) * grid.spacing[0] ** 3 / drawn) if drawn else 0.0
    require_plannable(inside, body, hu, kept, rules["air_hu"])
    case = Case(
        grid,
        settings,
        mask,
        body | inside,
        inside,
        target_name,
        _organs(structures, grid, inside, body) if structures is not None else {},
        hu,
        {kind: densities(ct, mask, grid, settings[kind]["hu_table"]) for kind in beams},
    )
    for kind in beams:
        case.plans[kind], case.doses[kind] = make_plan(kind, case.density[kind], inside, case.body, grid, settings)
    return case


def compare(case: Case, sct: Volume) -> tuple[dict, dict[str, Dose]]:
    """The case's plans on `sct` (HU, any grid): the record (`coverage`, and one table a kind of beam) and the doses.

    Of each kind: `mae_dose` (part of the prescription), `dvh_metric` and its terms, `gamma_pass_percent` in the body,
    with the same for target and high dose, the change of the target's mean, D98 and D2 (`target_mean_change`, ...: part
    of the prescription), the DVH's points. For
    protons `range_shift_mm` (mean over rays, above 0: farther on the sCT), its size and 95th percentile, and the
    difference of water-equivalent path to the target's far side. Raises `PairError` where the sCT saw nothing of the
    body.
    """
    seen = coverage(case, sct)
    if seen == 0:
        raise PairError("sCT: nothing of the body inside its field of view; is it of another frame of reference?")
    record: dict = {"sct_coverage": seen}
    doses = {}
    for kind, plan in case.plans.items():
        density = densities(sct, case.mask, case.grid, case.settings[kind]["hu_table"])
        doses[kind] = recalculate(plan, density, case.target, case.body, case.grid, case.settings)
        record[kind] = _scores(case, kind, doses[kind])
        water = summary(water_differences(plan.rays(), case.density[kind], density, case.target, case.grid))
        record[kind]["water_path_mm"] = water
        if kind == "proton":
            reach = summary(range_shifts(plan.rays(), case.doses[kind].beams, doses[kind].beams, case.grid))
            record[kind] |= {
                "range_shift_mm": reach["mean"],
                "range_shift_abs_mm": reach["mean_abs"],
                "range_shift_p95_mm": reach["p95_abs"],
                "range_rays": reach["rays"],
            }
    return record, doses


def coverage(case: Case, sct: Volume) -> float:
    """The part of the body that lies inside the sCT's field of view: what it did not see counts as air in its dose."""
    seen = share(sct.with_array(np.ones(sct.grid.shape, np.uint8)), case.grid) > 0
    return float(seen[case.body].mean())


def about(case: Case) -> dict:
    """What was planned, for the record: grid, prescription, target, organs, and each plan's own quality."""
    centre = np.array(case.grid.origin) + np.argwhere(case.target).mean(0)[::-1] * case.grid.spacing[0]
    dose = case.settings["prescription_gy"]
    return {
        "grid_mm": case.grid.spacing[0],
        "prescription_gy": dose,
        "target": {
            "name": case.target_name,
            "volume_ml": float(case.target.sum()) * case.grid.spacing[0] ** 3 / 1000,
            "centre_mm": [float(each) for each in centre],
            "mean_hu": float(case.hu[case.target].mean()),
        },
        "organs": sorted(case.organs),
        "plans": {
            kind: {
                "beamlets": len(plan.weights),
                "gantry_degrees": list(map(float, case.settings[kind]["gantry_degrees"])),
                "target_mean": float(case.doses[kind].total[case.target].mean() / dose),
                "target_d98": metrics.dose_to(case.doses[kind].total[case.target], 98) / dose,
                "target_d2": metrics.dose_to(case.doses[kind].total[case.target], 2) / dose,
            }
            for kind, plan in case.plans.items()
        },
    }


def _scores(case: Case, kind: str, dose: Dose) -> dict:
    settings, ct, sct = case.settings, case.doses[kind].total, dose.total
    prescription = settings["prescription_gy"]
    found = metrics.dvh_metric(ct, sct, case.target, case.organs, prescription)
    gamma = metrics.gamma_index(
        ct,
        sct,
        case.grid.spacing[0],
        percent=settings["gamma_percent"],
        distance=settings["gamma_mm"],
        cutoff=settings["gamma_cutoff_percent"],
    )
    d2 = [metrics.dose_to(dose[case.target], 2) for dose in (ct, sct)]
    steps = np.linspace(0, 1.2 * prescription, DVH_POINTS)
    shown = {"target": case.target, **{name: case.organs[name] for name in found["organs"]}}
    return {
        "mae_dose": metrics.mae_dose(ct, sct, prescription),
        "dvh_metric": found.pop("dvh_metric"),
        "gamma_pass_percent": metrics.passed(gamma, case.body),
        "gamma_target_percent": metrics.passed(gamma, case.target),
        "gamma_high_dose_percent": metrics.passed(gamma, ct >= metrics.HIGH * prescription),
        "target_mean_change": float((sct[case.target].mean() - ct[case.target].mean()) / prescription),
        "target_d98_change": (found["d98_sct"] - found["d98_ct"]) / prescription,
        "target_d2_change": (d2[1] - d2[0]) / prescription,
        **found,
        "dvh": {
            "dose_gy": steps.tolist(),
            **{
                name: {"ct": metrics.dvh_points(ct, mask, steps), "sct": metrics.dvh_points(sct, mask, steps)}
                for name, mask in shown.items()
            },
        },
    }


def _organs(structures, grid: Grid, target: np.ndarray, body: np.ndarray) -> dict[str, np.ndarray]:
    """Every organ by name, bool on the planning grid; what is target or outside the body is no organ."""
    found = {}
    for name, organ in _by_label(structures) if isinstance(structures, Volume) else structures:
        mask = (share(organ, grid) >= 0.5) & body & ~target
        if mask.any():
            found[name] = mask
    return found


def _by_label(labels: Volume) -> Iterator[tuple[str, Volume]]:
    """Every label above 0 as "label N" with its mask."""
    for value in np.unique(labels.array):
        if value > 0:
            yield f"label {value:g}", labels.with_array(labels.array == value)
