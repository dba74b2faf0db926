"""The report's numbers as files: CSV with full precision, and the same for MultiQC's custom content."""

import csv
import io
import math

from synthct.core.files import atomic, write_text
from synthct.study.arms import recipes_of
from synthct.study.compared import tag
from synthct.study.comparison import comparisons
from synthct.study.doses import DOSE_METRICS, agreement, dose_rows
from synthct.study.rows import METRICS, by_the_leaderboard, matrix, metrics_in, of_chosen_checkpoint, selection, summary

PATIENT_COLUMNS = ("patient", "region", "center", "trained_on", "tested_on", "checkpoint")


def patient_rows(rows: list[dict], centers: dict[str, str]) -> list[dict]:
    """patients.csv: one row a patient and cell; the metrics, HU bins, trivial predictors, uncertainty, notes."""
    result = []
    for row in rows:
        flat = {key: row.get(key, "") for key in PATIENT_COLUMNS}
        flat["center"] = centers.get(row["patient"], "")
        flat |= {metric.key: row[metric.key] for metric in METRICS}
        flat |= {key: row.get(key, "") for key in ("n_classes_scored", "n_classes_missing", "voxels")}
        flat |= {f"mae_{name}": value for name, value in row.get("hu_bins", {}).items()}
        flat |= {f"bias_{name}": value for name, value in row.get("hu_bin_bias", {}).items()}
        flat |= {f"voxels_{name}": value for name, value in row.get("hu_bin_voxels", {}).items()}
        flat |= {f"mae_{name}_predictor": score["mae"] for name, score in row.get("baselines", {}).items()}
        if row.get("uncertainty"):
            flat |= {
                "uncertainty_mean": row["uncertainty"]["mean"],
                "uncertainty_error_pearson": row["uncertainty"]["pearson"],
            }
        low, high = row.get("hu_range") or ("", "")
        flat |= {"hu_range_low": low, "hu_range_high": high, "notes": "; ".join(row.get("notes", ()))}
        result.append(flat)
    return result


def labelled(cells: list[dict]) -> list[dict]:
    """Cells of the matrix with what the registrations behind row and column compared: extractors, mode, digest."""
    said = {arm: "; ".join(tag(recipes_of(arm))) for cell in cells for arm in (cell["trained_on"], cell["tested_on"])}
    return [
        cell | {"trained_on_compared": said[cell["trained_on"]], "tested_on_compared": said[cell["tested_on"]]}
        for cell in cells
    ]


def uncertainty_rows(rows: list[dict]) -> list[dict]:
    """uncertainty.csv: the ten groups of voxels of every row."""
    return [
        {**{key: row[key] for key in ("patient", "trained_on", "tested_on")}, "group": number + 1, **group}
        for row in rows
        for number, group in enumerate((row.get("uncertainty") or {}).get("groups", ()))
    ]


def write_all(inputs, directory, validation_mae: dict) -> None:
    """Write every CSV of the evaluation into `directory`."""
    centers = {row.get("patient", ""): row.get("center", "") for row in inputs.cohort}
    write_csv(directory / "patients.csv", patient_rows(inputs.rows, centers), PATIENT_COLUMNS)
    write_csv(
        directory / "summary.csv", summary(inputs.rows), ("trained_on", "tested_on", "checkpoint", "region", "metric")
    )
    write_csv(directory / "matrix.csv", labelled(matrix(inputs.rows)), ("trained_on", "tested_on", "checkpoint", "n"))
    write_csv(
        directory / "tests.csv",
        comparisons(of_chosen_checkpoint(inputs.rows)),
        ("question", "metric", "fixed", "a", "b"),
    )
    write_csv(
        directory / "selection.csv", selection(inputs.rows, validation_mae), ("tested_on", "trained_on", "checkpoint")
    )
    if inputs.doses:
        doses = of_chosen_checkpoint(dose_rows(inputs.doses))
        write_csv(directory / "dose.csv", doses, PATIENT_COLUMNS[:2] + PATIENT_COLUMNS[3:])
        write_csv(
            directory / "dose_tests.csv", comparisons(doses, DOSE_METRICS), ("question", "metric", "fixed", "a", "b")
        )
        write_csv(
            directory / "dose_agreement.csv",
            agreement(of_chosen_checkpoint(inputs.rows), doses),
            ("trained_on", "tested_on", "metric", "n", "rho", "p"),
        )
    write_csv(directory / "uncertainty.csv", uncertainty_rows(inputs.rows), ("patient", "trained_on", "tested_on"))
    write_csv(
        directory / "cohort.csv",
        [
            {key: value for key, value in row.items() if key in ("patient", "region", "center")}
            | {"split": "test" if row.get("patient") in inputs.test else row.get("split", "")}
            for row in inputs.cohort
        ],
        ("patient", "region", "center", "split"),
    )
    write_csv(directory / "registration.csv", [flat_numbers(record) for record in inputs.qc], ("method", "patient"))
    write_csv(directory / "excluded.csv", inputs.excluded, ("arm", "patient", "reason"))
    write_csv(
        directory / "predictions.csv",
        [flat_numbers(_reasoned(patient)) for record in inputs.predictions for patient in record.get("patients", ())],
        ("patient",),
    )
    write_csv(
        directory / "learning.csv",
        [
            {"arm": arm, "fold": fold, "group": group, **record}
            for (arm, fold, group), records in sorted(inputs.logs.items())
            for record in records
        ],
        ("arm", "fold", "group", "step"),
    )


def _reasoned(patient: dict) -> dict:
    """A prediction's summary with the reasons of its verdict as one text."""
    trust = patient.get("trust")
    return patient | {"trust": trust | {"reasons": "; ".join(trust.get("reasons", ()))}} if trust else patient


def flat_numbers(record: dict, prefix: str = "") -> dict:
    """A QC record's numbers and strings, nested ones as "outer_inner"; lists are left out."""
    flat: dict[str, object] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= flat_numbers(value, f"{prefix}{key}_")
        elif isinstance(value, str | int | float):
            flat[f"{prefix}{key}"] = value
    return flat


def write_csv(path, rows: list[dict], first: tuple[str, ...]) -> None:
    """Rows as CSV: columns `first`, then the others as they appear; NaN is "nan". Header alone when there is no row.

    A text cell that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    columns = [*first, *dict.fromkeys(key for row in rows for key in row if key not in first)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_harmless(row.get(column, "")) for column in columns] for row in rows])
    write_text(path, text.getvalue())


def write_multiqc(rows: list[dict], figures: dict[str, bytes], directory) -> None:
    """MultiQC custom content: tables of the matrix and of the patients (TSV), and the main figures (PNG)."""
    metrics = metrics_in(rows) if rows else []
    several = ["checkpoint"] if len({row["checkpoint"] for row in rows}) > 1 else []
    if rows:
        table = [
            {
                "cell": "_".join(filter(None, (c[key] for key in ("trained_on", "tested_on", *several)))) or "all",
                "patients": c["n"],
                **{m.label: _short(c.get(f"{m.key}_pooled"), m.decimals) for m in metrics},
            }
            for c in matrix(rows)
        ]
        _write_tsv(
            directory / "synthct_matrix_mqc.tsv",
            "synthct_matrix",
            "synthct: trained on, tested on",
            ". ".join(filter(None, ("Mean over patients inside the body mask", by_the_leaderboard(metrics)))) + ".",
            table,
        )
        table = [
            {
                "sample": "_".join(
                    filter(None, (row[key] for key in ("patient", "trained_on", "tested_on", *several)))
                ),
                "region": row["region"],
                **{m.label: _short(row[m.key], m.decimals) for m in metrics},
            }
            for row in rows
        ]
        _write_tsv(
            directory / "synthct_patients_mqc.tsv",
            "synthct_patients",
            "synthct: patients",
            "Every patient with every model and registration of the test images.",
            table,
        )
    for name in ("matrix_mae", "patients_mae", "hu_bins"):
        if name in figures:
            write_bytes(directory / f"synthct_{name}_mqc.png", figures[name])


def write_bytes(path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def _write_tsv(path, identifier: str, title: str, description: str, rows: list[dict]) -> None:
    head = [
        f"# id: '{identifier}'",
        f"# section_name: '{title}'",
        f"# description: '{description}'",
        "# plot_type: 'table'",
    ]
    columns = list(rows[0])
    lines = ["\t".join(columns)] + [
        "\t".join(str(_harmless(row[column])).replace("\t", " ") for column in columns) for row in rows
    ]
    write_text(path, "\n".join(head + lines) + "\n")


def _short(value, decimals: int) -> str:
    return "nan" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def _harmless(value):
    if isinstance(value, float):
        return repr(float(value))
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "@") or (text[:1] == "-" and not _is_number(text)) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
