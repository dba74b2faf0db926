"""The rules of RO-Crate 1.1 and of Workflow Run Crate 0.5 that a run's provenance keeps, written down once."""

import json
import re
from datetime import date
from pathlib import Path
from urllib.parse import unquote

PROFILES = {f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow")}
PLACE = re.compile(r"(^|[\s=,;:'\"(])/\w|file:|\\")  # a path of a machine
LINKS = ("hasPart", "mainEntity", "mentions", "instrument", "object", "result", "input", "identifier", "license")
LINKS += ("softwareRequirements", "programmingLanguage", "exampleOfWork", "about")


def read(results: Path) -> dict:
    return json.loads((results / "ro-crate-metadata.json").read_text())


def entities(content: dict) -> dict[str, dict]:
    return {entity["@id"]: entity for entity in content["@graph"]}


def kinds(entity: dict) -> set[str]:
    return set(many(entity["@type"]))


def many(value) -> list:
    return value if isinstance(value, list) else [value]


def linked(entity: dict, key: str) -> list[str]:
    """The @ids that a property refers to."""
    return [one["@id"] for one in many(entity.get(key, [])) if isinstance(one, dict) and "@id" in one]


def faults(content: dict, results: Path) -> list[str]:
    """A line for each rule that `content` breaks as the provenance of the files in `results`."""
    found = entities(content)
    said = [f"{entity['@id']}: stands twice" for entity in content["@graph"] if found[entity["@id"]] is not entity]
    said += [line for entity in found.values() for line in _form(entity, found)]
    said += _head(content, found)
    reached, open_ = set(), ["./"]
    while open_:
        name = open_.pop()
        if name in found and name not in reached:
            reached.add(name)
            open_ += linked(found[name], "hasPart")
    for name, entity in found.items():
        if not kinds(entity) & {"File", "Dataset"}:
            continue
        place = results / unquote(name)
        if name not in reached:
            said.append(f"{name}: no hasPart leads to it from the root")
        if ("Dataset" in kinds(entity)) != name.endswith("/"):
            said.append(f"{name}: a Dataset ends in '/', and nothing else")
        if not (place.is_dir() if "Dataset" in kinds(entity) else place.is_file()):
            said.append(f"{name}: not among the results")
    return said


def _form(entity: dict, found: dict) -> list[str]:
    """Flat, with references that lead somewhere, and values that are what they are called."""
    name, said = entity["@id"], []
    for key, value in entity.items():
        for one in many(value):
            if isinstance(one, dict) and one.keys() != {"@id"}:
                said.append(f"{name}, {key}: nested, expected a reference")
            if isinstance(one, list) or one is None:
                said.append(f"{name}, {key}: {one!r}")
            if isinstance(one, str) and PLACE.search(one):
                said.append(f"{name}, {key}: {one!r} names a place")
        if key in LINKS:
            said += [f"{name}, {key}: {one} is not described" for one in linked(entity, key) if one not in found]
    if "sha256" in entity and not re.fullmatch("[0-9a-f]{64}", entity["sha256"]):
        said.append(f"{name}: sha256 {entity['sha256']!r}")
    if "contentSize" in entity and not (isinstance(entity["contentSize"], str) and entity["contentSize"].isdigit()):
        said.append(f"{name}: contentSize {entity['contentSize']!r}")
    if not entity.get("@type") or ("name" not in entity and name not in ("ro-crate-metadata.json",)):
        said.append(f"{name}: no type or no name")
    return said


def _head(content: dict, found: dict) -> list[str]:
    """The metadata descriptor, the root, the workflow, its run and its parameters."""
    said = []
    if "https://w3id.org/ro/crate/1.1/context" not in many(content["@context"]):
        said.append("@context: not that of RO-Crate 1.1")
    descriptor, root = found.get("ro-crate-metadata.json", {}), found.get("./", {})
    if descriptor.get("@type") != "CreativeWork" or linked(descriptor, "about") != ["./"]:
        said.append("no metadata descriptor that is about the root")
    if "https://w3id.org/ro/crate/1.1" not in linked(descriptor, "conformsTo"):
        said.append("the metadata descriptor does not name RO-Crate 1.1")
    if root.get("@type") != "Dataset" or not all(root.get(key) for key in ("name", "description", "license")):
        return [*said, "the root is no Dataset with name, description and licence"]
    try:
        date.fromisoformat(root.get("datePublished", ""))
    except ValueError:
        said.append(f"root, datePublished: {root.get('datePublished')!r}")
    if not set(linked(root, "conformsTo")) >= PROFILES:
        said.append("the root does not name the profiles")
    said += [f"profile {one}: not described" for one in linked(root, "conformsTo") if one not in found]
    (main,) = linked(root, "mainEntity") or [""]
    workflow = found.get(main, {"@type": []})
    if not kinds(workflow) >= {"File", "SoftwareSourceCode", "ComputationalWorkflow"}:
        said.append("mainEntity: no workflow")
    actions = [entity for entity in found.values() if entity["@type"] == "CreateAction"]
    if [linked(action, "instrument") for action in actions] != [[main]]:
        said.append("expected one CreateAction, of the workflow")
    said += [
        f"{one['@id']}: the root does not mention it" for one in actions if one["@id"] not in linked(root, "mentions")
    ]
    formal = {name for name, entity in found.items() if entity["@type"] == "FormalParameter"}
    if formal != set(linked(workflow, "input")):
        said.append("the workflow's inputs are not the parameters")
    said += [f"{name}: no additionalType" for name in formal if not found[name].get("additionalType")]
    realised = {one for entity in found.values() for one in linked(entity, "exampleOfWork")}
    if realised != formal:
        said.append(f"parameters without a value, or values without one: {sorted(realised ^ formal)}")
    return said


def run_of(mode: str, **parameters) -> dict:
    """What lib/Provenance.groovy tells of a run."""
    return {
        "workflow": {
            "name": "synthct/synthct",
            "version": "0.1.0",
            "description": "Synthetic CT",
            "url": "https://github.com/synthct/synthct",
            "license": "MIT",
            "revision": None,
            "commit": None,
            "code": "0123456789abcdef",
        },
        "engine": {"name": "Nextflow", "version": "24.10.0"},
        "parameters": {"input": "sheet.csv", "mode": mode, **parameters},
    }
