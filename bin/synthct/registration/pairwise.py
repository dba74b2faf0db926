"""One pair from start to end: checks, the chosen method, the warped image, and the quality record."""

import resource
import time
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from synthct import settings as presets
from synthct.bodymask import body_mask
from synthct.errors import InputError, PairError
from synthct.registration import elastix, impact, quality
from synthct.registration.checks import SMALLEST_OVERLAP, check_images, check_mask, check_overlap, moving_role, overlap
from synthct.registration.transform import as_composite, displacement_field, support, warp
from synthct.volume import Grid, Volume, resample

DEFORMING = ("impact", "elastix")
METHODS = (*DEFORMING, "none", "truth")  # truth: the CT lies right already, so resampled only
OUTSIDE = {"ct": -1024.0, "cbct": -1024.0, "mr": 0.0}  # HU or arbitrary units, beyond the moving image


@dataclass
class Registered:
    """The result on the fixed grid: warped image, mask with support, displacement (mm, LPS), transform, numbers."""

    image: Volume
    before: Volume
    mask: Volume
    displacement: Volume
    transform: sitk.Transform
    quality: dict


def register(
    fixed: Volume,
    moving: Volume,
    mask: Volume | None,
    section: dict,
    *,
    method: str,
    modality: str,
    region: str | None = None,
    moving_is: str | None = None,
    rigid: bool | None = None,
    seed: int | None = None,
    device: str = "cpu",
) -> Registered:
    """Register `moving` to `fixed` with one of `METHODS` and judge the result.

    `section` is ``registration`` of a resolved preset. `mask` (uint8, fixed grid) is made by threshold when it is
    None. `moving_is` ("ct" or "image") follows from the images and the method's direction when it is None; `rigid`
    and `seed` override the preset's. Raises `InputError` for a pair that cannot be registered.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    section = presets.for_region(section, region)
    seed = section["seed"] if seed is None else seed
    moving_is = moving_is or moving_role(fixed, moving, modality, section["direction"][method])
    kinds = (modality, "ct") if moving_is == "ct" else ("ct", modality)
    given = mask is not None
    mask = mask if given else body_mask(fixed, kinds[0])
    check_mask(fixed, mask)
    if method in DEFORMING:
        check_images(fixed, moving)
    shift = np.zeros(3)
    rigid = _starts_rigidly(method, section) if rigid is None else rigid
    if method in DEFORMING and rigid and overlap(fixed, moving, mask) < SMALLEST_OVERLAP:
        shift, moving = _centred(mask, moving, kinds[1])
    check_overlap(fixed, moving, mask)
    start = time.perf_counter()
    run = {"method": method, "section": section, "seed": seed, "rigid": rigid, "device": device}
    transform, losses = _found(fixed, moving, mask, moving_is, **run)
    seconds = time.perf_counter() - start
    outside = OUTSIDE[kinds[1]]
    back = None
    if section["inverse_consistency"]:
        other = resample(mask, moving.grid, order=0)
        back, _ = _found(moving, fixed, other, "image" if moving_is == "ct" else "ct", **run)
    image = warp(moving, transform, fixed.grid, outside=outside)
    before = warp(moving, sitk.Transform(), fixed.grid, outside=outside, order=1)
    covered = (mask.array > 0) & support(moving, transform, fixed.grid)
    if not given and moving_is == "image":  # the CT's body reaches beyond what the MR or CBCT has seen
        covered &= warp(body_mask(moving, modality), transform, fixed.grid, outside=0, order=0).array > 0
    displacement = displacement_field(transform, fixed.grid)
    if not covered.any():
        raise PairError(
            "the registration moved the images apart: nothing of the fixed mask is covered; "
            "are both images of one patient, and is --rigid needed?"
        )
    try:
        bodies = tuple(body_mask(v, k).array > 0 for v, k in ((fixed, kinds[0]), (before, kinds[1]), (image, kinds[1])))
    except PairError:  # a body too small or faint for a threshold: the mask that was given is all that is known
        bodies = None
    record = {
        "method": method,
        "modality": modality,
        "region": region,
        "moving_is": moving_is,
        "seed": seed,
        "device": device,
        "seconds": round(seconds, 2),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **quality.measures(fixed, before, image, covered, displacement, bodies),
        "levels": losses,
    }
    if back is not None:
        record["inverse_consistency_mm"] = quality.inverse_consistency(transform, back, covered, fixed.grid)
    if shift.any():
        record["centres_apart_mm"] = shift.round(1).tolist()
        transform = as_composite(transform, sitk.TranslationTransform(3, shift.tolist()))
        displacement = Volume(displacement.array + shift.astype(np.float32), fixed.grid)
    return Registered(image, before, Volume(covered.astype(np.uint8), fixed.grid), displacement, transform, record)


def _starts_rigidly(method: str, section: dict) -> bool:
    """The preset's choice."""
    choices = {"elastix": section["elastix"]["rigid_stage"], "impact": section["impact"]["rigid"]["enabled"]}
    return choices.get(method, False)


def _centred(mask: Volume, moving: Volume, kind: str) -> tuple[np.ndarray, Volume]:
    """For images in two frames of reference: the shift (mm, LPS) from the mask's centre to that of the moving body,
    and the moving image moved by it onto the mask."""
    try:
        body = body_mask(moving, kind)
    except PairError:
        body = moving.with_array(np.ones(moving.grid.shape, np.uint8))
    shift = _middle(body) - _middle(mask)
    grid = moving.grid
    origin = tuple(map(float, np.array(grid.origin) - shift))
    return shift, Volume(moving.array, Grid(grid.size, grid.spacing, origin, grid.direction))


def _middle(mask: Volume) -> np.ndarray:
    index = np.argwhere(mask.array > 0).mean(0)[::-1]
    return np.array(mask.grid.origin) + mask.grid.matrix @ index


def _found(
    fixed: Volume,
    moving: Volume,
    mask: Volume,
    moving_is: str,
    *,
    method: str,
    section: dict,
    seed: int,
    rigid: bool,
    device: str,
) -> tuple[sitk.Transform, list[dict]]:
    """The transform of one method, and its losses level by level where it has levels of its own."""
    if method == "elastix":
        return elastix.register(fixed, moving, mask, section["elastix"], seed=seed, rigid=rigid), []
    if method == "impact":
        outcome = impact.register(
            fixed, moving, mask, section["impact"], moving_is=moving_is, seed=seed, rigid=rigid, device=device
        )
        return outcome.transform, outcome.losses
    return sitk.CompositeTransform(3), []
