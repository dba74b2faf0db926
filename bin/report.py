#!/usr/bin/env python3
"""Make the study's report: one HTML file that opens offline, figures as PNG, every number as CSV, and MultiQC's
files.
"""

import click

from synthct.core.cli import FILE, OUT, tool
from synthct.report.inputs import read_inputs
from synthct.report.page import write_report


@tool("report.py", help=__doc__)
@click.option(
    "--records",
    multiple=True,
    type=click.Path(exists=True, path_type=str),
    help="what the steps wrote of patients, arms and trainings: files, or directories at any depth; several times",
)
@click.option("--cohort", type=FILE, help="the samplesheet")
@click.option("--settings", type=FILE, help="the resolved settings (JSON)")
@click.option("--versions", type=FILE, help="versions.yml")
@click.option("--evaluation-out", type=OUT, help="directory for the CSVs  [default: <outdir>/evaluation]")
@click.option("--outdir", required=True, type=OUT, help="directory for report.html, figures/ and multiqc/")
def main(records, outdir, evaluation_out, **given):
    write_report(read_inputs(records, **given), outdir, evaluation_out)


if __name__ == "__main__":
    main()
