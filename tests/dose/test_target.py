"""Targets: where the standard one lies, and which are refused with a reason."""

import numpy as np
import pytest

from synthct.core.errors import InputError, PairError
from synthct.dose.density import averaged, planning_grid, read_table, share
from synthct.dose.target import require_plannable, standard_target
from synthct.images.grid import Grid, Volume


def cylinder(radius: float, slices: int = 20, spacing: float = 5.0, size: int = 40) -> np.ndarray:
    y, x = (np.indices((size, size)) - (size - 1) / 2) * spacing
    return np.repeat(((x**2 + y**2) < radius**2)[None], slices, 0)


def test_the_standard_target_lies_in_the_middle_and_clear_of_every_edge():
    body = cylinder(80)
    body[:, 18:22, 18:22] = False  # an airway from end to end is no surface
    target = standard_target(body, 5.0, [25, 25, 20], 20)
    assert np.abs(np.argwhere(target).mean(0) - [9.5, 19.5, 19.5]).max() <= 0.51
    assert target.sum() * 0.125 == pytest.approx(4 / 3 * np.pi * 2.5 * 2.5 * 2, rel=0.1)
    for axis in range(3):
        places = np.nonzero(target.any(tuple(i for i in range(3) if i != axis)))[0]
        assert 5 * places.min() >= 20


def test_of_two_legs_one_is_treated_and_not_the_air_between():
    body = np.concatenate([cylinder(50, size=24), cylinder(50, size=24)], axis=2)
    target = standard_target(body, 5.0, [25, 25, 20], 10)
    assert not (target & ~body).any()


def test_a_thin_stack_has_no_room_for_a_target():
    with pytest.raises(PairError, match="more slices"):
        standard_target(cylinder(80, slices=6), 5.0, [25, 25, 20], 20)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("none", "no voxel"),
        ("outside the body", "outside the body"),
        ("air", "which is air"),
        ("cut", "field of view"),
        ("small", "voxels of the dose grid"),
    ],
)
def test_what_cannot_be_planned_on_is_said(change, reason):
    body = cylinder(60)
    hu = np.where(body, 0.0, -1000.0)
    target = np.zeros_like(body)
    target[8:12, 18:22, 18:22] = True
    kept = 1.0
    if change == "none":
        target[:] = False
    elif change == "outside the body":
        target = np.roll(target, 12, axis=2)
    elif change == "air":
        hu[target] = -1000
    elif change == "cut":
        kept = 0.7
    elif change == "small":
        target[9:] = False
    with pytest.raises(PairError, match=reason):
        require_plannable(target, body, hu, kept, -900)


def test_a_turned_image_fills_the_same_planning_voxels():
    """A sagittal stack of the same block has the same densities on the patient's axes."""
    array = np.zeros((6, 10, 8), np.float32)
    array[2:4, 4:8, 2:6] = 1
    straight = Volume(array, Grid((8, 10, 6), (2.5, 2.5, 5.0), (0.0, 0.0, 0.0)))
    turned = Volume(
        array.transpose(2, 1, 0).copy(), Grid((6, 10, 8), (5.0, 2.5, 2.5), (0.0, 0.0, 0.0), (0, 0, 1, 0, 1, 0, 1, 0, 0))
    )
    grid = planning_grid(straight.grid, 5.0)
    assert grid == planning_grid(turned.grid, 5.0)
    assert np.allclose(averaged(straight, grid), averaged(turned, grid), atol=1e-5)
    assert share(straight, grid).sum() * 125 == pytest.approx(array.sum() * 2.5 * 2.5 * 5, rel=0.01)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,1\n", "two rows"),
        ("0,1\n0,2\n", "rise"),
        ("HU,value\n-1000,-1\n0,1\n", "0 or more"),
        ("0,1\n1,x\n", "line 2"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, reason):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_table(path)


def test_a_table_may_have_a_header(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("HU,rsp\n-1000,0\n0,1\n2000,2\n")
    assert read_table(path) == [[-1000, 0], [0, 1], [2000, 2]]
