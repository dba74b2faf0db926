"""Plans: beams are aimed and their fluence optimised on one CT, and calculated anew on any other image of the patient.

pyRadPlan (matRad's group) does both, with its pencil-beam engines. It sees the planning grid alone, already in
densities relative to water, so that photons and protons each go by their own HU table; nothing of it leaves here.
"""

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthct.core.errors import PairError
from synthct.images.grid import Grid, Volume, to_sitk

BEAMS = ("photon", "proton")
IDENTITY = np.array([[0.0, 0.0], [100.0, 100.0]])  # "HU table" of images that hold densities already


@dataclass(frozen=True)
class Plan:
    """A plan of one kind of beam: its geometry (pyRadPlan's) and the weight of each beamlet, in its order."""

    kind: str
    steering: Any
    weights: np.ndarray

    def rays(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each beam's source, (3,), and where its rays cross the isocentre's plane, (n, 3); mm, LPS."""
        return [
            (
                np.asarray(beam.iso_center, np.float64).ravel() + np.asarray(beam.source_point, np.float64).ravel(),
                np.asarray(beam.iso_center, np.float64).ravel()
                + np.array([np.asarray(ray.ray_pos, np.float64).ravel() for ray in beam.rays]),
            )
            for beam in self.steering.beams
        ]


@dataclass(frozen=True)
class Dose:
    """A dose in Gy a fraction on the planning grid, (z, y, x) float32: the whole, and each beam's part."""

    total: np.ndarray
    beams: list[np.ndarray]


def make_plan(kind: str, density: np.ndarray, target: np.ndarray, body: np.ndarray, grid: Grid, settings: dict):
    """Optimise a plan: (Plan, Dose on the same image).

    `density` relative to water, `target` and `body` bool, all (z, y, x) on the planning `grid`; `settings` is the
    preset's dose section. Quadratic objectives: the prescription in the target, and nothing above
    `body_limit` × prescription in the rest of the body. Raises `PairError` when no beamlet reaches the target.
    """
    with _quiet():
        ct, structures = _patient(density, target, body, grid, settings)
        configured = _configured(kind, settings)
        steering = _steering(kind, ct, structures, configured)
        influence = _influence(ct, structures, steering, configured)
        from pyRadPlan.optimization import fluence_optimization

        weights = np.asarray(fluence_optimization(ct, structures, steering, influence, configured), np.float64)
    plan = Plan(kind, steering, weights)
    return plan, _dose(influence, weights, grid)


def restore_plan(kind, weights, density, target, body, grid, settings) -> Plan:
    """A plan whose weights were kept: its geometry follows from the CT's densities and the target as in `make_plan`."""
    with _quiet():
        ct, structures = _patient(density, target, body, grid, settings)
        steering = _steering(kind, ct, structures, _configured(kind, settings))
    if steering.total_number_of_bixels != len(weights):
        raise PairError(f"plan: made for {len(weights)} {kind} beamlets, this CT and target have another geometry")
    return Plan(kind, steering, np.asarray(weights, np.float64))


def recalculate(plan: Plan, density: np.ndarray, target, body, grid: Grid, settings: dict) -> Dose:
    """The dose of `plan`, as it is, in another image's `density`; arrays as in `make_plan`."""
    with _quiet():
        ct, structures = _patient(density, target, body, grid, settings)
        influence = _influence(ct, structures, plan.steering, _configured(plan.kind, settings))
    return _dose(influence, plan.weights, grid)


def _patient(density, target, body, grid: Grid, settings: dict):
    from pyRadPlan.cst import ExternalVOI, StructureSet, Target
    from pyRadPlan.ct import CT
    from pyRadPlan.optimization.objectives import SquaredDeviation, SquaredOverdosing

    def image(array, kind):
        return to_sitk(Volume(np.ascontiguousarray(array, kind), grid))

    ct = CT(cube_hu=image(density, np.float32))
    dose = settings["prescription_gy"]
    drawn = Target(
        name="target",
        grid=ct.grid,
        mask=image(target, np.uint8),
        objectives=[SquaredDeviation(d_ref=dose, priority=settings["target_priority"])],
    )
    limit = settings["body_limit"] * dose
    skin = ExternalVOI(
        name="body",
        grid=ct.grid,
        mask=image(body | target, np.uint8),
        objectives=[SquaredOverdosing(d_max=limit, priority=settings["body_priority"])],
    )
    return ct, StructureSet(vois=[drawn, skin], ct_image=ct)


def _configured(kind: str, settings: dict):
    from pyRadPlan.plan import IonPlan, PhotonPlan

    beam = settings[kind]
    plan = (
        PhotonPlan(machine=beam["machine"])
        if kind == "photon"
        else IonPlan(radiation_mode="protons", machine=beam["machine"])
    )
    angles = list(map(float, beam["gantry_degrees"]))
    plan.prop_stf = {
        "gantry_angles": angles,
        "couch_angles": [0.0] * len(angles),
        "bixel_width": float(beam["beamlet_mm"]),
    }
    step = float(settings["grid_mm"])
    plan.prop_dose_calc = {
        "dose_grid": {"resolution": dict.fromkeys("xyz", step)},
        "hlut": IDENTITY,
        "ignore_outside_densities": False,  # they are 0 already
        "geometric_lateral_cutoff": float(beam["cutoff_mm"]),
    }
    if kind == "proton":
        plan.prop_dose_calc["calc_let"] = False
    plan.prop_opt = {"solver": "scipy"}
    return plan


def _steering(kind: str, ct, structures, plan):
    from pyRadPlan.stf import validate_stf
    from pyRadPlan.stf.generators import StfGeneratorIMPT, StfGeneratorPhotonIMRT

    class DensityIMPT(StfGeneratorIMPT):
        """Chooses energies by the densities given, not by the package's own HU table."""

        def _initialize(self):
            super()._initialize()
            self._wet_image = self._ct.cube_hu

    generator = (StfGeneratorPhotonIMRT if kind == "photon" else DensityIMPT)(plan)
    steering = generator.generate(ct, structures)
    for number, beam in enumerate(steering):
        if not beam["rays"]:
            angle = plan.prop_stf["gantry_angles"][number]
            raise PairError(f"target: no {kind} beamlet of the beam at {angle:g} degrees reaches it")
    return validate_stf(steering)


def _influence(ct, structures, steering, plan):
    from pyRadPlan.dose import calc_dose_influence

    return calc_dose_influence(ct, structures, steering, plan)


def _dose(influence, weights: np.ndarray, grid: Grid) -> Dose:
    found = influence.get_result_arrays_from_intensity(weights)
    shape = grid.shape

    def cube(values):
        return np.asarray(values, np.float32).reshape(shape)

    return Dose(cube(found["physical_dose"]), [cube(part) for part in found["physical_dose_beam"]])


@contextlib.contextmanager
def _quiet():
    """Without the package's progress bars, remarks about rays that run along an axis, and log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def warm_up() -> None:
    """Import the engines, which takes seconds once a process; only a measurement of time needs to call it."""
    with _quiet():
        import pymedphys  # noqa: F401
        from pyRadPlan.dose import calc_dose_influence  # noqa: F401
        from pyRadPlan.optimization import fluence_optimization  # noqa: F401
        from pyRadPlan.stf import generators  # noqa: F401
