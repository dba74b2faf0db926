"""From files to a plan: which cases a fold trains on, with which settings, from which weights.

Nothing here is written and no process is started: `synthct.training.start` does both with the plan in hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from synthct import __version__
from synthct.cases.store import Case, find_cases
from synthct.core import presets
from synthct.core.errors import InputError
from synthct.core.records import read_folds
from synthct.networks import network, perceptual, weights
from synthct.networks.checkpoint import fit, load_weights
from synthct.training.checks import check_settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """What train.py and finetune.py ask for, by the names of their options."""

    cases: Iterable
    folds: str | Path
    fold: str
    out: str | Path
    section: str = "training"  # or "finetuning"
    more: Iterable = ()  # cases too
    arm: str = ""
    settings: str | None = None
    preset: str = "paper"
    modality: str | None = None
    overrides: Iterable[str] = ()
    regions: tuple[str, ...] = ()  # of a group; () is all
    init: str | None = None
    checkpoint_dir: str | None = None
    device: str = "auto"
    resume: bool = True

    @property
    def group(self) -> str:
        """What the model is called in tables."""
        return "+".join(self.regions) or "global"


@dataclass(frozen=True)
class Plan:
    """A run whose input is checked: cases, settings, the network with its first weights, the loss's encoders."""

    request: Request
    training: list[Case]
    validation: list[Case]
    settings: dict
    model: torch.nn.Module
    encoders: dict[str, torch.nn.Module]
    about: dict  # goes with the weights, and into settings.json


def fold_patients(path, fold: str) -> tuple[list[str], list[str], int]:
    """Training and validation patients of a fold of folds.json, and its number for the seed.

    `fold` is a number from 0, "all" (everyone, no validation), or "all-K": the K-th model trained on everyone.
    """
    folds = read_folds(path)
    whole, _, number = fold.partition("-")
    if whole == "all" and (number.isdigit() or not number):
        everyone = sorted({name for train, validation in folds for name in [*train, *validation]})
        return everyone, [], int(number or 0)
    if not fold.isdigit() or int(fold) >= len(folds):
        raise InputError(f"fold {fold!r}: {path} has folds 0 to {len(folds) - 1}, and all")
    return *folds[int(fold)], int(fold)


def run_settings(section: str, *, settings: str | None, preset: str, modality: str, overrides) -> dict:
    """The training section; for "finetuning", that with the fine-tuning's own values laid over it."""
    where = {"settings": settings, "preset": preset, "modality": modality, "overrides": overrides}
    if section == "training":
        return presets.for_region(presets.section("training", **where), None)
    if settings and not {"training", "finetuning"} <= set(presets.load(settings)):
        raise InputError(f"settings {settings}: fine-tuning needs the sections training and finetuning")
    base = presets.for_region(presets.section("training", **where), None)
    over = presets.for_region(presets.section("finetuning", **where), None)
    over.pop("groups", None)
    if unknown := sorted(set(over) - set(base)):
        raise InputError(f"finetuning.{unknown[0]}: training has no such setting")
    return presets.merged(base, over)


def plan(request: Request) -> Plan:
    """Read and check everything that the run of `request` depends on. Raises `InputError`.

    The same request gives the same weights: they are drawn from the setting ``training.seed``.
    """
    found, modality = _cases(request)
    settings = run_settings(
        request.section,
        settings=request.settings,
        preset=request.preset,
        modality=modality,
        overrides=request.overrides,
    )
    train, validation, number = fold_patients(request.folds, request.fold)
    training, held_out = (_pick(found, names, request.regions, request.folds) for names in (train, validation))
    if not training:
        raise InputError(f"fold {request.fold}, group {request.group}: no training patients in {request.folds}")
    check_settings(settings, request.device)
    rules = _common_rules(training + held_out)
    settings["seed"] += number if request.fold.startswith("all") else 0
    encoders = perceptual.encoders(settings["perceptual"], rules["ct_range"])
    about = {
        "version": __version__,
        "fold": request.fold,
        "arm": request.arm,
        "group": request.group,
        "modality": modality,
        "regions": sorted({case.region for case in training}),
        "channels": settings["channels"],
        "patients": {"training": len(training), "validation": len(held_out)},
        "weights": weights.digests(perceptual.weight_files(settings["perceptual"]).values()),
        "settings": {
            "preset": _preset_name(request.settings, request.preset),
            "preprocessing": rules,
            "training": settings,
        },
    }
    return Plan(request, training, held_out, settings, _first_weights(request, settings), encoders, about)


def _cases(request: Request) -> tuple[dict[str, Case], str]:
    """All cases, by patient, and their modality."""
    found = find_cases([*request.cases, *request.more])
    kinds = sorted({case.modality for case in found.values()})
    if len(kinds) > 1 or (request.modality and kinds != [request.modality]):
        raise InputError(f"cases are of modality {' and '.join(kinds)}, expected {request.modality or 'one'}")
    return found, kinds[0]


def _first_weights(request: Request, settings: dict) -> torch.nn.Module:
    model = network.build(settings["network"], settings["channels"])
    network.initialise(model, settings["network"], torch.Generator().manual_seed(settings["seed"]))
    if request.init:
        fit(model, load_weights(request.init)[0], request.init)
    elif request.section == "finetuning":
        raise InputError("fine-tuning needs --init, the checkpoint to start from")
    return model


def _pick(found: dict[str, Case], names: list[str], regions: tuple[str, ...], folds) -> list[Case]:
    if absent := sorted(set(names) - set(found)):
        raise InputError(f"{len(absent)} patients of {folds} have no case, the first is {absent[0]}")
    picked = [found[name] for name in sorted(names) if not regions or found[name].region in regions]
    if blind := [case.patient for case in picked if not case.has_ct]:
        raise InputError(f"{len(blind)} cases have no CT to learn from, the first is {blind[0]}")
    return picked


def _common_rules(cases: list[Case]) -> dict:
    """The `preprocessing` that all cases share; where regions have their own, those as its subtable "region"."""
    rules = cases[0].preprocessing
    first: dict[str, Case] = {}
    for case in cases:
        of_region = first.setdefault(case.region, case).preprocessing
        if key := presets.differing(of_region, case.preprocessing, case.modality):
            raise InputError(
                f"case {case.patient}: preprocessed with {key} {case.preprocessing[key]}, "
                f"{first[case.region].patient} with {of_region[key]}"
            )
        if case.preprocessing["ct_range"] != rules["ct_range"]:
            raise InputError(
                f"case {case.patient}: CT range {case.preprocessing['ct_range']}, others have {rules['ct_range']}"
            )
    own = {region: case.preprocessing for region, case in first.items() if case.preprocessing != rules}
    return rules | {"region": own} if own else rules


def _preset_name(settings: str | None, preset: str) -> str:
    return str(presets.load(settings).get("preset", "")) if settings else Path(preset).stem
