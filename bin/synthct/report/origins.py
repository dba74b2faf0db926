"""What a run read and what it left, as the records of its steps tell; plain values for `synthct.report.crate`.

`records` are the steps' records by kind (`synthct.report.inputs.Inputs.records`).
"""

MODES = ("train", "predict", "evaluate")
# of each mode, the kinds of records whose inputs are files of the sheet, and which; what is missing here, a step made
READ = {
    "train": {"registration": ("image", "ct", "mask"), "dose": ("target", "structures")},
    "predict": {"prediction": ("image", "mask"), "metrics": ("ct",), "dose": ("target", "structures")},
    "evaluate": {"metrics": ("image", "ct", "mask", "sct"), "dose": ("target", "structures")},
}


def sheet_files(records: dict[str, list[dict]], cohort: list[dict], mode: str) -> dict[tuple[str, str, str], dict]:
    """{(patient, column, SHA-256): content} of what the sheet names, as the steps that opened it found it.

    `cohort` are the sheet's rows; a content is that of `synthct.core.digests.content_of`. A file in which two steps saw
    two contents stands there twice.
    """
    given = {row["patient"]: {column for column, cell in row.items() if cell} for row in cohort}
    found = {}
    for kind, roles in READ[mode].items():
        for record in records.get(kind, []):
            for patient, inputs in _inputs(kind, record):
                for role in roles:
                    column = record.get("recipe", {}).get("ct", role) if role == "ct" else role
                    if role in inputs and column in given.get(patient, ()):  # else a step made it
                        found[patient, column, inputs[role]["sha256"]] = inputs[role]
    return dict(sorted(found.items()))


def _inputs(kind: str, record: dict) -> list[tuple[str, dict]]:
    """(patient, {role: content}) of a record; of a registration the roles are those of the pair."""
    inputs = record.get("inputs", {})
    if kind == "prediction":
        return list(inputs.items())
    if kind == "registration" and (moving := record.get("moving_is")):
        roles = {"moving": moving, "fixed": "image" if moving == "ct" else "ct"}
        inputs = {roles.get(name, name): content for name, content in inputs.items()}
    return [(str(record.get("patient") or ""), inputs)]


def networks(records: dict[str, list[dict]]) -> dict[tuple[str, str], str]:
    """{(file, SHA-256): use} of the networks that took part, but for those of bundles."""
    found: dict[tuple[str, str], str] = {}
    for record in records.get("registration", []):
        recipe = record.get("recipe") or {}
        found |= dict.fromkeys(recipe.get("weights", {}).items(), "compared by a registration")
    for record in records.get("training", []):
        found |= dict.fromkeys(record.get("weights", {}).items(), "compared by a training's loss")
    for kind, use in (("prediction", "made body masks"), ("segmentation", "made label maps")):
        for record in records.get(kind, []):
            found |= dict.fromkeys(record.get("weights", {}).items(), use)
    return dict(sorted(found.items()))


def published(records: dict[str, list[dict]], mode: str) -> dict[str, str]:
    """{path in the results: SHA-256, or "" where it is not known} of files, and of directories, which end in '/'."""
    found: dict[str, str] = {}
    for record in records.get("registration", []):
        found[f"registration/{record['method']}/{record['patient']}/qc.json"] = ""
    for plan in records.get("folds", []):
        found[f"folds/{plan['arm']}/folds.json"] = ""
    for record in records.get("training", []):
        found[f"training/{record['arm']}/"] = ""
    for bundle in records.get("bundle", []) if mode == "train" else []:
        place = f"models/{bundle['arm']}"
        found |= {f"{place}/bundle.json": "", **{f"{place}/{name}": said for name, said in bundle["files"].items()}}
    for record in records.get("prediction", []):
        place = f"sct/{record.get('place')}"
        for patient in record["patients"] if record.get("place") else []:
            found |= {f"{place}/{patient['patient']}.mha": "", f"{place}/uncertainty/{patient['patient']}.mha": ""}
    if records.get("metrics"):
        found["evaluation/patients/"] = ""
    for record in records.get("dose", []):
        found["evaluation/dose/"] = ""
        if "failed" not in record:
            found[f"dose/{record['tested_on']}/{record['patient']}/"] = ""
    return found
