"""Training as a user runs it: what a run leaves, equal seeds, which checkpoint is best, schedules."""

import json

import numpy as np
import pytest
import small_training as small
import torch
from conftest import bad_input
from small_training import log, run, same_weights

from synthct.cases.store import find_cases
from synthct.core.presets import for_region, resolve
from synthct.networks.checkpoint import load_weights
from synthct.networks.network import build
from synthct.training.schedule import learning_rate
from synthct.training.validation import better, validate


def test_what_a_run_leaves(trained, data):
    out, text = trained
    assert [row["step"] for row in log(out)] == ["2", "4", "6"]
    assert len([line for line in text.splitlines() if "validation MAE" in line and "left" in line]) == 3
    assert len(list((out / "samples").glob("*.png"))) == 3
    assert list((out / "tensorboard").glob("events.*"))
    assert not list((out / "state").iterdir())  # finished: nothing to continue
    about = load_weights(out / "final.safetensors")[1]
    assert (about["group"], about["fold"], about["channels"], about["step"]) == ("global", "0", 5, 6)
    assert about["regions"] == ["AB", "TH"]
    assert about["settings"]["training"]["patch"] == [32, 32]
    assert json.loads((out / "settings.json").read_text())["settings"] == about["settings"]
    record = json.loads((out / "training.json").read_text())
    assert [record[key] for key in ("record", "arm", "fold", "group")] == ["training", about["arm"], "0", "global"]
    assert [(row["step"], row["loss"]) for row in record["log"]] == [(row["step"], row["loss"]) for row in log(out)]


def test_the_logged_mae_is_that_of_the_best_checkpoint(trained, data):
    weights, about = load_weights(trained[0] / "best.safetensors")
    settings = about["settings"]["training"]
    model = build(settings["network"], 5)
    model.load_state_dict(weights)
    case = find_cases([data[0]])["P0"]
    mae = validate(model, [case], settings, torch.inference_mode, torch.device("cpu"))["P0"]["mae"]
    assert mae == pytest.approx(about["validation_mae"], rel=1e-5)
    assert mae == pytest.approx(min(float(row["validation_mae_hu"]) for row in log(trained[0])), rel=1e-4)


def test_two_runs_with_one_seed_are_equal_and_another_seed_is_not(trained, data, tmp_path):
    assert run(data, tmp_path / "again").returncode == 0
    assert same_weights(trained[0] / "final.safetensors", tmp_path / "again" / "final.safetensors")
    assert log(trained[0]) == log(tmp_path / "again")
    assert run(data, tmp_path / "other", "--set", "training.seed=33").returncode == 0
    assert not same_weights(trained[0] / "final.safetensors", tmp_path / "other" / "final.safetensors")


def test_training_on_everyone(data, tmp_path):
    done = run(data, tmp_path / "all", fold="all-1")
    assert done.returncode == 0, done.stderr
    about = load_weights(tmp_path / "all" / "final.safetensors")[1]
    assert about["patients"] == {"training": 4, "validation": 0}
    assert about["settings"]["training"]["seed"] == 33


@pytest.mark.parametrize(("explodes", "said"), [(2, "at step 4 (patients P"), (3, "at step 5 (patients P")])
def test_a_training_that_diverges_says_where_and_keeps_the_best(data, tmp_path, explodes, said):
    """A rate that explodes after the first validation, whose checkpoint and state stay."""
    rate = ("training.schedule=step", f"training.lr_every={explodes}", "training.lr_factor=1e36")
    done = run(data, tmp_path / "out", *(part for one in rate for part in ("--set", one)))
    bad_input(done, f"the loss is not finite {said}", "training.learning_rate")
    about = load_weights(tmp_path / "out" / "best.safetensors")[1]
    assert about["step"] == 2 and about["validation"] == {"mae": about["validation_mae"]}
    assert len(list((tmp_path / "out" / "state").iterdir())) == 1
    assert not (tmp_path / "out" / "final.safetensors").exists()


def test_the_best_checkpoint_by_similarity(data, tmp_path):
    """MAE, PSNR and MS-SSIM of the validation patients stand in the log, and the best is ahead in two of three."""
    done = run(data, tmp_path / "out", "--set", "training.select=similarity", "--set", "training.max_steps=8")
    assert done.returncode == 0, done.stderr
    about = load_weights(tmp_path / "out" / "best.safetensors")[1]
    rows, best = log(tmp_path / "out"), None
    for row in rows:
        scores = {key: float(row[f"validation_{column}"]) for key, column in (("mae", "mae_hu"), ("psnr", "psnr_db"))}
        scores["ms_ssim"] = float(row["validation_ms_ssim"])
        if best is None or better(scores, best, "similarity"):
            best, step = scores, int(row["step"])
    assert about["step"] == step and set(about["validation"]) == {"mae", "psnr", "ms_ssim"}
    assert about["validation"]["ms_ssim"] == pytest.approx(best["ms_ssim"], rel=1e-4)


def test_two_of_three_decide_and_a_mae_alone_may_decide_otherwise():
    best = {"mae": 60.0, "psnr": 30.0, "ms_ssim": 0.90}
    assert better({"mae": 61.0, "psnr": 30.1, "ms_ssim": 0.91}, best, "similarity")
    assert not better({"mae": 61.0, "psnr": 30.1, "ms_ssim": 0.91}, best, "mae")
    assert not better({"mae": 59.0, "psnr": 29.9, "ms_ssim": 0.89}, best, "similarity")
    assert not better(dict(best), best, "similarity")
    assert better({"mae": 59.0, "psnr": 29.0, "ms_ssim": np.nan}, best | {"psnr": 29.0}, "similarity")
    assert better(best, {}, "similarity") and not better(best | {"mae": np.nan}, {}, "mae")


def test_cases_that_were_prepared_in_different_ways(tmp_path):
    """Within a region a fault; regions may have rules of their own, and the checkpoint says which."""
    cases, folds = small.cohort(tmp_path)

    def prepared(patient: str, spacing: float):
        case = json.loads((cases / patient / "case.json").read_text())
        case["preprocessing"]["spacing"] = [1.0, 1.0, spacing]
        (cases / patient / "case.json").write_text(json.dumps(case))

    prepared("P3", 2.0)
    bad_input(run((cases, folds), tmp_path / "out"), "case P3", "spacing [1.0, 1.0, 2.0]", "P1 with [1.0, 1.0, 3.0]")
    prepared("P1", 2.0)
    done = run((cases, folds), tmp_path / "out", "--set", "training.max_steps=1")
    assert done.returncode == 0, done.stderr
    rules = load_weights(tmp_path / "out" / "final.safetensors")[1]["settings"]["preprocessing"]
    assert [for_region(rules, region)["spacing"][2] for region in ("AB", "TH")] == [3.0, 2.0]


def test_schedules():
    paper = resolve("paper", "mr")["training"]
    released = resolve("released", "mr")["training"]
    assert [learning_rate(step, 10**6, paper) for step in (0, 24_999, 25_000, 50_000)] == [1e-3, 1e-3, 5e-4, 2.5e-4]
    assert learning_rate(25_000, 10**6, released) == pytest.approx(7.5e-4)
    cosine = paper | {"schedule": "cosine", "warmup": 10}
    rates = [learning_rate(step, 100, cosine) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-3) and rates[-1] < 1e-5


def test_parameter_counts():
    network = resolve("paper", "mr")["training"]["network"]
    for channels, expected in ((1, 26_072_337), (3, 26_078_609), (5, 26_084_881)):
        assert sum(p.numel() for p in build(network, channels).parameters()) == expected
