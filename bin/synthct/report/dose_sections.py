"""The report's dose: the challenge's dose metrics by region, the train × test matrix, DVHs, maps, and whether image
and dose agree.
"""

import math
from statistics import median

from synthct.report.blocks import Figure, Section, Table, Text
from synthct.report.figures import doses as drawn
from synthct.report.inputs import Inputs
from synthct.report.numbers import number, titled
from synthct.study.arms import arm_name, arm_order
from synthct.study.comparison import IMAGES, MODEL, comparisons
from synthct.study.doses import CHANGES, COVERED, DOSE_METRICS, FEWEST, KINDS, agreement, dose_rows, failures
from synthct.study.rows import combinations, metrics_in, of_chosen_checkpoint, own_images
from synthct.study.verdict import uneven

SHOWN = 12  # rows of a table by patient that stand open
PICTURED = 3  # patients with maps and DVHs, largest dose error first
BY_KEY = {metric.key: metric for metric in DOSE_METRICS}
WITH_ENDS = ("_mae_dose", "_gamma_pass_percent", "_target_mean_change", "_range_shift_mm")  # shown with the folds' ends


def dose(inputs: Inputs) -> Section | None:
    """What the synthetic CTs do to a plan; None where dose.py did not run."""
    if not inputs.doses:
        return None
    rows = of_chosen_checkpoint(dose_rows(inputs.doses))
    section = Section("dose", "Dose", _lead(inputs.doses))
    said = [f"{patient} ({reason})" for patient, reason in failures(inputs.doses)]
    if rows:
        metrics = metrics_in(rows, DOSE_METRICS)
        section.blocks.append(_by_region(own_images(rows), metrics))
        section.blocks += [Text(note) for note in (*_covered(rows), *uneven(rows))]
        section.blocks += _intervals(own_images(rows))
        if len(combinations(rows)) > 1:
            section.blocks += _matrix(rows, metrics)
        section.blocks += _agreement(of_chosen_checkpoint(inputs.rows), rows)
        section.blocks += _pictures(inputs, own_images(rows))
    if said:
        section.blocks.append(Text(f"Not planned: {'; '.join(said)}."))
    return section


def _lead(records: list[dict]) -> str:
    planned = [record for record in records if "failed" not in record]
    lead = (
        "A plan is optimised on the CT, and its fluence calculated anew on the synthetic CT. MAE where the CT gets at "
        "least 90 % of the prescription; DVH metric and conformity as the challenge defines them; gamma: global, part "
        "of the body's voxels within dose and distance tolerance; range shift: mean size over the proton rays' R80."
    )
    if not planned:
        return lead
    names = {record["target"]["name"] for record in planned}
    if "standard ellipsoid" in names:
        whose = "Targets are" if names == {"standard ellipsoid"} else "Some targets are"
        lead += f" {whose} no tumours: a standard ellipsoid where the body is thickest."
    return lead


def _by_region(rows: list[dict], metrics) -> Table:
    body = []
    for (trained, _, _), members in combinations(rows).items():
        regions = sorted({row["region"] for row in members})
        for region in [*regions, *([None] if len(regions) > 1 else [])]:
            some = [row for row in members if region is None or row["region"] == region]
            body.append(
                [
                    arm_name(trained),
                    "all, patients pooled" if region is None else region or "–",
                    str(len(some)),
                    *(_spread(some, metric) for metric in metrics),
                ]
            )
    columns = ["trained on", "region", "n", *map(titled, metrics)]
    return Table("Dose by training registration and region, mean ± SD", columns, body, 2, "dose.csv")


def _covered(rows: list[dict]) -> list[str]:
    """Whose synthetic CT did not see all of the body, in a sentence."""
    parts: dict[str, float] = {}
    for row in rows:
        if row[COVERED] < 100:
            parts[row["patient"]] = min(row[COVERED], parts.get(row["patient"], 100.0))
    if not parts:
        return []
    told = "; ".join(f"{patient} ({number(part, 1)} % of the body)" for patient, part in sorted(parts.items()))
    return [f"A synthetic CT ends within the body of {told}. What it did not see counts as air in its dose."]


def _intervals(rows: list[dict]) -> list:
    """Each patient's values with the lowest and highest over the folds; nothing where no fold was planned on alone."""
    metrics = [
        m for m in (*DOSE_METRICS, *CHANGES) if m.key.endswith(WITH_ENDS) and any(f"{m.key}_low" in r for r in rows)
    ]
    if not metrics:
        return []
    some = [row for row in rows if f"{metrics[0].key}_low" in row]
    spread = [
        f"{kind}s {number(_mean(some, f'{kind}_fold_sd_target'), 2)} % of the prescription in the target and "
        f"{number(_mean(some, f'{kind}_fold_sd_body'), 2)} % in the body"
        for kind in KINDS
        if f"{kind}_fold_sd_target" in some[0]
    ]
    said = Text(
        "Every fold's own synthetic CT was planned on as well. Between folds a voxel's dose varies by (standard "
        f"deviation, mean over patients): {'; '.join(spread)}. The folds' errors partly cancel in the ensemble, so its "
        "MAE and gamma may be better than any fold's. Folds that agree can still share an error: the interval is no "
        "bound on it."
    )
    body = [
        [row["patient"], arm_name(row["trained_on"]), *(_with_ends(row, metric) for metric in metrics)]
        for row in sorted(some, key=lambda row: (row["patient"], arm_order(row["trained_on"])))
    ]
    columns = ["patient", "trained on", *map(titled, metrics)]
    caption = "Dose by patient: the ensemble, and in brackets the lowest and highest over its folds"
    return [said, Table(caption, columns, body, 2, "dose.csv", folded=len(body) > SHOWN)]


def _with_ends(row: dict, metric) -> str:
    value, low, high = (number(row.get(f"{metric.key}{end}"), metric.decimals) for end in ("", "_low", "_high"))
    return f"{value} [{low} to {high}]".replace("-", "−")


def _mean(rows: list[dict], key: str) -> float:
    values = [row[key] for row in rows if math.isfinite(row[key])]
    return sum(values) / len(values) if values else math.nan


def _matrix(rows: list[dict], metrics) -> list:
    body = [
        [arm_name(trained), arm_name(tested), str(len(some)), *(_spread(some, metric) for metric in metrics)]
        for (trained, tested, _), some in combinations(rows).items()
    ]
    columns = ["trained on", "tested on", "n", *map(titled, metrics)]
    blocks = [Table("Dose, train × test, mean ± SD over patients", columns, body, 2, "dose.csv")]
    tests = comparisons(rows, DOSE_METRICS)
    lines = [
        [
            BY_KEY[test["metric"]].label,
            f"{'trained' if test['question'] == IMAGES else 'tested'} on {arm_name(test['fixed'])}",
            f"{arm_name(test['a'])} against {arm_name(test['b'])}",
            str(test["n"]),
            number(test["mean_a"], BY_KEY[test["metric"]].decimals),
            number(test["mean_b"], BY_KEY[test["metric"]].decimals),
            f"{test['rank_biserial']:+.2f}".replace("-", "−"),
            "< 0.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}",
        ]
        for question in (MODEL, IMAGES)
        for test in tests
        if test["question"] == question
    ]
    if lines:
        columns = ["metric", "fixed", "compared", "n", "first", "second", "r", "p"]
        title = "Dose, paired Wilcoxon tests, Holm-corrected by question and metric"
        blocks.append(Table(title, columns, lines, 3, "dose_tests.csv", folded=True))
    return blocks


def _agreement(rows: list[dict], doses: list[dict]) -> list:
    found = agreement(rows, doses)
    if not found:
        return [
            Text(
                f"Whether image and dose metrics agree cannot be said with fewer than {FEWEST} patients a cell.", "note"
            )
        ]
    body = [
        [
            arm_name(entry["trained_on"]),
            arm_name(entry["tested_on"]),
            BY_KEY[entry["metric"]].label,
            str(entry["n"]),
            f"{entry['rho']:+.2f}".replace("-", "−"),
            f"{entry['p']:.3f}",
        ]
        for entry in found
    ]
    columns = ["trained on", "tested on", "dose metric", "n", "rank correlation", "p"]
    return [
        Text(_agree(found)),
        Table("MAE (HU) against dose, over patients", columns, body, 3, "dose_agreement.csv", folded=True),
    ]


def _agree(found: list[dict]) -> str:
    """Whether image and dose agree, in a sentence."""
    strong = sum(entry["p"] < 0.05 and entry["rho"] > 0 for entry in found)
    middle = median(entry["rho"] for entry in found)
    return (
        f"Over patients, a larger MAE in HU goes with a worse dose in {strong} of {len(found)} pairs of cell and dose "
        f"metric (Spearman, p < 0.05, uncorrected; median correlation {middle:+.2f}): image and dose metrics "
        f"{'agree' if 2 * strong > len(found) else 'do not rank patients alike, and one cannot stand for the other'}."
    ).replace("-", "−")


def _pictured(rows: list[dict]) -> list[str]:
    """The patients with pictures, the largest dose error first; of protons, where they were planned."""
    keys = [f"{kind}_mae_dose" for kind in reversed(KINDS)]
    key = next((key for key in keys if any(math.isfinite(row[key]) for row in rows)), keys[0])
    worst = sorted((row for row in rows if math.isfinite(row[key])), key=lambda row: -row[key])
    return list(dict.fromkeys(row["patient"] for row in worst or rows))[:PICTURED]


def _pictures(inputs: Inputs, rows: list[dict]) -> list:
    records = {(r["trained_on"], r["tested_on"], r["patient"]): r for r in inputs.doses if "failed" not in r}
    blocks = []
    for patient in _pictured(rows):
        cells = sorted(
            {(row["trained_on"], row["tested_on"]) for row in rows if row["patient"] == patient},
            key=lambda cell: arm_order(cell[0]),
        )
        shown = [(arm_name(cell[0]), inputs.dose_slices.get((*cell, patient))) for cell in cells]
        shown = [(name, drawn.load(path)) for name, path in shown if path]
        if shown:
            blocks.append(
                Figure(
                    f"dose_map_{patient}",
                    drawn.difference_maps(shown),
                    f"Dose on the CT and its change on the synthetic CT of {patient}",
                    f"{patient}: axial slice through the target (outlined); the plan's dose on the CT, and where the "
                    f"synthetic CT gets more of it (red) or less (blue; one colour beyond ±{drawn.CHANGE:g} %), over "
                    "the CT in grey.",
                )
            )
        curves = [(arm_name(cell[0]), records[(*cell, patient)]) for cell in cells if (*cell, patient) in records]
        if curves:
            folds = any("members" in record for _, record in curves)
            blocks.append(
                Figure(
                    f"dvh_{patient}",
                    drawn.dvh(curves),
                    f"Dose-volume histograms of {patient} on the CT and the synthetic CT",
                    f"{patient}: part of each structure that gets at least this dose; solid: CT, dashed: synthetic CT"
                    f"{', band: from the lowest to the highest of the folds' if folds else ''}.",
                )
            )
    return blocks


def _spread(rows: list[dict], metric) -> str:
    values = [row[metric.key] for row in rows if math.isfinite(row[metric.key])]
    if not values:
        return "–"
    mean = _mean(rows, metric.key)
    if len(values) == 1:
        return number(mean, metric.decimals)
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return f"{number(mean, metric.decimals)} ± {number(sd, metric.decimals)}"
