"""A profile changes what it is for, and nothing else.

In Nextflow 24.10 a selector in a profile (``withName: REGISTER { … }``) replaces the top-level block of the same name
as a whole: with `-profile gpu` no registration was published. So selectors stand in two files alone, and the
configuration that the engine works out for each profile is compared with the one without.
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [ROOT / "nextflow.config", *sorted((ROOT / "conf").glob("*.config"))]
CONTAINER = {"beforeScript", "containerOptions"}
# {profile: keys of the scope `process` that it is for}
SETS = {
    "gpu": {"accelerator"},
    "docker": CONTAINER,
    "podman": CONTAINER,
    "singularity": CONTAINER,
    "apptainer": CONTAINER,
    "awsbatch": CONTAINER | {"executor", "queue", "resourceLimits"},
    "k8s": {"beforeScript", "executor", "resourceLimits"},
    "slurm": {"executor", "queue", "clusterOptions", "resourceLimits"},
    "test": {"resourceLimits"},
    "stub": {"resourceLimits"},
}


def selectors(path: Path) -> list[str]:
    code = re.sub(r"//.*", "", path.read_text())
    return [" ".join(found) for found in re.findall(r"\b(withName|withLabel)\s*:\s*(.+?)\s*\{", code)]


def test_a_selector_stands_once_and_in_no_profile():
    """Each property of a step is decided in one place; nothing can wipe it."""
    places = {path.name: selectors(path) for path in CONFIGS}
    assert {name for name, found in places.items() if found} == {"base.config", "modules.config"}
    counted = Counter(selector.replace("'", "") for found in places.values() for selector in found)
    assert [selector for selector, number in counted.items() if number > 1] == []


def test_what_a_profile_sets_is_not_read_before_it():
    """A profile's `params` come after the top-level files: there only a closure, or a module, may read them."""
    profiles = [path for path in CONFIGS if path.name not in ("nextflow.config", "base.config", "modules.config")]
    text = "\n".join(re.sub(r"//.*", "", path.read_text()) for path in profiles)
    block = re.findall(r"^params \{(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    names = set(re.findall(r"^params\.(\w+)\s*=", text, re.MULTILINE))
    names |= {name for found in block for name in re.findall(r"^\s*(\w+)\s*=", found, re.MULTILINE)}
    assert {"input", "preset", "gpu_forks"} <= names
    for name in ("nextflow.config", "base.config", "modules.config"):
        top = re.sub(r"//.*", "", (ROOT / name if "next" in name else ROOT / "conf" / name).read_text())
        assert not names & set(re.findall(r"\bparams\.(\w+)\b(?!\s*=[^=])", top)), name


def settings_of(text: str, scope: str) -> dict[str, str]:
    """{key: value} below a scope of `nextflow config -flat`; a closure may take several lines."""
    entries = re.split(r"^(?=[a-z]\w*\.)", text, flags=re.MULTILINE)
    pairs = (entry.split(" = ", 1) for entry in entries if entry.startswith(scope))
    return {key.removeprefix(scope): value.strip() for key, value in pairs}


def test_a_profile_changes_what_it_is_for(nextflow, tmp_path):
    """Publishing, labels, resources and retries of each profile are those without it, as the engine merges them."""
    done = nextflow(tmp_path, "config", "-flat", "-show-profiles", ROOT, NXF_OPTS="-XX:TieredStopAtLevel=1")
    assert done.returncode == 0, done.stdout + done.stderr
    plain = settings_of(done.stdout, "process.")
    assert {"'withName:REGISTER'.publishDir", "'withLabel:process_high'.memory"} <= plain.keys()
    for profile, expected in SETS.items():
        given = settings_of(done.stdout, f"profiles.{profile}.process.")
        changed = {key.split(".")[0] for key in plain.keys() | given.keys() if plain.get(key) != given.get(key)}
        assert changed == expected, profile
