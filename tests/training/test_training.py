"""Training and fine-tuning as a user runs them: results, continuing bit for bit, faults before any computing."""

import contextlib
import csv
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import small_training as small
import torch
from conftest import bad_input

from synthct.cases.store import find_cases
from synthct.core.errors import InputError
from synthct.core.presets import for_region, resolve
from synthct.networks.checkpoint import load_weights
from synthct.networks.network import build
from synthct.training import checks
from synthct.training import launch as places
from synthct.training.journal import utilisation
from synthct.training.schedule import learning_rate
from synthct.training.state import StateFile
from synthct.training.validation import better, validate

TIMED = ("patches_per_s", "elapsed_s")  # columns of log.csv that a clock fills
LONGER = ("--set", "training.max_steps=60")  # seconds on any machine: a signal comes before the end


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def start(data, out, *more, tool="train.py", fold="0", **environment) -> small.Tool:
    sets = [part for one in small.TINY for part in ("--set", one)]
    return small.Tool(
        out.parent,
        tool,
        "--cases",
        data[0],
        "--folds",
        data[1],
        "--fold",
        fold,
        "--preset",
        "test",
        "--device",
        "cpu",
        "--out",
        out,
        *sets,
        *more,
        **environment,
    )


def run(*arguments, **keywords) -> small.Finished:
    return start(*arguments, **keywords).finish()


def log(out) -> list[dict]:
    with open(out / "log.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


def same_weights(a, b) -> bool:
    one, other = load_weights(a)[0], load_weights(b)[0]
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    done = run(data, out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


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


def test_killed_three_times_and_continued_equals_uninterrupted(data, tmp_path):
    """SIGKILL at random moments after a state was written, SIGTERM in between: same weights, same log."""
    whole, states, out = tmp_path / "whole", tmp_path / "states", tmp_path / "out"
    assert run(data, whole, *LONGER).returncode == 0
    random = np.random.default_rng()
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = start(data, out, *LONGER, "--checkpoint-dir", states)
        process.wait_for("step", "continuing")
        time.sleep(random.uniform(0, 0.2))
        process.send(how)
        done = process.finish()
        assert done.returncode == (143 if how == signal.SIGTERM else -how), done.stderr
        assert len(list(states.glob("*.state.pt"))) == 1
    done = run(data, out, *LONGER, "--checkpoint-dir", states)
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in done.stdout
    for name in ("best.safetensors", "final.safetensors"):
        assert same_weights(whole / name, out / name)
    assert log(whole) == log(out)
    assert not list(states.iterdir())


def test_a_state_of_another_run_is_never_used(data, tmp_path):
    process = start(data, tmp_path / "a", *LONGER, "--checkpoint-dir", tmp_path / "states")
    process.wait_for("step")
    process.send(signal.SIGTERM)
    assert process.finish().returncode == 143
    (left,) = (tmp_path / "states").iterdir()
    other = (*LONGER, "--set", "training.learning_rate=0.002")
    done = run(data, tmp_path / "b", *other, "--checkpoint-dir", tmp_path / "states")
    assert done.returncode == 0 and "ignored" in done.stdout and "continuing" not in done.stdout
    assert left.exists()  # it still belongs to the run that wrote it
    left.write_bytes(left.read_bytes()[:1000])
    done = run(data, tmp_path / "a", *LONGER, "--checkpoint-dir", tmp_path / "states")
    assert done.returncode == 0 and "cannot be read, starting anew" in done.stdout


def test_a_crash_ends_the_run_and_its_loader_processes(data, tmp_path):
    """An exception nobody foresaw: its traceback, status 1 and no process left, rather than a wait for ever."""
    code = "import sys, train; from synthct.training.loop import Trainer\n"
    code += "def _step(*_): raise RuntimeError('out of everything')\n"
    code += "Trainer._step = _step; sys.argv[0] = 'train.py'; train.main()"
    command = [sys.executable, "-c", code, "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out"]
    command += [part for one in (*small.TINY, "training.workers=2") for part in ("--set", one)]
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1", "SYNTHCT_TRACEBACK": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        errors = process.communicate(timeout=120)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1 and "out of everything" in errors, errors


def test_a_gpu_that_does_not_say_how_busy_it_is_stops_no_training(monkeypatch):
    """NVIDIA's library has errors of its own class: a part of a GPU (MIG) has no utilisation to tell."""

    class NVMLError(Exception):
        pass

    def refuse(_device):
        raise NVMLError("Not Supported")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert utilisation(torch.device("cuda", 0)) is None


def test_a_disk_too_small_for_the_state_is_named_before_the_first_step(data, tmp_path, small_disk):
    done = run(data, tmp_path / "out", "--checkpoint-dir", small_disk(2**25))
    bad_input(done, "checkpoint directory", "32 MiB of room", "two states")
    assert "step" not in done.stdout


@pytest.mark.parametrize("filled", ["states", "out"])
def test_a_disk_that_fills_up_costs_one_line_and_nothing_that_was_learned(data, tmp_path, small_disk, filled):
    """The state or the results meet a full disk; with room again, the run ends as if nothing had happened."""
    whole = tmp_path / "whole"
    assert run(data, whole, *LONGER).returncode == 0
    places = {"states": tmp_path / "states", "out": tmp_path / "out"}
    places[filled] = small_disk(2**27)
    told = (data, places["out"], *LONGER, "--checkpoint-dir", places["states"])
    process = start(*told)
    process.wait_for("step")
    filler = tmp_path / "disk" / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    done = process.finish()
    bad_input(done, "no room")
    assert not [path for place in places.values() for path in place.rglob("*writing*")]
    assert len(list(places["states"].glob("*.state.pt"))) == 1
    filler.unlink()
    done = run(*told)
    assert done.returncode == 0 and "continuing at step" in done.stdout, done.stderr
    for name in ("best.safetensors", "final.safetensors"):
        assert same_weights(whole / name, places["out"] / name)
    assert log(whole) == log(places["out"])


def test_fine_tuning_takes_the_groups_patients(trained, data, tmp_path):
    done = run(data, tmp_path / "th", "--init", trained[0] / "best.safetensors", "--regions", "TH", tool="finetune.py")
    assert done.returncode == 0, done.stderr
    about = load_weights(tmp_path / "th" / "best.safetensors")[1]
    assert (about["group"], about["regions"], about["patients"]) == ("TH", ["TH"], {"training": 2, "validation": 0})
    assert about["step"] == 2  # no one to validate on: best is final
    assert same_weights(tmp_path / "th" / "best.safetensors", tmp_path / "th" / "final.safetensors")
    assert about["settings"]["training"]["validate_every"] == 1


def test_fine_tuning_never_ends_worse_than_it_began(trained, data, tmp_path):
    """A rate that ruins the network: the best checkpoint is the one that fine-tuning started from."""
    start = trained[0] / "best.safetensors"
    rate = ("--set", "finetuning.learning_rate=10")
    done = run(data, tmp_path / "ab", "--init", start, "--regions", "AB", *rate, tool="finetune.py")
    assert done.returncode == 0, done.stderr
    assert "start  validation MAE" in done.stdout
    assert same_weights(start, tmp_path / "ab" / "best.safetensors")
    about, rows = load_weights(tmp_path / "ab" / "best.safetensors")[1], log(tmp_path / "ab")
    assert about["step"] == 0
    assert [float(row["best_mae_hu"]) for row in rows] == pytest.approx([about["validation_mae"]] * len(rows), rel=1e-4)
    assert float(rows[-1]["validation_mae_hu"]) > about["validation_mae"] + 1


def test_training_on_everyone(data, tmp_path):
    done = run(data, tmp_path / "all", fold="all-1")
    assert done.returncode == 0, done.stderr
    about = load_weights(tmp_path / "all" / "final.safetensors")[1]
    assert about["patients"] == {"training": 4, "validation": 0}
    assert about["settings"]["training"]["seed"] == 33


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--fold", "7"], ["folds 0 to 1"]),
        (["--set", "training.perceptual.encoder=vgg19"], ["fetch vgg19-dcbb9e9d.pth"]),
        (["--set", "training.perceptual.encoder=sam"], ["sam_vit_b_01ec64.pth"]),
        (["--set", "training.perceptual.encoder=totalsegmentator"], ["M291 (Dataset291_TotalSegmentator"]),
        (["--set", "training.perceptual.encoder=torchscript"], ["fetch SAM2.1_Small.pt"]),
        (["--set", "training.perceptual.encoder=vgg19,sam"], ["vgg19-dcbb9e9d.pth", "sam_vit_b_01ec64.pth"]),
        (["--set", "training.patch=[40, 40]"], ["training.patch", "32"]),
        (["--set", "training.patch=[32]"], ["training.patch", "two"]),
        (["--set", "training.betas=[0.9]"], ["training.betas", "two"]),
        (["--set", "training.batch=0"], ["training.batch 0", "1 or more"]),
        (["--set", "training.validate_every=0"], ["training.validate_every 0"]),
        (["--set", "training.lr_every=0"], ["training.lr_every 0"]),
        (["--set", "training.validation_batch=0"], ["training.validation_batch 0"]),
        (["--set", "training.workers=-1"], ["training.workers -1"]),
        (["--set", "training.copies=0", "--set", "training.originals=false"], ["training.copies 0"]),
        (["--modality", "cbct"], ["modality mr", "cbct"]),
        (["--set", "training.max_step=3"], ["max_step", "max_steps"]),
        (["--device", "cuda"], ["no GPU"]),
    ],
)
def test_faults_are_one_line_before_anything_is_computed(data, tmp_path, more, expected):
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    none = str(tmp_path / "none")
    done = run(data, tmp_path / "out", *more, SYNTHCT_WEIGHTS=none, TOTALSEG_WEIGHTS_PATH=none)
    bad_input(done, *expected)
    assert not (tmp_path / "out" / "log.csv").exists()


def test_one_value_a_channel_is_refused_before_anything_runs(data, tmp_path):
    """BatchNorm cannot normalise it: torch says so in a traceback at the first step."""
    one = ("--set", "training.batch=1", "--set", "training.patch=[32, 32]")
    deep = ("--set", "training.network.decoder_channels=[16, 8, 8, 8, 8]")
    done = run(data, tmp_path / "out", *one, *deep)
    bad_input(done, "training.batch 1 with training.patch [32, 32]", "BatchNorm")
    assert not (tmp_path / "out").exists()


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


def test_compiling_needs_a_compiler_on_a_gpu(monkeypatch):
    """The containers have none, and torch says so in a traceback at the first step."""
    settings = resolve("paper", "mr", ["training.compile=true"])["training"]
    monkeypatch.setattr(checks, "device_of", lambda _: torch.device("cuda"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="compiler"):
        checks.check_settings(settings, "auto")
    checks.check_settings(settings | {"compile": False}, "auto")
    monkeypatch.setenv("CC", sys.executable)
    checks.check_settings(settings, "auto")


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


def test_a_group_without_patients_says_so(trained, data, tmp_path):
    done = run(data, tmp_path / "hn", "--init", trained[0] / "best.safetensors", "--regions", "HN", tool="finetune.py")
    bad_input(done, "fold 0", "HN", "no training patients")


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


def published(path, channels: int, name: str, seed: int = 0):
    """A checkpoint in the authors' published layout, random weights; returns them."""
    torch.manual_seed(seed)
    weights = build(resolve("paper", "mr")["training"]["network"], channels).state_dict()
    torch.save(
        {
            "Model": {name: {f"model.{key}": value for key, value in weights.items()}},
            "_it": 7,
            "_nb_lr_update": 2,
            f"{name}_optimizer_state_dict": {"state": {}, "param_groups": []},
        },
        path,
    )
    return weights


@pytest.mark.parametrize(("name", "channels"), [("UNetpp5", 5), ("UNetpp", 3)])
def test_the_authors_checkpoints_load(tmp_path, name, channels):
    """And give what bare segmentation-models-pytorch with a tanh gives."""
    import segmentation_models_pytorch as smp

    weights = published(tmp_path / "CV_0.pt", channels, name)
    bare = smp.UnetPlusPlus(
        "resnet34",
        encoder_weights=None,
        decoder_channels=(256, 128, 64, 32, 16),
        in_channels=channels,
        classes=1,
        activation=None,
    )
    bare.load_state_dict(weights)
    ours = build(resolve("paper", "mr")["training"]["network"], channels)
    ours.load_state_dict(load_weights(tmp_path / "CV_0.pt")[0])
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, channels, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        difference = (torch.tanh(bare.eval()(x)) - ours.eval()(x)).abs().max() * 2047.5
    assert difference < 0.01  # HU


def test_fine_tuning_starts_from_a_published_checkpoint(data, tmp_path):
    weights = published(tmp_path / "CV_0.pt", 5, "UNetpp5")
    more = [
        "--init",
        tmp_path / "CV_0.pt",
        "--regions",
        "AB,TH",
        "--set",
        "training.network.encoder=resnet34",
        "--set",
        "training.network.decoder_channels=[256, 128, 64, 32, 16]",
        "--set",
        "finetuning.max_steps=1",
        "--set",
        "finetuning.learning_rate=0.0",
    ]
    done = run(data, tmp_path / "out", *more, tool="finetune.py")
    assert done.returncode == 0, done.stderr
    tuned = load_weights(tmp_path / "out" / "final.safetensors")[0]
    key = "segmentation_head.0.weight"
    assert torch.equal(tuned[key], weights[key])


class Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_with_code_is_refused(data, tmp_path):
    with open(tmp_path / "evil.pt", "wb") as file:
        pickle.dump({"Model": Payload(tmp_path / "ran")}, file)
    torch.save({"Model": {"UNetpp5": Payload(tmp_path / "ran")}}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        done = run(data, tmp_path / "out", "--init", tmp_path / name, "--regions", "AB", tool="finetune.py")
        bad_input(done, name)
        assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_named(trained, data, tmp_path):
    done = run(
        data,
        tmp_path / "out",
        "--init",
        trained[0] / "best.safetensors",
        "--regions",
        "AB",
        "--set",
        "training.channels=3",
        tool="finetune.py",
    )
    bad_input(done, "encoder.conv1.weight", "best.safetensors")


def start_both(data, out, *more, **keywords) -> list[small.Tool]:
    """Two processes of one run, as torchrun starts them (gloo, CPU)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [start(data, out, *more, RANK=rank, LOCAL_RANK=rank, **shared, **keywords) for rank in "01"]


def test_two_processes_learn_together(data, tmp_path):
    """One output, from both processes' batches."""
    first, second = (
        process.finish() for process in start_both(data, tmp_path / "out", "--set", "training.max_steps=2")
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "2 × cpu" in first.stdout and first.stdout.count("validation MAE") == 1
    assert second.stdout == ""
    assert load_weights(tmp_path / "out" / "final.safetensors")[1]["step"] == 2


def test_three_patients_are_validated_by_two_processes_as_by_one(trained, data, tmp_path):
    """One process has nobody in the last round, and nobody waits for it."""
    (tmp_path / "folds.json").write_text(json.dumps({"folds": [{"train": ["P3"], "validation": ["P0", "P1", "P2"]}]}))
    uneven = (data[0], tmp_path / "folds.json")
    more = ("--init", trained[0] / "best.safetensors", "--regions", "AB,TH")
    alone = run(uneven, tmp_path / "one", *more, tool="finetune.py")
    first, second = (p.finish() for p in start_both(uneven, tmp_path / "two", *more, tool="finetune.py"))
    assert (alone.returncode, first.returncode, second.returncode) == (0, 0, 0), first.stderr + second.stderr
    starts = [[line for line in done.stdout.splitlines() if line.startswith("start")] for done in (alone, first)]
    assert starts[0] and starts[0] == starts[1]


def test_two_processes_terminated_and_continued_equal_two_uninterrupted(data, tmp_path):
    """SIGTERM reaches one process only: both stop at the same step, the state is written once, and nothing is lost."""
    states = (*LONGER, "--checkpoint-dir", tmp_path / "states")
    assert [p.finish().returncode for p in start_both(data, tmp_path / "whole", *LONGER)] == [0, 0]
    first, second = start_both(data, tmp_path / "out", *states)
    first.wait_for("step")
    second.send(signal.SIGTERM)
    stopped, other = first.finish(), second.finish()
    assert (stopped.returncode, other.returncode) == (143, 143), stopped.stderr + other.stderr
    assert "the state is saved" in stopped.stdout and len(list((tmp_path / "states").iterdir())) == 1
    done, other = (process.finish() for process in start_both(data, tmp_path / "out", *states))
    assert (done.returncode, other.returncode) == (0, 0), done.stderr + other.stderr
    assert "continuing at step" in done.stdout
    assert same_weights(tmp_path / "whole" / "final.safetensors", tmp_path / "out" / "final.safetensors")
    assert log(tmp_path / "whole") == log(tmp_path / "out")


def test_torchrun_hands_sigterm_on(data, tmp_path):
    """The way several GPUs of a node are used, from launch to the state that a reclaimed node leaves."""
    command = [small.ROOT / "bin" / "train.py", "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out", "--checkpoint-dir", tmp_path / "states"]
    command += [part for one in (*small.TINY, "training.max_steps=100000") for part in ("--set", one)]
    code = "import sys; from synthct.training.launch import launch; sys.exit(launch(2, sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)], env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait() == 143
    assert "the state is saved" in rest
    assert len(list((tmp_path / "states").iterdir())) == 1


def test_wrong_input_found_by_several_processes_is_one_line(data, tmp_path):
    """Torchrun would print the line of each process, a traceback of its own, and exit with 1."""
    command = [small.ROOT / "bin" / "train.py", "--cases", data[0], "--folds", data[1], "--fold", 0, "--preset", "test"]
    command += ["--device", "cpu", "--out", tmp_path / "out"]
    command += [part for one in (*small.TINY, "training.learning_rate=1e30") for part in ("--set", one)]
    code = "import sys, train; from synthct.training import start as runs; from synthct.training.launch import launch\n"
    code += "runs.take_place = lambda *_: sys.exit(launch(2, sys.argv)); sys.argv = sys.argv[1:]; train.main()"
    environment = os.environ | {"PYTHONPATH": str(small.ROOT / "bin"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], env=environment, capture_output=True, text=True, timeout=120
    )
    bad_input(done, "train.py: error", "the loss is not finite")


def test_more_processes_than_patches(data, tmp_path):
    for process in start_both(data, tmp_path / "out", "--set", "training.batch=1"):
        bad_input(process.finish(), "training.batch 1", "2 processes")


def test_no_more_gpus_are_taken_than_have_a_patch(monkeypatch):
    monkeypatch.setattr(places, "device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(places, "launch", lambda count, _: count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit) as stop:
        places.take_place("auto", 3)
    assert stop.value.code == 3
    assert places.take_place("auto", 1).world == 1


def test_the_state_goes_to_any_place_fsspec_knows(data, tmp_path):
    """local:// goes the way of s3:// but for the store itself."""
    place = f"local://{tmp_path}/bucket/key"
    process = start(data, tmp_path / "a", "--checkpoint-dir", place)
    process.wait_for("step")
    process.send(signal.SIGKILL)
    process.finish()
    done = run(data, tmp_path / "a", "--checkpoint-dir", place)
    assert done.returncode == 0 and "continuing at step" in done.stdout


def test_a_store_without_renaming(tmp_path):
    """As an object store: the state is put whole, found again, and another digest's is passed over with a line."""
    said = []
    mine = StateFile("memory://bucket/runs", "impact_global_fold0", "a" * 64)
    mine.save({"step": 3, "weights": torch.ones(2)})
    assert StateFile("memory://bucket/runs", "impact_global_fold0", "a" * 64).load(said.append)["step"] == 3
    assert not said
    assert StateFile("memory://bucket/runs", "impact_global_fold0", "b" * 64).load(said.append) is None
    assert "ignored" in said[0]
    mine.remove()
    assert mine.load(said.append) is None
