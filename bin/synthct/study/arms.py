"""How a study's arms are called, ordered and drawn: from the settings recorded with it.

A report is about one study, so what its settings say of the arms holds while it is written (`told`); where they say
nothing of an arm (an older run, a bundle of another study) it still gets a name, a place, a colour and a marker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from synthct.core.arms import UNSAID
from synthct.core.errors import InputError
from synthct.core.presets import MODALITIES, resolve

# Okabe and Ito's colours: distinct for every common colour-blindness; the markers distinguish them in grey.
COLOURS = ("#E69F00", "#009E73", "#000000", "#56B4E9", "#CC79A7", "#0072B2", "#D55E00")
MARKERS = ("p", "X", "h", "<", ">", "v", "P")
_told: ContextVar[dict | None] = ContextVar("arms", default=None)
_recipes: ContextVar[dict | None] = ContextVar("recipes", default=None)


@contextmanager
def told(settings: dict, recipes: dict[str, list[dict]] | None = None) -> Iterator[None]:
    """Within it, arms are as ``registration.arms`` of the resolved `settings` says, and compared what `recipes` say.

    >>> with told({"registration": {"arms": {"mine": {"label": "Mine", "pairs": "my"}}}}):
    ...     arm_name("mine"), pairs_of("mine")
    ('Mine', 'my pairs')
    """
    arms = (settings.get("registration") or {}).get("arms") or {}
    token = _told.set({name: {**UNSAID, "label": name, **arm} for name, arm in arms.items()})
    compared = _recipes.set(recipes)
    try:
        yield
    finally:
        _told.reset(token)
        _recipes.reset(compared)


def about(arm: str) -> dict:
    """The arm's table; of an arm that nobody described, one with its name for a label."""
    return (_told.get() or {}).get(arm) or _bundled().get(arm) or {**UNSAID, "label": arm}


def arm_name(arm: str) -> str:
    """An arm as it is written in sentences and figures."""
    return about(arm)["label"] or arm or "unnamed"


def recipes_of(arm: str) -> list[dict]:
    """What its registration compared, by its pairs' records: one recipe, or several where regions differ."""
    return (_recipes.get() or {}).get(arm, [])


def arm_order(arm: str) -> tuple[int, str]:
    """Sorts arms by their tables' order, then by name."""
    return about(arm)["order"], arm


def pairs_of(arm: str) -> str:
    """What its training pairs are called: "IMPACT pairs", "unregistered pairs"."""
    return f"{about(arm)['pairs'] or arm_name(arm)} pairs"


def images_of(arm: str) -> str:
    """What its test images are called."""
    return "the given images" if arm == "given" else f"{about(arm)['pairs'] or arm_name(arm)} test images"


def registers(arm: str) -> bool | None:
    """Whether the arm deforms anything (without registration, after is before); None where nobody says."""
    engine = about(arm)["engine"]
    return engine != "none" if engine else None


def colour(arm: str, arms: list[str]) -> str:
    """An arm's colour; arms without one of their own take, in order, what the others leave."""
    return _look(arm, arms, "colour", COLOURS)


def marker(arm: str, arms: list[str]) -> str:
    """An arm's marker, by the same rule."""
    return _look(arm, arms, "marker", MARKERS)


def _look(arm: str, arms: list[str], key: str, spare: tuple[str, ...]) -> str:
    own = about(arm)[key]
    if own:
        return own
    taken = {about(other)[key] for other in arms}
    left = [value for value in spare if value not in taken] or list(spare)
    without = [other for other in arms if not about(other)[key]]
    return left[(without.index(arm) if arm in without else 0) % len(left)]


@lru_cache(maxsize=1)
def _bundled() -> dict:
    """The arms of the preset `paper`, where the presets lie beside the code: for results that brought no settings."""
    try:
        found = resolve("paper", MODALITIES[0])["registration"]["arms"]
    except (InputError, OSError):
        return {}
    return {arm: table | {"compares": ""} for arm, table in found.items()}
