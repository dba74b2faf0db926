"""Examples in docstrings run: each room's front files have some."""

import doctest
import importlib

import pytest

FRONT = (
    "core.arms",
    "core.presets",
    "core.tables",
    "images.grid",
    "cases.intensity",
    "cohort.folds",
    "networks.losses",
    "registration.recipes",
    "evaluation.metrics.image",
    "evaluation.similarity",
    "training.schedule",
    "prediction.bundle_options",
    "prediction.inference",
    "dose.density",
    "dose.outputs",
    "study.arms",
    "study.check",
    "study.rows",
    "report.numbers",
)


@pytest.mark.parametrize("name", FRONT)
def test_examples_of_a_front_file_run(name):
    result = doctest.testmod(importlib.import_module(f"synthct.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_room_has_examples(root):
    rooms = {path.parent.name for path in (root / "bin" / "synthct").glob("*/__init__.py")}
    assert rooms == {name.split(".")[0] for name in FRONT}
