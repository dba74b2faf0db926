"""What an arm does, resolved: its engine's settings with the arm's own laid over them, and the same in words."""

from dataclasses import dataclass

from synthct.core import arms
from synthct.core.errors import InputError
from synthct.core.presets import for_region, merged

SMOOTH = ("magnitude", "stretching", "bending")  # a deformation's prior; of dense one number a level
PRIOR = (*SMOOTH, "folding")


@dataclass(frozen=True)
class Recipe:
    """An arm for patients of one region; `settings` are the engine's."""

    name: str
    engine: str
    direction: str
    ct: str  # the column of the sheet that has the CT
    label: str
    compares: str
    settings: dict
    dense: dict  # that engine's settings, by which the images of a rigid start are prepared for those without their own
    rigid: dict  # the rigid start, its trial with the prior of dense

    @property
    def deforms(self) -> bool:
        """Whether anything is registered at all."""
        return self.engine != "none"


def recipe(section: dict, name: str, region: str | None = None) -> Recipe:
    """The recipe of the arm `name`; `section` is ``registration`` of a resolved preset.

    Raises `InputError` for an unknown arm, and for a table of ``models`` without a weight.

    >>> section = {"dense": {"grid_mm": 16.0}, "arms": {"fine": {"engine": "dense", "settings": {"grid_mm": 8.0}}}}
    >>> recipe(arms.completed(section), "fine").settings
    {'grid_mm': 8.0}
    """
    section = for_region(section, region)
    arm = arms.required(section, name)
    settings = merged(section.get(arm["engine"], {}), arm["settings"])
    if "models" in settings:
        template = {key: value for key, value in section[arm["engine"]]["models"]["network"].items() if key != "weight"}
        settings["models"] = {key: {**template, **model} for key, model in settings["models"].items()}
        for key, model in settings["models"].items():
            if "weight" not in model:
                raise InputError(f"registration.arms.{name}.settings.models.{key}: no weight")
    said = {key: arm[key] for key in ("engine", "direction", "ct", "label", "compares")}
    dense = section.get("dense", {})
    rigid = section.get("rigid", {"enabled": False}) | {key: dense[key] for key in PRIOR if key in dense}
    return Recipe(name, **said, settings=settings, dense=dense, rigid=rigid)


def models_of(settings: dict) -> dict[str, dict]:
    """The tables of ``models`` of a recipe's settings that count, by name: those with a weight (sampled and dense)."""
    return {name: model for name, model in settings.get("models", {}).items() if model["weight"] > 0}


def terms(recipe: Recipe) -> list[dict]:
    """What the metric is a sum of: {"compares", "weight"} a term, and for features of networks also "layers" (from 1
    on), "distance" and "mode"."""
    settings, found = recipe.settings, []
    if recipe.engine == "elastix":
        words = {"mi": "mutual information", "bending": "bending energy", "rigidity": "rigidity"}
        found = [{"compares": said, "weight": settings[key]} for key, said in words.items()]
    if recipe.engine == "dense":
        mind, mi = settings["mind"], settings["mi"]
        found = [
            {"compares": f"MIND R{mind['radius']}D{mind['dilation']}", "weight": mind["weight"]},
            {"compares": "mutual information", "weight": mi["weight"]},
        ]
    for model in models_of(settings).values():
        layers = [k for k, bit in enumerate(model["layers"], 1) if bit == "1"]
        about = {"layers": layers, "distance": model["distance"], "mode": model.get("mode", settings.get("mode"))}
        found.append({"compares": model["extractor"], "weight": model["weight"], **about})
    if recipe.engine == "sampled":
        found.append({"compares": "mutual information", "weight": settings["mutual"]["weight"]})
    return [term for term in found if term["weight"] > 0]


def about(recipe: Recipe, weights: dict[str, str] | None = None) -> dict:
    """The recipe as the quality record tells it; `weights` are the networks' files with their SHA-256."""
    kept = {key: recipe.settings[key] for key in ("grid_mm", "voxel_mm") if key in recipe.settings}
    return {
        "engine": recipe.engine,
        "direction": recipe.direction,
        "ct": recipe.ct,
        "compares": recipe.compares,
        "terms": terms(recipe),
        **kept,
        "weights": weights or {},
    }
