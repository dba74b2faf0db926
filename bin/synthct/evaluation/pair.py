"""One patient's evaluation: an sCT, its CT and what belongs to them on one grid, scored as the report needs it."""

import re
from dataclasses import dataclass, field

import numpy as np

from synthct.core.errors import PatientError
from synthct.evaluation import baselines as trivial
from synthct.evaluation.metrics.image import HU_RANGE, hu_bin_scores, image_scores
from synthct.evaluation.metrics.segmentation import segmentation_scores
from synthct.evaluation.metrics.uncertainty import uncertainty_scores
from synthct.images.bodymask import body_mask
from synthct.images.checks import check_body, inside_of, why_no_hu
from synthct.images.grid import Grid, resample, within
from synthct.images.orientation import orientation_of
from synthct.images.slices import for_display, mid_slices
from synthct.images.volume import is_drawn, read_mask, read_volume, turned_onto

NEGATIVE = 1e-3  # part of the voxels at which a standard deviation may dip below 0: cubic resampling does that


@dataclass
class Pair:
    """An sCT beside its CT, arrays (z, y, x) on `grid`; `inside` (bool) is where they are compared."""

    grid: Grid
    sct: np.ndarray  # HU
    ct: np.ndarray  # HU
    inside: np.ndarray
    uncertainty: np.ndarray | None = None  # HU
    image: np.ndarray | None = None  # the model's input, raw
    seen: np.ndarray | None = None  # where a resampled CT has values; None where nothing was resampled
    coverage: float = 1.0  # the part of the mask that the CT covers
    notes: list[str] = field(default_factory=list)  # what a reader of the scores has to know


def read_pair(sct, ct, mask=None, *, uncertainty=None, image=None, resample_ct: bool = False) -> Pair:
    """Read an sCT and what it is compared with, from paths; without a `mask` one is made from the CT by threshold.

    Everything lies on the CT's grid; with `resample_ct` the CT is brought onto the sCT's, and what it does not cover
    is not compared. Raises `PatientError` for an image of another size than the CT, and for a mask that is no body.
    """
    truth = read_volume(ct, "CT", "ct")
    notes: list[str] = []
    seen = None
    onto = read_volume(sct, "sCT", "sct").grid if resample_ct else truth.grid
    if truth.grid.frame and onto.frame and truth.grid.frame != onto.frame:
        notes.append("CT: of another frame of reference than the sCT; does it lie where the sCT does?")
    if away := truth.grid.differs_from(onto):
        seen = within(truth, onto)
        truth = resample(truth, onto, outside=HU_RANGE[0])
        notes.append(f"CT: resampled (linear) onto the sCT's grid ({away}); no registration was done")
    drawn = mask and is_drawn(mask)
    named = {"sCT": sct, "mask": None if drawn else mask, "uncertainty": uncertainty, "image": image}
    arrays = {name: read_on_grid(path, name, truth.grid, notes) for name, path in named.items() if path}
    if mask:
        inside = inside_of(read_mask(mask, truth.grid).array if drawn else arrays["mask"], f"mask {mask}")
    else:
        inside = body_mask(truth, "ct").array > 0
        notes.append("mask: none given, made from the CT by threshold")
    coverage = 1.0
    if seen is not None:
        coverage = float(seen[inside].mean()) if inside.any() else float("nan")
        notes.append(f"CT: covers {coverage:.1%} of the mask, nothing is scored outside it")
    if inside.any():
        check_body(inside, truth, "ct", f"mask {mask or 'made of the CT'}", f"CT {ct}", seen, part=True)
    if seen is not None:
        inside &= seen
    if not inside.any():
        notes.append("mask: empty, no voxel above 0")
    if why := why_no_hu(arrays["sCT"][inside]):
        notes.append(f"sCT: {why}; scored as it is")
    if "uncertainty" in arrays and (below := float(np.mean(arrays["uncertainty"] < 0))) > NEGATIVE:
        raise PatientError(f"uncertainty {uncertainty}: {below:.1%} of its voxels below 0, expected HU of 0 and more")
    return Pair(
        truth.grid,
        arrays["sCT"],
        truth.array,
        inside,
        arrays.get("uncertainty"),
        arrays.get("image"),
        seen,
        coverage,
        notes,
    )


def read_labels(pair: Pair, sct_seg, ct_seg) -> tuple[np.ndarray, np.ndarray]:
    """The label maps of the pair's sCT and CT on its grid, 0 where a resampled CT has no values."""
    labels = read_on_grid(sct_seg, "sCT label map", pair.grid, pair.notes)
    if pair.seen is None:
        return labels, read_on_grid(ct_seg, "CT label map", pair.grid, pair.notes)
    truth = resample(read_volume(ct_seg, "CT label map", "labels"), pair.grid, order=0).array
    return np.where(pair.seen, labels, 0), np.where(pair.seen, truth, 0)


def read_on_grid(path, what: str, grid: Grid, notes: list[str]) -> np.ndarray:
    """An array of the CT's shape: turned where only the order or direction of its axes is another than the CT's.

    Any other differing geometry is noted but taken as the CT's, as the leaderboard does.
    """
    kind = "sct" if what == "sCT" else "labels" if what.endswith(("mask", "map")) else ""
    stored = read_volume(path, what, kind)
    volume = turned_onto(stored, grid)
    if volume is not stored:
        notes.append(f"{what}: axes in another order or direction than the CT's; turned onto the CT's grid")
    if volume.grid.size != grid.size:
        raise PatientError(
            f"{what} {path}: {volume.grid.differs_from(grid)} of the CT; resample it onto the CT's grid first"
        )
    if difference := volume.grid.differs_from(grid):
        notes.append(f"{what}: header differs from the CT's ({difference}); compared voxel by voxel on the CT's grid")
    return volume.array


def slices_of(pair: Pair) -> dict[str, np.ndarray]:
    """Small mid-slices of the pair for the report, head up (see `synthct.images.slices.mid_slices`)."""
    shown = {
        name: np.clip(np.rint(array), -32768, 32767).astype(np.int16)
        for name, array in {"sct": pair.sct, "ct": pair.ct}.items()
    }
    if pair.image is not None:
        shown["image"] = for_display(pair.image, pair.inside)
    if pair.uncertainty is not None:
        shown["uncertainty"] = pair.uncertainty.astype(np.float32)
    orientation = orientation_of(pair.grid)
    shown = {name: orientation.turn(array) for name, array in shown.items()}
    return mid_slices(shown, orientation.turn(pair.inside), orientation.turn_grid(pair.grid).spacing[::-1])


def evaluate(
    sct: np.ndarray,
    ct: np.ndarray,
    mask: np.ndarray,
    *,
    hu_range=HU_RANGE,
    hu_bins=None,
    image=None,
    uncertainty=None,
    baselines=None,
) -> dict:
    """The image part of the metrics file; arrays (z, y, x) of one shape, sCT and CT in HU, the mask inside where > 0.

    `uncertainty` (HU) adds its relation to the error; `image` (raw) with `baselines` (see
    `synthct.evaluation.baselines`) adds the MAE of both trivial predictors on this patient.
    """
    inside = mask > 0
    result = {**image_scores(sct, ct, mask, hu_range), "hu_range": list(hu_range), "voxels": int(inside.sum())}
    bins = hu_bin_scores(sct, ct, mask, hu_bins)
    result["hu_bins"] = {name: score["mae"] for name, score in bins.items()}
    result["hu_bin_bias"] = {name: score["bias"] for name, score in bins.items()}
    result["hu_bin_voxels"] = {name: score["voxels"] for name, score in bins.items()}
    if uncertainty is not None:
        result["uncertainty"] = uncertainty_scores(uncertainty, sct, ct, mask)
    if image is not None and baselines is not None:
        truth = ct[inside].astype(np.float64)
        result["baselines"] = {
            name: {"mae": float(np.abs(guess - truth).mean()) if truth.size else float("nan")}
            for name, guess in trivial.predict(baselines, image, mask).items()
        }
    return result


def evaluate_labels(sct_labels: np.ndarray, ct_labels: np.ndarray, spacing, region: str) -> dict:
    """The segmentation part: "dice", "hd95" (mm), the two counts, and "per_class"; `spacing` is (z, y, x) in mm.

    With no class to score both are 0.0, as on the leaderboard; see `no_classes`.
    """
    scores = segmentation_scores(sct_labels, ct_labels, spacing, region)
    scores["per_class"] = {str(label): score for label, score in scores["per_class"].items()}
    return scores


def no_classes(scores: dict, region: str) -> list[str]:
    """The note on label maps in which there was nothing to score."""
    if scores["n_classes_scored"]:
        return []
    return [f"label maps: the CT's has no class of region {region}; dice and hd95 stand at 0 and mean nothing"]


def region_of(patient: str) -> str:
    """The region in a SynthRAD2025 patient name (characters 2 and 3 of 1ABA001), or ""."""
    found = re.match(r"[12](AB|TH|HN)[A-Z]\d{3}", patient or "")
    return found.group(1) if found else ""
