"""The held-out test and the folds: stratified, disjoint, the same for every arm, faults said in one line."""

from collections import Counter

import pytest
from conftest import bad_input

from synthct.cohort.folds import Patient, groups_of, plan, read_lists, read_sheet, stratified_folds
from synthct.core.errors import InputError

REGIONS = {"AB": 60, "HN": 45, "TH": 30}


@pytest.fixture
def patients():
    return [
        Patient(f"{region}{center}{i:03d}", region, center)
        for region, count in REGIONS.items()
        for center, share in (("A", 2 / 3), ("B", 1 / 3))
        for i in range(round(count * share))
    ]


def test_everyone_is_tested_or_validated_once(patients):
    drawn = plan(patients, folds=5, holdout="27", seed=32)
    validated = [name for fold in drawn["folds"] for name in fold["validation"]]
    assert len(drawn["test"]) == 27
    assert sorted(validated + drawn["test"]) == sorted(p.name for p in patients)
    for fold in drawn["folds"]:
        assert not set(fold["train"]) & (set(fold["validation"]) | set(drawn["test"]))
        assert sorted(fold["train"] + fold["validation"]) == sorted(set(validated))


def test_each_stratum_gives_its_share(patients):
    drawn = plan(patients, folds=5, holdout="0.2", seed=1)
    of = {p.name: (p.region, p.center) for p in patients}
    total = Counter(of.values())
    for name, members in [("test", drawn["test"]), *((k, f["validation"]) for k, f in enumerate(drawn["folds"]))]:
        share = Counter(of[patient] for patient in members)
        for stratum, count in total.items():
            expected = count * (0.2 if name == "test" else 0.8 / 5)
            assert abs(share[stratum] - expected) < 1.5, (name, stratum)
    sizes = [len(fold["validation"]) for fold in drawn["folds"]]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("cohort", "folds"),
    [
        ({"AB": 1, "HN": 2, "TH": 1}, 2),
        ({"AB": 7, "HN": 5, "TH": 8}, 5),
        ({"AB": 9, "HN": 6}, 5),
        ({"EX": 3, "TH": 1}, 3),
    ],
)
def test_no_region_piles_up_in_a_fold(cohort, folds):
    patients = [Patient(f"{region}{i}", region, "A") for region, count in cohort.items() for i in range(count)]
    for seed in range(40):
        dealt = [Counter(name[:2] for name in fold) for fold in stratified_folds(patients, folds, seed)]
        for region in cohort:
            counts = [fold[region] for fold in dealt]
            assert max(counts) - min(counts) <= 1, (seed, region, counts)


def test_strata_of_one_size_hold_out_by_region_and_by_lot():
    sizes = {"AB": 10, "HN": 10, "TH": 10}
    patients = [Patient(f"{r}{c}{i}", r, c) for r, n in sizes.items() for c in "ABCDE" for i in range(n)]
    test = plan(patients, folds=5, holdout="20", seed=32)["test"]  # of 15 strata 5 give one more: not all of them AB's
    assert sorted(Counter(name[:2] for name in test).values()) == [6, 7, 7]
    alone = [Patient(f"{r}{c}", r, c) for r in sizes for c in "ABCDE"]
    tests = [plan(alone, folds=2, holdout="3", seed=seed)["test"] for seed in range(9)]
    assert all([name[:2] for name in test] == ["AB", "HN", "TH"] for test in tests)
    assert len({tuple(test) for test in tests}) > 4


def test_the_draw_depends_on_the_seed_alone(patients):
    first = plan(patients, folds=5, holdout="20", seed=7)
    assert plan(list(reversed(patients)), folds=5, holdout="20", seed=7) == first | {
        key: {p.name: getattr(p, key[:-1]) for p in reversed(patients)} for key in ("regions", "centers")
    }
    assert plan(patients, folds=5, holdout="20", seed=8)["test"] != first["test"]


def test_exclusions_of_an_arm_leave_the_draw_alone(patients):
    plain = plan(patients, folds=5, holdout="20", seed=32)
    gone = {plain["folds"][0]["train"][0]: "folded", plain["folds"][1]["validation"][0]: "shifted"}
    curated = plan(patients, folds=5, holdout="20", seed=32, excluded=gone)
    assert curated["test"] == plain["test"]
    for before, after in zip(plain["folds"], curated["folds"], strict=True):
        assert after["train"] == [name for name in before["train"] if name not in gone]
        assert after["validation"] == [name for name in before["validation"] if name not in gone]


def test_the_column_of_the_sheet_decides():
    patients = [Patient(f"p{i}", "AB", "A", "test" if i in (2, 5) else "train") for i in range(9)]
    assert plan(patients, folds=2, holdout="4", seed=32)["test"] == ["p2", "p5"]
    assert plan(patients, folds=2, holdout="0", seed=32)["test"] == []


def test_a_patient_kept_for_training_is_not_drawn():
    patients = [Patient(f"p{i}", "AB", "A", "train" if i < 6 else "") for i in range(9)]
    for seed in range(5):
        assert set(plan(patients, folds=2, holdout="2", seed=seed)["test"]) <= {"p6", "p7", "p8"}
    with pytest.raises(InputError, match="holdout 4: 4 patients, but split = train keeps all but 3 of 9"):
        plan(patients, folds=2, holdout="4", seed=1)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("patient,region,center,Split", "column 'Split', expected 'split'"),
        ("patient,REGION,center,split", "column 'REGION', expected 'region'"),
        ("Patient,region,center,split", "column 'Patient', expected 'patient'"),
        ("patient,re gion,center,split", "column 're gion', expected 'region'"),
        ("name,region,center,split", "header 'name,region,center,split', expected a column 'patient'"),
    ],
)
def test_a_column_that_would_be_passed_over_is_refused(tmp_path, header, said):
    (tmp_path / "sheet.csv").write_text(f"{header}\nP1,AB,A,test\n")
    with pytest.raises(InputError, match=said):
        read_sheet(tmp_path / "sheet.csv")


def test_a_fold_list_names_somebody_and_each_once(tmp_path):
    (tmp_path / "a.txt").write_text("# none yet\n")
    with pytest.raises(InputError, match=r"a\.txt: no names"):
        read_lists([tmp_path / "a.txt"])
    (tmp_path / "a.txt").write_text("P0\nP1\nP0\n")
    with pytest.raises(InputError, match=r"a\.txt: patient 'P0' stands there twice"):
        read_lists([tmp_path / "a.txt"])
    assert read_lists([]) is None


def test_what_leaves_nobody_to_train_on_is_said(patients):
    with pytest.raises(InputError, match="fold 0: no patient left to train on, all are in its validation list"):
        plan(patients, folds=2, holdout="0", seed=1, given=[[p.name for p in patients]])
    few, gone = patients[:2], {patients[1].name: "bad"}
    with pytest.raises(InputError, match="no patient left to train on after the exclusions"):
        plan(few, folds=2, holdout="0", seed=1, given=[[few[0].name]], excluded=gone)
    with pytest.raises(InputError, match="folds 2: patients left to train on: 1, expected 2 or more"):
        plan(few, folds=2, holdout="1", seed=1)


@pytest.mark.parametrize(
    ("folds", "holdout", "said"),
    [
        (5, "200", "nothing would be left"),
        (5, "many", "expected a count"),
        (200, "2", "folds 200"),
        (5, "split", "no row"),
    ],
)
def test_impossible_plans_are_refused(patients, folds, holdout, said):
    with pytest.raises(InputError, match=said):
        plan(patients, folds=folds, holdout=holdout, seed=32)


def test_region_groups():
    assert groups_of("AB+TH,HN") == {"AB-TH": ["AB", "TH"], "HN": ["HN"]}
    with pytest.raises(InputError, match="more than one"):
        groups_of("AB+TH,AB")


def test_fold_lists_given_and_written(run_tool, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "patient,region,center,split\n" + "".join(f"p{i},AB,A,{'test' if i > 7 else ''}\n" for i in range(10))
    )
    for number, names in enumerate((["p0", "p3"], ["p1", "p2", "p4", "p5", "p6", "p7"])):
        (tmp_path / f"{number}.txt").write_text("\n".join(names))
    out = tmp_path / "folds.json"
    done = run_tool(
        "folds.py",
        "--sheet",
        sheet,
        "--preset",
        "test",
        "--list",
        tmp_path / "0.txt",
        "--list",
        tmp_path / "1.txt",
        "--out",
        out,
        "--lists-out",
        tmp_path / "lists",
        "--set",
        "finetuning.groups=AB,HN",
        "--runs-out",
        tmp_path / "runs.csv",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lists" / "fold_0_validation.txt").read_text().split() == ["p0", "p3"]
    assert (tmp_path / "lists" / "test.txt").read_text().split() == ["p8", "p9"]
    runs = (tmp_path / "runs.csv").read_text().splitlines()
    assert runs == ["fold,group,regions", "0,global,", "0,AB,AB", "1,global,", "1,AB,AB"], "nobody of HN to train on"
    (tmp_path / "0.txt").write_text("p0\np9\n")
    out.unlink()
    bad_input(
        run_tool("folds.py", "--sheet", sheet, "--preset", "test", "--list", tmp_path / "0.txt", "--out", out), "p9"
    )
    assert not out.exists()
