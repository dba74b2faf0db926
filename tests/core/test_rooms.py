"""The rooms of the package: imports run downwards only, and no two modules import each other in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

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


def imports(root: Path) -> dict[str, set[str]]:
    """{module: modules of the package that it imports, anywhere in it}, by dotted name without the package's own."""
    package = root / "bin" / "synthct"
    files = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    found = {}
    for module, path in files.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("synthct"):
                inner = node.module.removeprefix("synthct").lstrip(".")
                candidates = [f"{inner}.{alias.name}".lstrip(".") for alias in node.names]
                names |= {name if name in files else inner for name in candidates}
        found[module] = names - {"", "__init__"}
    return found


def test_imports_run_downwards(root):
    for module, names in imports(root).items():
        if module == "__init__":
            continue
        for name in names:
            here, there = module.split(".")[0], name.split(".")[0]
            assert ROOMS.index(there) <= ROOMS.index(here), f"{module} imports {name}: {there} lies above {here}"


def test_no_module_imports_itself_through_others(root):
    graph = {module: names - {module} for module, names in imports(root).items()}
    TopologicalSorter(graph).prepare()  # raises CycleError and names the circle
