#!/usr/bin/env python3
"""Make the study's report: one HTML file that opens offline, figures as PNG, every number as CSV, and MultiQC's
files; with --crate the run's provenance as an RO-Crate.
"""

from pathlib import Path

import click

from synthct.cohort.curation import too_many
from synthct.core.cli import FILE, OUT, tool
from synthct.core.errors import InputError
from synthct.report.crate import write_crate
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
@click.option(
    "--limit", is_flag=True, help="fail where more patients were lost on the way than section curation allows"
)
@click.option("--run", type=FILE, help="with --crate: workflow, engine and parameters as the engine knows them (JSON)")
@click.option("--crate", type=OUT, help="provenance to write: ro-crate-metadata.json in the results' own directory")
@click.option("--outdir", required=True, type=OUT, help="directory for report.html, figures/ and multiqc/")
def main(records, outdir, evaluation_out, limit, run, crate, **given):
    inputs = read_inputs(records, **given)
    lost = {row["patient"]: row["reason"] for row in inputs.lost}
    if limit and lost and (fault := too_many(lost, len(inputs.cohort), inputs.settings["curation"])):
        raise InputError(f"{fault}; what was made is published")
    evaluation_out = evaluation_out or Path(outdir, "evaluation")
    write_report(inputs, outdir, evaluation_out)
    if crate:
        files = {"run": run, "sheet": given["cohort"], "settings": given["settings"]}
        write_crate(crate, inputs, made=(outdir, evaluation_out), **files)


if __name__ == "__main__":
    main()
