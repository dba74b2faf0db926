"""Each module beside its meta.yml and its nf-test: the names agree, and its stub runs alone on the nf-test's inputs."""

import re
import textwrap

import pytest
import yaml
from conftest import ROOT

MODULES = sorted(path.parent for path in (ROOT / "modules" / "local").glob("*/main.nf"))
OPTIONAL = {"DOSE.doses", "PREDICT.dicom", "PREDICT.masks", "PREDICT.pages"}  # what a stub does not make


def parts(line: str) -> list[str]:
    """A declaration cut at its outer commas."""
    found, depth, quote = [""], 0, ""
    for mark in line:
        if quote or mark in "'\"":
            quote = "" if mark == quote else quote or mark
        else:
            depth += (mark in "([{") - (mark in ")]}")
        if mark == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += mark
    return [part.strip() for part in found]


def declared(text: str, block: str) -> list[tuple[str, list[str]]]:
    """(emitted name, names or patterns) of every line of the block `input` or `output` of a process."""
    written = re.search(rf"^    {block}:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)[1]
    lines = [line.split("//")[0].strip() for line in written.splitlines()]
    found = []
    for line in re.sub(r",\n", ", ", "\n".join(lines)).splitlines():  # a comma at a line's end goes on in the next
        if not line:
            continue
        elements = [part for part in parts(line.removeprefix("tuple ")) if re.match(r"(val|path)\b", part)]
        names = [re.match(r"(?:val|path)\s*\(?\s*([\"']?)(.+?)\1(?:[,)]|$)", part)[2] for part in elements]
        emitted = re.search(r"emit: (\w+)", line)
        found.append((emitted[1] if emitted else "", names))
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_what_meta_yml_names_is_what_the_module_takes_and_gives(module):
    text, about = (module / "main.nf").read_text(), yaml.safe_load((module / "meta.yml").read_text())
    assert about["name"] == module.name and f"process {module.name.upper()} {{" in text
    described = [[name for entry in group for name in entry] for group in about["input"]]
    assert described == [names for _, names in declared(text, "input")]
    given = {name: [key for entry in group for key in entry] for name, (group,) in about["output"].items()}
    assert given == dict(declared(text, "output"))
    for group in [*about["input"], *(group for (group,) in about["output"].values())]:
        assert all(entry["type"] and entry["description"] for one in group for entry in one.values())


def test_every_stub_runs_alone(nextflow, root, tmp_path):
    """What nf-test would do with each main.nf.test, all in one run of the engine: its inputs stand there alone."""
    for name in ("assets", "bin", "conf", "containers", "lib", "modules", "nextflow.config", ".venv"):
        (tmp_path / name).symlink_to(root / name)
    script, calls, emitted = [], [], set()
    for module in MODULES:
        name = module.name.upper()
        test = (module / "tests" / "main.nf.test").read_text()
        assert f"process '{name}'" in test and "options '-stub'" in test
        inputs = textwrap.dedent(re.search(r'process \{\s*"""\n(.*?)"""', test, re.DOTALL)[1])
        script.append(f"include {{ {name} }} from './modules/local/{module.name}'")
        arguments = ", ".join(re.findall(r"^input\[\d+\]", inputs, re.MULTILINE))
        calls.append(f"input = []\n{inputs}{name}({arguments})")
        outputs = {output for output, _ in declared((module / "main.nf").read_text(), "output")}
        calls += [f"{name}.out.{output}.view {{ _made -> '{name}.{output}' }}" for output in sorted(outputs)]
        emitted |= {f"{name}.{output}" for output in outputs}
    (tmp_path / "main.nf").write_text("\n".join([*script, "workflow {", "def input", *calls, "}"]))
    done = nextflow(tmp_path, "run", "main.nf", "-stub-run", "-profile", "test,stub", "--outdir", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert emitted - OPTIONAL <= set(done.stdout.split()), emitted - OPTIONAL - set(done.stdout.split())
