"""-resume can be trusted: the digest a task carries covers exactly what its tool imports."""

import ast
import json
import shutil

import pytest

SCRIPT = """
import groovy.json.JsonOutput
workflow {
    def bin = file("${params.root}/bin")
    def tools = bin.list().findAll { it.endsWith('.py') }
    println('RESULT ' + JsonOutput.toJson(tools.collectEntries { tool ->
        def sources = CodeDigest.sources(bin, tool).collect { bin.relativize(it).toString() }
        [tool, [digest: CodeDigest.of(params.root, tool), sources: sources]]
    }))
}
"""


@pytest.fixture
def digests(nextflow, root, tmp_path):
    """Ask the pipeline's own code for the digest and the sources of every tool of a checkout."""

    def ask(checkout, name):
        place = tmp_path / name
        place.mkdir()
        (place / "main.nf").write_text(
            SCRIPT.replace("import groovy.json.JsonOutput\n", "").replace("JsonOutput", "groovy.json.JsonOutput")
        )
        (place / "lib").symlink_to(root / "lib")
        done = nextflow(place, "-q", "run", place / "main.nf", "--root", checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.split("RESULT ")[1])

    return ask


def imported(bin_directory, source, found):
    """What Python itself would import from the package, read from the syntax tree: an independent second opinion."""
    for node in ast.walk(ast.parse((bin_directory / source).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import, which the digest does not follow"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "synthct":
                continue
            for depth in range(1, len(parts) + 1):
                base = "/".join(parts[:depth])
                for candidate in (f"{base}.py", f"{base}/__init__.py"):
                    if (bin_directory / candidate).is_file() and candidate not in found:
                        found.add(candidate)
                        imported(bin_directory, candidate, found)
    return found


def test_the_digest_follows_the_imports(digests, root, checkout):
    before = digests(root, "before")
    for tool, told in before.items():
        expected = {tool} | imported(root / "bin", tool, set())
        assert {name for name in told["sources"] if name.endswith(".py")} == expected, tool

    # an edit to the loss changes the tools that import it and no other
    losses = checkout / "bin" / "synthct" / "networks" / "losses.py"
    losses.write_text(losses.read_text() + "\n# edited\n")
    after = digests(checkout, "after")
    changed = {tool for tool in before if before[tool]["digest"] != after[tool]["digest"]}
    assert changed == {"train.py", "finetune.py"}


def test_every_module_names_its_tool(root):
    """A module without its digest, or with another tool's, would be served stale results."""
    guests = {"scan": "dicom.py", "trust": "bundle.py"}  # steps that call another step's tool, or one of no step
    for module in (root / "modules" / "local").glob("*/main.nf"):
        text = module.read_text()
        script = text.split("script:")[1].split("stub:")[0]
        tool = guests.get(module.parent.name, f"{module.parent.name}.py")
        assert f"CodeDigest.of(projectDir, '{tool}')" in text, module
        assert "# code ${task.ext.code}" in script and f"\n    {tool} " in script, module
        assert shutil.which(str(root / "bin" / tool)), f"bin/{tool} is not executable"
