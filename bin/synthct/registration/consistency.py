"""Whether a recipe's settings fit together, each value being one that `core.limits` lets pass.

No image, network or engine is needed: CHECK asks it of every arm and region, a registration before it reads.
"""

import re

from synthct.core.errors import InputError
from synthct.registration.recipes import SMOOTH, Recipe, models_of

LEVELS = {  # of an engine, the lists with one number a level; the first says how many there are
    "dense": ("voxel_mm", "iterations", "step_mm", "grid_schedule", "stride", *SMOOTH),
    "sampled": ("voxel_mm", "iterations", "step_mm", "grid_schedule"),
}
ELASTIX = ("iterations", "grid_schedule", "pyramid_schedule")  # likewise
RIGID = ("iterations", "pyramid_schedule", "sample_step")  # and of its rigid stage
DESCRIPTORS = re.compile(r"MIND\s*R(\d+)D(\d+)")
FEWEST_BINS = 6  # of mutual information: the widest window takes four, and the outermost stay free


def check(recipe: Recipe):
    """`InputError` for the first settings of a recipe that do not fit together."""
    at, settings = f"registration.{recipe.engine}", recipe.settings
    if recipe.engine == "elastix":
        _check_elastix(at, settings)
    if unknown := sorted(set(recipe.rigid.get("engines", ())) - set(LEVELS)):
        raise InputError(f"registration.rigid.engines: {', '.join(unknown)}, expected some of {', '.join(LEVELS)}")
    if recipe.engine not in LEVELS:
        return
    check_levels(settings, recipe.engine)
    models = models_of(settings)
    mutual = settings["mutual" if recipe.engine == "sampled" else "mi"]
    others = settings["mind"]["weight"] if recipe.engine == "dense" else 0
    if not models and mutual["weight"] <= 0 and others <= 0:
        raise InputError(f"registration.arms.{recipe.name}: nothing to compare, all weights are 0")
    if mutual["weight"] > 0 and mutual["bins"] < FEWEST_BINS:
        raise InputError(f"{at}: mutual information in {mutual['bins']} bins, expected {FEWEST_BINS} or more")
    for name, model in models.items():
        mode = settings["mode"] if recipe.engine == "sampled" else model["mode"]  # sampled has one for all
        check_model(f"registration.arms.{recipe.name}.models.{name}", model, recipe.engine, mode)


def check_levels(settings: dict, engine: str):
    """`InputError` unless every list of `settings` that goes by levels has one number a level; `engine` is "dense" or
    "sampled"."""
    at = f"registration.{engine}"
    _check_lists(at, settings, LEVELS[engine])
    if settings["grid_schedule"][-1] != 1:
        raise InputError(
            f"{at}.grid_schedule {settings['grid_schedule']}: expected 1 at its end, where the "
            "control points are grid_mm apart"
        )


def check_model(at: str, model: dict, engine: str, mode: str):
    """`InputError`, beginning with `at`, for a table of ``models`` whose entries disagree."""
    layers, weights = model["layers"], model["layer_weights"]
    check_layers(at, model["extractor"], layers)
    if len(weights) != (kept := layers.count("1")):
        raise InputError(f"{at}.layer_weights {weights}: expected {kept}, one a kept layer of {layers!r}")
    if mode == "jacobian" and engine == "dense" and model["distance"] == "NCC":
        raise InputError(f"{at}.distance 'NCC': not in mode jacobian, where slabs are added up")
    if mode == "jacobian" and engine == "sampled" and model["patch"] < 2:
        raise InputError(f"{at}.patch {model['patch']}: expected at least 2 voxels in mode jacobian")


def check_layers(at: str, extractor: str, layers: str):
    """`InputError`, beginning with `at`, for layers that no extractor has, or that MIND, which has one, has not."""
    if not set(layers) <= {"0", "1"} or "1" not in layers:
        raise InputError(f"{at}.layers {layers!r}: expected 0s and 1s, at least one 1 (a character an output)")
    if extractor.startswith("MIND") and not DESCRIPTORS.fullmatch(extractor):
        raise InputError(f"{at}.extractor {extractor!r}: expected MIND R<radius>D<dilation>")
    if extractor.startswith("MIND") and len(layers) != 1:
        raise InputError(f"{at}.layers {layers!r}: {extractor} has one output, found {len(layers)} characters")


def _check_elastix(at: str, settings: dict):
    if settings["mi"] <= 0:
        raise InputError(f"{at}.mi {settings['mi']}: expected more than 0, else nothing is compared")
    _check_lists(at, settings, (*ELASTIX, *(["sample_step"] if settings["sampler"] == "Grid" else [])))
    _check_lists(f"{at}.rigid", settings["rigid"], RIGID)


def _check_lists(at: str, settings: dict, names: tuple[str, ...]):
    first, *others = names
    levels = len(settings[first])
    if levels == 0:
        raise InputError(f"{at}.{first} []: expected one number a level")
    for name in others:
        if len(settings[name]) != levels:
            raise InputError(
                f"{at}.{name} {settings[name]}: expected {levels} numbers, one a level of {first} {settings[first]}"
            )
