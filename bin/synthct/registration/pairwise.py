"""One pair from start to end: checks, the arm's engine, the warped image, and the quality record."""

import functools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import PairError
from synthct.images.bodymask import body_mask
from synthct.images.checks import valued
from synthct.images.grid import Grid, Volume, resample, triple
from synthct.networks.weights import digests
from synthct.registration import consistency, elastix, quality, recipes
from synthct.registration.checks import (
    SMALLEST_OVERLAP,
    check_images,
    check_mask,
    check_overlap,
    moving_role,
    overlap,
)
from synthct.registration.dense import extractors, freeform
from synthct.registration.dense.start import Start
from synthct.registration.transform import as_composite, displacements, support, tabulated, warp

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
    apart: tuple[Volume, ...] = ()  # local MIND distance to the fixed image before and after
    unseen: np.ndarray | None = None  # of the fixed mask what lies beyond the moving image


@dataclass(frozen=True)
class Pair:
    """Two checked images, ready to be registered; `kinds` of the fixed and the moving one ("ct", "mr" or "cbct")."""

    fixed: Volume
    moving: Volume  # moved by -shift
    mask: Volume  # on the fixed grid
    mask_given: bool  # else made by threshold
    moving_is: str  # "ct" or "image"
    kinds: tuple[str, str]
    shift: np.ndarray  # mm, LPS: not 0 where the images lay in two frames of reference

    @property
    def outside(self) -> float:
        """What the warped image holds beyond the moving one."""
        return OUTSIDE[self.kinds[1]]


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
    say: Callable[[str], None] = lambda line: None,
) -> Registered:
    """Register `moving` to `fixed` by the arm `method` and judge the result.

    `section` is ``registration`` of a resolved preset. `mask` (uint8, fixed grid) is made by threshold when it is
    None. `moving_is` ("ct" or "image") follows from the images and the arm's direction when it is None; `rigid` and
    `seed` override the preset's; `say` hears how far it is. Raises `InputError` for an unknown arm or settings that do
    not fit together, `PatientError` for images that nothing can be computed with, `PairError` for a pair that cannot be
    registered.
    """
    recipe, weights = ready(section, method, region)
    seed = section["seed"] if seed is None else seed
    looking = recipe.deforms and recipe.rigid["enabled"] and rigid is not False
    rigid = starts_rigidly(recipe) if rigid is None else rigid
    moving_is = moving_is or moving_role(fixed, moving, modality, recipe.direction)
    pair = _prepared(fixed, moving, mask, recipe, modality=modality, moving_is=moving_is, rigid=rigid)
    start = time.perf_counter()
    transform_of = functools.partial(_transform, recipe=recipe, seed=seed, rigid=rigid, device=device, say=say)
    outcome = transform_of(pair.fixed, pair.moving, pair.mask, moving_is)
    seconds = time.perf_counter() - start
    back = None
    if section["inverse_consistency"]:
        other = resample(pair.mask, pair.moving.grid, order=0)
        back = transform_of(pair.moving, pair.fixed, other, "image" if moving_is == "ct" else "ct").transform
    result = _applied(pair, outcome.transform)
    bodies = _bodies(pair, result)
    before, after = quality.likenesses(pair.fixed, (result.before, result.image), result.mask.array, result.unseen)
    record = {
        "method": method,
        "arm": method,
        "label": recipe.label,
        "recipe": recipes.about(recipe, digests(weights)),
        "modality": modality,
        "region": region,
        "moving_is": moving_is,
        "seed": seed,
        "device": device,
        "seconds": round(seconds, 2),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **quality.measures(result.displacement, result.mask.array, before, after, bodies),
        "levels": outcome.losses,
        **_measured_where_known(pair, result, back),
    }
    found = outcome.start or (_start_of(pair, recipe, device) if looking else None)
    if found and found.told:
        record["rigid_start"] = found.told | {"taken": found.better and outcome.start is not None}
        if found.better:
            record["rigid_start"]["apart_mm"] = round(found.apart(result.displacement, result.mask.array > 0), 2)
    if pair.shift.any():
        record["centres_apart_mm"] = pair.shift.round(1).tolist()
    result = replace(result, quality=record, apart=(before.distance, after.distance))
    return _from_where_it_lay(result, pair.shift)


def ready(section: dict, method: str, region: str | None = None) -> tuple[recipes.Recipe, list[Path]]:
    """The recipe of an arm and the files of its networks' weights; nothing is read, so that it can be asked first.

    Raises `InputError` for an unknown arm, settings that do not fit together and weights that are not there.
    """
    recipe = recipes.recipe(section, method, region)
    consistency.check(recipe)
    return recipe, extractors.files(recipe.settings)


def starts_rigidly(recipe: recipes.Recipe) -> bool:
    """Whether the preset has a recipe begin at a rigid start."""
    if recipe.engine == "elastix":
        return recipe.settings["rigid_stage"]
    return recipe.rigid["enabled"] and recipe.engine in recipe.rigid["engines"]


def _start_of(pair: Pair, recipe: recipes.Recipe, device: str) -> Start | None:
    """For an arm that begins where the images lie the rigid start that others would have taken: a deformation that has
    settled on the wrong level of a limb shows it in nothing else."""
    how: dict = {"moving_is": pair.moving_is, "device": device}
    try:
        return freeform.start_of(pair.fixed, pair.moving, pair.mask, recipe.dense, recipe.rigid, **how)
    except PairError:  # too small or thin for the search, and not for the arm
        return None


def _prepared(
    fixed: Volume,
    moving: Volume,
    mask: Volume | None,
    recipe: recipes.Recipe,
    *,
    modality: str,
    moving_is: str,
    rigid: bool,
) -> Pair:
    """The images with values throughout, a mask, and for a rigid start of images that lie apart their centres in one
    place. Raises `PairError` for what cannot be registered."""
    kinds = (modality, "ct") if moving_is == "ct" else ("ct", modality)
    fixed, moving = valued(fixed, "fixed image", kinds[0]), valued(moving, "moving image", kinds[1])
    given = mask is not None
    if mask is None:
        mask = body_mask(fixed, kinds[0])
    check_mask(fixed, mask)
    if recipe.deforms:
        check_images(fixed, moving)
    shift = np.zeros(3)
    if recipe.deforms and rigid and overlap(fixed, moving, mask) < SMALLEST_OVERLAP:
        shift, moving = _centred(mask, moving, kinds[1])
    check_overlap(fixed, moving, mask, recipe.deforms)
    return Pair(fixed, moving, mask, given, moving_is, kinds, shift)


def _applied(pair: Pair, transform: sitk.Transform) -> Registered:
    """The pair under `transform`, not judged yet. Raises `PairError` where that moves the images apart."""
    fixed, moving, grid = pair.fixed, pair.moving, pair.fixed.grid
    table = tabulated(transform, grid)
    image = warp(moving, table, grid, outside=pair.outside)
    before = warp(moving, sitk.Transform(), grid, outside=pair.outside)
    inside, seen = pair.mask.array > 0, support(moving, table, grid)
    covered = inside & seen
    if not pair.mask_given and pair.moving_is == "image":  # the CT's body reaches beyond what the MR or CBCT has seen
        covered &= warp(body_mask(moving, pair.kinds[1]), table, grid, outside=0, order=0).array > 0
    displacement = displacements(table, grid)
    if not covered.any():
        raise PairError(
            "the registration moved the images apart: nothing of the fixed mask is covered; "
            "are both images of one patient, and is --rigid needed?"
        )
    mask = fixed.with_array(covered.astype(np.uint8))
    return Registered(image, before, mask, displacement, transform, {}, unseen=inside & ~seen)


def _bodies(pair: Pair, result: Registered) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Body masks of the fixed image and of the moving one before and after; None for a body too small or faint for a
    threshold: the mask that was given is then all that is known."""
    kind, other = pair.kinds
    try:
        return triple(
            body_mask(v, k).array > 0 for v, k in ((pair.fixed, kind), (result.before, other), (result.image, other))
        )
    except PairError:
        return None


def _measured_where_known(pair: Pair, result: Registered, back: sitk.Transform | None) -> dict:
    """What only some pairs can be judged by: bones in two images in HU, and the way `back` where it was found."""
    covered = result.mask.array > 0
    found: dict[str, object] = {}
    if "cbct" in pair.kinds:
        for when, moved in (("before", result.before), ("after", result.image)):
            found[f"bone_dice_{when}"] = quality.bone_overlap(pair.fixed, moved, covered)
    if back is not None:
        grid = pair.fixed.grid
        found["inverse_consistency_mm"] = quality.inverse_consistency(result.transform, back, covered, grid)
    return found


def _from_where_it_lay(result: Registered, shift: np.ndarray) -> Registered:
    """The result for the moving image as it was given, before it was moved by -`shift` (mm, LPS)."""
    if not shift.any():
        return result
    transform = as_composite(result.transform, sitk.TranslationTransform(3, shift.tolist()))
    field = result.displacement
    return replace(result, transform=transform, displacement=Volume(field.array + shift.astype(np.float32), field.grid))


def _centred(mask: Volume, moving: Volume, kind: str) -> tuple[np.ndarray, Volume]:
    """For images in two frames of reference: the shift (mm, LPS) from the mask's centre to that of the moving body,
    and the moving image moved by it onto the mask."""
    try:
        body = body_mask(moving, kind)
    except PairError:
        body = moving.with_array(np.ones(moving.grid.shape, np.uint8))
    shift = _middle(body) - _middle(mask)
    grid = moving.grid
    origin = triple(map(float, np.array(grid.origin) - shift))
    return shift, Volume(moving.array, Grid(grid.size, grid.spacing, origin, grid.direction))


def _middle(mask: Volume) -> np.ndarray:
    index = np.argwhere(mask.array > 0).mean(0)[::-1]
    return np.array(mask.grid.origin) + mask.grid.matrix @ index


def _transform(
    fixed: Volume,
    moving: Volume,
    mask: Volume,
    moving_is: str,
    *,
    recipe: recipes.Recipe,
    seed: int,
    rigid: bool,
    device: str,
    say: Callable[[str], None],
) -> freeform.Outcome:
    """What one recipe finds; levels and a start are those of the engines dense and sampled."""
    if recipe.engine == "elastix":
        return freeform.Outcome(elastix.register(fixed, moving, mask, recipe.settings, seed=seed, rigid=rigid), [])
    if recipe.deforms:
        return freeform.register(
            fixed,
            moving,
            mask,
            recipe.settings,
            engine=recipe.engine,
            moving_is=moving_is,
            seed=seed,
            rigid=recipe.rigid if rigid else None,
            device=device,
            say=say,
        )
    return freeform.Outcome(sitk.CompositeTransform(3), [])
