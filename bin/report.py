#!/usr/bin/env python3
"""Make the study's report: one HTML file that opens offline, figures as PNG, every number as CSV, and MultiQC's
files.
"""

import click

from synthct.core.cli import FILE, OUT, tool
from synthct.report.inputs import read_inputs
from synthct.report.page import write_report

FOLDER = click.Path(exists=True, file_okay=False, path_type=str)
EITHER = click.Path(exists=True, path_type=str)


@tool("report.py", help=__doc__)
@click.option("--metrics", type=FOLDER, help="metrics files of evaluate.py (JSON)")
@click.option("--slices", type=FOLDER, help="slices of evaluate.py, <trained>__<tested>__<patient>.npz")
@click.option("--qc", type=FOLDER, help="registration QC, <method>__<patient>.json")
@click.option("--previews", type=FOLDER, help="registration previews, <method>__<patient>.npz")
@click.option("--logs", type=FOLDER, help="training logs, <arm>__fold<k>__<group>.csv")
@click.option("--cohort", type=FILE, help="the samplesheet")
@click.option("--folds", multiple=True, type=EITHER, help="folds.json, or a directory of <arm>__folds.json")
@click.option("--settings", type=FILE, help="the resolved settings (JSON)")
@click.option("--excluded", type=FOLDER, help="curation's lists, <arm>__excluded.csv (patient, reason)")
@click.option("--predictions", type=FOLDER, help="what predict.py wrote about its images (JSON)")
@click.option("--dose", type=FOLDER, help="records and slices of dose.py, <trained>__<tested>__<patient>.json, .npz")
@click.option("--versions", type=FILE, help="versions.yml")
@click.option("--evaluation-out", type=OUT, help="directory for the CSVs  [default: <outdir>/evaluation]")
@click.option("--outdir", required=True, type=OUT, help="directory for report.html, figures/ and multiqc/")
def main(outdir, evaluation_out, **given):
    write_report(read_inputs(**given), outdir, evaluation_out)


if __name__ == "__main__":
    main()
