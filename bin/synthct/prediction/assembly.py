"""Gathering checkpoints into a bundle: those of a training run, and the authors' published ones."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from safetensors import SafetensorError, safe_open

from synthct.cohort.folds import learners
from synthct.core.errors import InputError
from synthct.core.files import require_replaceable, sha256_of
from synthct.core.presets import CHECKPOINTS, differing, for_region, load
from synthct.core.tables import read_object
from synthct.networks.checkpoint import fit, load_weights, save_weights
from synthct.prediction.bundle import GLOBAL, Bundle, network_for, ours, read_bundle, write_bundle
from synthct.registration import recipes


def from_study(
    directories: list[Path],
    out,
    *,
    settings,
    arm: str,
    cohort=None,
    compared=None,
    default_region: str | None = None,
) -> Bundle:
    """`from_training` with what the steps of a study wrote: paths of its resolved `settings`, its folds.json (`cohort`)
    and what its registrations `compared`. Raises `InputError` where `out` holds what is not a bundle's.
    """
    require_replaceable(out, ours, filter(None, (*directories, settings, cohort, compared)))
    tree = load(settings)
    folds = read_object(cohort, "folds") if cohort else None
    made_by = read_object(compared, "recipes").get("recipes") if compared else None
    return from_training(directories, tree, arm, out, folds, default_region, made_by)


def from_training(
    directories: list[Path],
    tree: dict,
    arm: str,
    out,
    cohort: dict | None = None,
    default_region: str | None = None,
    made_by: list[dict] | None = None,
) -> Bundle:
    """A bundle of the output directories of train and finetune (best.safetensors, final.safetensors) of one arm.

    `tree` is the whole settings tree; `cohort` is folds.json; `made_by` are the recipes that the pairs' quality
    records tell, with their networks' weights. The default region is that of most training patients. A
    group with networks retrained on all patients (fold "all", "all-1", ...) is made of these alone: as in the paper,
    the folds' networks then only served to choose the settings.
    """
    found = []
    for directory in map(Path, directories):
        present = [kind for kind in CHECKPOINTS if (directory / f"{kind}.safetensors").is_file()]
        if not present:
            raise InputError(f"checkpoints {directory}: neither best.safetensors nor final.safetensors")
        for kind in present:
            path = directory / f"{kind}.safetensors"
            found.append((path, kind, metadata(path)))
    on_all = {_group(about) for _, _, about in found if _on_all(about)}
    sources: dict[str, Path] = {}
    groups: dict[str, dict] = {}
    metrics: dict[str, dict] = {}
    common: dict = {}
    for path, kind, about in found:
        trained = about.get("settings", {}).get("training", tree["training"])
        same = {"modality": about.get("modality"), "channels": about.get("channels"), "network": trained["network"]}
        _agree(common, same, path)
        _check_rules(about, tree, path)
        group, fold = _group(about), about.get("fold", 0)
        if group in on_all and not _on_all(about):
            continue
        name = f"{group}_fold{fold}_{kind}.safetensors"
        if name in sources:
            raise InputError(f"checkpoints {path} and {sources[name]}: both are {kind} of {group}, fold {fold}")
        sources[name] = path
        content = groups.setdefault(group, {"regions": [], **{each: [] for each in CHECKPOINTS}})
        content["regions"] = sorted({*content["regions"], *(about.get("regions") or [])})
        content[kind].append(name)
        metrics[name] = {
            key: about[key] for key in ("step", "validation_mae", "validation") if about.get(key) is not None
        }
    if common["modality"] and common["modality"] != tree["modality"]:
        raise InputError(f"checkpoints {path}: modality {common['modality']}, the settings are for {tree['modality']}")
    for content in groups.values():
        for kind in CHECKPOINTS:
            content[kind].sort()
    channels = int(common["channels"] or tree["training"]["channels"])
    network = common["network"]
    summary = training_summary(cohort) if cohort else {}
    if not groups.get(GLOBAL, {"regions": True})["regions"]:
        groups[GLOBAL]["regions"] = sorted(summary.get("regions", {}))
    about = _about(tree, arm, channels, network, _default(groups, summary, default_region), summary, metrics)
    if made_by:
        about["registration"]["made_by"] = made_by
    _check_shapes(sources, network, channels)
    return write_bundle(out, about=about, sources=sources, groups=groups)


def from_published(
    files: list[Path],
    group: str,
    regions: list[str],
    tree: dict,
    out,
    *,
    kind: str = "best",
    channels: int | None = None,
    append: bool = False,
    arm: str = "published",
) -> Bundle:
    """A bundle of the authors' published checkpoints (CV_0.pt ...), or one group more in a bundle that is there.

    The network's channels follow from its first convolution. Optimiser states are left behind. Raises `InputError` for
    files of another layout, for pickles with code and for networks that do not fit each other.
    """
    present = read_bundle(out) if append else None
    network = tree["training"]["network"]
    beside = Path(out).absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=beside) as work:
        sources, groups, metrics = {}, {}, {}
        if present:
            sources = {name: present.path / name for name in present.about["files"]}
            groups, metrics = dict(present.about["groups"]), dict(present.about["metrics"])
            if present.about["modality"] != tree["modality"]:
                raise InputError(f"bundle {out}: made for modality {present.about['modality']}, not {tree['modality']}")
            if group in groups and groups[group][kind]:
                raise InputError(f"bundle {out}: has {kind} checkpoints of {group} already")
            channels, network = present.about["channels"], present.about["network"]
        names = []
        for fold, path in enumerate(map(Path, files)):
            weights, _ = load_weights(path)
            channels = channels or _channels(weights, path)
            fit(network_for(network, channels), weights, path)
            name = f"{group}_fold{fold}_{kind}.safetensors"
            about = {
                "group": group,
                "regions": regions,
                "fold": fold,
                "channels": channels,
                "modality": tree["modality"],
                "source": path.name,
            }
            save_weights(Path(work) / name, weights, about)
            sources[name] = Path(work) / name
            metrics[name] = {"source": path.name, "source_sha256": sha256_of(path)}
            names.append(name)
        groups[group] = {**{each: [] for each in CHECKPOINTS}, **groups.get(group, {}), "regions": regions, kind: names}
        if present:
            drop = ("format", "groups", "versions", "files", "digest")
            about = {key: value for key, value in present.about.items() if key not in drop} | {"metrics": metrics}
        else:
            about = _about(tree, arm, channels, network, regions[0], {}, metrics)
        return write_bundle(out, about=about, sources=sources, groups=groups)


def _group(about: dict) -> str:
    return about.get("group") or GLOBAL


def _on_all(about: dict) -> bool:
    return str(about.get("fold", "")).startswith("all")


def metadata(path) -> dict:
    """What a checkpoint of ours says about itself."""
    try:
        with safe_open(str(path), "pt") as file:
            return json.loads((file.metadata() or {}).get("synthct", "{}"))
    except (SafetensorError, ValueError, OSError) as fault:
        raise InputError(f"checkpoint {path}: not a whole safetensors file ({fault})") from None


def training_summary(cohort: dict) -> dict:
    """Numbers of patients from folds.json; no names, so that a bundle can be handed on."""
    trained = learners(cohort)
    regions = Counter(cohort.get("regions", {}).get(name, "") for name in trained)
    return {
        "patients": len(trained),
        "regions": dict(sorted(regions.items())),
        "held_out": len(cohort.get("test", [])),
        "excluded": len(cohort.get("excluded", {})),
        "folds": len(cohort["folds"]),
    }


def _about(tree, arm, channels, network, default_region, summary, metrics) -> dict:
    return {
        "preset": tree["preset"],
        "modality": tree["modality"],
        "arm": arm,
        "registration": _registration(tree, arm),
        "channels": channels,
        "network": network,
        "spacing": tree["preprocessing"]["spacing"],
        "preprocessing": tree["preprocessing"],
        "inference": tree["inference"],
        "default_region": default_region,
        "training": summary,
        "metrics": metrics,
    }


def _registration(tree: dict, arm: str) -> dict:
    """The arm's table, so that a report on new patients can name it, and what it compares ("recipe"); {} if unknown."""
    section = tree.get("registration", {})
    if arm not in section.get("arms", {}):
        return {}
    return {"arms": {arm: section["arms"][arm]}, "recipe": recipes.about(recipes.recipe(section, arm))}


def _default(groups: dict, summary: dict, wanted: str | None) -> str:
    known = sorted({region for group in groups.values() for region in group["regions"]})
    if wanted:
        if wanted not in known:
            raise InputError(f"default region {wanted!r}: not among the bundle's regions {', '.join(known) or 'none'}")
        return wanted
    counts = summary.get("regions", {})
    return max(known, key=lambda region: counts.get(region, 0), default="")


def _agree(common: dict, found: dict, path):
    for key, value in found.items():
        if common.setdefault(key, value) != value:
            raise InputError(f"checkpoint {path}: {key} {value!r}, the others have {common[key]!r}")


def _check_rules(about: dict, tree: dict, path):
    """The bundle prepares images by the settings; the network learned from images that its own training prepared."""
    if about.get("modality") != tree["modality"]:
        return  # the whole comparison ends in that
    trained = about.get("settings", {}).get("preprocessing", {})
    for region in about.get("regions") or [None]:
        learned, given = for_region(trained, region), for_region(tree["preprocessing"], region)
        if key := differing(learned, given, tree["modality"]):
            of = f" for region {region}" if region else ""
            raise InputError(
                f"checkpoint {path}: trained with preprocessing.{key} {learned[key]}{of}, the settings say {given[key]}"
            )


def _check_shapes(sources: dict[str, Path], network: dict, channels: int):
    """Names and shapes of every file against the network, from the headers alone."""
    expected = {key: list(value.shape) for key, value in network_for(network, channels).state_dict().items()}
    for path in sources.values():
        with safe_open(str(path), "pt") as file:
            found = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118, not a dict
        if found != expected:
            key = next(key for key in [*expected, *found] if found.get(key) != expected.get(key))
            raise InputError(
                f"checkpoint {path}: {key} is {found.get(key)}, expected {expected.get(key)} for {channels} channels"
            )


def _channels(weights: dict, path) -> int:
    first = weights.get("encoder.conv1.weight")
    if first is None or first.ndim != 4:
        raise InputError(f"checkpoint {path}: no encoder.conv1.weight; of another network?")
    return int(first.shape[1])
