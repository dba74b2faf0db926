"""Which trainings of a study left no trace, and what its report lacks because of them.

A training that failed is passed over so that the others end; an arm's bundle is made when all its trainings are there.
"""

from collections.abc import Collection

from synthct.cohort.folds import GLOBAL, groups_of, runs
from synthct.study.arms import arm_name, arm_order


def missing(
    folds: dict[str, dict], logs: set[tuple[str, str, str]], settings: dict, scores: Collection[str] = ()
) -> list[str]:
    """A sentence for each arm whose trainings did not all end; an arm that has `scores` is not missing.

    `folds` are the plans by arm, `logs` (arm, fold, group) of the trainings that did end; without a single one (no
    study, or a stub) nothing is missing.
    """
    groups = groups_of((settings.get("finetuning") or {}).get("groups", ""))
    said = []
    for arm in sorted(filter(None, set(folds) - set(scores)), key=arm_order) if logs else ():
        asked = [(str(run["fold"]), run["group"]) for run in runs(folds[arm], groups)]
        gone = [one for one in asked if (arm, *one) not in logs]
        failed = [(fold, group) for fold, group in gone if group == GLOBAL or (fold, GLOBAL) not in gone]
        if failed:
            named = ", ".join(f"fold {fold}" + ("" if group == GLOBAL else f" ({group})") for fold, group in failed)
            said.append(
                f"{arm_name(arm)} is missing from every score here: its training of {named} failed and was passed "
                "over, so its networks were neither bundled nor tested. The run's notes say why; the same command with "
                "-resume does the rest."
            )
    return said
