"""The provenance of a run's results as a Workflow Run RO-Crate: JSON-LD, one flat list of entities.

RO-Crate 1.1 with the profile Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5). The results are the
crate: what lies there is a File or a Dataset, its path relative to it. What was read and stays where it is (images,
weights, a bundle) is no part of it: a CreativeWork with a digest, known by the sheet's names and by no directory. There
is one date and no time, so that a run that was killed and resumed says what an uninterrupted one says.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from synthct.core.digests import content_of
from synthct.core.errors import InputError
from synthct.core.files import write_json
from synthct.core.tables import files_in, read_object
from synthct.report.inputs import Inputs
from synthct.report.origins import MODES, networks, published, sheet_files

ROCRATE = "https://w3id.org/ro/crate/1.1"
CONTEXT = [f"{ROCRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
FORMAL_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#nextflow"
ENGINE = "https://www.nextflow.io/"
MAIN, SETTINGS = "pipeline_info/main.nf", "pipeline_info/settings.json"  # of the results
DIRECTORIES = {  # of the results, with what lies in each
    "dose": "dose on each CT and on its synthetic CTs",
    "evaluation": "every number of the report as CSV, and the record of each patient",
    "folds": "the draw of test and folds of each arm",
    "models": "model bundles, one an arm",
    "pipeline_info": "the settings, the workflow's main script, and the engine's own trace of each start",
    "registration": "registered pairs, fields, transforms and quality records, by arm and patient",
    "report": "the report, its figures, and tables for MultiQC",
    "sct": "synthetic CTs and their uncertainty, by arm",
    "training": "the logs of the trainings, by arm",
}
FORMATS = {  # by suffix
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".png": "image/png",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
}
TYPES = {bool: "Boolean", int: "Integer", float: "Float"}  # of a parameter's value; others are Text


def write_crate(path, inputs: Inputs, *, run, sheet, settings, made: Iterable) -> None:
    """Write the provenance to `path`, in the results' own directory, with ``pipeline_info/main.nf`` beside it.

    `run` (what lib/Provenance.groovy tells, JSON), `sheet` and `settings` are files, `made` directories of the results
    that this step wrote. Raises `InputError` where one of them is absent or is something else.
    """
    if not (run and sheet and settings):
        raise InputError("--crate: needs --run, --cohort and --settings")
    place, told = Path(path).resolve().parent, read_object(run, "run")
    if told.keys() != {"workflow", "engine", "parameters"} or told["parameters"].get("mode") not in MODES:
        raise InputError(f"run {run}: expected workflow, engine and parameters, the mode one of {', '.join(MODES)}")
    files = [file.resolve() for directory in made for file in files_in(directory, "") if file.is_file()]
    if away := [file for file in files if place not in file.parent.parents]:
        raise InputError(f"--crate {path}: {away[0]} lies outside its directory")
    if not (place / MAIN).is_file():
        raise InputError(f"--crate {path}: expected {MAIN} beside it, the workflow's main script")
    content = crate(
        inputs,
        told,
        [file.relative_to(place).as_posix() for file in files],
        {"sheet": content_of(sheet), "settings": content_of(settings), "main": content_of(place / MAIN)},
        datetime.now(UTC).date().isoformat(),
    )
    write_json(path, content)


def crate(inputs: Inputs, run: dict, made: Iterable[str], files: dict[str, dict], date: str) -> dict:
    """The content of ro-crate-metadata.json.

    `inputs` are the records of the steps; `run` is what lib/Provenance.groovy tells; `made` are the files of this step,
    relative to the results; `files` are the contents (`content_of`) of "sheet", "settings" and "main" (the workflow's
    script); `date` is the day in ISO 8601. The same arguments give the same content, in the same order.
    """
    mode = run["parameters"]["mode"]
    sources = [*_sources(inputs, mode, files["sheet"]), *(_bundles(inputs.records) if mode == "predict" else [])]
    formal, values = _parameters(run["parameters"])
    steps, packages = _software(inputs.versions)
    settings = {SETTINGS: files["settings"]["sha256"]}
    directories, parts = _results({MAIN: "", **settings, **dict.fromkeys(made, ""), **published(inputs.records, mode)})
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"A run of {run['workflow']['name']}",
        "description": "When it ran stands in the engine's trace, in pipeline_info.",
        "instrument": {"@id": MAIN},
        "object": [*_refs(sources), *_refs(values), {"@id": SETTINGS}],
        "result": [*_refs(one for one in directories if one["@id"] != "pipeline_info/")],
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of {run['workflow']['name']}",
        "description": f"Mode {mode}, modality {inputs.settings.get('modality')}, preset "
        f"{inputs.settings.get('preset')}. {run['workflow']['description']}",
        "datePublished": date,
        "license": {"@id": "#licence"},
        "conformsTo": [{"@id": profile} for profile in PROFILES],
        "hasPart": _refs(directories),
        "mainEntity": {"@id": MAIN},
        "mentions": _refs([action, *sources]),
    }
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": [{"@id": ROCRATE}, {"@id": WORKFLOW_CRATE}],
            },
            root,
            *(_work(profile, name, version=version) for profile, (name, version) in PROFILES.items()),
            _work(FORMAL_PARAMETER, "FormalParameter", version="1.0-RELEASE"),
            _work("#licence", "No licence stated", description="the terms of the samplesheet's images hold"),
            *_workflow(run, files["main"], formal, steps),
            action,
            *formal,
            *values,
            *sources,
            *steps,
            *packages,
            *directories,
            *parts,
        ],
    }


def _refs(entities: Iterable[dict]) -> list[dict]:
    return [{"@id": entity["@id"]} for entity in entities]


def _work(name: str, title: str, **more) -> dict:
    return {"@id": name, "@type": "CreativeWork", "name": title, **more}


def _workflow(run: dict, main: dict, formal: list[dict], steps: list[dict]) -> list[dict]:
    """The workflow, what its code is known by, its licence, its language and the engine."""
    told, engine = run["workflow"], run["engine"]
    codes = {"code digest": told["code"], "commit": told.get("commit"), "revision": told.get("revision")}
    known = [
        {"@id": f"#workflow/{name.split()[0]}", "@type": "PropertyValue", "name": name, "value": value}
        for name, value in codes.items()
        if value
    ]
    licence = _work(f"https://spdx.org/licenses/{told['license']}", told["license"])
    workflow = {
        "@id": MAIN,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": told["name"],
        "description": told["description"],
        "version": told["version"],
        "encodingFormat": "text/plain",
        "url": told["url"],
        "license": {"@id": licence["@id"]},
        "programmingLanguage": {"@id": LANGUAGE},
        "softwareRequirements": {"@id": ENGINE},
        "identifier": _refs(known),
        "contentSize": str(main["bytes"]),
        "sha256": main["sha256"],
        "input": _refs(formal),
        "hasPart": _refs(steps),
    }
    language = {"@id": LANGUAGE, "@type": "ComputerLanguage", "name": engine["name"], "url": {"@id": ENGINE}}
    return [
        workflow,
        *known,
        licence,
        language,
        {**_application(ENGINE, engine["name"], engine["version"]), "url": ENGINE},
    ]


def _parameters(given: dict) -> tuple[list[dict], list[dict]]:
    """The parameters and their values, of --input the samplesheet's name."""
    formal, values = [], []
    for name, value in sorted(given.items()):
        one = {"@id": f"#parameter/{name}", "@type": "FormalParameter", "name": name}
        kind = "File" if name == "input" else TYPES.get(type(value), "Text")
        formal.append({**one, "additionalType": kind, "conformsTo": {"@id": FORMAL_PARAMETER}})
        about = {"name": name, "value": value, "exampleOfWork": {"@id": one["@id"]}}
        values.append({"@id": f"{one['@id']}/value", "@type": "PropertyValue", **about})
    return formal, values


def _software(versions: list[tuple[str, str, str]]) -> tuple[list[dict], list[dict]]:
    """The steps, each with the version of its code and the packages that it ran with, and these packages."""
    code = {step: version for step, package, version in versions if package == "synthct"}
    others = [(step, package, version) for step, package, version in versions if package != "synthct"]
    packages = {
        (package, version): _application(_purl(package, version), package, version)
        for _, package, version in sorted(others, key=lambda one: one[1:])
    }
    steps = []
    for step in sorted({step for step, _, _ in versions}):
        needs = _refs(packages[package, version] for name, package, version in others if name == step)
        steps.append({**_application(f"#step/{step}", step, code.get(step, "")), "softwareRequirements": needs})
    return steps, list(packages.values())


def _purl(package: str, version: str) -> str:
    """The package URL (purl) of a Python package, or of Python itself.

    >>> _purl("SimpleITK", "2.5+cpu")
    'pkg:pypi/simpleitk@2.5%2Bcpu'
    """
    place = "generic" if package == "python" else "pypi"
    return f"pkg:{place}/{quote(package.lower().replace('_', '-'))}@{quote(version, safe='')}"


def _application(name: str, title: str, version: str) -> dict:
    return {"@id": name, "@type": "SoftwareApplication", "name": title, "softwareVersion": version}


def _sources(inputs: Inputs, mode: str, sheet: dict) -> list[dict]:
    """The samplesheet, the files that it names, and the networks that took part."""
    found = [_source("#samplesheet", sheet, "the samplesheet")]
    for (patient, column, digest), content in sheet_files(inputs.records, inputs.cohort, mode).items():
        name = f"#input/{quote(patient)}/{column}/{digest[:12]}"
        source = _source(name, content, f"patient {patient}, column {column} of the samplesheet")
        found.append({**source, "identifier": f"{patient}/{column}"})
    for (file, digest), use in networks(inputs.records).items():
        name = f"#weights/{quote(file)}/{digest[:12]}"
        found.append(_work(name, file, description=f"a network: {use}", sha256=digest))
    return found


def _source(name: str, content: dict, description: str) -> dict:
    called = content.get("name") or f"a directory of {content.get('files')} files"
    return _work(name, called, description=description, contentSize=str(content["bytes"]), sha256=content["sha256"])


def _bundles(records: dict[str, list[dict]]) -> list[dict]:
    """The bundle that was given, and its networks."""
    found = []
    for bundle in records.get("bundle", []):
        name = f"#bundle/{quote(bundle['arm'])}"
        files = [
            _work(f"{name}/{quote(file)}", file, description="weights of the bundle", sha256=digest)
            for file, digest in sorted(bundle["files"].items())
        ]
        about = {"identifier": bundle["digest"], "hasPart": _refs(files)}
        found += [_work(name, bundle["arm"], description="the model bundle", **about), *files]
    return found


def _results(paths: dict[str, str]) -> tuple[list[dict], list[dict]]:
    """The directories of the results, and what is in them, but for the main script; `paths` are as of `published`."""
    directories: dict[str, dict] = {}
    parts = []
    for path, digest in sorted(paths.items()):
        top, _, inside = path.partition("/")
        about = {"@id": f"{quote(top)}/", "@type": "Dataset", "name": top, "description": DIRECTORIES.get(top, "")}
        directory = directories.setdefault(top, {**about, "hasPart": []})
        directory["hasPart"].append({"@id": quote(path)})
        part = {"@id": quote(path), "@type": "Dataset" if path.endswith("/") else "File", "name": inside}
        if not path.endswith("/"):
            part["encodingFormat"] = FORMATS.get(Path(path).suffix, "application/octet-stream")
        if digest:
            part["sha256"] = digest
        if path != MAIN:
            parts.append(part)
    return list(directories.values()), parts
