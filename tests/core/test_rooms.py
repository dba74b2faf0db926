"""The rooms of the package: imports run downwards only, and no two modules import each other in a circle."""

import importlib.util
from graphlib import TopologicalSorter

import pytest

# A room may import from itself and from those before it.
ROOMS = (
    "core",
    "images",
    "cases",
    "cohort",
    "networks",
    "registration",
    "evaluation",
    "training",
    "prediction",
    "dose",
    "study",
    "report",
)


@pytest.fixture(scope="module")
def house(root):
    """benchmarks/house.py, which draws what is tested here."""
    spec = importlib.util.spec_from_file_location("house", root / "benchmarks" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def graph(house, root):
    return house.imports(root)


def test_imports_run_downwards(graph):
    for module, names in graph.items():
        for name in names:
            here, there = module.split(".")[0], name.split(".")[0]
            assert ROOMS.index(there) <= ROOMS.index(here), f"{module} imports {name}: {there} lies above {here}"


def test_no_module_imports_itself_through_others(graph):
    TopologicalSorter(graph).prepare()  # raises CycleError and names the circle


def test_the_drawing_in_the_docs_is_current(house, root):
    """`make docs` draws it anew."""
    text = (root / "docs" / "design.md").read_text()
    assert house.BEGIN in text
    assert house.written(text, house.drawing(root)) == text, "make docs"
