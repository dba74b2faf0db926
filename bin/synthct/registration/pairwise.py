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
from synthct.registration.checks import check_pair, moving_role
from synthct.registration.transform import displacement_field, support, warp
from synthct.volume import Volume, resample

METHODS = ("impact", "elastix", "none", "truth")  # truth: the CT lies right already, so resampled only
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
    mask = body_mask(fixed, kinds[0]) if mask is None else mask
    check_pair(fixed, moving, mask)
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
    displacement = displacement_field(transform, fixed.grid)
    covered = (mask.array > 0) & support(moving.grid, transform, fixed.grid)
    if not covered.any():
        raise PairError(
            "the registration moved the images apart: nothing of the fixed mask is covered; "
            "are both images of one patient, and is --rigid needed?"
        )
    bodies = tuple(body_mask(v, k).array > 0 for v, k in ((fixed, kinds[0]), (before, kinds[1]), (image, kinds[1])))
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
    return Registered(image, before, Volume(covered.astype(np.uint8), fixed.grid), displacement, transform, record)


def _found(
    fixed: Volume,
    moving: Volume,
    mask: Volume,
    moving_is: str,
    *,
    method: str,
    section: dict,
    seed: int,
    rigid: bool | None,
    device: str,
) -> tuple[sitk.Transform, list[dict]]:
    """The transform of one method, and its losses level by level where it has levels of its own."""
    if method == "elastix":
        use_rigid = section["elastix"]["rigid_stage"] if rigid is None else rigid
        return elastix.register(fixed, moving, mask, section["elastix"], seed=seed, rigid=use_rigid), []
    if method == "impact":
        outcome = impact.register(
            fixed, moving, mask, section["impact"], moving_is=moving_is, seed=seed, rigid=rigid, device=device
        )
        return outcome.transform, outcome.losses
    return sitk.CompositeTransform(3), []
