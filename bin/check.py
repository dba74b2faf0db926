#!/usr/bin/env python3
"""Resolve a study's settings and check, before anything is computed, that the cohort can be studied with them."""

from synthct.cohort import folds as cohort
from synthct.core.cli import tool
from synthct.core.files import write_json
from synthct.study.check import Request, check
from synthct.study.options import check_options


@tool("check.py", help=__doc__)
@check_options
def main(out, cohort_out, **options):
    settings, patients = check(Request(**options))
    write_json(out, settings)
    if cohort_out:
        cohort.write_sheet(cohort_out, patients)


if __name__ == "__main__":
    main()
