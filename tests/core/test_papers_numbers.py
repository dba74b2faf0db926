"""The presets `paper` and `released`, resolved, against numbers written down by hand from the paper and its code."""

import pytest

from synthct.core.presets import resolve
from synthct.networks.terms import perceptual_terms
from synthct.registration.recipes import models_of, recipe

COMMON = {  # paper 3.2 to 3.4 and released code, both tasks
    "preprocessing": {"spacing": [1.0, 1.0, 3.0], "ct_range": [-1024, 3071], "padding": -1.0, "cbct_percentile": 99.5},
    "folds": {"folds": 5, "seed": 32},
    "training": {
        "seed": 32,
        "batch": 32,
        "copies": 1,
        "flip_probability": 0.5,
        "flip_per": "volume",
        "l1_weight": 1.0,
        "learning_rate": 1e-3,
        "weight_decay": 1e-3,
        "schedule": "step",
        "lr_every": 25000,
        "warmup": 0,
        "validate_every": 2500,
        "max_epochs": 100,
        "select": "mae",
        "precision": "float32",
        "network": {
            "encoder": "resnet34",
            "decoder_channels": [256, 128, 64, 32, 16],
            "init": "normal",
            "init_std": 0.02,
            "batchnorm_mean": 1.0,
            "head_bias": 0.0,
        },
    },
    "finetuning": {"groups": "AB+TH,HN", "learning_rate": 1e-3, "validate_every": 1000},
    "inference": {"flips": "none,x,y"},
    "evaluation": {"hu_range": [-1024, 3071]},
}
PAPER = {
    "folds": {"holdout": "75"},
    "preprocessing": {"outside": -1.0},
    "training": {"originals": False, "lr_factor": 0.5, "patience": 25000},
}
RELEASED = {
    "training": {"originals": True, "lr_factor": 0.75, "patience": 75000, "patch": [320, 320]},
    "finetuning": {"lr_every": 5000, "patience": 30000},
}
BY_HAND = {
    ("paper", "mr"): [PAPER, {"training": {"channels": 5, "patch": [320, 320]}}],
    ("paper", "cbct"): [PAPER, {"training": {"channels": 3, "patch": [256, 256]}}],
    ("released", "mr"): [
        RELEASED,
        {"folds": {"holdout": "45"}, "preprocessing": {"outside": -2.0}, "training": {"channels": 5}},
    ],
    ("released", "cbct"): [
        RELEASED,
        {"folds": {"holdout": "80"}, "preprocessing": {"outside": -1.0}, "training": {"channels": 3}},
    ],
}


def differences(found: dict, expected: dict, at: str = "") -> list[str]:
    wrong = []
    for key, value in expected.items():
        here = f"{at}.{key}".lstrip(".")
        if isinstance(value, dict):
            wrong += differences(found.get(key, {}), value, here)
        elif found.get(key) != value:
            wrong.append(f"{here}: {found.get(key)!r}, by hand {value!r}")
    return wrong


@pytest.mark.parametrize(("preset", "modality"), BY_HAND)
def test_training_and_what_is_around_it(preset, modality):
    settings = resolve(preset, modality)
    for expected in (COMMON, *BY_HAND[preset, modality]):
        assert differences(settings, expected) == []


@pytest.mark.parametrize("modality", ["mr", "cbct"])
def test_the_losses(modality):
    """Paper: L1 with VGG-19, SAM and TotalSegmentator. Released: L1 with three stages of SAM 2.1-Small."""
    terms = perceptual_terms(resolve("paper", modality)["training"]["perceptual"])
    assert [(term["kind"], term["weight"]) for term in terms] == [("vgg19", 1), ("sam", 1), ("totalsegmentator", 1)]
    (term,) = perceptual_terms(resolve("released", modality)["training"]["perceptual"])
    assert (term["kind"], term["weight"], term["layers"]) == ("torchscript", 1.0, [0, 1, 2])
    assert (term["layer_weights"], term["tile"]) == ([1.0, 1.0, 1.0], 512)


ORGANISERS = {  # stage-2 maps of the organisers: grid mm, bins, bending, rigidity, iterations, sampler, step, pyramid
    ("mr", "AB"): (15, 60, 50, 0, [2000, 2000, 1000], "RandomCoordinate", [4, 2, 1], "smoothing"),
    ("mr", "HN"): (15, 100, 50, 0, [500, 300, 200], "Grid", [4, 2, 1], "recursive"),
    ("mr", "TH"): (10, 100, 50, 0, [500, 300, 200], "Grid", [4, 2, 1], "recursive"),
    ("cbct", "AB"): (10, 100, 10, 0.5, [500, 200, 100], "Grid", [4, 2, 2], "recursive"),
    ("cbct", "HN"): (10, 100, 10, 0.5, [500, 200, 100], "Grid", [4, 2, 2], "recursive"),
}


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize(("modality", "region"), ORGANISERS)
def test_the_baselines_registration(preset, modality, region):
    found = recipe(resolve(preset, modality)["registration"], "elastix", region)
    keys = ("grid_mm", "bins", "bending", "rigidity", "iterations", "sampler", "sample_step", "pyramid")
    assert tuple(found.settings[key] for key in keys) == ORGANISERS[modality, region]
    assert (found.direction, found.settings["mi"], found.settings["samples"]) == ("ct_to_image", 1.0, 4096)


MIND = ("MIND R1D2", "1", "L1")
IMPACT = {  # mode, final grid mm, iterations, {extractor, layers, distance: weight}, weight of mutual information
    ("paper", "mr", "AB"): ("static", 10, [400] * 3, {("TS730", "0000001", "L1"): 0.25, MIND: 0.75}, 0),
    ("paper", "mr", "HN"): ("static", 10, [400] * 3, {("TS730", "0000001", "L1"): 0.25, MIND: 0.75}, 0),
    ("paper", "cbct", "AB"): ("jacobian", 10, [300, 200, 100], {("TS730", "01", "L1"): 1.0}, 0),
    ("released", "mr", "TH"): ("static", 12, [400] * 3, {("TS850", "0000001", "L1"): 0.25, MIND: 0.75}, 0.5),
    ("released", "mr", "HN"): ("static", 12, [400] * 3, {MIND: 1.0}, 0.5),
    ("released", "cbct", "HN"): ("jacobian", 12, [300, 200, 100], {("TS730", "01", "L1"): 1.0}, 0.5),
}


@pytest.mark.parametrize(("preset", "modality", "region"), IMPACT)
def test_the_papers_registration(preset, modality, region):
    mode, grid, iterations, models, mutual = IMPACT[preset, modality, region]
    found = recipe(resolve(preset, modality)["registration"], "impact", region)
    settings = found.settings
    named = {
        (one["extractor"], one["layers"], one["distance"]): one["weight"] for one in models_of(found.settings).values()
    }
    assert (found.engine, found.direction, settings["mode"], settings["grid_mm"]) == (
        "sampled",
        "image_to_ct",
        mode,
        grid,
    )
    assert (named, settings["mutual"]["weight"], settings["iterations"]) == (models, mutual, iterations)
    assert (settings["voxel_mm"], settings["samples"], settings["grid_schedule"]) == ([6.0, 3.0, 2.0], 2000, [4, 2, 1])
    assert settings["interpolation"] == "cubic"
    if preset == "released":
        assert settings["bending"] == settings["folding"] == 0.0  # the maps have no penalty
