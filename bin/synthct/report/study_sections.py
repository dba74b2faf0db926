"""The report's results: similarity by region and arm, the train × test matrix, patients, model selection."""

import math

from synthct.cohort.folds import learners
from synthct.report.blocks import Figure, Panels, Section, Table, Text
from synthct.report.figures import matrix as drawn_matrix
from synthct.report.figures import plots
from synthct.report.figures.style import in_words
from synthct.report.inputs import Inputs
from synthct.report.numbers import number, titled
from synthct.study.arms import about, arm_name, arm_order, registers
from synthct.study.comparison import IMAGES, MODEL, comparisons
from synthct.study.rows import (
    AGGREGATED,
    BY_KEY,
    PAPERS,
    POOLED,
    by_the_leaderboard,
    matrix,
    metrics_in,
    of_chosen_checkpoint,
    own_images,
    selection,
    split_finite,
    summary,
)
from synthct.study.verdict import cautions, uneven

REGION_NAMES = {AGGREGATED: "all, regions equal", POOLED: "all, patients pooled"}


def results(inputs: Inputs) -> Section | None:
    """Metrics by region and arm on each model's own test images, tissue bins, trivial predictors, uncertainty."""
    rows = own_images(of_chosen_checkpoint(inputs.rows))
    if not rows:
        return None
    lead = "; ".join(filter(None, ("Inside the body mask", by_the_leaderboard(metrics_in(rows))))) + "."
    if all(row["trained_on"] == row["tested_on"] != "given" for row in rows):
        lead += " Each model is scored on test images registered as its training images were."
    section = Section("results", "Image similarity", lead)
    section.blocks.append(_by_region(rows))
    section.blocks += _left_out(rows)
    section.blocks += [Text(note) for note in uneven(rows)]
    panels = [
        Figure(
            f"patients_{m.key}", plots.patient_dots(rows, m.key), f"{m.label} of every test patient by region and arm"
        )
        for m in PAPERS
    ]
    section.blocks.append(Panels(panels, "Every mark is a test patient; black: mean ± SD. " + _key(rows), 3))
    section.blocks += _tissue_and_uncertainty(rows)
    section.blocks += _trivial(rows)
    return section


def study_matrix(inputs: Inputs) -> Section | None:
    """The train × test matrix with its paired tests; None with fewer than two cells."""
    rows = of_chosen_checkpoint(inputs.rows)
    cells = matrix(rows)
    if len(cells) < 2:
        return None
    section = Section(
        "matrix",
        "Train × test matrix",
        "Rows: which registration made the training pairs. Columns: which one made "
        "the test images. " + _directions(inputs.rows) + _shown(inputs.rows),
    )
    section.blocks.append(
        Panels(
            [
                Figure(
                    "matrix_mae", drawn_matrix.matrix_shades(cells), "Train by test matrix of the mean absolute error"
                ),
                Figure(
                    "matrix_patients",
                    drawn_matrix.matrix_patients(rows),
                    "Mean absolute error of every patient across test registrations",
                ),
            ],
            "Left: mean ± SD (of these patients) over patients. Right: thin lines are patients, thick ones means.",
        )
    )
    metrics = metrics_in(rows)
    several = ["checkpoint"] if len({row["checkpoint"] for row in inputs.rows}) > 1 else []
    section.blocks.append(
        Table(
            "All metrics, mean over patients",
            ["trained on", "tested on", *several, "n", *map(titled, metrics)],
            [
                [
                    arm_name(c["trained_on"]),
                    arm_name(c["tested_on"]),
                    *(c[key] for key in several),
                    str(c["n"]),
                    *[number(c.get(f"{m.key}_pooled"), m.decimals) for m in metrics],
                ]
                for c in matrix(inputs.rows)
            ],
            2 + len(several),
            "matrix.csv",
        )
    )
    tests = comparisons(rows)
    for question, title in (
        (IMAGES, "Same model, two registrations of the test images"),
        (MODEL, "Same test images, two training registrations"),
    ):
        for key in ("mae", *[m.key for m in metrics if m.key != "mae"]):
            some = [test for test in tests if test["question"] == question and test["metric"] == key]
            if some:
                section.blocks.append(_tests(f"{title}: {BY_KEY[key].label}", some, folded=key != "mae"))
    section.blocks.append(
        Text(
            "Two-sided Wilcoxon signed-rank tests, paired by patient, Holm-corrected over the tests of one question "
            "and metric. r: rank-biserial correlation, the effect size (−1…1; above 0, the first is larger).",
            "note",
        )
    )
    section.blocks += [Text(note, "note") for note in (*cautions(tests), *uneven(rows), *_unlike(inputs.folds))]
    return section


def _shown(rows: list[dict]) -> str:
    """Which checkpoint the study's numbers are of, where there are several; "" else."""
    checkpoints = {row["checkpoint"] for row in rows}
    if len(checkpoints) < 2:
        return ""
    shown = of_chosen_checkpoint(rows)[0]["checkpoint"]
    return f" Scores, tests and pictures are of the checkpoint “{shown}” wherever no other is named."


def _unlike(folds: dict[str, dict]) -> list[str]:
    """A caution where the arms did not learn from the same patients."""
    patients = {arm: learners(plan) for arm, plan in folds.items()}
    if len({frozenset(names) for names in patients.values()}) < 2:
        return []
    counts = ", ".join(f"{arm_name(arm)} from {len(patients[arm])}" for arm in sorted(patients, key=arm_order))
    return [f"The arms did not learn from the same patients ({counts}; see Cohort): rows differ by that as well."]


def choices(inputs: Inputs, validation_mae: dict) -> Section | None:
    """Which candidate the aggregate of the image metrics chooses, and which one validation MAE would have."""
    ranked = selection(inputs.rows, validation_mae)
    if not ranked:
        return None
    section = Section(
        "selection",
        "Model selection",
        "The aggregate is the mean of MAE, PSNR and MS-SSIM, each scaled over the candidates from 0 (worst) to 1 "
        "(best). Candidates are compared on the same test images only: this describes, it chooses nothing. The best "
        "checkpoints are those that training chose on its validation patients. Validation MAE is of each arm's own "
        "validation images, so it tells checkpoints of an arm apart, not arms.",
    )
    checkpoints = len({entry["checkpoint"] for entry in ranked}) > 1
    body = [
        [
            arm_name(e["tested_on"]),
            arm_name(e["trained_on"]),
            *([e["checkpoint"]] if checkpoints else []),
            ", ".join(
                name
                for name, key in (("aggregate", "chosen_by_aggregate"), ("validation MAE", "chosen_by_validation_mae"))
                if e[key]
            )
            or "–",
            number(e["score"], 2),
            number(e["mean_rank"], 1),
            number(e["validation_mae"], 1),
        ]
        for e in ranked
    ]
    section.blocks.append(
        Table(
            "Candidates",
            [
                "tested on",
                "trained on",
                *(["checkpoint"] if checkpoints else []),
                "chosen by",
                "aggregate",
                "mean rank",
                "validation MAE (HU)",
            ],
            body,
            4 if checkpoints else 3,
            "selection.csv",
        )
    )
    told = dict.fromkeys(e["tested_on"] for e in ranked if e["chosen_by_validation_mae"])
    differ = [
        arm_name(tested)
        for tested in told
        if not any(
            e["chosen_by_aggregate"] and e["chosen_by_validation_mae"] for e in ranked if e["tested_on"] == tested
        )
    ]
    if told:
        section.blocks.append(
            Text(
                "Validation MAE would have chosen another candidate on the test images of: " + ", ".join(differ) + "."
                if differ
                else "Validation MAE would have chosen the same candidates."
            )
        )
    return section


def mean_and_sd(entry: dict, decimals: int) -> str:
    """Mean ± SD; of one patient the value alone."""
    mean = number(entry["mean"], decimals)
    return mean if entry["n"] == 1 else f"{mean} ± {number(entry['sd'], decimals)}"


def _by_region(rows: list[dict]) -> Table:
    metrics = metrics_in(rows)
    by_line: dict[tuple, dict[str, dict]] = {}
    for entry in summary(rows):
        by_line.setdefault((entry["trained_on"], entry["tested_on"], entry["region"]), {})[entry["metric"]] = entry
    several = len({row["region"] for row in rows}) > 1
    body = []
    for (trained, _, region), entries in by_line.items():
        if region in REGION_NAMES and not several:
            continue
        body.append(
            [
                arm_name(trained),
                REGION_NAMES.get(region, region or "–"),
                str(max(entry["n"] + entry["left_out"] for entry in entries.values())),
                *[mean_and_sd(entries[m.key], m.decimals) for m in metrics],
            ]
        )
    return Table(
        "Mean ± SD by training registration and region",
        ["trained on", "region", "n", *map(titled, metrics)],
        body,
        2,
        "summary.csv",
    )


def _left_out(rows: list[dict]) -> list[Text]:
    found = [f"{m.label} of {', '.join(out)}" for m in metrics_in(rows) if (out := split_finite(rows, m.key)[1])]
    return [Text(f"Left out of the means, being no finite number: {'; '.join(found)}.")] if found else []


def _tissue_and_uncertainty(rows: list[dict]) -> list[Panels]:
    figures, captions = [], []
    if any(row.get("hu_bins") for row in rows):
        figures.append(
            Figure("hu_bins", plots.hu_bins(rows), "MAE in air, lung, soft tissue and bone, every patient a mark")
        )
        captions.append(
            "Tissue by the CT's own value: air below −850 HU, lung −850 to −200, soft tissue −200 to 200, bone "
            "from 200."
        )
    if any((row.get("uncertainty") or {}).get("groups") for row in rows):
        figures.append(
            Figure(
                "uncertainty", plots.uncertainty_error(rows), "Mean absolute error against the ensemble's uncertainty"
            )
        )
        captions.append(
            "Uncertainty: ten equal groups of voxels by rising standard deviation of the ensemble; on the dotted line "
            "error and uncertainty are equal."
        )
    return [Panels(figures, " ".join(captions))] if figures else []


def _trivial(rows: list[dict]) -> list:
    rows = [row for row in rows if row.get("baselines")]
    if not rows:
        return []
    arms = sorted({row["trained_on"] for row in rows}, key=arm_order)
    body, figures = [], []
    for arm in arms:
        some = [row for row in rows if row["trained_on"] == arm and math.isfinite(row["mae"])]
        means = [
            sum(values) / len(values)
            for values in (
                [row["mae"] for row in some],
                *[[float(row["baselines"][name]["mae"]) for row in some] for name in ("lookup", "constant")],
            )
        ]
        body.append([arm_name(arm), str(len(some)), *[f"{mean:.1f}" for mean in means]])
        figures.append(
            Figure(
                f"trivial_predictors_{arm or 'all'}",
                plots.trivial_predictors(rows, arm),
                f"MAE of the synthetic CT and two trivial predictors, trained on {arm_name(arm)}",
            )
        )
    return [
        Table(
            "Mean MAE (HU) against the trivial predictors",
            ["trained on", "n", "synthetic CT", "lookup table", "best constant"],
            body,
            1,
            "patients.csv",
        ),
        Panels(
            figures,
            "Both predictors are fitted on the training patients: the median HU in the mask, and the mean HU of each "
            "of 256 intensity bins of the standardised input."
            + (f" The {plots.MOST_PATIENTS} largest errors." if len(rows) > plots.MOST_PATIENTS * len(arms) else ""),
        ),
    ]


def _tests(caption: str, tests: list[dict], folded: bool) -> Table:
    body = []
    for test in tests:
        decimals = BY_KEY[test["metric"]].decimals
        kept = "trained on" if test["question"] == IMAGES else "tested on"
        body.append(
            [
                f"{kept} {arm_name(test['fixed'])}",
                f"{arm_name(test['a'])} against {arm_name(test['b'])}",
                str(test["n"]),
                number(test["mean_a"], decimals),
                number(test["mean_b"], decimals),
                f"{test['mean_difference']:+.{decimals}f}".replace("-", "−"),
                f"{test['rank_biserial']:+.2f}".replace("-", "−"),
                "< 0.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}",
            ]
        )
    return Table(
        caption, ["fixed", "compared", "n", "first", "second", "difference", "r", "p"], body, 2, "tests.csv", folded
    )


def _directions(rows: list[dict]) -> str:
    words = {"ct_to_image": "deforms the CT onto the input", "image_to_ct": "deforms the input onto the CT"}
    arms = sorted({arm for row in rows for arm in (row["trained_on"], row["tested_on"])}, key=arm_order)
    said = [f"{arm_name(arm)} {words[about(arm)['direction']]}" for arm in arms if registers(arm)]
    return f"{'; '.join(said)}." if said else ""


def _key(rows: list[dict]) -> str:
    arms = sorted({row["trained_on"] for row in rows}, key=arm_order)
    said = "; ".join(f"{in_words(arm, arms)}: {arm_name(arm)}" for arm in arms)
    return f"{said[0].upper()}{said[1:]}." if len(arms) > 1 else ""
