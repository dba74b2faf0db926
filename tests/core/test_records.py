"""Folds files: who learns and who judges, told apart before anything is trained."""

import json

import pytest

from synthct.core.errors import InputError
from synthct.core.records import read_folds

GOOD = {"test": ["T"], "folds": [{"train": ["A", "B"], "validation": ["C"]}, {"train": ["C"], "validation": []}]}


def test_training_and_validation_of_each_fold(tmp_path):
    (tmp_path / "folds.json").write_text(json.dumps(GOOD))
    assert read_folds(tmp_path / "folds.json") == [(["A", "B"], ["C"]), (["C"], [])]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folds": [{"train": ["A", "B"], "validation": ["B"]}]}, "fold 0: patient 'B' is in train and in validation"),
        ({"folds": [GOOD["folds"][0], {"train": ["T"], "validation": ["A"]}]}, "fold 1: patient 'T' is of the test"),
        ({"folds": [{"train": ["A"], "validation": ["T"]}]}, "fold 0: patient 'T' is of the test"),
        ({"folds": [{"train": ["A", "B", "A"], "validation": []}]}, "fold 0: train: patient 'A' stands there twice"),
        ({"folds": [{"train": "A", "validation": ["B"]}]}, "fold 0: train is 'A', expected a list of patients"),
        ({"folds": [{"train": [1], "validation": ["B"]}]}, r"fold 0: train is \[1\], expected a list of patients"),
        ({"folds": [{"train": ["A"]}]}, "fold 0: validation is None, expected a list"),
        ({"folds": {"train": ["A"]}}, "folds is {'train'"),
        ({"test": "T"}, "test is 'T', expected a list"),
    ],
)
def test_a_leak_between_the_lists_is_refused(tmp_path, change, said):
    (tmp_path / "folds.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError, match=f"folds.json.*{said}"):
        read_folds(tmp_path / "folds.json")
