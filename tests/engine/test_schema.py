"""Both schemas say nothing that the check before any task would pass over."""

import json
import re

import pytest

WORDS = re.compile(r"'([^']+)'")


def declared(root, name) -> set[str]:
    """The words of a constant list of lib/Schema.groovy."""
    text = (root / "lib" / "Schema.groovy").read_text()
    return set(WORDS.findall(re.search(rf"List<String> {name} = \[(.*?)\]", text, re.DOTALL)[1]))


def keywords(node) -> set[str]:
    """Every keyword of a schema at any depth; names of properties and groups are none."""
    found = set(node)
    for key in ("properties", "$defs"):
        for inner in node.get(key, {}).values():
            found |= keywords(inner)
    return found | (keywords(node["items"]) if "items" in node else set())


def rules(node) -> list[dict]:
    inner = [*node.get("properties", {}).values(), *node.get("$defs", {}).values()]
    inner += [node["items"]] if "items" in node else []
    return [node, *(rule for one in inner for rule in rules(one))]


@pytest.mark.parametrize("name", ["nextflow_schema.json", "assets/schema_input.json"])
def test_no_keyword_is_passed_over(root, name):
    schema = json.loads((root / name).read_text())
    unknown = keywords(schema) - declared(root, "HEEDED") - declared(root, "REMARKS")
    assert not unknown, f"{name} asks for what lib/Schema.groovy does not check: {unknown}"
    assert {rule["format"] for rule in rules(schema) if "format" in rule} <= declared(root, "PATHS")
    found = [rule["type"] for rule in rules(schema) if "type" in rule]
    types = {kind for one in found for kind in ([one] if isinstance(one, str) else one)}
    assert types <= {"string", "integer", "number", "boolean", "object", "array"}
    groups = {f"#/$defs/{group}" for group in schema.get("$defs", {})}
    assert {one["$ref"] for one in schema.get("allOf", [])} == groups, (
        "a group that validators of the standard overlook"
    )


def test_every_keyword_that_is_heeded_is_read(root):
    """A word in the list alone checks nothing."""
    text = (root / "lib" / "Schema.groovy").read_text()
    code = text[text.index("static List<String> params") :]
    for word in declared(root, "HEEDED"):
        assert re.search(rf"\.{word}\b" if word.isalpha() else re.escape(word), code), word


def test_every_preset_of_the_repository_may_be_chosen(root):
    groups = json.loads((root / "nextflow_schema.json").read_text())["$defs"].values()
    (rule,) = (group["properties"]["preset"] for group in groups if "preset" in group["properties"])
    for preset in (root / "conf" / "presets").glob("*.toml"):
        assert re.search(rule["pattern"], preset.stem), f"--preset {preset.stem} would be refused"
        assert preset.stem in rule["description"] and preset.stem in rule["errorMessage"]
