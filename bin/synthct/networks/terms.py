"""Which terms a perceptual loss has: the settings ``training.perceptual`` as a list, without torch."""

from synthct.core.errors import InputError

KINDS = ("mind", "vgg19", "sam", "torchscript", "totalsegmentator")
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
    return [term for term in terms if term["weight"]]
