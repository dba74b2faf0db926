#!/usr/bin/env python3
"""The house, drawn and measured from its own files: rooms, floors, arrows, circles, long lines, and who knows what.

.venv/bin/python benchmarks/house.py                     the drawing, as docs/design.md has it
.venv/bin/python benchmarks/house.py --write             put it there
.venv/bin/python benchmarks/house.py --table 6919865 .   measures of commits or of the working tree (.), side by side
"""

import argparse
import ast
import re
import subprocess
import tempfile
from collections import defaultdict
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DESIGN = ROOT / "docs" / "design.md"
BEGIN, END = "<!-- drawn by benchmarks/house.py -->", "<!-- end of the drawing -->"
ARM = re.compile(r"""["'](impact|truth)["']""")  # names of arms that nothing else is called by
READS = re.compile(r"csv\.(reader|DictReader)\(|json\.loads?\(")


def imports(root: Path) -> dict[str, set[str]]:
    """{module: modules of the package that it imports, anywhere in it}, by dotted name without the package's own."""
    package = root / "bin" / "synthct"
    files = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }
    found = {}
    for module, path in files.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "synthct":
                inner = (node.module or "").removeprefix("synthct").lstrip(".")
                candidates = [f"{inner}.{alias.name}".lstrip(".") for alias in node.names]
                names |= {name if name in files else inner for name in candidates}
        found[module] = names - {"", "__init__", module}
    del found["__init__"]
    return found


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """{room: rooms that it imports}; modules that lie on no floor of their own make up the room ""."""

    def room(module: str) -> str:
        return module.rpartition(".")[0].split(".")[0] or (module if "." not in module and module in above else "")

    above = {module.split(".")[0] for module in graph if "." in module}
    found: dict[str, set[str]] = defaultdict(set)
    for module, names in graph.items():
        found[room(module)] |= {room(name) for name in names} - {room(module)}
    return dict(found)


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """{room: floor}, 0 for one that imports no other; {} where rooms import each other in a circle."""
    if circles(graph):
        return {}
    floor: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        floor[room] = max((floor[below] + 1 for below in graph.get(room, ())), default=0)
    return floor


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of more than one node that reach each other."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = [{other for other in reach[node] if node in reach.get(other, ())} | {node} for node in graph]
    return [set(group) for group in {frozenset(group) for group in groups if len(group) > 1}]


def _reached(graph: dict[str, set[str]], node: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph.get(node, ()))
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead += graph.get(one, ())
    return seen


def drawing(root: Path = ROOT) -> str:
    """Markdown: a Mermaid drawing of the rooms, and a table of their files and of the rooms that they import."""
    graph = imports(root)
    rooms = rooms_of(graph)
    floor = floors(rooms)
    order = sorted(rooms, key=lambda room: (floor[room], room))
    lines = [BEGIN, "```mermaid", "flowchart BT"]
    for level in sorted(set(floor.values())):
        lines += [f"    {room}" for room in order if floor[room] == level]
    for room in order:  # an arrow that goes without saying is left out: core is below everything
        said = set().union(*(_reached(rooms, below) for below in rooms[room]))
        lines += [f"    {room} --> {below}" for below in order if below in rooms[room] - said]
    lines += ["```", "", "Arrows lead from a room to those it imports; one that follows from others is left out.", ""]
    lines += ["| room | imports | files |", "|---|---|---|"]
    for room in order[::-1]:
        files = [module for module in graph if module.split(".")[0] == room and module != room]
        names = ", ".join(
            name.removeprefix(f"{room}.").replace(".", "/") for name in files if name not in _inner(graph)
        )
        below = ", ".join(name for name in order if name in rooms[room]) or "–"
        lines.append(f"| `{room}` | {below} | {names} |")
    return "\n".join([*lines, END]) + "\n"


def _inner(graph: dict[str, set[str]]) -> set[str]:
    """Rooms within rooms: packages, which hold no code of their own."""
    return {module.rpartition(".")[0] for module in graph if module.count(".") > 1}


def written(text: str, fresh: str) -> str:
    """`text` with the drawing in it replaced by a fresh one."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END + "\n")
    return before + fresh + after


def measures(root: Path) -> dict[str, object]:
    """What the table shows of one state of the house."""
    graph = imports(root)
    rooms = rooms_of(graph)
    python = [*sorted((root / "bin").rglob("*.py"))]
    engine = sorted(chain(root.glob("*.nf"), *(root.glob(f"{part}/**/*.{end}") for part, end in ENGINE)))
    functions = [
        (node.end_lineno - node.lineno + 1, f"{path.name}: {node.name}")
        for path in python
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    longest = max(
        (len(line), str(path.relative_to(root)))
        for path in [*python, *engine]
        for line in path.read_text().splitlines()
    )
    tools = {path.name: len(path.read_text().splitlines()) for path in (root / "bin").glob("*.py")}
    known = [path for path in [*python, *engine, root / "nextflow_schema.json"] if _code(path, ARM)]
    floor = floors(rooms)
    return {
        "modules": len(graph),
        "rooms": len([room for room in rooms if room]),
        "modules in no room": len([module for module in graph if "." not in module and module not in rooms]),
        "floors": max(floor.values()) + 1 if floor else "none: rooms import each other",
        "arrows between rooms": sum(map(len, rooms.values())),
        "arrows between modules": sum(map(len, graph.values())),
        "circles of rooms": len(circles(rooms)),
        "circles of modules": len(circles(graph)),
        "longest function": "{} ({})".format(*max(functions)),
        "longest line": "{} ({})".format(*longest),
        "longest tool": "{1} ({0})".format(*max(tools.items(), key=lambda item: item[1])),
        "tools of more than 60 lines": sum(lines > 60 for lines in tools.values()),
        "lines of Groovy in lib/": sum(len(path.read_text().splitlines()) for path in root.glob("lib/*.groovy")),
        "files that know an arm by name": len(known),
        "files that parse CSV or JSON": sum(bool(_code(path, READS)) for path in python),
    }


ENGINE = (("lib", "groovy"), ("modules", "nf"), ("workflows", "nf"))


def _code(path: Path, pattern: re.Pattern) -> bool:
    """Whether `pattern` stands in a file outside its docstrings and comments."""
    text = path.read_text()
    if path.suffix == ".py":
        text = ast.unparse(_Bare().visit(ast.parse(text)))
    return bool(pattern.search(re.sub(r"(?m)//.*$", "", text) if path.suffix in (".nf", ".groovy") else text))


class _Bare(ast.NodeTransformer):
    """Without docstrings."""

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) else node


def table(states: list[str]) -> str:
    """Markdown: the measures of commits (or ".") beside each other."""
    columns = []
    for state in states:
        if state == ".":
            columns.append(measures(ROOT))
            continue
        with tempfile.TemporaryDirectory() as scratch:
            packed = subprocess.run(["git", "archive", state], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", scratch], input=packed, check=True)
            columns.append(measures(Path(scratch)))
    rows = [f"| {key} | " + " | ".join(str(column[key]) for column in columns) + " |" for key in columns[0]]
    names = " | ".join("now" if state == "." else f"`{state}`" for state in states)
    return "\n".join([f"| | {names} |", "|---|" + "---|" * len(states), *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/design.md")
    parser.add_argument("--table", nargs="+", metavar="COMMIT", help="the measures of these")
    given = parser.parse_args()
    if given.table:
        print(table(given.table))
    elif given.write:
        DESIGN.write_text(written(DESIGN.read_text(), drawing()))
    else:
        print(drawing(), end="")


if __name__ == "__main__":
    main()
