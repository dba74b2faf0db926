"""Which networks the settings need, where their weights lie, and what to tell a user who does not have them.

The table of all of them is ``weights.toml`` beside this file. Nothing here reads weights or imports torch, so that a
study's first task can ask in a second for what its last one needs.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synthct.core.errors import InputError
from synthct.core.files import sha256_of
from synthct.networks.terms import perceptual_terms

MR_NETWORKS = ("730", "731", "732", "733", "850", "851", "852", "853")  # TotalSegmentator data sets of MR

SAM_FILES = {"vit_b": "sam_vit_b_01ec64.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_h": "sam_vit_h_4b8939.pth"}
ENCODER_FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "torchscript": "SAM2.1_Small.pt"}  # of perceptual losses
CT_ORGANS = "291"  # the data set whose encoder a perceptual loss takes where none is named

# what a directory of weights is looked through for, beside the files that lie in it: exports in the folders of their
# collection, trained nnU-Nets as TotalSegmentator keeps them, and such a network's own directory
PATTERNS = ("*", "*/*.pt", "*/*.pth", "Dataset*/*/plans.json", "Dataset*/*/fold_0/checkpoint_final.pth")


@dataclass(frozen=True)
class Network:
    """One row of the table: where a network is published and what its file is called in a directory of weights."""

    name: str
    file: str
    url: str = ""
    licence: str = ""
    what: str = ""
    size: int = 0  # bytes, 0 where it is not known
    sha256: str = ""

    @property
    def archive(self) -> bool:
        """Whether it is published as a zip, which unpacks to the directory `file`."""
        return self.url.endswith(".zip")


@dataclass(frozen=True)
class Need:
    """A network that something asks for: `layers` of it (0: all), and whether a TorchScript export serves as well."""

    network: Network
    wanted_by: str
    layers: int = 0
    exported: bool = False
    given: str = ""  # a path in the settings that replaces the places where weights are looked for

    def among(self, names: Iterable[str]) -> str | None:
        """The first of `names` (paths in a directory of weights) that serves, or None.

        Of TotalSegmentator's network 730: the checkpoint in its directory, ``M730.pt``, or an export of enough layers
        (``M730_2_Layers.pt`` for layer 1 or 2), in this order.
        """
        names = sorted(names)
        number = data_set(self.network.name)
        if number is None:
            return next((name for name in names if Path(name).name == self.network.file), None)
        trained = re.compile(rf"(?:Dataset{number}_[^/]*/([^/]*)/)?(?:fold_0/)?checkpoint_final\.pth")
        for name in names:
            if (found := trained.fullmatch(name)) and (not found[1] or f"{Path(name).parents[1]}/plans.json" in names):
                return name
        if not self.exported:
            return None
        exports = [(layers_of(name, number), name) for name in names]
        enough = [(count, name) for count, name in exports if count and (count == ALL or 0 < self.layers <= count)]
        return min(enough, key=lambda one: (one[0] != ALL, one), default=(0, None))[1]


ALL = 99  # layers of an export that holds the whole network


def layers_of(name: str, number: str) -> int:
    """How many layers of TotalSegmentator's network `number` a TorchScript file of this name holds; 0: none."""
    found = re.fullmatch(rf"M{number}(?:_(\d+)_Layers)?\.pt", Path(name).name)
    return int(found[1] or ALL) if found else 0


def data_set(name: str) -> str | None:
    """The number of a TotalSegmentator network called "M730" or "TS730", else None."""
    found = re.fullmatch(r"(?:M|TS)(\d+)", name)
    return found[1] if found else None


@cache
def table() -> dict[str, Network]:
    """Every network that any setting may need, by the name that ``weights.py fetch`` takes."""
    text = Path(__file__).with_name("weights.toml").read_text(encoding="utf-8")
    return {name: Network(name, **row) for name, row in tomllib.loads(text).items()}


def network(name: str) -> Network:
    """The network of a name ("M730", "TS730", a file's name), a stranger to the table as a file of that name."""
    name = name if data_set(name) is None else f"M{data_set(name)}"
    if name in table():
        return table()[name]
    number = data_set(name)
    return Network(name, f"Dataset{number}_*" if number else name)


def of_models(models: Iterable[dict], given: str = "", use: str = "") -> list[Need]:
    """What the extractors of the tables ``models`` of a registration need; MIND needs nothing."""
    named = [model for model in models if not model["extractor"].startswith("MIND")]
    return [of_extractor(model["extractor"], model["layers"], given, use) for model in named]


def of_extractor(extractor: str, layers: str = "", given: str = "", use: str = "") -> Need:
    """What one extractor needs: "TS730" (`layers` the bit string of those compared), or a TorchScript file."""
    use = use or f"extractor {extractor}"
    if data_set(extractor):
        return Need(network(extractor), use, layers.rfind("1") + 1, True, given)
    path = Path(extractor)
    own = str(path.parent) if path.is_file() or extractor != path.name else ""  # a bare name lies among the weights
    return Need(network(path.name), use, given=own or given)


def of_training(section: dict) -> list[Need]:
    """What the perceptual loss of the section `training` (or `finetuning` over it) needs."""
    needs = []
    for term in perceptual_terms(section["perceptual"]):
        if name := encoder_file(term):
            needs.append(Need(network(name), wanted_by(term), given=term["weights"]))
    return needs


def of_masks(modality: str) -> Need:
    """What makes body masks where TotalSegmentator is asked for them."""
    return Need(network("M597" if modality == "mr" else "M299"), "inference.body_mask")


def of_labels() -> Need:
    """What labels CTs for Dice and HD95."""
    return Need(network("M297"), "--segment")


def wanted_by(term: dict) -> str:
    """What a term of a perceptual loss is called where its weights are asked for."""
    return f"training.perceptual {term['name']}"


def encoder_file(term: dict) -> str:
    """The network of one term of a perceptual loss ("" for MIND, which has none)."""
    if term["kind"] == "sam":
        variant = term["variant"] or "vit_b"
        if variant not in SAM_FILES:
            raise InputError(
                f"training.perceptual.encoders.{term['name']}.variant {variant!r}: expected {', '.join(SAM_FILES)}"
            )
        return SAM_FILES[variant]
    if term["kind"] == "totalsegmentator":
        return f"M{term['variant'] or CT_ORGANS}"
    if term["kind"] == "torchscript" and term["weights"].endswith(".pt"):
        return Path(term["weights"]).name
    return ENCODER_FILES.get(term["kind"], "")


def places(given: str = "") -> list[Path]:
    """Where weights are looked for: `given`, else $SYNTHCT_WEIGHTS (or torch's cache) and TotalSegmentator's place."""
    if given:
        return [Path(given)]
    return list(dict.fromkeys([directory(), totalsegmentator_directory()]))


def directory() -> Path:
    """$SYNTHCT_WEIGHTS, else torch's own checkpoint cache."""
    if given := os.environ.get("SYNTHCT_WEIGHTS"):
        return Path(given)
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache_home / "torch") / "hub" / "checkpoints"


def totalsegmentator_directory() -> Path:
    """Where the totalsegmentator package keeps trained networks, by its own environment variables."""
    if given := os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        return Path(given)
    home = os.environ.get("TOTALSEG_HOME_DIR")
    if not home:
        home = Path("/tmp" if str(Path.home()) == "/" else Path.home()) / ".totalsegmentator"
    return Path(home) / "nnunet" / "results"


def listing(place: Path) -> list[str]:
    """What of a directory may be weights, as names relative to it."""
    found = (path for pattern in PATTERNS for path in place.glob(pattern))
    return sorted({path.relative_to(place).as_posix() for path in found})


def find(need: Need) -> Path | None:
    """The file of a network (of a trained nnU-Net its ``checkpoint_final.pth``), or None where there is none."""
    for place in places(need.given):
        if place.is_file():
            return place
        if found := need.among(listing(place)):
            return place / found
    return None


def require(needs: Iterable[Need], *, command: str = "", otherwise: str = "") -> list[Path]:
    """The files of `needs`, in their order. Raises one `InputError` that names all that are absent.

    `command` is what fetches them ("": one that names each network), `otherwise` what can be done without.
    """
    needs = list(needs)
    found = [find(need) for need in needs]
    missing = [need for need, path in zip(needs, found, strict=True) if path is None]
    if missing:
        looked = list(dict.fromkeys(place for need in missing for place in places(need.given)))
        raise InputError(absent(missing, looked, command=command, otherwise=otherwise))
    return [path for path in found if path]


def absent(missing: list[Need], looked: Iterable, *, command: str = "", otherwise: str = "") -> str:
    """One line on networks that are not there: which, what for, where was looked, what fetches them."""
    rows = by_network(missing)
    named = [
        (network.name if network.name == network.file else f"{network.name} ({network.file})")
        + f" for {' and '.join(uses)}"
        for network, uses in rows
    ]
    looked = [str(place) for place in looked]
    published = [network.name for network, _ in rows if network.url]
    own = [network.name for network, _ in rows if not network.url]
    parts = [f"weights are not there: {'; '.join(named)}; looked in {' and '.join(looked)}"]
    if published:
        parts.append(f"`{command or fetching(published, looked[0])}` fetches {'it' if len(published) == 1 else 'them'}")
    if own:
        parts.append(f"{' and '.join(own)} cannot be fetched: not among the published networks")
    if otherwise:
        parts.append(otherwise)
    return "; ".join(parts)


def digests_of(needs: Iterable[Need]) -> dict[str, str]:
    """`digests` of those networks of `needs` that are there."""
    return digests(path for path in map(find, needs) if path)


def digests(files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file of weights, by its name; a trained nnU-Net's by that of its data set too, as all of them
    are called checkpoint_final.pth."""
    found = {}
    for path in files:
        named = [part for part in path.parts[:-1] if part.startswith("Dataset")]
        found["/".join((*named[-1:], path.name))] = sha256_of(path)
    return found


def by_name(names: Iterable[str]) -> list[Need]:
    """Networks that somebody asks for by their names. Raises `InputError` for one that nobody publishes."""
    if strange := [name for name in names if not network(name).url]:
        raise InputError(f"network {strange[0]!r}: expected {', '.join(table())}")
    return [Need(network(name), "asked for by name") for name in names]


def by_network(needs: Iterable[Need]) -> list[tuple[Network, list[str]]]:
    """Each network once, with all that asks for it."""
    rows: dict[Network, dict[str, None]] = {}
    for need in needs:
        rows.setdefault(need.network, {})[need.wanted_by] = None
    return [(network, list(uses)) for network, uses in rows.items()]


def fetching(names: Iterable[str], place: str) -> str:
    """The command that fetches networks by name."""
    return f"bin/weights.py fetch {' '.join(names)} --weights {place}"


def locate(name: str, given: str = "", *, wanted_by: str = "", otherwise: str = "") -> Path:
    """The file of one network; `InputError` where it is not there."""
    return require([Need(network(name), wanted_by or name, given=given)], otherwise=otherwise)[0]


def locate_totalsegmentator(number: str, given: str, *, wanted_by: str, otherwise: str) -> Path:
    """The fold directory of a trained TotalSegmentator nnU-Net, `number` that of its data set, e.g. "291" (organs).

    It is `given` itself, or lies under it, or where `places` says. `wanted_by` and `otherwise` complete the message of
    the `InputError` for absent weights: what asked for them, and what can be done without.
    """
    return locate(f"M{number}", given, wanted_by=wanted_by, otherwise=otherwise).parent
