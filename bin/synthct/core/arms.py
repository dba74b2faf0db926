"""Arms: the named recipes of ``[registration.arms.NAME]``, checked and completed. An arm is a table, never code.

A recipe names an engine, which of the two images is deformed, the sheet's column of its CT, how reports call and draw
it, what its metric compares, and `settings`, an overlay over the engine's own section.
`synthct.registration.recipes` resolves one for a region.
"""

import re

from synthct.core.errors import InputError

ENGINES = ("elastix", "dense", "sampled", "none")  # none: the moving image is resampled where it lies
DIRECTIONS = ("ct_to_image", "image_to_ct")
CTS = ("ct", "ct_aligned")  # columns of the sheet: the CT as given, and in its true place on the image
MARKERS = "osD^vPXph<>"  # matplotlib's, for which `synthct.report.figures.style` has words
COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")
TAKEN = ("mr", "cbct", "region", "native", "given", "final")  # these stand for something else in tables and paths
UNSAID = {
    "engine": "",
    "direction": "image_to_ct",
    "ct": "ct",
    "label": "",
    "order": 50,
    "colour": "",
    "marker": "",
    "pairs": "",
    "compares": "",
    "settings": {},
}


def completed(section: dict) -> dict:
    """The section ``registration`` with everything that its arms leave unsaid; the label is then the name.

    Raises `InputError` for a name, an engine, a direction, a column, a colour or a marker that cannot be.
    """
    arms = {}
    for name, table in section.get("arms", {}).items():
        at = f"registration.arms.{name}"
        if not NAME.fullmatch(name) or name in TAKEN:
            raise InputError(
                f"{at}: not a name for an arm, expected letters, digits and single _, and none of {', '.join(TAKEN)}"
            )
        arm = {**UNSAID, "label": name, **table}
        for key, known in (("engine", ENGINES), ("direction", DIRECTIONS), ("ct", CTS)):
            if arm[key] not in known:
                found = repr(arm[key]) if arm[key] else "missing"
                raise InputError(f"{at}.{key}: {found}, expected one of {', '.join(known)}")
        if arm["colour"] and not COLOUR.fullmatch(arm["colour"]):
            raise InputError(f'{at}.colour: {arm["colour"]!r}, expected #RRGGBB, or "" for the next free one')
        if arm["marker"] and (len(arm["marker"]) > 1 or arm["marker"] not in MARKERS):
            raise InputError(
                f'{at}.marker: {arm["marker"]!r}, expected one of {" ".join(MARKERS)}, or "" for the next free one'
            )
        arms[name] = arm
    return {**section, "arms": arms}


def named(section: dict, text: str) -> list[str]:
    """The arms that a comma list names (``--registration``), each known to the section ``registration`` and once,
    with labels that differ.

    >>> named(completed({"arms": {"mine": {"engine": "none"}}}), "mine")
    ['mine']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"registration {text!r}: expected a comma list of arms, each once")
    called: dict[str, str] = {}
    for name in names:
        label = required(section, name)["label"] or name
        if (other := called.setdefault(label, name)) != name:
            raise InputError(
                f"registration {text!r}: the arms {other} and {name} are both labelled {label!r}, which a report could "
                f"not tell apart; expected another registration.arms.{name}.label"
            )
    return names


def required(section: dict, name: str) -> dict:
    """The table of one arm; `InputError` with the names there are where it is unknown."""
    arms = section.get("arms", {})
    if name not in arms:
        known = ", ".join(sorted(arms, key=lambda each: (arms[each].get("order", 50), each))) or "none of them"
        raise InputError(
            f"registration {name!r}: no such arm, expected one of {known} (an arm is a table "
            "[registration.arms.NAME] of the preset)"
        )
    return arms[name]
