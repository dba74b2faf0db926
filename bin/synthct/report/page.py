"""From inputs to files: report.html, figures/, the CSVs and MultiQC's files."""

from pathlib import Path

import jinja2

from synthct import __version__
from synthct.comparison import comparisons
from synthct.files import write_text
from synthct.report import sections, tables
from synthct.report.blocks import Figure
from synthct.report.inputs import Inputs
from synthct.verdict import verdict

SECTIONS = (sections.results, sections.study_matrix, sections.patients, sections.registration, sections.cohort,
            sections.learning, sections.choices, sections.provenance)


def write_report(inputs: Inputs, outdir, evaluation_out=None) -> None:
    """Write everything under `outdir`; the CSVs go to `evaluation_out` (default: `outdir`/evaluation)."""
    outdir = Path(outdir)
    parts = [section for make in SECTIONS if (section := make(inputs))]
    figures = {block.name: block.png for section in parts for block in section.blocks if isinstance(block, Figure)}
    for name, png in figures.items():
        tables.from_bytes(outdir / "figures" / f"{name}.png", png)
    tables.write_all(inputs, Path(evaluation_out or outdir / "evaluation"), sections.validation_mae(inputs.logs))
    tables.write_multiqc(inputs, figures, outdir / "multiqc")
    sentences = verdict(inputs.rows, comparisons(inputs.rows)) or [_without_scores(inputs)]
    write_text(outdir / "report.html", render(parts, sentences, sections.headline(inputs), inputs))


def render(parts, sentences: list[str], cards, inputs: Inputs) -> str:
    """The page; everything that came from a sheet or a file name is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    settings = inputs.settings
    return environment.get_template("page.html").render(
        sections=parts, verdict=sentences, cards=cards, version=__version__,
        modality=settings.get("modality", ""), preset=settings.get("preset", ""))


def _without_scores(inputs: Inputs) -> str:
    if inputs.predictions:
        return f"Synthetic CTs were made for {len(inputs.predictions)} images; there was no CT to score them against."
    return "No synthetic CT was scored."
