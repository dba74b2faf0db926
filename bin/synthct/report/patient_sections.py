"""The report's patients: the largest errors in a table, and pictures of the worst."""

import math

from synthct.report.blocks import Figure, Section, Table
from synthct.report.figures import pictures
from synthct.report.inputs import Inputs
from synthct.report.numbers import number, titled
from synthct.study.arms import arm_name, arm_order
from synthct.study.rows import BY_KEY, metrics_in, of_chosen_checkpoint, own_images

LISTED = 15  # patients in the page's table; all of them are in patients.csv
PICTURED = 4  # patients with error maps
GRIDS = 1  # patients with the train × test grid of errors


def patients(inputs: Inputs) -> Section | None:
    """Worst patients first: a table and error maps."""
    rows = sorted(
        (row for row in own_images(of_chosen_checkpoint(inputs.rows)) if math.isfinite(row["mae"])),
        key=lambda r: -r["mae"],
    )
    if not rows:
        return None
    section = Section(
        "patients",
        "Patients",
        "Largest errors first. Pictures: axial slice through the mask's centre, CT window "
        "−300 to 500 HU, body mask in orange.",
    )
    metrics = metrics_in(rows)
    named = any(row["trained_on"] not in ("", "given") for row in rows)
    body = [
        [
            r["patient"],
            r["region"] or "–",
            *([arm_name(r["trained_on"])] if named else []),
            *[number(r[m.key], m.decimals) for m in metrics],
            *_classes(r, metrics),
        ]
        for r in rows[:LISTED]
    ]
    columns = ["patient", "region", *(["trained on"] if named else []), *map(titled, metrics)]
    columns += ["classes scored", "missed"] if BY_KEY["dice"] in metrics else []
    caption = f"The {LISTED} largest errors of {len(rows)}" if len(rows) > LISTED else "All test patients"
    section.blocks.append(Table(caption, columns, body, 3 if named else 2, "patients.csv"))
    names = list(dict.fromkeys(row["patient"] for row in rows))
    chosen = names[: PICTURED - 1] + names[PICTURED - 1 :][-1:]
    for place, patient in enumerate(chosen):
        remark = "smallest mean error" if len(names) > 1 and patient == names[-1] else ""
        section.blocks += _pictures(inputs, patient, rows, remark, grid=place < GRIDS)
    return section


def _pictures(inputs: Inputs, patient: str, rows: list[dict], remark: str, grid: bool) -> list[Figure]:
    paths = {(trained, tested): path for (trained, tested, name), path in inputs.slices.items() if name == patient}
    shown = sorted(
        (cell for cell in paths if cell in {(row["trained_on"], row["tested_on"]) for row in rows}),
        key=lambda cell: arm_order(cell[0]),
    )
    if not shown:
        return []
    arrays = {cell: pictures.load(path) for cell, path in paths.items()}
    label = f"{patient}{f' ({remark})' if remark else ''}"
    figures = [
        Figure(
            f"error_map_{patient}",
            pictures.error_map([(arm_name(cell[0]), arrays[cell]) for cell in shown]),
            f"Input, synthetic CT, CT, error and uncertainty of {patient}",
            f"{label}. Rows: registration that the model was trained on and the images were made with."
            if len(shown) > 1
            else f"{label}.",
        )
    ]
    if grid and len(paths) > len(shown):
        names = {arm: arm_name(arm) for arm in sorted({arm for cell in paths for arm in cell}, key=arm_order)}
        figures.append(
            Figure(
                f"error_grid_{patient}",
                pictures.error_grid(arrays, names),
                f"Error of every model on {patient}",
                f"{label}: sCT − CT of every model on every registration of the test images.",
            )
        )
    return figures


def _classes(row: dict, metrics) -> list[str]:
    return (
        [str(row.get(key, "–")) for key in ("n_classes_scored", "n_classes_missing")]
        if BY_KEY["dice"] in metrics
        else []
    )
