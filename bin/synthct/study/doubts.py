"""Pairs that were trained on though a measure of their registration is beyond its limit."""

from synthct.cohort.curation import BEYOND
from synthct.study.arms import arm_name

NAMED = 4  # pairs in a sentence


def doubts(kept: list[dict]) -> list[str]:
    """A sentence on those of the rows `kept` (arm, patient, score, verdict, measure: curate.py's table) whose score is
    above 1 and of whom nobody said "keep"; [] without any.

    >>> row = {"arm": "mi", "patient": "P1", "score": "1.2", "verdict": "", "measure": "bodies overlap with Dice 0.88"}
    >>> doubts([row])[0].partition(": ")[2]
    'P1 (dense MI: bodies overlap with Dice 0.88).'
    """
    rows = [row for row in kept if not row["verdict"] and float(row["score"]) > BEYOND]
    if not rows:
        return []
    rows = sorted(rows, key=lambda row: (-float(row["score"]), row["patient"], row["arm"]))
    named = ", ".join(f"{row['patient']} ({arm_name(row['arm'])}: {row['measure']})" for row in rows[:NAMED])
    more = f", and {len(rows) - NAMED} more" * (len(rows) > NAMED)
    count = "1 pair was" if len(rows) == 1 else f"{len(rows)} pairs were"
    return [
        f"{count} kept with a measure of the registration beyond its limit (--curate auto leaves such pairs out): "
        f"{named}{more}."
    ]
