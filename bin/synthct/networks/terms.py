"""Which terms a perceptual loss has: the settings ``training.perceptual`` as a list, without torch."""

from synthct.core.errors import InputError

KINDS = ("mind", "vgg19", "sam", "torchscript", "totalsegmentator")
OWN_LAYERS = {"mind": 2, "vgg19": 5, "sam": 4, "totalsegmentator": 4}  # how many [] stands for
BLOCKS = {"vit_b": 12, "vit_l": 24, "vit_h": 32}  # of SAM, by its variant
VGG19 = 37  # modules of torchvision's `features`
SHORTHAND = ("layers", "layer_weights", "weights", "variant", "tile")  # beside `encoder`: for the one that is chosen


def perceptual_terms(settings: dict) -> list[dict]:
    """The terms that ``training.perceptual`` chooses, in its order: each its table of ``encoders`` with "name" and
    "kind", and "weight" times the weight of the whole. Terms of weight 0 are left out.

    ``encoder`` names tables of ``encoders``, separated by commas; "none" is no term at all. Where it names one, the
    keys of `SHORTHAND` beside it stand for those of its table. Raises `InputError` for a name without a table.
    """
    names = [name.strip() for name in settings["encoder"].split(",") if name.strip()]
    tables = settings["encoders"]
    if names == ["none"]:
        return []
    for name in names:
        if name not in tables or names.count(name) > 1:
            raise InputError(
                f"training.perceptual.encoder {settings['encoder']!r}: expected none, or names of "
                f"{', '.join(tables)}, each once and separated by commas"
            )
        if tables[name]["kind"] not in KINDS:
            raise InputError(
                f"training.perceptual.encoders.{name}.kind {tables[name]['kind']!r}: expected one of {', '.join(KINDS)}"
            )
    short = {key: settings[key] for key in SHORTHAND if settings.get(key)}
    if short and len(names) > 1:
        key = next(iter(short))
        raise InputError(
            f"training.perceptual.{key}: {len(names)} encoders are chosen, expected "
            f"{' or '.join(f'training.perceptual.encoders.{name}.{key}' for name in names)}"
        )
    terms = [
        tables[name] | short | {"name": name, "weight": settings["weight"] * tables[name]["weight"]} for name in names
    ]
    return [_ordered(term) for term in terms if term["weight"]]


def check_objective(settings: dict):
    """`InputError` for a training section whose loss cannot be made: a term that is none, or none at all."""
    if not perceptual_terms(settings["perceptual"]) and not settings["l1_weight"]:
        raise InputError("training.l1_weight 0 without a perceptual term: nothing to learn from")


def _ordered(term: dict) -> dict:
    """The term with its layers from the first on, each with its weight beside it: encoders give their maps so.

    Raises `InputError` for layers that the encoder has not, and for weights that are not one each.
    """
    at, kind = f"training.perceptual {term['name']}", term["kind"]
    layers, weights = term["layers"], term["layer_weights"]
    if kind == "sam" and term["variant"] not in ("", *BLOCKS):
        raise InputError(f"{at}: variant {term['variant']!r}, expected {', '.join(BLOCKS)}")
    first = 1 if kind == "mind" else 0  # MIND's are distances
    end = VGG19 if kind == "vgg19" else BLOCKS[term["variant"] or "vit_b"] if kind == "sam" else None
    if any(layer < first or (end is not None and layer >= end) for layer in layers):
        raise InputError(f"{at}: layers {layers}, expected {first} {f'to {end - 1}' if end else 'and more'}")
    if len(set(layers)) < len(layers):
        raise InputError(f"{at}: layers {layers}, expected each once")
    count = len(layers) or OWN_LAYERS.get(kind)
    if weights and count and len(weights) != count:
        raise InputError(f"{at}: {len(weights)} layer_weights for {count} layers")
    if layers and weights:
        layers, weights = map(list, zip(*sorted(zip(layers, weights, strict=True)), strict=True))
    return term | {"layers": sorted(layers), "layer_weights": weights}
