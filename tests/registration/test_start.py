"""The rigid start: a move that is found and taken where it is better, and a file that is flipped."""

import numpy as np
import pytest
import registration_phantom as phantom
import SimpleITK as sitk
import torch
from registration_phantom import GRID

from synthct.cohort import curation
from synthct.core import presets
from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.registration import checks, pairwise, recipes
from synthct.registration.dense import rigid, start, trial
from synthct.registration.dense.freeform import Side, sides_of


@pytest.fixture(scope="module")
def case():
    return phantom.pair()


def test_a_rigid_start_finds_a_large_shift(case):
    fixed, moving, mask, truth = case
    away = Grid(moving.grid.size, moving.grid.spacing, tuple(np.array(moving.grid.origin) + (16.0, -9.0, 6.0)))
    section = phantom.section("cbct")
    result = pairwise.register(
        fixed, Volume(moving.array, away), mask, section, method="mind", modality="cbct", moving_is="ct", rigid=True
    )
    shifted = sitk.CompositeTransform([sitk.TranslationTransform(3, (16.0, -9.0, 6.0)), truth])
    assert phantom.error(result.transform, shifted, mask) < 2.5
    told = result.quality["rigid_start"]
    assert told["taken"] and told["move_mm"] == pytest.approx(np.linalg.norm((16.0, -9.0, 6.0)), abs=2)
    assert told["way_mm"][1] < told["way_mm"][0] and told["mind_change"] < 0


def test_an_arm_that_begins_where_the_images_lie_is_told_of_a_better_start(case):
    """A pair that lies 25 mm off and is not found so: the record says how far from the better move it ends."""
    fixed, moving, mask, _ = case
    shift = np.array([20.0, -12.0, 9.0])
    away = Volume(moving.array, Grid(moving.grid.size, moving.grid.spacing, tuple(moving.grid.origin + shift)))
    still = ('registration.rigid.engines=["sampled"]', "registration.dense.iterations=[1, 1, 1]")
    told = {"method": "mind", "modality": "cbct", "moving_is": "ct"}
    found = pairwise.register(fixed, away, mask, phantom.section("cbct", *still), **told).quality["rigid_start"]
    assert found["better"] and not found["taken"]
    assert found["apart_mm"] == pytest.approx(np.linalg.norm(shift), abs=4)
    began = pairwise.register(fixed, away, mask, phantom.section("cbct", *still), **told, rigid=True)
    assert began.quality["rigid_start"]["taken"] and began.quality["rigid_start"]["apart_mm"] < 3
    assert (
        "rigid_start"
        not in pairwise.register(
            fixed, away, mask, phantom.section("cbct", *still, "registration.rigid.enabled=false"), **told
        ).quality
    )


@pytest.mark.parametrize("preset, started", [("paper", {"mi", "mind"}), ("test", {"mi", "mind", "impact"})])
def test_which_arms_look_for_a_start(preset, started):
    """Ours by default; the paper's own recipe and Elastix start where the images lie, as published."""
    section = presets.section("registration", settings=None, preset=preset, modality="mr")
    arms = ("mi", "mind", "impact", "elastix", "none")
    assert {arm for arm in arms if pairwise.starts_rigidly(recipes.recipe(section, arm))} == started


def test_a_rigid_start_leaves_a_pair_that_is_in_place_bit_for_bit(case):
    fixed, moving, mask, _ = case
    started, straight = (
        pairwise.register(
            fixed, moving, mask, phantom.section("cbct"), method="mind", modality="cbct", moving_is="ct", rigid=rigid
        )
        for rigid in (True, False)
    )
    assert np.array_equal(started.displacement.array, straight.displacement.array)
    assert not started.quality["rigid_start"]["taken"] and "rigid_start" not in straight.quality


def test_the_search_finds_the_same_place_wherever_the_moving_image_lies(case):
    fixed, moving, mask, _ = case
    settings = recipes.recipe(phantom.section("cbct"), "mind").settings
    rules, inside = phantom.section("cbct")["rigid"], torch.as_tensor(mask.array).float()
    middle = np.array(fixed.grid.origin) + fixed.grid.matrix @ (np.array(fixed.grid.size) - 1) / 2
    found = []
    for shift in (np.zeros(3), np.array([15.0, 0, 0]), np.array([0, 0, 15.0]), np.array([9.0, -8.0, -9.0])):
        away = Grid(moving.grid.size, moving.grid.spacing, tuple(np.array(moving.grid.origin) + shift))
        moved = Side(Volume(moving.array, away), settings, "ct", "cpu", fixed.grid)
        sides = [Side(fixed, settings, "image", "cpu"), moved]
        move = rigid.find(sides, inside, rules, "cpu")
        matrix, offset, length = move.matrix, move.offset, move.length
        assert abs(length - np.linalg.norm(shift)) < 4
        found.append(matrix @ middle + offset - shift)
    assert np.abs(np.diff(found, axis=0)).max() < 1.5


def test_a_rigid_start_finds_a_pair_of_which_hardly_a_part_overlaps(case):
    """Too much to be two frames of reference, too little for a search from where it lies."""
    fixed, moving, mask, truth = case
    shift = (80.0, 0.0, 0.0)
    away = Volume(moving.array, Grid(GRID.size, GRID.spacing, tuple(np.add(GRID.origin, shift))))
    assert 0.05 < checks.overlap(fixed, away, mask) < 0.5
    result = pairwise.register(
        fixed, away, mask, phantom.section("cbct"), method="mind", modality="cbct", moving_is="ct", rigid=True
    )
    shifted = sitk.CompositeTransform([sitk.TranslationTransform(3, shift), truth])
    assert phantom.error(result.transform, shifted, mask) < 2.5


def test_a_moving_image_of_a_few_slices_stays_where_it_lies(case):
    """It covers a fifth of the mask wherever it lies: that its centre is another's says nothing."""
    fixed, moving, mask, truth = case
    few = Volume(moving.array[:11].copy(), Grid((*GRID.size[:2], 11), GRID.spacing, GRID.origin))
    assert 0.05 < checks.overlap(fixed, few, mask) < 0.5
    result = pairwise.register(
        fixed, few, mask, phantom.section("cbct"), method="mind", modality="cbct", moving_is="ct", rigid=True
    )
    assert phantom.error(result.transform, truth, result.mask) < 2.5


@pytest.mark.parametrize("size", [(1, 24, 28), (24, 3, 3)])
def test_a_mask_too_thin_for_the_search_goes_without_a_rigid_start(case, size):
    fixed, moving, mask, _ = case
    few = np.zeros_like(mask.array)
    few[tuple(slice(4, 4 + n) for n in size)] = 1
    said: list[str] = []
    settings = recipes.recipe(phantom.section("cbct"), "mind").settings
    sides = [Side(fixed, settings, "image", "cpu"), Side(moving, settings, "ct", "cpu", fixed.grid)]
    rules, inside = phantom.section("cbct")["rigid"], torch.as_tensor(few).float()
    found = start.settled(fixed, sides, inside, rules, "cpu", said.append)
    assert (found.matrix == np.eye(3)).all() and not found.offset.any() and not found.better
    assert "none sought" in said[0]


def _end(distance: np.ndarray, way: float, weight: np.ndarray | None = None) -> trial.End:
    weight = np.ones_like(distance) if weight is None else weight
    return trial.End(torch.tensor(distance).float(), torch.tensor(weight).float(), [5.0, 5.0, 5.0], way)


def test_a_move_that_loses_a_region_is_not_taken_however_much_it_wins_elsewhere():
    """A thigh whose skin lies elsewhere on another day: the skin is matched at the cost of the bone."""
    rules = phantom.section("mr")["rigid"]
    still = np.full((18, 18, 18), 0.25)
    moved = still - 0.05
    assert trial.better(_end(still, 8.0), _end(moved, 3.0), rules)
    assert not trial.better(_end(moved, 8.0), _end(still, 3.0), rules)  # MIND has the last word
    assert trial.better(_end(still, 8.0), _end(moved, 7.0), rules)  # no region has lost: the way need not tell
    moved[6:12, 6:12, 6:12] = 0.27
    assert trial.better(_end(still, 8.0), _end(moved, 3.0), rules)
    moved[6:12, 6:12, 6:12] = 0.35
    gain, worst = trial.compared(_end(still, 8.0), _end(moved, 3.0), 30.0)
    assert gain == pytest.approx(1 - moved.mean() / 0.25, abs=1e-5) and worst == pytest.approx(0.1, abs=1e-5)
    assert gain > 0.1 and not trial.better(_end(still, 8.0), _end(moved, 3.0), rules)


def test_the_more_a_move_wins_the_less_is_asked_of_way_and_worst_region():
    """A leg matched at another level: the right one is closer in the mean by 10 to 25 % (STS_039, 20 mm along z)."""
    rules = phantom.section("mr")["rigid"]
    still = np.full((18, 18, 18), 0.25)
    moved = still - 0.05
    moved[6:12, 6:12, 6:12] = 0.25 + 0.07
    assert trial.compared(_end(still, 8.0), _end(moved, 3.0), 30.0)[0] == pytest.approx(0.18, abs=0.01)
    assert trial.better(_end(still, 8.0), _end(moved, 7.0), rules)
    assert not trial.better(_end(still, 8.0), _end(moved, 8.1), rules)
    less = still - 0.015  # 5 %
    less[6:12, 6:12, 6:12] = 0.25 + 0.03
    assert trial.better(_end(still, 8.0), _end(less, 5.0), rules)
    assert not trial.better(_end(still, 8.0), _end(less, 7.0), rules)


def test_ends_are_compared_where_both_are_covered():
    rules = phantom.section("mr")["rigid"]
    still, moved = np.full((18, 18, 18), 0.25), np.full((18, 18, 18), 0.2)
    moved[12:] = 0.9  # beyond the moving image: says nothing
    covered = np.ones_like(moved)
    covered[12:] = 0
    assert trial.compared(_end(still, 8.0), _end(moved, 3.0, covered), 30.0)[0] == pytest.approx(0.2, abs=1e-5)
    hardly = np.zeros_like(moved)
    hardly[:2] = 1  # next to nothing lay inside before: each is judged by what it covers itself
    assert trial.better(_end(still, 8.0, hardly), _end(np.full((18, 18, 18), 0.18), 8.0), rules)
    assert not trial.better(_end(still, 8.0, hardly), _end(np.full((18, 18, 18), 0.24), 3.0), rules)  # by chance
    assert trial.better(_end(still, 0.0, 0 * hardly), _end(np.full((18, 18, 18), 0.3), 8.0), rules)  # 60 mm off
    most = np.ones_like(moved)
    most[:7] = 0  # of a way on a part of the body nothing is asked where the mean says it
    nearer = np.full((18, 18, 18), 0.17)
    nearer[9:15, 6:12, 6:12] = 0.3
    assert trial.better(_end(still, 2.0, most), _end(nearer, 3.0), rules)
    assert not trial.better(_end(still, 2.0), _end(nearer, 3.0), rules)
    nothing = np.zeros_like(moved)
    nothing[16:] = 1
    gain, worst = trial.compared(_end(still, 8.0, hardly), _end(np.full((18, 18, 18), 0.2), 8.0, nothing), 30.0)
    assert gain == pytest.approx(0.2, abs=1e-5) and worst == 0


@pytest.mark.parametrize(
    ("axes", "stored", "beside", "said"),
    [
        ((), "LPS", "LPS", ""),
        ((2,), "LPS", "LPS", "left to right"),
        ((2,), "PIR", "LPS", "left to right"),
        ((1,), "LPS", "PIL", "front to back"),
        ((0,), "LPS", "LPS", "head to feet"),
        ((1, 2), "LPS", "LPS", "left to right and front to back"),
    ],
)
def test_a_flipped_file_matches_better_mirrored(case, axes, stored, beside, said):
    """Voxels written the wrong way round below a header that stayed; in whatever order the file keeps its axes."""
    fixed, moving, mask, _ = case
    flipped = from_sitk(sitk.DICOMOrient(to_sitk(moving.with_array(np.flip(moving.array, axes).copy())), stored))
    fixed, mask = (from_sitk(sitk.DICOMOrient(to_sitk(one), beside)) for one in (fixed, mask))
    recipe = recipes.recipe(phantom.section("cbct"), "mind")
    sides = sides_of(fixed, flipped, recipe.settings, "ct", "cpu")
    inside = torch.as_tensor(mask.array).float()
    told = start.settled(fixed, sides, inside, recipe.rigid, "cpu", lambda line: None).told
    if said:
        assert told["mirror"] == said and told["mirror_ratio"] > 1.3
    else:
        assert told["mirror_ratio"] < 0.8


def test_two_that_lean_to_either_side_are_not_flipped(case):
    """A head leant left in one image and right in the other: mirrored they lie alike, yet turned they match better."""
    _, body, mask, _ = case
    centre = body.grid.points(np.array([[(n - 1) / 2 for n in body.grid.shape]]))[0].tolist()
    even = body.with_array((0.6 * body.array + 0.4 * body.array[:, :, ::-1]).astype(np.int16))
    fixed, moving = (
        pairwise.warp(even, sitk.VersorTransform((0.0, 0.0, 1.0), turn, centre), body.grid, outside=-1024)
        for turn in np.radians((5.0, -5.0)).tolist()
    )
    recipe = recipes.recipe(presets.resolve("paper", "cbct")["registration"], "mind")
    sides = sides_of(fixed, moving, recipe.settings, "ct", "cpu")
    inside = torch.as_tensor(mask.array).float()
    told = start.settled(fixed, sides, inside, recipe.rigid, "cpu", lambda line: None).told
    assert told["mirror"] == "left to right" and told["mirror_ratio"] < 1


def test_a_flipped_pair_is_left_out_also_of_an_arm_without_a_start(case):
    """Elastix and the paper's recipe begin where the images lie: the record says it all the same."""
    fixed, moving, mask, _ = case
    flipped = moving.with_array(moving.array[:, :, ::-1].copy())
    quick = ('registration.rigid.engines=["sampled"]', "registration.dense.iterations=[1, 1, 1]")
    record = pairwise.register(
        fixed, flipped, mask, phantom.section("cbct", *quick), method="mind", modality="cbct", moving_is="ct"
    ).quality
    settings = presets.resolve("paper", "cbct", ["curation.mode=auto"])["curation"]
    (row,) = curation.curate({"P1": record | {"patient": "P1"}}, settings)
    scores = dict((said, score) for score, said in curation._measures(record, settings["limits"]))
    (mirrored,) = (score for said, score in scores.items() if said.startswith("mirrored left to right"))
    assert mirrored > 1 and not row["kept"]
