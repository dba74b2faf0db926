"""What a study must publish: asked by the demo's test and by the one on Kubernetes, so that it stands once."""

import csv
from pathlib import Path

PAIR = ("image.mha", "ct.mha", "mask.mha", "displacement.mha", "qc.json", "preview.npz")
FIGURES = ("evaluation/patients.csv", "evaluation/summary.csv", "evaluation/matrix.csv", "report/report.html")
PROVENANCE = ("ro-crate-metadata.json", "pipeline_info/main.nf", "pipeline_info/settings.json")


def missing(results: Path, sheet: Path, arms: tuple[str, ...]) -> list[str]:
    """Files that a study of `sheet` with `arms` owes and that are not in `results`: pairs, bundles, sCTs, figures and
    provenance.
    """
    with open(sheet, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = [*FIGURES, *PROVENANCE]
    for arm in arms:
        wanted.append(f"models/{arm}/bundle.json")
        wanted += [f"sct/{arm}/{row['patient']}.mha" for row in rows if row["split"] == "test"]
        wanted += [f"registration/{arm}/{row['patient']}/{name}" for row in rows for name in PAIR]
    return [name for name in wanted if not (results / name).is_file()]
