"""The image metrics: the organisers' own values, and an independent definition on the awkward cases."""

import json
import math
from pathlib import Path

import naive_metrics
import numpy as np
import pytest

from synthct.evaluation.metrics.image import hu_bin_scores, image_scores, ms_ssim_scales
from synthct.evaluation.metrics.uncertainty import uncertainty_scores
from synthct.images.volume import read_volume

DATA = Path(__file__).parents[1] / "data" / "metrics"
CASES = json.loads((DATA / "expected_image.json").read_text())["cases"]
RANGES = {"range_3071": (-1024, 3071), "range_3000": (-1024, 3000)}


@pytest.mark.parametrize("which", RANGES)
@pytest.mark.parametrize("case", CASES)
def test_organisers_values(case, which):
    sct, ct, mask = (read_volume(DATA / case / f"{name}.mha").array for name in ("sct", "ct", "mask"))
    expected = CASES[case][which]
    scores = image_scores(sct, ct, mask, RANGES[which])
    assert scores["mae"] == pytest.approx(float(expected["mae"]), rel=1e-9)
    assert scores["psnr"] == pytest.approx(float(expected["psnr"]), rel=1e-9)
    assert scores["ms_ssim"] == pytest.approx(float(expected["ms_ssim"]), abs=1e-6)
    assert ms_ssim_scales(sct, ct, mask, RANGES[which]) == pytest.approx(expected["scale_masked_means"], abs=1e-6)


def noise(shape, seed=0, low=-1100, high=2000, dtype=np.int16):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def body(shape, seed=0):
    """A pair that looks alike: smooth structure with noise, and values beyond the HU range."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    ct = 800 * np.sin(z / 5) * np.cos(y / 7) + 500 * np.sin(x / 9) + random.normal(0, 60, shape)
    ct[:2] = 4000
    sct = ct + random.normal(20, 90, shape)
    return sct.astype(np.int16), ct.astype(np.int16)


def box(shape, *spans):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*span) for span in spans)] = 1
    return mask


SHAPES = {
    "tiny": ((9, 21, 17), None),
    "two slices": ((2, 5, 4), None),
    "exactly 97": ((97, 98, 99), ((1, 96), (2, 97), (3, 98))),
    "deep in a corner": ((110, 103, 120), ((101, 110), (97, 103), (60, 119))),
    "odd start and end": ((40, 131, 150), ((3, 38), (17, 90), (35, 111))),
    "first voxels": ((40, 120, 100), ((0, 7), (0, 50), (0, 41))),
    "thin": ((120, 100, 30), ((50, 51), (10, 90), (0, 30))),
    "touches every border": ((99, 101, 33), ((0, 99), (0, 101), (0, 33))),
    "one voxel": ((100, 100, 100), ((48, 49), (48, 49), (48, 49))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_crops_and_paddings_equal_the_whole_volume(name):
    shape, spans = SHAPES[name]
    sct, ct = body(shape)
    mask = box(shape, *spans) if spans else (noise(shape, 3) > 0).astype(np.uint8)
    scores, naive = image_scores(sct, ct, mask), naive_metrics.image_scores(sct, ct, mask)
    assert scores["mae"] == pytest.approx(naive["mae"], rel=1e-12)
    assert scores["psnr"] == pytest.approx(naive["psnr"], rel=1e-12)
    assert scores["ms_ssim"] == pytest.approx(naive["ms_ssim"], abs=2e-9, nan_ok=True)


def test_scattered_mask_and_random_images():
    sct, ct = noise((45, 101, 130), 1, -3000, 5000), noise((45, 101, 130), 2, -3000, 5000)
    mask = (noise(ct.shape, 3) > 1500).astype(np.uint8)
    mask[:, :, 66:90] = 0
    mask[20:26, 46:50, 46:66] = 1  # so that some voxel is left at the last scale
    naive = naive_metrics.image_scores(sct, ct, mask)
    assert image_scores(sct, ct, mask) == pytest.approx(naive, abs=2e-9, rel=1e-12)


def test_float_images_are_scored_without_rounding():
    sct, ct = body((30, 60, 70))
    sct = sct.astype(np.float32) + np.float32(0.3)
    mask = box(ct.shape, (3, 25), (5, 50), (8, 60))
    assert image_scores(sct, ct, mask) == pytest.approx(naive_metrics.image_scores(sct, ct, mask), abs=1e-9, rel=1e-12)


def test_empty_mask_gives_nan():
    sct, ct = body((20, 30, 40))
    assert all(math.isnan(value) for value in image_scores(sct, ct, np.zeros(ct.shape, np.uint8)).values())


def test_mask_without_a_voxel_at_the_last_scale_gives_nan_ms_ssim_only():
    sct, ct = body((100, 100, 100))
    scores = image_scores(sct, ct, box(ct.shape, (49, 50), (49, 50), (49, 50)))
    assert math.isnan(scores["ms_ssim"]) and math.isfinite(scores["mae"]) and math.isfinite(scores["psnr"])


def test_identical_images():
    _, ct = body((20, 100, 40))
    mask = box(ct.shape, (2, 18), (5, 95), (5, 35))
    assert image_scores(ct, ct, mask) == {"mae": 0.0, "psnr": math.inf, "ms_ssim": 1.0}


def test_anticorrelated_images_have_no_similarity():
    ct = noise((99, 99, 99), 5, 0, 2000)
    mask = np.ones(ct.shape, np.uint8)
    scores = image_scores((2000 - ct).astype(np.int16), ct, mask)
    assert scores["ms_ssim"] == pytest.approx(naive_metrics.image_scores(2000 - ct, ct, mask)["ms_ssim"], abs=1e-9)
    assert scores["ms_ssim"] == 0.0


def test_values_outside_the_mask_play_no_part():
    sct, ct = body((30, 100, 40))
    mask = box(ct.shape, (5, 25), (10, 90), (8, 30))
    other = np.where(mask, sct, 3000).astype(np.int16)
    assert image_scores(other, ct, mask) == image_scores(sct, ct, mask)


def test_mae_is_not_clipped_and_int16_does_not_overflow():
    ct, sct = np.full((3, 4, 5), -32768, np.int16), np.full((3, 4, 5), 32767, np.int16)
    scores = image_scores(sct, ct, np.ones(ct.shape))
    assert scores["mae"] == 65535
    assert scores["psnr"] == 0  # both clipped: the error is the whole range


def test_constant_images():
    ct, sct = np.full((12, 99, 30), 40, np.int16), np.full((12, 99, 30), 57, np.int16)
    mask = box(ct.shape, (1, 11), (3, 95), (2, 28))
    assert image_scores(sct, ct, mask) == pytest.approx(naive_metrics.image_scores(sct, ct, mask), rel=1e-9)


def test_axis_order_does_not_matter():
    sct, ct = body((33, 64, 101))
    mask = box(ct.shape, (3, 30), (5, 60), (9, 90))
    assert image_scores(sct.T, ct.T, mask.T) == pytest.approx(image_scores(sct, ct, mask), rel=1e-12)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ"):
        image_scores(np.zeros((3, 4, 5)), np.zeros((3, 4, 6)), np.zeros((3, 4, 5)))


def test_hu_bins_split_by_the_ct_and_sum_to_the_mae():
    sct, ct = body((20, 30, 40))
    mask = noise(ct.shape, 2) > 0
    bins = hu_bin_scores(sct, ct, mask)
    total = sum(bin["mae"] * bin["voxels"] for bin in bins.values())
    assert sum(bin["voxels"] for bin in bins.values()) == mask.sum()
    assert total / mask.sum() == pytest.approx(image_scores(sct, ct, mask)["mae"])
    edge = np.array([[[-850, -200, 200, -851]]], np.int16)
    counts = {name: bin["voxels"] for name, bin in hu_bin_scores(edge, edge, np.ones(edge.shape)).items()}
    assert counts == {"air": 1, "lung": 1, "soft": 1, "bone": 1}


def test_uncertainty_that_is_the_error_correlates_fully():
    sct, ct = body((10, 20, 30))
    error = np.abs(sct.astype(float) - ct)
    scores = uncertainty_scores(error, sct, ct, np.ones(ct.shape))
    assert scores["pearson"] == pytest.approx(1)
    assert [group["mae"] for group in scores["groups"]] == pytest.approx(
        [group["uncertainty"] for group in scores["groups"]]
    )
    flat = uncertainty_scores(np.ones(ct.shape), sct, ct, np.ones(ct.shape))
    assert math.isnan(flat["pearson"]) and flat["groups"] == []
