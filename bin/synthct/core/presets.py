"""Presets and the settings they make: one file, overridden by parameters, resolved once, recorded with the results.

A preset is ``conf/presets/<name>.toml`` (comments there give each number's source). It has one table a section;
``inherit`` names the preset it starts from. Inside any table, a subtable named after the modality (``mr``, ``cbct``)
is laid over its parent for that modality, and ``region.<name>`` over it for patients of that region.
"""

import copy
import difflib
import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from synthct.core import arms, limits
from synthct.core.errors import InputError
from synthct.core.tables import read_object

MODALITIES = ("mr", "cbct")
CHECKPOINTS = ("best", "final")
SECTIONS = (
    "registration",
    "curation",
    "preprocessing",
    "folds",
    "training",
    "finetuning",
    "inference",
    "evaluation",
    "dose",
)
RULES = ("spacing", "ct_range", "outside", "padding", "cbct_percentile")  # what a network learns to expect
VIEWS = ("none", "x", "y", "xy")  # of the plane: how inference.flips may turn it
BY_IMAGE = ("preprocessing", "registration", "training", "finetuning")  # sections for images of one modality alone
BY_REGION = ("registration", "preprocessing", "dose")  # sections that may have numbers of a region's own
ANY_NAME = ("region", "models", "encoders", "arms")  # tables whose keys are names of the user's choice
PRESETS = Path(__file__).resolve().parents[3] / "conf" / "presets"


def resolve(
    preset: str | Path, modality: str, overrides: list[str] | tuple[str, ...] = (), directory: str | Path = PRESETS
) -> dict:
    """The settings of `preset` (a name or a TOML file) for one modality, with `overrides` ("section.key=value").

    Returns {"preset": str, "modality": str, <section>: {...}} with the modality's subtables merged in and the
    region subtables kept for `for_region`. Named presets lie in `directory`. Raises `InputError` for an unknown preset,
    modality or key, or a value of another type than the preset's.
    """
    if modality not in MODALITIES:
        raise InputError(f"modality {modality!r}: expected one of {', '.join(MODALITIES)}")
    tree = _merge_modality(_load(preset, Path(directory)), modality)
    tree["registration"] = arms.completed(tree["registration"])
    for override in overrides:
        _apply(tree, override)
    tree["registration"] = arms.completed(tree["registration"])
    limits.check(tree)
    return {"preset": Path(preset).stem, "modality": modality, **tree}


def of_bundle(path, overrides: list[str], preset: str | Path | None = None, directory: str | Path = PRESETS) -> dict:
    """What predicting with a bundle goes by: its preprocessing and inference as its bundle.json (`path`) says.

    `overrides` of inference are laid over it, and before them the inference section of `preset` where one is given.
    """
    about = read_object(path, "bundle")
    if not {"preset", "modality", "preprocessing", "inference"} <= set(about):
        raise InputError(f"bundle {path}: no bundle.json of a model bundle")
    for key in ("preprocessing", "inference"):
        check_types(f"bundle {path}", key, about[key], directory=directory)
    tree = resolve(preset or "paper", about["modality"], directory=directory)
    if preset is None:
        tree["inference"] |= about["inference"]
    tree = overridden(tree, overrides)
    # of two that a study scored side by side the first predicts
    tree["inference"]["checkpoint"] = checkpoints(tree["inference"]["checkpoint"])[0]
    made = about.get("registration") or {}
    return {
        "preset": tree["preset"] if preset else about["preset"],
        "modality": about["modality"],
        "preprocessing": about["preprocessing"],
        "inference": tree["inference"],
        "evaluation": tree["evaluation"],
        "curation": tree["curation"],
        "dose": tree["dose"],
        **({"registration": {"arms": made["arms"], "made_by": made.get("made_by", [])}} if made.get("arms") else {}),
    }


def differing(rules: dict, others: dict, modality: str) -> str:
    """The first of `RULES` that two `preprocessing` sections hold different ("" for none) for cases of `modality`."""
    asked = [key for key in RULES if modality == "cbct" or key != "cbct_percentile"]
    return next((key for key in asked if key in rules and key in others and rules[key] != others[key]), "")


def for_region(section: dict, region: str | None) -> dict:
    """`section` with its ``region.<name>`` subtables (at any depth) laid over their parents, and removed.

    >>> for_region({"grid_mm": 10.0, "region": {"HN": {"grid_mm": 5.0}}}, "HN")
    {'grid_mm': 5.0}
    """
    result = {
        key: for_region(value, region) if isinstance(value, dict) else value
        for key, value in section.items()
        if key != "region"
    }
    overlay = section.get("region", {}).get(region)
    return merged(result, for_region(overlay, region)) if overlay else result


def regions_in(table: dict) -> set[str]:
    """The regions for which a table has numbers of their own, at any depth.

    >>> regions_in({"dense": {"region": {"HN": {"grid_mm": 5.0}}}})
    {'HN'}
    """
    inner = [regions_in(value) for value in table.values() if isinstance(value, dict)]
    return set(table.get("region", {})).union(*inner)


def checkpoints(text: str) -> list[str]:
    """The checkpoints that ``inference.checkpoint`` names: "best", "final", or both in either order.

    >>> checkpoints("final, best")
    ['final', 'best']
    """
    named = [name.strip() for name in text.split(",")]
    if not set(named) <= set(CHECKPOINTS) or len(set(named)) < len(named):
        raise InputError(f"inference.checkpoint {text!r}: expected best, final, or best,final")
    return named


def views(text: str) -> list[str]:
    """The views of the plane that ``inference.flips`` names, in its order.

    >>> views("none, x")
    ['none', 'x']
    """
    named = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in named if name not in VIEWS]:
        raise InputError(f"inference.flips: {unknown[0]!r}, expected a list of {', '.join(VIEWS)}")
    if not named or len(set(named)) < len(named):
        raise InputError(f"inference.flips: {text!r}, expected each of its views once")
    return named


def load(path) -> dict:
    """Read a settings file written by ``bin/check.py`` (JSON)."""
    return read_object(path, "settings")


def section(name: str, *, settings: str | None, preset: str, modality: str, overrides=()) -> dict:
    """One section, either from a resolved `settings` file (as the pipeline hands it over) or from a preset.

    A settings file may hold the whole resolved tree or that one section. Raises `InputError` where it lacks the
    section or a key of it, knows more, holds values of another type than the preset paper's, or is another modality's.
    """
    if not settings:
        return resolve(preset, modality, overrides)[name]
    at, tree = f"settings {settings}", load(settings)
    if name in BY_IMAGE and modality and (made := tree.get("modality", modality)) != modality:
        raise InputError(f"{at}: resolved for modality {made}, expected {modality}, as the images are")
    tree = tree if _whole(tree, name) else {name: tree}
    if name not in tree or tree == {name: {}}:
        raise InputError(f"{at}: no section {name!r}")
    check_types(at, name, tree[name], strict=True)
    for override in overrides:
        _apply(tree, override)
    limits.check({name: tree[name]})
    return tree[name]


def check_types(at: str, name: str, table, *, like: str = "", strict: bool = False, directory: str | Path = PRESETS):
    """`InputError`, beginning with `at`, where a resolved table is not like that of the preset paper, at any depth.

    `name` is the section, or what else the message calls the table; then `like` is "section.key" of the preset. Each
    value must have the type of the preset's; if `strict`, there must be all of the preset's keys and no others: files
    of an older or newer release may differ in those.
    """
    model = _model(Path(directory))
    for key in (like or name).split(".") if model else []:
        model = model[key]
    if not isinstance(table, dict):
        raise InputError(f"{at}: {name} is {table!r:.60}, expected a table of settings")
    if not model:
        return
    known = [model] if name != "finetuning" else [model, _model(Path(directory))["training"]]
    _check_table(at, name, table, known, strict)
    if strict and name != "finetuning":  # which has what it differs in
        _check_whole(at, name, table, model)


def _whole(tree: dict, name: str) -> bool:
    """Whether a settings file holds sections, and not the section `name` alone: that of the folds has a key "folds"."""
    sections = {"preset", "modality", *SECTIONS} & set(tree)
    return isinstance(tree.get(name), dict) or bool(sections - ({"folds"} if name == "folds" else set()))


@cache
def _model(directory: Path) -> dict:
    """The preset paper; {} where it is not at hand: some executors stage bin/ alone, and CHECK saw the settings."""
    return _load("paper", directory) if (directory / "paper.toml").is_file() else {}


def _check_whole(at: str, name: str, table: dict, model: dict):
    """Refuse a table that lacks a key of its `model`; of a registration, engines that no arm asks for may be absent."""
    for key, value in model.items():
        if key in (*MODALITIES, *ANY_NAME) or key == "limits":  # of curation: an older run's are fewer
            continue
        if isinstance(value, dict) and key in table:
            _check_whole(at, f"{name}.{key}", table[key], value)
        elif key not in table and not (isinstance(value, dict) and name == "registration"):
            raise InputError(f"{at}: no {name}.{key}")


def changes(overrides: Iterable[str]) -> list[str]:
    """Overrides one by one, where each may hold several, separated by ";" (as the pipeline hands them over).

    >>> changes(["training.batch=2; training.seed=7", ""])
    ['training.batch=2', ' training.seed=7']
    """
    return [item for given in overrides for item in given.split(";") if item.strip()]


def overridden(tree: dict, overrides: list[str] | tuple[str, ...]) -> dict:
    """A copy of `tree` ({section: {...}}) with `overrides` ("section.key=value") applied."""
    tree = copy.deepcopy(tree)
    for override in overrides:
        _apply(tree, override)
    for name in tree.keys() & set(SECTIONS):
        check_types("settings", name, tree[name])
    limits.check(tree)
    return tree


def _load(preset: str | Path, directory: Path, heirs: tuple[Path, ...] = ()) -> dict:
    path = Path(preset) if str(preset).endswith(".toml") else directory / f"{preset}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in directory.glob("*.toml"))
        raise InputError(f"preset {preset!r}: not found, expected one of {', '.join(known)} or a .toml file")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InputError(f"preset {path}: not valid TOML ({fault})") from None
    parent = tree.pop("inherit", None)
    if parent is not None:
        # a file beside it comes first, but never itself: one's own paper.toml may start from "paper"
        heirs += (path.resolve(),)
        places = [place / f"{parent}.toml" for place in (path.parent, directory)]
        found = next((place for place in places if place.is_file() and place.resolve() not in heirs), None)
        if found is None and any(place.is_file() for place in places):
            raise InputError(f"preset {path}: inherits {parent!r}, which inherits it in turn")
        base = _load(found or parent, directory, heirs)
        _check(path, tree, base)
        return merged(base, tree)
    if absent := sorted(set(SECTIONS) - set(tree)):
        raise InputError(f'preset {path}: no section {absent[0]!r}; does inherit = "paper" stand at its beginning?')
    paper = (directory / "paper.toml").resolve()
    if path.resolve() != paper:
        _check(path, tree, _load(paper, directory))
    return tree


def _check(path: Path, tree: dict, base: dict):
    """Refuse what `base`, the preset that `tree` starts from, does not know, or knows as something else."""
    if unknown := sorted(set(tree) - set(SECTIONS)):
        raise InputError(f"preset {path}: unknown section {unknown[0]!r}, expected {', '.join(SECTIONS)}")
    for section, table in tree.items():
        # fine-tuning takes whatever training does
        known = [base[name] for name in ({section, "training"} if section == "finetuning" else {section})]
        _check_table(f"preset {path}", section, table, known)


def _check_table(where: str, name: str, table, known: list, strict: bool = True):
    """`known` are the tables whose keys this one may have; unless `strict`, it may have others too."""
    if not isinstance(table, dict):
        raise InputError(f"{where}: {name} is {table!r:.60}, expected a table")
    known = [part for one in known for part in _layers(one)]
    for key, value in table.items():
        at = f"{name}.{key}"
        if key in MODALITIES:
            _check_table(where, at, value, known, strict)
        elif at == "registration.arms":
            _check_arms(where, value, known[0])
        elif key == "region" and name.split(".")[0] in SECTIONS and name.split(".")[0] not in BY_REGION:
            raise InputError(f"{where}: {at}: a region has numbers of its own in {', '.join(BY_REGION)} alone")
        elif key in ANY_NAME:
            inner = known if key == "region" else [one for part in known for one in part.get(key, {}).values()]
            for free, content in value.items() if isinstance(value, dict) else [("", value)]:
                _check_table(where, f"{at}.{free}".rstrip("."), content, inner, strict)
        else:
            found = [part[key] for part in known if key in part]
            if not found and strict:
                hint = _hint(name, key, {each for part in known for each in part})
                raise InputError(f"{where}: unknown key {at}{hint}")
            if found and isinstance(found[0], dict):
                _check_table(where, at, value, found, strict)
            elif found and not _fits(value, found[0]):
                raise InputError(f"{where}: {at}: {value!r} is not of the type of its default {found[0]!r}")


def _check_arms(where: str, tables, section: dict):
    """An arm's keys are those of any arm of `section`, which the preset starts from; its settings are its engine's."""
    there = section.get("arms", {})
    keys = {key: value for table in there.values() for one in _layers(table) for key, value in one.items()}
    for name, table in tables.items() if isinstance(tables, dict) else [("", tables)]:
        at = f"registration.arms.{name}".rstrip(".")
        if not isinstance(table, dict):
            raise InputError(f"{where}: {at} is {table!r}, expected a table")
        engine = table.get("engine", there.get(name, {}).get("engine"))
        if engine not in arms.ENGINES:
            raise InputError(f"{where}: {at}.engine: {engine!r}, expected one of {', '.join(arms.ENGINES)}")
        own = {key: value for key, value in keys.items() if key not in (*MODALITIES, "region")}
        _check_table(where, at, table, [{**own, "settings": section.get(engine, {})}])


def _layers(table: dict) -> list[dict]:
    """A table and those that are laid over it, by modality and region, at any depth: together they know its keys."""
    over = [table[name] for name in MODALITIES if isinstance(table.get(name), dict)]
    over += table.get("region", {}).values()
    return [table, *(part for one in over for part in _layers(one))]


def _fits(value, old) -> bool:
    """Whether `value` is of the type of `old`; whole numbers serve as floats, and lists are told by their elements."""
    if isinstance(old, list) and isinstance(value, list):
        old = old or [0.0]  # all lists of settings are of numbers
        return all(_fits(each, old[0]) or _fits(old[0], each) for each in value)
    return type(value) is type(old) or (isinstance(old, float) and type(value) is int)


def merged(base: dict, over: dict) -> dict:
    """A copy of the table `base` with `over` laid over it, subtables key by key."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_modality(tree: dict, modality: str) -> dict:
    result = {
        key: _merge_modality(value, modality) if isinstance(value, dict) else value
        for key, value in tree.items()
        if key not in MODALITIES
    }
    overlay = tree.get(modality)
    return merged(result, _merge_modality(overlay, modality)) if isinstance(overlay, dict) else result


def _hint(place: str, key: str, known) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f", did you mean {'.'.join(filter(None, (place, near[0])))}?" if near else ""


def _apply(tree: dict, override: str):
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2:
        raise InputError(f"setting {override!r}: expected section.key=value")
    node, spare = tree, tree.get("training") if keys[0] == "finetuning" else None
    for depth, key in enumerate(keys):
        if depth and isinstance(node, dict) and isinstance(spare, dict):  # what fine-tuning takes from training
            spare = spare.get(key)
            if key not in node and spare is not None:
                node[key] = {} if isinstance(spare, dict) else spare
        if not isinstance(node, dict) or key not in node:
            hint = _hint(".".join(keys[:depth]), key, node if isinstance(node, dict) else ())
            raise InputError(f"setting {path.strip()!r}: unknown key {key!r}{hint}")
        if depth < len(keys) - 1:
            if keys[:2] == ["registration", "arms"] and depth == 3:  # an arm's settings take what its engine's do
                spare = tree["registration"].get(node.get("engine"))
            node = node[key]
    node[keys[-1]] = _typed(path.strip(), text.strip(), node[keys[-1]])


def _typed(path: str, text: str, old):
    if not re.fullmatch(r"[\w\s.+,:/\[\]\"@-]*", text):
        raise InputError(f"setting {path}: {text!r} has characters that no setting needs")
    if isinstance(old, str):  # "75", "0.15" and "split" are all texts of one setting
        return text.strip('"')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, dict) or not _fits(value, old):
        raise InputError(f"setting {path}: {text!r} is not of the type of its default {old!r}")
    return value
