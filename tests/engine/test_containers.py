"""What the images are made of: packages of the lock file, enough for each step's tool, nothing of the project."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "containers"))

import images  # noqa: E402

STEPS = images.steps()


def packages(image: str) -> dict[str, str]:
    """{package: version} of an image and all images that it is built from."""
    found = {}
    for part in images.chain(image):
        text = (images.HERE / part / "requirements.txt").read_text()
        found |= dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    return found


def imported(tool: Path) -> set[str]:
    """Top-level modules outside the standard library that a tool and what it imports of the project import."""
    found, seen, waiting = set(), set(), [tool]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                if name.split(".")[0] == "synthct":
                    base = ROOT / "bin" / name.replace(".", "/")
                    waiting += [base / "__init__.py", base.with_suffix(".py")]
                elif name.split(".")[0] not in sys.stdlib_module_names:
                    found.add(name.split(".")[0])
    return found


def test_every_step_has_an_image():
    assert STEPS and all((images.HERE / step / "Dockerfile").exists() for step in STEPS)
    guests = {step: image for step, image in images.of_modules().items() if step != image}
    assert guests == {"scan": "evaluate", "trust": "bundle"}


def test_package_lists_come_from_the_lock():
    """An update of requirements.lock that was not carried into the images is noticed: containers/lock mends it."""
    done = subprocess.run([images.HERE / "lock", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("step", "image"), images.of_modules().items())
def test_image_holds_what_the_tool_imports(step, image):
    distributions = metadata.packages_distributions()
    held = packages(image)
    module = (ROOT / "modules" / "local" / step / "main.nf").read_text()
    for tool in set(re.findall(r"\b(\w+\.py)\b", module)):
        for name in imported(ROOT / "bin" / tool):
            owners = {re.sub(r"[-_.]+", "-", owner).lower() for owner in distributions.get(name, [name])}
            lacking = f"containers/{image}/requirements.in lacks what {tool} imports: {name} ({owners})"
            assert owners & set(held), lacking
    for line in re.findall(r"versions\.py (.*)", module):
        assert "--code ${task.ext.code}" in line, "the provenance tells each step's code"
        named = re.sub(r"--\w+ \S+", "", line).split()
        assert {package.lower() for package in named} <= set(held)


@pytest.mark.parametrize("step", STEPS)
def test_torch_where_it_is_needed_and_as_one_layer(step):
    tools = re.findall(r"\b(\w+\.py)\b", (ROOT / "modules" / "local" / step / "main.nf").read_text())
    needed = any("torch" in imported(ROOT / "bin" / tool) for tool in tools)
    assert ("torch" in images.chain(step)) == needed
    assert ("torch" in packages(step)) == needed


@pytest.mark.parametrize("image", sorted(path.parent.name for path in images.HERE.glob("*/Dockerfile")))
def test_dockerfile(image):
    """Hashed packages only, no project code, no entry point; a step's image runs as a user without privileges."""
    text = (images.HERE / image / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=\S+\nFROM \$\{BASE_IMAGE\}$", text, re.MULTILINE)
    assert re.findall(r"^(?:COPY|ADD) (.*)$", text, re.MULTILINE) == ["requirements.txt ca.cr[t] /opt/build/"]
    assert all("--require-hashes" in call for call in re.findall(r"pip install .*", text))
    assert "ENTRYPOINT" not in text
    assert (image in STEPS) == bool(re.search(r"^USER 1000:1000$", text, re.MULTILINE))
    assert (image in STEPS) == ("org.opencontainers.image.title" in text)
    assert (image == "torch") == ("NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text)


def test_tag_follows_content(tmp_path, monkeypatch):
    """A new version of a parent's package gives its children new tags, and only them."""
    for image in ("python", "torch", "totalsegmentator", "train", "report"):
        (tmp_path / image).mkdir()
        for name in ("Dockerfile", "requirements.txt"):
            (tmp_path / image / name).write_bytes((images.HERE / image / name).read_bytes())
    monkeypatch.setattr(images, "HERE", tmp_path)
    before = {image: images.tag(image) for image in ("python", "train", "report")}
    with open(tmp_path / "torch" / "requirements.txt", "a") as file:
        file.write("more==1\n")
    after = {image: images.tag(image) for image in before}
    assert [image for image in before if before[image] != after[image]] == ["train"]


def test_bundle_image_knows_the_versions_it_records():
    from synthct.prediction.bundle import versions

    assert {name.lower() for name in versions()} - {"synthct", "python"} <= set(packages("bundle"))
