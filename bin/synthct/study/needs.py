"""Which networks a study needs in all its steps, known before the first of them."""

import os
from collections.abc import Iterable

from synthct.core.arms import named
from synthct.core.errors import InputError
from synthct.core.presets import for_region, merged, regions_in, resolve
from synthct.networks.weights import Need, absent, find, of_labels, of_masks, of_models, of_training, places
from synthct.registration.recipes import models_of, recipe

OTHERWISE = (
    "or do without: arms that need no network and no perceptual loss "
    "(--registration elastix,mi --set training.perceptual.encoder=none)"
)


def needed(
    settings: dict, arms: Iterable[str] = (), *, segment: bool = False, masks: bool = True, regions: Iterable[str] = ()
) -> list[Need]:
    """Every network that a study with these resolved `settings` needs, in the order of its steps, each once a use.

    `arms` are the registrations that are chosen, `segment` asks for TotalSegmentator's labels, `masks` says that body
    masks may have to be made, and `regions` are those of the cohort ([]: any that an arm has settings for).
    """
    needs = []
    for arm in arms:
        needs += of_arm(settings["registration"], arm, regions)
    if "training" in settings:
        training = for_region(settings["training"], None)
        for section in (training, merged(training, for_region(settings.get("finetuning", {}), None))):
            needs += of_training(section)
    if masks and settings.get("inference", {}).get("body_mask") == "totalsegmentator":
        needs.append(of_masks(settings["modality"]))
    if segment:
        needs.append(of_labels())
    return list(dict.fromkeys(needs))


def of_study(
    preset: str, modality: str | None, registration: str, overrides: Iterable[str], segment: bool
) -> list[Need]:
    """What a study needs that is asked for by its parameters; `registration` is a comma list of arms."""
    if not modality:
        raise InputError("--modality: missing, where no network is named; expected one of mr, cbct")
    settings = resolve(preset, modality, list(overrides))
    return needed(settings, named(settings["registration"], registration), segment=segment)


def of_arm(section: dict, arm: str, regions: Iterable[str] = ()) -> list[Need]:
    """What an arm of the section `registration` compares, in any of `regions` ([]: all that it has settings for)."""
    needs = []
    wanted: list[str | None] = list(regions) or [None, *sorted(regions_in(section))]
    for region in wanted:
        found = recipe(section, arm, region)
        if "weights" in found.settings:
            needs += of_models(models_of(found.settings).values(), found.settings["weights"], f"registration {arm}")
    return list(dict.fromkeys(needs))


def require(needs: list[Need], command: str, place: str = "", names: Iterable[str] = ()):
    """One `InputError` that names every network of `needs` that is not there, and the `command` that fetches them.

    `place` is where the study's tasks will look, such as an object store, and `names` is what lies in it; without it
    they look where this process does.
    """
    names = list(names)
    there = [need.among(names) if place and not need.given else find(need) for need in needs]
    missing = [need for need, found in zip(needs, there, strict=True) if not found]
    if missing:
        looked = [place if place and not need.given else str(each) for need in missing for each in places(need.given)]
        target = place or os.environ.get("SYNTHCT_WEIGHTS")
        command += f" --weights {target}" if target else " --weights weights"
        afterwards = "" if target else "then run the study with --weights weights, "
        looked = list(dict.fromkeys(looked))
        raise InputError(absent(missing, looked, command=command, otherwise=afterwards + OTHERWISE))
