"""Aggregation, the matrix, selection, paired tests and the sentences made of them."""

import math
from pathlib import Path

import pytest
from scipy import stats

from synthct.core.files import plain
from synthct.evaluation.similarity import min_max
from synthct.study import rows as study
from synthct.study.comparison import comparisons, holm, paired
from synthct.study.verdict import cautions, uneven, verdict

# Tables 1 and 2 of the paper: MAE (HU) by region (AB, HN, TH) and the row "Aggregated" as printed.
PAPER = {
    "MR, baseline": ((64.89, 65.15, 60.07), 63.37),
    "MR, IMPACT": ((54.80, 70.07, 55.97), 60.28),
    "CBCT, baseline": ((58.46, 60.97, 50.40), 56.61),
    "CBCT, IMPACT": ((49.70, 51.97, 44.04), 48.57),
}


def row(patient, mae, region="AB", trained="impact", tested="impact", checkpoint="", **more):
    return {
        "patient": patient,
        "region": region,
        "trained_on": trained,
        "tested_on": tested,
        "checkpoint": checkpoint,
        **dict.fromkeys(study.BY_KEY, math.nan),
        "mae": mae,
        "psnr": 40 - mae / 10,
        "ms_ssim": 1 - mae / 1000,
    } | more


def entry(entries, **wanted):
    found = [one for one in entries if all(one[key] == value for key, value in wanted.items())]
    assert len(found) == 1, wanted
    return found[0]


@pytest.mark.parametrize("table", PAPER)
def test_papers_aggregated_rows_follow_from_its_region_rows(table):
    regions, printed = PAPER[table]
    means = dict(zip(("AB", "HN", "TH"), regions, strict=True))
    assert round(study.aggregate(means), 2) == printed
    # and through the rows of patients: three patients a region around its mean, of unequal number over regions
    rows = [
        row(f"{region}{i}", mean + offset, region)
        for i, offset in enumerate((-5, 0, 5))
        for region, mean in means.items()
    ]
    rows += [row(f"AB{i}", means["AB"]) for i in range(10, 20)]
    aggregated = entry(study.summary(rows), region=study.AGGREGATED, metric="mae")
    assert round(aggregated["mean"], 2) == printed
    assert round(entry(study.summary(rows), region=study.POOLED, metric="mae")["mean"], 2) != printed


def test_pooled_statistics_are_the_challenges():
    rows = [row(f"P{i}", value) for i, value in enumerate((1.0, 2.0, 4.0, 9.0))]
    pooled = entry(study.summary(rows), region=study.POOLED, metric="mae")
    assert (pooled["mean"], pooled["min"], pooled["max"], pooled["n"]) == (4, 1, 9, 4)
    assert pooled["sd"] == pytest.approx(math.sqrt(9.5))  # population, not sample
    assert (pooled["q25"], pooled["median"], pooled["q75"]) == (1.75, 3, 5.25)


def test_values_that_are_no_number_are_counted_and_named_and_never_reach_a_mean():
    rows = [row("A", 10.0), row("B", math.nan), row("C", 30.0, psnr=math.inf)]
    entries = study.summary(rows)
    mae = entry(entries, region=study.POOLED, metric="mae")
    assert (mae["mean"], mae["n"], mae["left_out"], mae["left_out_patients"]) == (20, 2, 1, "B (nan)")
    psnr = entry(entries, region=study.POOLED, metric="psnr")
    assert math.isfinite(psnr["mean"]) and psnr["left_out"] == 2 and "C (inf)" in psnr["left_out_patients"]
    assert entry(study.matrix(rows), trained_on="impact")["n"] == 3


def test_hd95_zeros_that_mean_nothing_was_found_are_not_averaged():
    score = {"mae": 1, "psnr": "inf", "ms_ssim": "nan", "patient": "A", "dice": 0.0, "hd95": 0.0}
    records = (
        score | {"n_classes_scored": 3, "n_classes_missing": 3},
        score | {"n_classes_scored": 0, "n_classes_missing": 0},
        score | {"dice": 1.0, "n_classes_scored": 3, "n_classes_missing": 0},
    )
    rows = study.rows_of((Path("a.json"), plain(record)) for record in records)
    assert len(rows) == 3
    assert sorted((str(r["dice"]), str(r["hd95"])) for r in rows) == [("0.0", "nan"), ("1.0", "0.0"), ("nan", "nan")]
    assert rows[0]["psnr"] == math.inf and math.isnan(rows[0]["ms_ssim"])


def test_selection_takes_the_aggregate_and_says_what_validation_mae_would_choose():
    rows = [
        row("A", 50.0, trained="impact", checkpoint="best", psnr=30.0, ms_ssim=0.90),
        row("A", 52.0, trained="impact", checkpoint="final", psnr=31.0, ms_ssim=0.95),
    ]
    chosen = study.selection(rows, {("impact", "best"): 40.0, ("impact", "final"): 45.0})
    best, final = chosen
    assert (best["score"], final["score"]) == pytest.approx((1 / 3, 2 / 3))
    assert final["chosen_by_aggregate"] and not best["chosen_by_aggregate"]
    assert best["chosen_by_validation_mae"] and not final["chosen_by_validation_mae"]
    assert (best["mean_rank"], final["mean_rank"]) == pytest.approx((5 / 3, 4 / 3))


def test_min_max_is_a_half_when_all_are_equal():
    assert min_max([3, 3], True).tolist() == [0.5, 0.5]
    assert min_max([1, 2, 3], True).tolist() == [1, 0.5, 0]
    assert min_max([1, 2, 3], False).tolist() == [0, 0.5, 1]


def test_paired_test_equals_scipys_and_its_effect_size_has_a_sign():
    a, b = [1.0, 2, 3, 4, 5, 6, 7, 8], [2.0, 4, 6, 8, 10, 12, 14, 15]
    result = paired(a, b, lower_is_better=True)
    assert result["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert (result["rank_biserial"], result["a_better"], result["b_better"]) == (-1, 8, 0)
    assert result["mean_difference"] == pytest.approx(-4.375)
    assert paired(a, b, lower_is_better=False)["a_better"] == 0
    same = paired(a, a, lower_is_better=True)
    assert (same["p"], same["rank_biserial"], same["a_better"], same["b_better"]) == (1, 0, 0, 0)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def cells(values, n=10):
    """Rows of a matrix with a fixed MAE by cell and a patient effect; "same" patients in all cells."""
    return [
        row(f"P{i:02}", mae + i + 0.1 * i * (trained != tested), trained=trained, tested=tested)
        for (trained, tested), mae in values.items()
        for i in range(n)
    ]


FOUR = {
    ("impact", "impact"): 63.55,
    ("impact", "elastix"): 72.47,
    ("elastix", "impact"): 68.31,
    ("elastix", "elastix"): 66.98,
}


def test_both_questions_are_asked_and_pairs_are_by_patient():
    rows = [r for r in cells(FOUR) if not (r["patient"] == "P03" and r["tested_on"] == "elastix")]
    tests = [test for test in comparisons(rows) if test["metric"] == "mae"]
    assert {(t["question"], t["fixed"]) for t in tests} == {
        ("model", "impact"),
        ("model", "elastix"),
        ("images", "impact"),
        ("images", "elastix"),
    }
    test = entry(tests, question="images", fixed="impact")
    assert (test["a"], test["b"], test["n"]) == ("impact", "elastix", 9)
    assert test["mean_difference"] < 0 and test["rank_biserial"] == -1
    assert test["p_holm"] == pytest.approx(2 * test["p"])


def test_verdict_says_what_the_matrix_says():
    rows = cells(FOUR)
    said = verdict(rows, comparisons(rows))
    assert said[0].startswith(
        "Changing only the registration of the test images moves a model's mean absolute error by up to 9.4 HU"
    )
    assert "the registration it was trained on, by up to 5.9 HU (IMPACT against Elastix, on Elastix" in said[0]
    assert "trained on IMPACT pairs: 68.0 ± 2.9 HU" in said[1]
    assert any(
        "IMPACT test images" in sentence and "10 of 10 patients" in sentence and "Holm" in sentence for sentence in said
    )


def test_the_lowest_error_is_the_lowest_of_the_matrix():
    """Also where a model does best on images that another registration made."""
    rows = cells(FOUR | {("elastix", "impact"): 62.0})
    said = verdict(rows, comparisons(rows))[1]
    assert said.startswith("On test images registered as its training images were, the model trained on IMPACT pairs")
    assert "has the lowest error: 68.0 ± 2.9 HU, over 10 patients. The lowest of the whole matrix is 67.0 HU" in said
    assert said.endswith("of the model trained on Elastix pairs on IMPACT test images.")


def test_up_to_means_the_largest_difference_of_the_matrix():
    """Also one that an arm without registration has a part in; which, is said."""
    nine = FOUR | {("none", "impact"): 90.0, ("none", "elastix"): 80.0, ("impact", "none"): 65.0}
    nine |= {("elastix", "none"): 70.0, ("none", "none"): 66.0}
    rows = cells(nine)
    tests = [test for test in comparisons(rows) if test["metric"] == "mae" and test["question"] == "model"]
    largest = max(abs(test["mean_difference"]) for test in tests)
    said = verdict(rows, comparisons(rows))[0]
    assert largest > 20 and f"by up to {largest:.1f} HU (IMPACT against no registration, on IMPACT test" in said


def test_a_p_value_that_could_have_been_smaller_does_not_blame_the_number_of_patients():
    test = {"question": "model", "metric": "mae", "fixed": "impact", "a": "impact", "b": "elastix", "n": 8}
    test |= {"mean_a": 60.0, "mean_b": 61.0, "mean_difference": -1.0, "a_better": 5, "b_better": 3}
    rows = cells(FOUR, n=8)
    for p, blamed in ((0.75, False), (0.07, True)):
        text = " ".join(verdict(rows, [test | {"p_holm": p, "smallest_p_holm": 0.07}]))
        assert "not significant" in text and ("too few patients" in text) == blamed


def test_too_few_patients_are_said_to_be_too_few():
    rows = cells(FOUR, n=4)
    tests = comparisons(rows)
    assert "too few patients" in " ".join(verdict(rows, tests))
    assert "not proven" in " ".join(cautions(tests))
    enough = comparisons(cells(FOUR, n=20))
    assert "too few" not in " ".join(verdict(cells(FOUR, n=20), enough)) and "not proven" not in " ".join(
        cautions(enough)
    )


def test_verdict_without_arms_names_no_model():
    rows = [row("A", 30.0, trained="given", tested="given"), row("B", 40.0, trained="given", tested="given")]
    assert verdict(rows, comparisons(rows)) == [
        "The synthetic CT reaches a mean absolute error of 35.0 ± 5.0 HU, over 2 patients."
    ]
    assert verdict([], []) == [] and verdict([row("A", math.nan)], []) == []


def test_trivial_predictors_are_counted():
    scores = {"lookup": {"mae": 50.0}, "constant": {"mae": "90"}}
    said = verdict([row("A", 30.0, baselines=scores), row("B", 60.0, baselines=scores)], [])
    assert "of an intensity lookup table in 1 and of the best constant in 2" in said[-1]


def test_an_arm_that_lost_its_hardest_patient_is_not_called_the_best():
    """P3's pair could not be registered by elastix: its mean is lower for that alone."""
    hard = {"P1": 40.0, "P2": 50.0, "P3": 120.0}
    rows = [row(patient, mae) for patient, mae in hard.items()]
    rows += [row(patient, mae + 5, trained="elastix", tested="elastix") for patient, mae in list(hard.items())[:2]]
    text = " ".join(verdict(rows, comparisons(rows)))
    assert "model trained on IMPACT pairs: 45.0 ± 5.0 HU" in text
    assert "over the 2 of 3 patients with a score in every cell" in text
    assert uneven(rows) == [
        "Not all means are of the same patients (Elastix on Elastix test images has no P3), so these do not compare; "
        "the tests go patient by patient."
    ]
    assert uneven(rows[:2] + rows[3:]) == []
    assert "over 2 patients" in " ".join(verdict(rows[:2] + rows[3:], []))
    apart = [row("P1", 40.0), row("P2", 30.0, trained="elastix", tested="elastix")]
    assert "none of the errors is called the lowest" in " ".join(verdict(apart, []))


def test_candidates_are_ranked_on_patients_that_all_of_them_have():
    rows = [row("P1", 40.0), row("P2", 120.0), row("P1", 45.0, trained="elastix")]
    chosen = {one["trained_on"]: one for one in study.selection(rows)}
    assert chosen["impact"]["chosen_by_aggregate"] and not chosen["elastix"]["chosen_by_aggregate"]
    assert (chosen["impact"]["mae"], chosen["elastix"]["mae"]) == (40, 45)
    rows = [row("P1", 40.0), row("P2", 60.0, ms_ssim=math.nan)]
    rows += [row("P1", 41.0, trained="elastix"), row("P2", 61.0, trained="elastix")]
    assert study.selection(rows)[0]["ms_ssim"] == pytest.approx(1 - 40 / 1000)  # P1's, whom both have
    assert study.selection(rows)[1]["mae"] == 51


def test_validation_chooses_only_where_every_candidate_was_validated():
    rows = [row("P1", 40.0), row("P1", 45.0, trained="elastix")]
    known = study.selection(rows, {("impact", "best"): 50.0, ("elastix", "best"): 49.0})
    assert [one["chosen_by_validation_mae"] for one in known] == [False, True]
    assert not any(one["chosen_by_validation_mae"] for one in study.selection(rows, {("impact", "best"): 50.0}))
