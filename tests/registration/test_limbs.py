"""Two limbs that moved differently: told apart, started each on its own, and joined without a fold."""

import numpy as np
import pytest
import registration_phantom as phantom
import SimpleITK as sitk
import torch

from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.registration import pairwise
from synthct.registration.dense import limbs
from synthct.registration.dense.start import Start
from synthct.registration.dense.warp import PointMap
from synthct.registration.transform import as_composite, write_transform

GRID = Grid((96, 40, 30), (4.0, 4.0, 5.0), (-190.0, 30.0, -60.0))
SHIFTS = (np.array([4.0, 0.0, 15.0]), np.array([-3.0, 6.0, -14.0]))


def discs(*rows: tuple[float, ...], depth: int = 30) -> np.ndarray:
    """Slices (z, y, x) with discs of (middle x, radius) mm, and slices from a third to a fourth number."""
    inside = np.zeros((depth, 40, 96), bool)
    y, x = np.meshgrid(4.0 * np.arange(40) - 80, 4.0 * np.arange(96), indexing="ij")
    for middle, radius, *slices in rows:
        first, last = slices or (0, depth)
        inside[int(first) : int(last)] |= (x - middle) ** 2 + y**2 < radius**2
    return inside


def parts_of(inside: np.ndarray, least: float = 0.1) -> list[np.ndarray]:
    return limbs.limbs(Volume(inside.astype(np.uint8), GRID), least)


@pytest.mark.parametrize(
    "rows, shares",
    [
        ([(190, 75)], []),
        ([(100, 70), (280, 70)], [0.5, 0.5]),
        ([(125, 70), (255, 70)], [0.5, 0.5]),  # their rims touch
        ([(150, 75), (230, 75)], []),  # one body, broader than deep
        ([(115, 70, 0, 18), (265, 70, 0, 18), (190, 78, 18, 30)], [0.354, 0.354, 0.292]),  # legs below a pelvis
        ([(190, 78), (60, 40, 5, 20), (330, 40, 5, 20)], [0.79, 0.1, 0.1]),  # a chest between arms
        ([(190, 78), (60, 40, 5, 12), (330, 40, 5, 20)], [0.9, 0.1]),  # an arm too short goes with the chest
    ],
)
def test_what_moves_on_its_own(rows, shares):
    inside = discs(*rows)
    parts = parts_of(inside, 0.09)
    assert sorted(part.sum() / inside.sum() for part in parts) == pytest.approx(sorted(shares), abs=0.02)
    if parts:
        assert (sum(part.astype(int) for part in parts) == inside).all()


@pytest.mark.parametrize("order", ["RAS", "PIL", "SRP"])
def test_limbs_are_the_same_however_the_file_is_stored(order):
    inside = discs((115, 70, 0, 18), (265, 70, 0, 18), (190, 78, 18, 30))
    mask = Volume(inside.astype(np.uint8), GRID)
    stored = from_sitk(sitk.DICOMOrient(to_sitk(mask), order))
    back = [
        sitk.GetArrayFromImage(sitk.DICOMOrient(to_sitk(stored.with_array(part.astype(np.uint8))), "LPS"))
        for part in limbs.limbs(stored, 0.1)
    ]
    assert len(back) == 3 and all((one == other).all() for one, other in zip(back, limbs.limbs(mask, 0.1), strict=True))


def _turn(degrees: float, about: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    move = sitk.Euler3DTransform()
    move.SetRotation(0.0, 0.0, np.radians(degrees))
    matrix = np.reshape(move.GetMatrix(), (3, 3))
    return matrix, about - matrix @ about


def test_each_limb_goes_with_its_own_move():
    inside = discs((100, 70), (280, 70))
    parts = parts_of(inside)
    moves = [_turn(8.0, np.array([-90.0, 110.0, 0.0])), (np.eye(3), SHIFTS[1])]
    rest = (np.eye(3), np.array([2.0, 3.0, 4.0]))
    bend = limbs.blend(Volume(inside.astype(np.uint8), GRID), parts, moves, rest)
    start = Start(*rest, {}, bend)
    for part, (matrix, offset) in zip(parts, moves, strict=True):
        points = GRID.points(np.argwhere(part))[::17]
        assert np.linalg.norm(start.at(points) - points @ matrix.T - offset, axis=1).max() < 0.5


def test_a_bend_is_the_same_for_numpy_torch_and_itk():
    inside = discs((115, 70, 0, 18), (265, 70, 0, 18), (190, 78, 18, 30))
    moves = [(np.eye(3), SHIFTS[0]), (np.eye(3), SHIFTS[1]), (np.eye(3), np.zeros(3))]
    rest = _turn(5.0, np.array([0.0, 110.0, 0.0]))
    moves = [(matrix @ rest[0], matrix @ rest[1] + offset) for matrix, offset in moves]
    bend = limbs.blend(Volume(inside.astype(np.uint8), GRID), parts_of(inside), moves, rest)
    start = Start(*rest, {}, bend)
    points = GRID.points(np.random.default_rng(1).uniform(0, 1, (500, 3)) * (np.array(GRID.shape) - 1))
    expected = start.at(points)
    itk = as_composite(*start.transforms())
    assert np.abs(np.array([itk.TransformPoint(point) for point in points.tolist()]) - expected).max() < 1e-3
    moving = Grid((50, 60, 40), (5.0, 6.0, 7.0), (-150.0, 10.0, -100.0))
    box = tuple((0, n) for n in moving.shape)
    mapped = PointMap(GRID, moving, *rest, box, bend=bend)
    unit = mapped.moved(mapped.unit(torch.tensor(points).float()), torch.zeros(3, len(points))).numpy()
    span = (np.array(moving.size) - 1) * moving.spacing
    assert np.abs((unit + 1) / 2 * span + moving.origin - expected).max() < 1e-2
    far = points + np.array([0.0, 0.0, 400.0])  # beyond the grid of the bend: the move of all
    there = np.array([itk.TransformPoint(point) for point in far.tolist()])
    assert np.abs(there - (far @ rest[0].T + rest[1])).max() < 1e-3 and np.abs(there - start.at(far)).max() < 1e-3
    # displacements come before the bend
    shift = torch.tensor([[1.0], [2.0], [-3.0]]).expand(3, len(points))
    unit = mapped.moved(mapped.unit(torch.tensor(points).float()), shift).numpy()
    assert np.abs((unit + 1) / 2 * span + moving.origin - start.at(points + [1.0, 2.0, -3.0])).max() < 1e-2


def test_nobody_is_cut_in_two():
    """A slice without mask, a slit, lungs as holes, an outline that trembles about where thighs begin to be two."""
    trunk = discs((190, 78))
    trunk[14] = False
    assert parts_of(trunk) == []
    trunk[14:16] = discs((190, 78))[14:16]
    trunk[14:16, :, 47:49] = False
    assert parts_of(trunk) == []
    assert parts_of(discs((190, 78)) & ~discs((155, 28, 8, 22), (225, 28, 8, 22))) == []
    shaken = np.random.default_rng(2)
    for gap in (112, 116, 120, 124, 128):
        legs = np.zeros_like(trunk)
        for k in range(len(legs)):
            near = 190 - gap / 2 + shaken.uniform(-4, 4), 190 + gap / 2 + shaken.uniform(-4, 4)
            legs[k] = discs((near[0], 70), (near[1], 70), depth=1)[0]
        assert len(parts_of(legs)) in (0, 2, 3)


BODY = [(115, 70, 0, 18), (265, 70, 0, 18), (190, 78, 18, 30)]


@pytest.mark.parametrize("rows", [[(100, 70), (280, 70)], [(125, 70), (255, 70)], BODY])
def test_a_blend_keeps_volumes_and_leaves_each_limb_its_move(rows):
    """Measured on the map itself, between the points of its grid, for moves at random; None is an answer too."""
    inside, joined = discs(*rows), 0
    mask, parts = Volume(inside.astype(np.uint8), GRID), parts_of(inside)
    random = np.random.default_rng(4)
    points = GRID.points(np.argwhere(inside)[::41] + random.uniform(-0.5, 0.5, (len(np.argwhere(inside)[::41]), 3)))
    still = (np.eye(3), np.zeros(3))
    for _ in range(12):
        centres = [GRID.points(np.argwhere(part)).mean(0) for part in parts]
        moves = []
        for centre in centres:
            matrix, offset = _turn(random.normal(0, 4), centre)
            moves.append((matrix, offset + random.normal(0, 6, 3)))
        bend = limbs.blend(mask, parts, moves, still)
        if bend is None:
            continue
        joined += 1
        start, step = Start(*still, {}, bend), 0.01
        slopes = [(start.at(points + step * axis) - start.at(points)) / step for axis in np.eye(3)]
        volumes = np.linalg.det(np.stack(slopes, -1))
        assert volumes.min() > 0.28 and volumes.max() < 3.5
        for part, (matrix, offset) in zip(parts, moves, strict=True):
            own = GRID.points(np.argwhere(part))[::17]
            assert np.linalg.norm(start.at(own) - own @ matrix.T - offset, axis=1).mean() < 2.3
    assert joined >= 2


@pytest.mark.parametrize(
    "rows, shift", [([(125, 70), (255, 70)], (20.0, 0, 0)), (BODY, (0, 0, 70.0)), (BODY, (0, 0, -70.0))]
)
def test_moves_that_no_blend_can_join(rows, shift):
    """Thighs that touch, into one another; a pelvis of 60 mm, and one leg moved by 70 up, the other one down."""
    inside = discs(*rows)
    mask, parts = Volume(inside.astype(np.uint8), GRID), parts_of(inside)
    moves = [(np.eye(3), side * np.array(shift)) for side in (1, -1, 0)][: len(parts)]
    assert limbs.blend(mask, parts, moves, (np.eye(3), np.zeros(3))) is None


def two_limbs():
    """(fixed, moving, mask, truth): two bodies beside one another, the moving ones shifted by `SHIFTS`."""
    grid = phantom.GRID
    width = grid.size[0] + 8
    both = Grid((2 * width, *grid.size[1:]), grid.spacing, grid.origin)
    fixed = np.full(both.shape, -1000, np.int16)
    moving, mask, place = fixed.copy(), np.zeros(both.shape, np.uint8), []
    for side, (seed, shift) in enumerate(zip((3, 8), SHIFTS, strict=True)):
        one = Volume(phantom.body(grid, seed), grid)
        moved = pairwise.warp(one, sitk.TranslationTransform(3, (-shift).tolist()), grid, outside=-1000)
        columns = slice(side * width + 4, side * width + 4 + grid.size[0])
        fixed[:, :, columns], moving[:, :, columns] = one.array, moved.array
        inside = one.array > -900
        mask[:, :, columns] = inside
        place.append(columns)
    return Volume(fixed, both), Volume(moving, both), Volume(mask, both), place


@pytest.fixture(scope="module")
def pair():
    return two_limbs()


def _errors(result, mask: Volume, place) -> list[float]:
    """Mean distance (mm) from its shift of each limb's displacement, its ends (from which it moved) left out."""
    inner = np.zeros_like(mask.array)
    inner[7:-7] = mask.array[7:-7]
    found = []
    for columns, shift in zip(place, SHIFTS, strict=True):
        limb = np.zeros_like(inner)
        limb[:, :, columns] = inner[:, :, columns]
        found.append(float(np.linalg.norm(result.displacement.array[limb > 0] - shift, axis=1).mean()))
    return found


def test_two_limbs_that_moved_differently_are_found(pair, tmp_path):
    fixed, moving, mask, place = pair
    how = {"method": "mind", "modality": "cbct", "moving_is": "ct"}
    one = pairwise.register(
        fixed, moving, mask, phantom.section("cbct", "registration.rigid.least_limb=1"), rigid=True, **how
    )
    result = pairwise.register(fixed, moving, mask, phantom.section("cbct"), rigid=True, **how)
    errors = _errors(result, mask, place)
    assert max(errors) < 1.5 < max(_errors(one, mask, place)) / 3
    told = result.quality["rigid_start"]
    assert told["taken"] and [limb["better"] for limb in told["limbs"]] == [True, True]
    assert [limb["move_mm"] for limb in told["limbs"]] == pytest.approx(
        [np.linalg.norm(shift) for shift in SHIFTS], abs=2
    )
    assert told["apart_mm"] < 5 and result.quality["folding_fraction"] == 0
    write_transform(result.transform, str(tmp_path / "found.h5"))
    read = sitk.ReadTransform(str(tmp_path / "found.h5"))
    for index in np.argwhere(mask.array)[::5003]:
        point = fixed.grid.points(index[None])[0]
        moved = point + result.displacement.array[tuple(index)]
        assert read.TransformPoint(point.tolist()) == pytest.approx(moved.tolist(), abs=1e-2)


def test_a_limb_that_the_moving_image_does_not_show_stays(pair):
    """It would be moved onto the other one, which is there."""
    fixed, _, mask, place = pair
    shown = fixed.array[:, :, : place[0].stop].copy()
    half = Volume(shown, Grid(shown.shape[::-1], fixed.grid.spacing, fixed.grid.origin))
    how = {"method": "mind", "modality": "cbct", "moving_is": "ct"}
    result = pairwise.register(fixed, half, mask, phantom.section("cbct"), rigid=True, **how)
    told = result.quality["rigid_start"]
    assert not told["taken"] and [limb.get("better", False) for limb in told["limbs"]] == [False, False]
    assert "move_mm" in told["limbs"][0] and "move_mm" not in told["limbs"][1]


def test_what_is_taken_is_judged_by_what_it_moves():
    """One limb of two goes 12 mm and the registration ends there: the other one, which stays, counts in no mean."""
    inside = discs((100, 70), (280, 70))
    mask, parts = Volume(inside.astype(np.uint8), GRID), parts_of(inside)
    still, moves = (np.eye(3), np.zeros(3)), [(np.eye(3), np.array([0.0, 0.0, 12.0])), (np.eye(3), np.zeros(3))]
    start = Start(*still, {}, limbs.blend(mask, parts, moves, still), parts[0])
    ends = np.where(parts[0][..., None], [0.0, 0.0, 11.0], [9.0, 0.0, 0.0]).astype(np.float32)
    assert start.apart(Volume(ends, GRID), inside) == pytest.approx(1.0, abs=0.2)
    assert start.apart(Volume(ends, GRID), parts[1]) == pytest.approx(9.0, abs=0.2)  # nothing else is left to judge by


def test_limbs_that_lie_in_place_change_nothing(pair):
    fixed, _, mask, _ = pair
    how = {"method": "mind", "modality": "cbct", "moving_is": "ct"}
    one, limb_by_limb = (
        pairwise.register(fixed, fixed, mask, phantom.section("cbct", *more), rigid=True, **how)
        for more in (("registration.rigid.least_limb=1",), ())
    )
    assert len(limb_by_limb.quality["rigid_start"]["limbs"]) == 2 and "limbs" not in one.quality["rigid_start"]
    assert not limb_by_limb.quality["rigid_start"]["taken"]
    assert np.array_equal(one.displacement.array, limb_by_limb.displacement.array)
