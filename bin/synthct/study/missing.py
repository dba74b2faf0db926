"""Which trainings of a study left no trace, and what its report lacks because of them.

A training that failed is passed over so that the others end; an arm's bundle is made when all its trainings are there.
"""

from collections.abc import Collection

from synthct.cohort.folds import groups_of
from synthct.study.arms import arm_name, arm_order

GLOBAL = "global"


def trainings(plan: dict, groups: str) -> list[tuple[str, str]]:
    """(fold, group) of every training that a plan (folds.json) asks for: "0", and "global" or a region group that
    has a patient to train on; `groups` is ``finetuning.groups``."""
    regions = plan.get("regions") or {}
    asked = []
    for number, fold in enumerate(plan.get("folds") or ()):
        present = {regions.get(name) for name in fold.get("train", ())}
        tuned = [name for name, members in groups_of(groups).items() if present & set(members)]
        asked += [(str(number), group) for group in (GLOBAL, *tuned)]
    return asked


def missing(
    folds: dict[str, dict], logs: set[tuple[str, str, str]], settings: dict, scores: Collection[str] = ()
) -> list[str]:
    """A sentence for each arm whose trainings did not all end; an arm that has `scores` is not missing.

    `folds` are the plans by arm, `logs` (arm, fold, group) of the trainings that did end; without a single one (no
    study, or a stub) nothing is missing.
    """
    groups = (settings.get("finetuning") or {}).get("groups", "")
    said = []
    for arm in sorted(filter(None, set(folds) - set(scores)), key=arm_order) if logs else ():
        gone = [one for one in trainings(folds[arm], groups) if (arm, *one) not in logs]
        failed = [(fold, group) for fold, group in gone if group == GLOBAL or (fold, GLOBAL) not in gone]
        if failed:
            named = ", ".join(f"fold {fold}" + ("" if group == GLOBAL else f" ({group})") for fold, group in failed)
            said.append(
                f"{arm_name(arm)} is missing from every score here: its training of {named} failed and was passed "
                "over, so its networks were neither bundled nor tested. The run's notes say why; the same command with "
                "-resume does the rest."
            )
    return said
