"""The model bundle: one directory that predicts, wherever it is copied.

``bundle.json`` says what the networks are (preset, modality, normalisation, spacing, regions), what they were trained
on and which files they are, with the SHA-256 of each; the weights are safetensors, ``<group>_fold<k>_<kind>``. Groups
are regions fine-tuned together; "global" holds the networks before fine-tuning. ``digest`` covers bundle.json itself.
"""

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from synthct import __version__
from synthct.core import limits
from synthct.core.errors import InputError
from synthct.core.files import atomic_directory, plain, sha256_of, write_json
from synthct.core.presets import CHECKPOINTS, MODALITIES, RULES, check_types, checkpoints, views
from synthct.core.records import KIND
from synthct.core.tables import read_object
from synthct.networks.checkpoint import check_numbers, fit, load_weights
from synthct.networks.unetpp import ENCODERS, UnetPlusPlus

FORMAT = 1
RECORD = "trust.json"  # what the held-out patients of a study taught, written after its test, beside bundle.json
GLOBAL = "global"
NEEDED: dict[str, type | tuple[type, ...]] = {  # what bundle.json must say, and as what
    "preset": str,
    "modality": str,
    "channels": int,
    "network": dict,
    "preprocessing": dict,
    "inference": dict,
    "groups": dict,
    "default_region": (str, type(None)),
    "files": dict,
}
MAYBE = {"arm": str, "registration": dict, "training": dict, "metrics": dict, "versions": dict, "trust": dict}


@dataclass(frozen=True)
class Bundle:
    """A bundle directory and the content of its bundle.json (its digest checked, its weights not yet)."""

    path: Path
    about: dict

    @property
    def digest(self) -> str:
        """SHA-256 that names this bundle: what it says and, through the checksums in it, every weight."""
        return self.about["digest"]

    @property
    def summary(self) -> str:
        """What it holds, in a line."""
        about = self.about
        groups = ", ".join(
            f"{name} ({'+'.join(group['regions']) or 'any'}: {len(group['best'])} best, {len(group['final'])} final)"
            for name, group in about["groups"].items()
        )
        return f"{self.path}: {about['modality']}, {about['channels']} channels, preset {about['preset']}, {groups}"

    def group_for(self, region: str | None) -> tuple[str, str | None]:
        """The group of networks for a patient of `region`, and a warning where that is a guess (else None)."""
        groups = self.about["groups"]
        for name, group in groups.items():
            if region and region in group["regions"] and name != GLOBAL:
                return name, None
        if region and region in groups.get(GLOBAL, {}).get("regions", ()):
            return GLOBAL, None
        if region and GLOBAL in groups:
            return GLOBAL, f"region {region} is not in the bundle, its networks for all regions are used"
        default = self.about["default_region"]
        if not region and not default and len(groups) == 1:
            return next(iter(groups)), None  # trained without regions: nothing to choose among
        reason = f"region {region} is not in the bundle" if region else "no region given"
        if not any(default and default in group["regions"] for group in groups.values()):
            group = GLOBAL if GLOBAL in groups else next(iter(groups))
            return group, f"{reason}, networks {group} are used"
        group = self.group_for(default)[0]
        return group, f"{reason}, the bundle's default {default} (networks {group}) is used"

    def weight_files(self, group: str, kind: str) -> list[str]:
        """Names of the weight files of `group`, in order of fold; `kind` is "best" or "final"."""
        names = self.about["groups"][group].get(kind, [])
        if not names:
            raise InputError(f"bundle {self.path}: no {kind} checkpoints of {group}")
        return names

    def member_names(self, group: str, kind: str) -> list[str]:
        """What the networks of `group` are told apart by, in the order of `networks`: "fold0", "fold1", ..."""
        stems = [name.removesuffix(".safetensors") for name in self.weight_files(group, kind)]
        return [stem.removeprefix(f"{group}_").removesuffix(f"_{kind}") for stem in stems]

    def networks(self, group: str, kind: str, device: torch.device) -> list[torch.nn.Module]:
        """The networks of `group`, in evaluation mode on `device`; each file is checked against its SHA-256."""
        networks = []
        for name in self.weight_files(group, kind):
            network = network_for(self.about["network"], self.about["channels"])
            fit(network, self._tensors(name), self.path / name)
            networks.append(network.eval().requires_grad_(False).to(device))
        return networks

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        path = self.path / name
        try:
            found = sha256_of(path)
        except OSError as fault:
            raise InputError(f"bundle {self.path}: {name} cannot be read ({fault.strerror})") from None
        if found != self.about["files"][name]:
            raise InputError(
                f"bundle {self.path}: {name} is not the file that was bundled (SHA-256 {found[:12]}…, "
                f"expected {self.about['files'][name][:12]}…)"
            )
        try:
            return load_file(path)
        except SafetensorError as fault:
            raise InputError(f"bundle {self.path}: {name} is not a safetensors file ({fault})") from None


def read_bundle(path, modality: str | None = None) -> Bundle:
    """Open a bundle. Raises `InputError` when it is none, was changed, is of a later format or of another modality."""
    path = Path(path)
    if not (path / "bundle.json").is_file():
        raise InputError(f"bundle {path}: no bundle.json, expected a model bundle directory")
    about = read_object(path / "bundle.json", "bundle")
    if about.get("format") != FORMAT:
        raise InputError(f"bundle {path}: format {about.get('format')!r}, expected {FORMAT}")
    if about.get("digest") != _digest(about):
        raise InputError(f"bundle {path}: bundle.json was changed after the bundle was made (its digest does not fit)")
    _check_content(about, f"bundle {path}: bundle.json")
    if modality and about["modality"] != modality:
        raise InputError(f"bundle {path}: made for modality {about['modality']}, the image is {modality}")
    if gone := [name for name in about["files"] if not (path / name).is_file()]:
        raise InputError(f"bundle {path}: {gone[0]} is missing ({len(gone)} of {len(about['files'])} files)")
    return Bundle(path, about if "trust" in about else about | _taught(path, about["digest"]))


def _check_content(about: dict, at: str):
    """`InputError` for what has not the form that `write_bundle` gives it: a digest can be made of anything."""
    if missing := [key for key in NEEDED if key not in about]:
        raise InputError(f"{at} has no {missing[0]!r}")
    for key, kind in {**NEEDED, **{key: kind for key, kind in MAYBE.items() if key in about}}.items():
        if not isinstance(about[key], kind) or isinstance(about[key], bool):
            raise InputError(f"{at}: {key} is {about[key]!r:.60}, expected what bundle.py writes")
    if about["modality"] not in MODALITIES or about["channels"] < 1:
        raise InputError(f"{at}: modality {about['modality']!r} with {about['channels']} channels, expected mr or cbct")
    if not isinstance(about.get("trust", {"regions": {}}).get("regions"), dict):
        raise InputError(f"{at}: trust is {about['trust']!r:.60}, expected what bundle.py trust writes")
    _check_settings(about, at)
    for name, digest in about["files"].items():
        if name != Path(name).name or not name.endswith(".safetensors") or not isinstance(digest, str):
            raise InputError(f"{at}: file {name!r}, expected a .safetensors file beside it and its SHA-256")
    if not about["groups"]:
        raise InputError(f"{at}: no groups of networks")
    for name, group in about["groups"].items():
        group = group if isinstance(group, dict) else {}
        lists = [group.get("regions"), *(group.get(kind, []) for kind in CHECKPOINTS)]
        if not all(isinstance(one, list) and all(isinstance(each, str) for each in one) for one in lists):
            raise InputError(f"{at}: group {name!r} is {group!r:.60}, expected lists of regions and of files")
        if unknown := [each for one in lists[1:] for each in one if each not in about["files"]]:
            raise InputError(f"{at}: group {name!r} names {unknown[0]!r}, which is not among its files")


def _check_settings(about: dict, at: str):
    """`InputError` for settings that no preset could have; keys of another release are let be."""
    for section, like, keys in (
        ("network", "training.network", ("encoder", "decoder_channels")),
        ("preprocessing", "preprocessing", RULES if about["modality"] == "cbct" else RULES[:4]),
        ("inference", "inference", ("checkpoint", "flips", "margin", "batch")),
    ):
        if missing := [key for key in keys if key not in about[section]]:
            raise InputError(f"{at} has no {section}.{missing[0]}")
        check_types(at, section, about[section], like=like)
    try:
        limits.check({key: about[key] for key in ("network", "preprocessing", "inference")})
        checkpoints(about["inference"]["checkpoint"])
        views(about["inference"]["flips"])
    except InputError as fault:
        raise InputError(f"{at}: {fault}") from None


def _taught(path: Path, digest: str) -> dict:
    """{"trust": the record in `RECORD`}, or {} where there is none of this bundle."""
    if not (path / RECORD).is_file():
        return {}
    record = read_object(path / RECORD, "record of known patients")
    return {"trust": record} if record.get("bundle") == digest else {}


def network_for(settings: dict, channels: int) -> torch.nn.Module:
    """The network that `settings` (``training.network``) describe: the light one, or the training's own."""
    if settings["encoder"] in ENCODERS:
        return UnetPlusPlus(settings["encoder"], channels, tuple(settings["decoder_channels"]))
    from synthct.networks.network import build  # seconds of imports that only other encoders need

    return build(settings, channels)


def verify(path) -> Bundle:
    """Open a bundle, compare every file with its SHA-256 and load every network once."""
    bundle = read_bundle(path)
    groups = bundle.about["groups"]
    listed = [name for group in groups.values() for kind in CHECKPOINTS for name in group.get(kind, [])]
    if unknown := sorted(set(listed) ^ set(bundle.about["files"])):
        raise InputError(f"bundle {path}: {unknown[0]} is not both listed in a group and among the files")
    for group, content in groups.items():
        for kind in CHECKPOINTS:
            if content.get(kind):
                bundle.networks(group, kind, torch.device("cpu"))
    return bundle


def ours(file: Path) -> bool:
    """Whether a file in a directory is one that `write_bundle` puts there."""
    return file.name == "bundle.json" or (
        (file.suffix == ".safetensors" or file.name == RECORD) and (file.parent / "bundle.json").is_file()
    )


def write_bundle(out, *, about: dict, sources: dict[str, Path], groups: dict) -> Bundle:
    """Write a bundle directory atomically from weight files (`sources`: name in the bundle -> safetensors file).

    Files are hard-linked where the file system allows it and copied elsewhere. `about` gives what bundle.json says
    beside groups, files, versions and digest; `groups` is {name: {"regions": [...], "best": [...], "final": [...]}}.
    """
    with atomic_directory(out, ours) as directory:
        files = {}
        for name, source in sorted(sources.items()):
            check_numbers(load_weights(source)[0], source)
            link(source, directory / name)
            files[name] = sha256_of(directory / name)
        made = {"groups": groups, "versions": versions(), "files": files}
        content = plain({KIND: "bundle", "format": FORMAT, **about, **made})
        content["digest"] = _digest(content)
        write_json(directory / "bundle.json", content)
    return read_bundle(out)


def with_record(bundle: Bundle, name: str, record: dict) -> Bundle:
    """The bundle with one more entry in its bundle.json (and another digest); its networks stay as they are."""
    content = plain({key: value for key, value in bundle.about.items() if key != "digest"} | {name: record})
    content["digest"] = _digest(content)
    write_json(bundle.path / "bundle.json", content)
    return read_bundle(bundle.path)


def link(source: Path, target: Path):
    """A hard link to `source` (through symbolic links), or a copy where links are not possible."""
    source = Path(source).resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def versions() -> dict[str, str]:
    """Software that made the bundle."""
    packages = ("torch", "segmentation-models-pytorch", "safetensors", "SimpleITK", "numpy")
    return {"synthct": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}


def _digest(about: dict) -> str:
    content = {key: value for key, value in about.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
