"""From inputs to files: report.html, figures/, the CSVs and MultiQC's files."""

import math
from pathlib import Path

import jinja2

from synthct import __version__
from synthct.core.files import write_text
from synthct.report import (
    context_sections,
    dose_sections,
    patient_sections,
    registration_sections,
    study_sections,
    tables,
)
from synthct.report.blocks import Cards, Figure, Panels, Section, Text
from synthct.report.inputs import Inputs
from synthct.study import compared
from synthct.study.arms import arm_name, arm_order, told
from synthct.study.comparison import comparisons
from synthct.study.doubts import doubts
from synthct.study.missing import missing
from synthct.study.rows import by_the_leaderboard, matrix, metrics_in, of_chosen_checkpoint, own_images, shared
from synthct.study.verdict import verdict

LARGEST = 6_500_000  # bytes of pictures in the page, so that it stays below 10 MB once they are written as text


def write_report(inputs: Inputs, outdir, evaluation_out=None) -> None:
    """Write everything under `outdir`; the CSVs go to `evaluation_out` (default: `outdir`/evaluation)."""
    with told(inputs.settings, compared.by_arm(inputs.qc, inputs.settings)):
        _write(inputs, Path(outdir), Path(evaluation_out or Path(outdir) / "evaluation"))


def _write(inputs: Inputs, outdir: Path, evaluation: Path):
    validation = context_sections.validation_mae(inputs.logs)
    parts = [
        study_sections.results(inputs),
        study_sections.study_matrix(inputs),
        dose_sections.dose(inputs),
        patient_sections.patients(inputs),
        context_sections.predictions(inputs),
        study_sections.choices(inputs, validation),
        registration_sections.registration(inputs),
        context_sections.cohort(inputs),
        context_sections.training(inputs),
        context_sections.provenance(inputs),
    ]
    parts = [part for part in parts if part]
    figures = {figure.name: figure.png for part in parts for figure in part.figures}
    for name, png in figures.items():
        tables.write_bytes(outdir / "figures" / f"{name}.png", png)
    tables.write_all(inputs, evaluation, validation)
    tables.write_multiqc(inputs.rows, figures, outdir / "multiqc")
    write_text(evaluation / "verdict.txt", plain_verdict(inputs))
    page = render(fitted(parts), sentences(inputs), headline(inputs), inputs.settings, heads(inputs))
    write_text(outdir / "report.html", page)


def render(parts: list[Section], verdict_sentences: list[str], cards: Cards | None, settings: dict, heads=()) -> str:
    """The page, `heads` being small lines at its top; everything that came from a sheet or a file name is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        sections=parts,
        verdict=verdict_sentences,
        cards=cards,
        heads=heads,
        version=__version__,
        leaderboard=by_the_leaderboard(),
        modality=settings.get("modality", ""),
        preset=settings.get("preset", ""),
    )


def plain_verdict(inputs: Inputs) -> str:
    """The verdict for a terminal: its sentences, then each test patient's MAE beside the trivial predictors'."""
    lines = sentences(inputs)
    rows = of_chosen_checkpoint(inputs.rows)
    rows = [row for row in rows if row["trained_on"] == row["tested_on"] and row.get("baselines")]
    if rows:
        form = "{:<16} {:<10} {:>10} {:>14} {:>14}"
        lines += ["", form.format("MAE (HU)", "arm", "sCT", "lookup table", "best constant")]
        for row in sorted(rows, key=lambda row: (row["patient"], row["trained_on"])):
            values = [row["mae"], *(float(row["baselines"][name]["mae"]) for name in ("lookup", "constant"))]
            lines.append(form.format(row["patient"], row["trained_on"], *(f"{value:.1f}" for value in values)))
    if context_sections.judged(inputs):
        lines.append("")
        for patient in context_sections.predicted(inputs):
            reasons = "; ".join(patient["trust"]["reasons"][:3])
            lines.append(f"{patient['patient']}: {context_sections.verdict_of(patient)}{reasons and ': '}{reasons}")
    return "\n".join(lines) + "\n"


def fitted(parts: list[Section], largest: int = LARGEST) -> list[Section]:
    """The sections with as many pictures, in order of the page, as fit; the others stay in figures/, and that is
    said.
    """
    used, result = 0, []
    for part in parts:
        kept, left = [], 0
        for block in part.blocks:
            figures = [block] if isinstance(block, Figure) else block.figures if isinstance(block, Panels) else []
            fitting = []
            for figure in figures:
                if used + len(figure.png) <= largest:
                    used += len(figure.png)
                    fitting.append(figure)
            left += len(figures) - len(fitting)
            if not figures or (isinstance(block, Figure) and fitting):
                kept.append(block)
            elif fitting:
                kept.append(Panels(fitting, block.caption, block.columns))
        if left:
            kept.append(Text(f"{left} more pictures are in figures/, left out here to keep this page small.", "note"))
        result.append(Section(part.id, part.title, part.lead, kept))
    return result


def heads(inputs: Inputs) -> list[str]:
    """A line an arm of the study: what its registration compared, with which weights."""
    told = compared.by_arm(inputs.qc, inputs.settings)
    return [compared.line(arm_name(arm), told[arm]) for arm in sorted(told, key=arm_order)]


def sentences(inputs: Inputs) -> list[str]:
    """The verdict and what is missing from it, or what there is to say without scores."""
    rows = of_chosen_checkpoint(inputs.rows)
    scores = {row["trained_on"] for row in rows}
    said = verdict(rows, comparisons(rows)) + missing(inputs.folds, set(inputs.logs), inputs.settings, scores)
    trusted = context_sections.trust_sentence(inputs)
    doubted = doubts(inputs.kept)
    if said or trusted:
        return trusted + said + doubted
    count = sum(len(record.get("patients", ())) for record in inputs.predictions)
    return [
        f"{count} synthetic CT{' was' if count == 1 else 's were'} made; there was no CT to score them against."
        if count
        else "No synthetic CT was scored.",
        *doubted,
    ]


def headline(inputs: Inputs) -> Cards | None:
    """The means of the cell with the lowest MAE among each model's own test images, as cards; over the patients that
    every cell has."""
    rows = own_images(shared(of_chosen_checkpoint(inputs.rows)))
    cells = [cell for cell in matrix(rows) if math.isfinite(cell.get("mae_pooled", math.nan))]
    if not cells:
        return None
    best = min(cells, key=lambda cell: cell["mae_pooled"])
    cards = [
        (f"{value:.{m.decimals}f}", m.unit, m.label)
        for m in metrics_in(rows)
        if math.isfinite(value := best.get(f"{m.key}_pooled", math.nan))
    ]
    parts = [
        f"{word} on {arm_name(best[key])}"
        for word, key in (("trained", "trained_on"), ("tested", "tested_on"))
        if best[key] not in ("", "given")
    ]
    return Cards([*cards, (str(best["n"]), "", "test patients")], ", ".join(["Means over patients", *parts]))
