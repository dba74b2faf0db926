"""Dice and HD95: the organisers' own values, and MONAI's behaviour on missing, one-voxel and border classes."""

import json
import math
from pathlib import Path

import naive_metrics
import numpy as np
import pytest
import torch

from synthct.evaluation.metrics import segmentation
from synthct.images.volume import read_volume

DATA = Path(__file__).parents[1] / "data" / "metrics"
CASES = json.loads((DATA / "expected_seg.json").read_text())["cases"]
SPACING = (3.0, 1.0, 1.5)


@pytest.mark.parametrize("case", CASES)
def test_organisers_values(case):
    sct, ct = (read_volume(DATA / "seg" / case / f"{name}_seg.mha") for name in ("sct", "gt"))
    expected = CASES[case]
    scores = segmentation.segmentation_scores(sct.array, ct.array, ct.grid.spacing[::-1], expected["region"])
    assert scores["dice"] == pytest.approx(expected["evaluation_repo"]["DICE"], rel=1e-6)
    assert scores["hd95"] == pytest.approx(expected["evaluation_repo"]["HD95"], rel=1e-6)
    assert set(map(int, expected["per_class"])) == set(scores["per_class"])
    for label, one in expected["per_class"].items():
        found = scores["per_class"][int(label)]
        assert found["dice"] == pytest.approx(one["dice"], rel=1e-6)
        assert found["hd95"] == pytest.approx(float(one["hd95"]), rel=1e-6, nan_ok=True)


def blobs(seed, shape=(20, 40, 36), labels=(2, 5, 26, 51, 79, 90, 200)):
    """Random boxes, some on the border, later ones over earlier ones."""
    random = np.random.default_rng(seed)
    result = np.zeros(shape, np.uint8)
    for label in labels:
        start = [random.integers(0, n - 6) for n in shape]
        span = [random.integers(2, 14) for _ in shape]
        result[tuple(slice(a, a + n) for a, n in zip(start, span, strict=True))] = label
    return result


@pytest.mark.parametrize("region", ["AB", "HN", "PELVIS"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_definition_on_random_maps(seed, region):
    sct, ct = blobs(seed), blobs(seed + 100)
    scores = segmentation.segmentation_scores(sct, ct, SPACING, region)
    naive = naive_metrics.segmentation_scores(sct, ct, SPACING, segmentation.classes_of(region))
    assert scores["dice"] == pytest.approx(naive["dice"], rel=1e-6)
    assert scores["hd95"] == pytest.approx(naive["hd95"], rel=1e-6)


def test_one_voxel_classes():
    sct, ct = np.zeros((2, 9, 10, 11), np.uint8)
    ct[0, 0, 0] = sct[2, 0, 0] = 5
    scores = segmentation.segmentation_scores(sct, ct, SPACING, "AB")
    assert scores["dice"] == 0 and scores["hd95"] == pytest.approx(6)  # two slices of 3 mm
    ct[2, 0, 0], ct[0, 0, 0] = 5, 0
    assert segmentation.segmentation_scores(sct, ct, SPACING, "AB")["hd95"] == 0


def test_missing_class_counts_for_dice_and_is_left_out_of_hd95():
    ct = blobs(1, labels=(2, 5))
    sct = np.where(ct == 5, 0, ct)
    scores = segmentation.segmentation_scores(sct, ct, SPACING, "TH")
    assert scores["dice"] == pytest.approx(0.5) and scores["hd95"] == 0
    assert (scores["n_classes_scored"], scores["n_classes_missing"]) == (2, 1)
    assert math.isnan(scores["per_class"][5]["hd95"])


def test_all_missing_and_none_scored_are_the_leaderboards_zeros_with_their_counts():
    ct = blobs(1, labels=(2, 5))
    nothing = np.zeros_like(ct)
    scores = segmentation.segmentation_scores(nothing, ct, SPACING, "AB")
    assert (scores["dice"], scores["hd95"], scores["n_classes_scored"], scores["n_classes_missing"]) == (0, 0, 2, 2)
    scores = segmentation.segmentation_scores(ct, nothing, SPACING, "AB")
    assert (scores["dice"], scores["hd95"], scores["n_classes_scored"], scores["n_classes_missing"]) == (0, 0, 0, 0)


def test_class_lists():
    assert segmentation.classes_of("AB") == segmentation.classes_of("TH")
    assert len(segmentation.classes_of("AB")) == 61 and len(segmentation.classes_of("HN")) == 31
    assert 5 not in segmentation.classes_of("HN") and 90 not in segmentation.classes_of("AB")
    assert set(segmentation.classes_of("EX")) == {*segmentation.classes_of("AB"), *segmentation.classes_of("HN")}


@pytest.mark.parametrize("n", [1, 2, 3, 20, 21, 999, 123457, 1_000_003])
def test_quantile_is_torchs(n):
    values = np.random.default_rng(n).exponential(5, n).astype(np.float32)
    assert segmentation._quantile(values, 0.95) == float(torch.quantile(torch.from_numpy(values), 0.95))
