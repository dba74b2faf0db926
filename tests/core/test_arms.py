"""What a table of an arm may say: a look that cannot be drawn is known before anything is computed."""

import pytest

from synthct.core.arms import MARKERS, completed
from synthct.core.errors import InputError
from synthct.report.figures.style import MARKER_WORDS


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"engine": "none", "marker": "banana"}, "marker: 'banana', expected one of o s D"),
        ({"engine": "none", "marker": "sD"}, "marker: 'sD'"),
        ({"engine": "none", "colour": "greenish"}, "colour: 'greenish', expected #RRGGBB"),
        ({}, "engine: missing, expected one of elastix, dense"),
    ],
)
def test_a_table_that_cannot_be_drawn_or_run(told, expected):
    with pytest.raises(InputError, match=f"registration.arms.mine.{expected}"):
        completed({"arms": {"mine": told}})


def test_every_marker_has_words():
    assert set(MARKERS) == set(MARKER_WORDS)
