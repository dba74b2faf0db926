"""What an image is made of: its parent, its packages and its tag. Standard library only.

``containers/<image>/`` holds a Dockerfile, ``requirements.in`` (the packages that the step imports, by name) and
``requirements.txt`` (those and all that they need, versions and hashes, taken from the lock file of the checkout).
"""

import hashlib
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements.lock"


def of_modules() -> dict[str, str]:
    """{step: the image that its process runs in}: its own, or that of another step."""
    modules = sorted((HERE.parent / "modules" / "local").glob("*/main.nf"))
    named = {path.parent.name: re.search(r"ContainerImage\.of\(.*'(\w+)'\)", path.read_text()) for path in modules}
    if bare := [step for step, found in named.items() if not found]:
        raise SystemExit(f"modules/local/{bare[0]}/main.nf: names no image")
    return {step: found[1] for step, found in named.items() if found}


def steps() -> list[str]:
    """The steps of the pipeline that have an image, by name; the others are guests in one of these."""
    return sorted(set(of_modules().values()))


def parent(image: str) -> str:
    """The image that `image` is built from: another one of this directory, or an outside one such as debian:…"""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", (HERE / image / "Dockerfile").read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"containers/{image}/Dockerfile: no line ARG BASE_IMAGE=…")
    return found[1]


def chain(image: str) -> list[str]:
    """`image` and the images of this directory that it is built from, the first to be built first."""
    above = parent(image)
    return [*(chain(above) if (HERE / above / "Dockerfile").exists() else []), image]


def tag(image: str) -> str:
    """First 12 hex digits of the SHA-256 of the parent's tag (or outside name), the Dockerfile and the packages.

    lib/ContainerImage.groovy computes the same, so the pipeline asks for the image that this content gives.
    """
    above = parent(image)
    digest = hashlib.sha256()
    digest.update((tag(above) if (HERE / above / "Dockerfile").exists() else above).encode())
    for name in ("Dockerfile", "requirements.txt"):
        digest.update((HERE / image / name).read_bytes())
    return digest.hexdigest()[:12]


def locked(lock: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """A lock file's entries {package: its lines} and, from its `# via` notes, {package: packages that it needs}."""
    entries: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    package = ""
    for line in lock.splitlines():
        if begun := re.match(r"([A-Za-z0-9][\w.-]*)==", line):
            package = begun[1]
            entries[package] = line
        elif line.lstrip().startswith("--hash="):
            entries[package] += "\n" + line
        elif via := re.match(r"\s+# via (\S+)$|\s+#   (\S+)$", line):
            needs.setdefault(via[1] or via[2], set()).add(package)
    return entries, needs


def requirements(image: str, lock: str) -> str:
    """The text of an image's requirements.txt: the closure of its requirements.in within `lock`, sorted by name."""
    entries, needs = locked(lock)
    wanted = [re.sub(r"[-_.]+", "-", name).lower() for name in (HERE / image / "requirements.in").read_text().split()]
    found: set[str] = set()
    while wanted:
        package = wanted.pop()
        if package not in entries:
            raise SystemExit(f"containers/{image}/requirements.in: {package} is not in {LOCK.name}")
        if package not in found:
            found.add(package)
            wanted.extend(needs.get(package, ()))
    return "".join(f"{entries[package]}\n" for package in sorted(found))
