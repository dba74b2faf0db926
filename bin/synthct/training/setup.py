"""From files to a run: which cases a fold trains on, with which settings, from which weights."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import torch

from synthct import __version__
from synthct.cases.store import Case, find_cases
from synthct.core import settings as presets
from synthct.core.device import device_of
from synthct.core.errors import InputError
from synthct.core.files import sha256_of, write_json
from synthct.core.records import read_folds
from synthct.networks import network, perceptual
from synthct.networks.checkpoint import fit, load_weights
from synthct.networks.unetpp import STRIDE
from synthct.training.launch import Place, take_place
from synthct.training.loop import Run
from synthct.training.state import StateFile
from synthct.training.validation import RULES

NOT_IN_DIGEST = ("workers",)  # settings that cannot change the result


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


def plan(
    section: str,
    *,
    cases,
    folds,
    fold: str,
    out,
    arm: str,
    settings: str | None,
    preset: str,
    modality: str | None,
    overrides,
    regions: list[str],
    init: str | None,
    checkpoint_dir: str | None,
    device: str,
    resume: bool,
    more=(),
    say=print,
) -> Run:
    """Check everything a run depends on and set it up. Raises `InputError` before anything is computed."""
    found = find_cases([*cases, *more])
    kinds = sorted({case.modality for case in found.values()})
    if len(kinds) > 1 or (modality and kinds != [modality]):
        raise InputError(f"cases are of modality {' and '.join(kinds)}, expected {modality or 'one'}")
    chosen = run_settings(section, settings=settings, preset=preset, modality=kinds[0], overrides=overrides)
    train, validation, number = fold_patients(folds, fold)
    training, held_out = (_pick(found, names, regions, folds) for names in (train, validation))
    group = "+".join(regions) or "global"
    if not training:
        raise InputError(f"fold {fold}, group {group}: no training patients in {folds}")
    _check(chosen, device)
    rules = _common_rules(training + held_out)
    chosen["seed"] += number if fold.startswith("all") else 0
    encoders = perceptual.encoders(chosen["perceptual"], rules["ct_range"])
    model = network.build(chosen["network"], chosen["channels"])
    network.initialise(model, chosen["network"], torch.Generator().manual_seed(chosen["seed"]))
    if init:
        fit(model, load_weights(init)[0], init)
    elif section == "finetuning":
        raise InputError("fine-tuning needs --init, the checkpoint to start from")
    place = take_place(device, chosen["batch"])
    if place.world > chosen["batch"]:
        raise InputError(f"training.batch {chosen['batch']}: fewer patches than the {place.world} processes of the run")
    _check_batchnorm(chosen, place)
    out = Path(out)
    about = {
        "version": __version__,
        "fold": fold,
        "arm": arm,
        "group": group,
        "modality": kinds[0],
        "regions": sorted({case.region for case in training}),
        "channels": chosen["channels"],
        "patients": {"training": len(training), "validation": len(held_out)},
        "settings": {"preset": _preset_name(settings, preset), "preprocessing": rules, "training": chosen},
    }
    state = StateFile(
        checkpoint_dir or str(out / "state"),
        f"{arm or 'run'}_{group}_fold{fold}",
        _digest(chosen, training, held_out, init, about),
    )
    if place.first:
        out.mkdir(parents=True, exist_ok=True)
        for stale in ("best.safetensors", "final.safetensors"):
            (out / stale).unlink(missing_ok=True)
        write_json(out / "settings.json", about)
        say(
            f"{group}, fold {fold}: {len(training)} patients to learn from, {len(held_out)} to validate, on "
            f"{place.world} × {place.device.type}"
        )
    return Run(
        model=model,
        encoders=encoders,
        training=training,
        validation=held_out,
        settings=chosen,
        about=about,
        fine_tuning=section == "finetuning",
        out=out,
        place=place,
        state=state,
        resume=resume,
        say=say,
    )


def _check(chosen: dict, device: str):
    """What would end in a traceback hours later, or at once in one that says nothing."""
    patch = chosen["patch"]
    if len(patch) != 2 or any(type(size) is not int or size % STRIDE or size <= 0 for size in patch):
        raise InputError(f"training.patch {patch}: expected two multiples of {STRIDE}")
    for key, known in (("flip_per", ("volume", "slice")), ("select", RULES)):
        if chosen[key] not in known:
            raise InputError(f"training.{key} {chosen[key]!r}: expected {' or '.join(known)}")
    betas = chosen["betas"]
    if len(betas) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
        raise InputError(f"training.betas {betas}: expected two numbers from 0 to below 1")
    least = {key: 1 for key in ("channels", "batch", "validate_every", "validation_batch", "lr_every")}
    least |= {
        key: 0 for key in ("workers", "copies", "warmup", "max_steps", "max_epochs", "validation_slices", "patience")
    }
    for key, number in least.items():
        if chosen[key] < number:
            raise InputError(f"training.{key} {chosen[key]}: expected {number} or more")
    if not chosen["copies"] and not chosen["originals"]:
        raise InputError("training.copies 0 without training.originals: an epoch would hold nothing")
    if chosen["compile"] and device_of(device).type == "cuda" and not _compiler():
        raise InputError(
            "training.compile: no C compiler on this machine (gcc, clang, or CC), which torch.compile needs"
        )


def _check_batchnorm(chosen: dict, place: Place):
    """BatchNorm needs two values a channel, also in the deepest layer, which sees a patch at its smallest."""
    stride = 2 ** len(chosen["network"]["decoder_channels"])
    share = chosen["batch"] if place.world == 1 or _synchronised(chosen, place) else chosen["batch"] // place.world
    if share * (chosen["patch"][0] // stride) * (chosen["patch"][1] // stride) < 2:
        raise InputError(
            f"training.batch {chosen['batch']} with training.patch {chosen['patch']}: one value a channel in the "
            f"deepest layer of the network (stride {stride}), which BatchNorm cannot normalise; expected a larger one"
        )


def _synchronised(chosen: dict, place: Place) -> bool:
    return chosen["sync_batchnorm"] and place.device.type == "cuda"


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang", "cc"))), None)


def _pick(found: dict[str, Case], names: list[str], regions: list[str], folds) -> list[Case]:
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


def _digest(settings: dict, training: list[Case], validation: list[Case], init: str | None, about: dict) -> str:
    known = {
        "settings": {key: value for key, value in settings.items() if key not in NOT_IN_DIGEST},
        "training": [(case.patient, case.digest) for case in training],
        "validation": [(case.patient, case.digest) for case in validation],
        "init": sha256_of(init) if init else None,
        "run": [about[key] for key in ("version", "fold", "arm", "group")],
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _code() -> dict[str, str]:
    """Every module of the package that is loaded, with its digest: a state is not for a run of other code."""
    loaded = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "synthct"}
    return {name: sha256_of(file) for name, file in sorted(loaded.items()) if file}
