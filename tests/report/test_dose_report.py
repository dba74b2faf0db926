"""The report's dose: matrix and tests, pictures, agreement with the image metrics, and who could not be planned."""

import csv
import json

import numpy as np
import pytest

from synthct.core.records import write_arrays
from synthct.report.dose_sections import _agree, _pictured
from synthct.report.inputs import read_inputs
from synthct.report.page import write_report
from synthct.study.doses import agreement, dose_rows

PATIENTS = [f"P{number}" for number in range(1, 7)]
ARMS = ("impact", "elastix")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two arms by two, six patients whose dose is the worse the larger their MAE; a seventh could not be planned."""
    place = tmp_path_factory.mktemp("study")
    for name in ("metrics", "dose"):
        (place / name).mkdir()
    disc = np.hypot(*(np.indices((20, 24)) - 10)) < 4
    for trained in ARMS:
        for tested in ARMS:
            for number, patient in enumerate(PATIENTS):
                names = {
                    "patient": patient,
                    "region": "AB",
                    "trained_on": trained,
                    "tested_on": tested,
                    "checkpoint": "",
                }
                error = 50 + 7 * number + 10 * (trained == "elastix")
                name = f"{trained}__{tested}__{patient}"
                metrics = {"record": "metrics", **names, "mae": error, "psnr": 30 - number, "ms_ssim": 0.9}
                (place / "metrics" / f"{name}.json").write_text(json.dumps(metrics))
                scores = {
                    "mae_dose": error / 5000,
                    "dvh_metric": error / 1000,
                    "gamma_pass_percent": 100 - error / 20,
                    "dvh": {"dose_gy": [0, 1, 2, 2.4], "target": {"ct": [1, 1, 0.9, 0], "sct": [1, 1, 0.8, 0]}},
                }
                record = {
                    "record": "dose",
                    **names,
                    "prescription_gy": 2.0,
                    "sct_coverage": 0.7 if (patient, trained) == ("P2", "impact") else 1.0,
                    "target": {"name": "standard ellipsoid"},
                    "photon": scores,
                    "proton": {**scores, "range_shift_mm": -error / 40, "range_shift_abs_mm": error / 40},
                }
                (place / "dose" / f"{name}.json").write_text(json.dumps(record))
                dose = np.where(disc, 1.0, 0.1).astype(np.float32)
                slices = {f"{kind}_{image}": dose for kind in ("photon", "proton") for image in ("ct", "sct")}
                arrays = {"hu": np.zeros((20, 24), np.int16), "target": disc, **slices}
                write_arrays(place / "dose" / f"{name}.npz", {**names, "record": "dose slices"}, arrays)
    failed = {
        "record": "dose",
        "patient": "P7",
        "trained_on": "impact",
        "tested_on": "impact",
        "failed": "target: which is air",
    }
    (place / "dose" / "impact__impact__P7.json").write_text(json.dumps(failed))
    inputs = read_inputs([place / "metrics", place / "dose"])
    write_report(inputs, place / "report", place / "evaluation")
    return place, inputs


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_page_says_what_dose_says(study):
    place, _ = study
    page = (place / "report" / "report.html").read_text()
    assert 'id="dose"' in page
    assert "Dose, train × test, mean ± SD over patients" in page
    assert "image and dose metrics agree" in page
    assert "standard ellipsoid" in page
    assert "P7 (target: which is air)" in page
    assert "ends within the body of P2 (70.0 % of the body). What it did not see counts as air" in page
    for name in ("dose_map_P6", "dvh_P6"):
        assert (place / "report" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_every_dose_has_its_row_and_its_tests(study):
    place, _ = study
    rows = table(place / "evaluation" / "dose.csv")
    assert len(rows) == len(PATIENTS) * 4
    first = next(row for row in rows if (row["patient"], row["trained_on"], row["tested_on"]) == ("P1", *ARMS))
    assert float(first["photon_mae_dose"]) == pytest.approx(1.0)  # percent of the prescription
    covered = {(row["patient"], row["trained_on"]): float(row["sct_coverage_percent"]) for row in rows}
    assert covered["P2", "impact"] == pytest.approx(70) and covered["P2", "elastix"] == covered["P1", "impact"] == 100
    tests = table(place / "evaluation" / "dose_tests.csv")
    chosen = [t for t in tests if t["question"] == "model" and t["metric"] == "proton_mae_dose"]
    assert len(chosen) == 2
    assert all(float(t["mean_difference"]) == pytest.approx(-0.2) for t in chosen)  # IMPACT's is the smaller


def test_agreement_is_by_rank_and_turns_gamma_round(study):
    _, inputs = study
    found = agreement(inputs.rows, dose_rows(inputs.doses))
    assert len(found) == 4 * 7
    assert all(entry["rho"] == pytest.approx(1) for entry in found)  # a higher gamma is a better dose
    shuffled = [{**row, "mae": 100 - row["mae"]} for row in inputs.rows]
    assert all(entry["rho"] == pytest.approx(-1) for entry in agreement(shuffled, dose_rows(inputs.doses)))


def test_a_report_without_dose_has_no_such_section(study, tmp_path):
    place, _ = study
    write_report(read_inputs([place / "metrics"]), tmp_path / "report", tmp_path / "evaluation")
    assert 'id="dose"' not in (tmp_path / "report" / "report.html").read_text()
    assert not (tmp_path / "evaluation" / "dose.csv").exists()


def with_folds(record: dict, low: float, high: float) -> dict:
    """A record whose folds gave `low` and `high` for every score."""
    found = {**record, "members": ["fold0", "fold1"]}
    for kind in ("photon", "proton"):
        keys = [key for key in record[kind] if key != "dvh"]
        curve = record[kind]["dvh"]["target"]["sct"]
        found[kind] = record[kind] | {
            "over_members": {
                "low": dict.fromkeys(keys, low),
                "high": dict.fromkeys(keys, high),
                "dose_sd": {"body": {"mean": 0.002, "p95": 0.1}, "target": {"mean": 0.0123, "p95": 0.1}},
                "dvh": {"target": {"low": [value * 0.5 for value in curve], "high": [1.0] * len(curve)}},
            }
        }
    return found


def test_intervals_over_the_folds_stand_beside_the_values(study, tmp_path):
    place, inputs = study
    planned = [record for record in inputs.doses if "failed" not in record]
    changed = [{**record, "proton": record["proton"] | {"target_mean_change": -0.01}} for record in planned]
    for record in changed:
        (tmp_path / f"{record['trained_on']}_{record['tested_on']}_{record['patient']}.json").write_text(
            json.dumps(with_folds(record, -0.5, 0.25))
        )
    write_report(read_inputs([place / "metrics", tmp_path, *place.glob("dose/*.npz")]), tmp_path / "r", tmp_path / "e")
    page = (tmp_path / "r" / "report.html").read_text()
    assert "photons 1.23 % of the prescription in the target and 0.20 % in the body; protons 1.23 %" in page
    assert "−1.25 [−0.50 to 0.25]" in page  # range shift, mm
    assert "1.00 [−50.00 to 25.00]" in page  # MAE, percent of the prescription
    assert "−1.00 [−50.00 to 25.00]" in page  # the target's mean
    assert "band: from the lowest to the highest of the folds" in page
    row = table(tmp_path / "e" / "dose.csv")[0]
    assert (float(row["photon_mae_dose_low"]), float(row["photon_mae_dose_high"])) == (-50, 25)
    assert (float(row["proton_range_shift_mm_low"]), float(row["proton_fold_sd_target"])) == (-0.5, 1.23)
    plain = (place / "report" / "figures" / "dvh_P6.png").read_bytes()
    assert (tmp_path / "r" / "figures" / "dvh_P6.png").read_bytes() != plain, "the band is drawn"


def test_without_folds_the_report_says_nothing_of_them(study):
    place, _ = study
    page = (place / "report" / "report.html").read_text()
    assert "over its folds" not in page and "own synthetic CT was planned" not in page and "band:" not in page
    assert not [key for key in table(place / "evaluation" / "dose.csv")[0] if key.endswith(("_low", "_high"))]


def test_an_even_number_of_correlations_has_its_median_between_two():
    found = [{"rho": -0.2, "p": 0.9}, {"rho": 0.8, "p": 0.01}]
    assert "median correlation +0.30" in _agree(found)
    assert "median correlation +0.80" in _agree([*found, {"rho": 0.9, "p": 0.01}])


def test_the_worst_are_pictured_where_photons_alone_were_planned(study):
    _, inputs = study
    records = [{key: value for key, value in one.items() if key != "proton"} for one in inputs.doses]
    assert _pictured(dose_rows(records)) == _pictured(dose_rows(inputs.doses)) == ["P6", "P5", "P4"]
