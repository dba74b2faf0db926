#!/usr/bin/env python3
"""Fit the trivial predictors (best constant HU, lookup table from input intensity to HU) on the training cases."""

from pathlib import Path

import click

from synthct.core.cli import FILE, OUT, tool
from synthct.core.files import plain, write_json
from synthct.core.tables import read_object
from synthct.evaluation import baselines


@tool("baselines.py", help=__doc__)
@click.option(
    "--cases",
    required=True,
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="case directory of preprocess.py, or a directory that holds some; may be given several times",
)
@click.option("--folds", type=FILE, help="folds.json: only its training patients are used, never its test patients")
@click.option("--bins", default=baselines.BINS, type=click.IntRange(2, 4096), help="bins of the lookup table")
@click.option("--out", required=True, type=OUT, help="JSON file to write")
@click.argument("more", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(cases, folds, bins, out, more):
    found = []
    for given in [*cases, *more]:
        found += (
            [given] if (given / "case.json").is_file() else sorted(case.parent for case in given.glob("*/case.json"))
        )
    lists = read_object(folds, "folds") if folds else None
    usable = [case for case in baselines.training_cases(found, lists) if (case / "ct.npy").is_file()]
    write_json(out, plain(baselines.fit(usable, bins)))


if __name__ == "__main__":
    main()
