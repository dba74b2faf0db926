"""Small cases and settings for the tests of training: a made-up anatomy that a small network learns within seconds."""

import contextlib
import csv
import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import torch

import synthct.training.options  # noqa: F401  paid once: every run below starts as a fork of a process that has it
from synthct.cases.store import write_case
from synthct.core import presets
from synthct.images.grid import Grid, Volume
from synthct.networks.checkpoint import load_weights

ROOT = Path(__file__).resolve().parents[1]
TINY = (  # the test preset made smaller still
    "training.patch=[32, 32]",
    "training.batch=2",
    "training.max_steps=6",
    "training.validate_every=2",
    "training.validation_slices=2",
    "training.network.decoder_channels=[16, 8, 8]",
    "training.warmup=2",
    "finetuning.max_steps=2",
    "finetuning.validate_every=1",
)
TIMED = ("patches_per_s", "elapsed_s")  # columns of log.csv that a clock fills
LONGER = ("--set", "training.max_steps=60")  # seconds on any machine: a signal comes before the end


def pair(seed: int, shape=(7, 40, 36)) -> tuple[Volume, Volume, Volume]:
    """Image, CT and mask of a made-up patient: an ellipse of fat, muscle and bone that MR sees in another order."""
    random = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    radius = np.hypot((y - shape[1] / 2) / (shape[1] * 0.42), (x - shape[2] / 2) / (shape[2] * 0.42))
    mask = (radius < 1).astype(np.uint8)
    mask[0] = 0  # a slice without body
    tissue = np.where(radius < 0.3, 2, np.where(radius < 0.8, 1, 0))
    ct = np.where(radius < 1, np.array([-90, 50, 600])[tissue], -1000) + random.normal(0, 10, shape)
    image = np.array([400, 200, 50])[tissue] * (1 + 0.1 * seed) + random.normal(0, 5, shape)
    grid = Grid(shape[::-1], (1.0, 1.0, 3.0), (5.0, -3.0, 10.0))
    return (
        Volume(np.clip(image, 0, None).astype(np.int16), grid),
        Volume(ct.astype(np.int16), grid),
        Volume(mask, grid),
    )


def settings(modality: str = "mr", *overrides: str) -> dict:
    """The tree of the test preset, tiny."""
    return presets.resolve("test", modality, [*TINY, *overrides])


def cohort(directory, count: int = 4, modality: str = "mr") -> tuple:
    """Write `count` cases P0, P1 ... (regions AB and TH in turn) and folds.json; returns (cases, folds)."""
    rules = settings(modality)["preprocessing"]
    for number in range(count):
        image, ct, mask = pair(number)
        labels = {"patient": f"P{number}", "region": ("AB", "TH")[number % 2], "center": "A", "arm": "none"}
        write_case(
            directory / "cases" / f"P{number}",
            image=image,
            mask=mask,
            ct=ct,
            modality=modality,
            rules=rules,
            labels=labels,
        )
    names = [f"P{number}" for number in range(count)]
    folds = {
        "format": 1,
        "seed": 1,
        "test": [],
        "regions": {},
        "excluded": {},
        "folds": [{"train": names[1:], "validation": names[:1]}, {"train": names[:1], "validation": names[1:2]}],
    }
    (directory / "folds.json").write_text(json.dumps(folds))
    return directory / "cases", directory / "folds.json"


@functools.cache
def _server():
    """A process that has imported all of training and computed nothing; every tool starts as a fork of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_training"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "bin")])  # all it looks at to preload
    forkserver.ensure_running()
    del os.environ["PYTHONPATH"]
    if before is not None:
        os.environ["PYTHONPATH"] = before
    return context


@dataclass
class Finished:
    """A tool's end, in the words of `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


class Tool:
    """``bin/<tool>`` started in a process of its own, one thread, without paying its imports again."""

    def __init__(self, directory: Path, tool: str, *arguments, **environment):
        directory.mkdir(parents=True, exist_ok=True)
        stamp = f"{tool}-{time.monotonic_ns()}"
        self.out, self.err = directory / f"{stamp}.out", directory / f"{stamp}.err"
        self.out.touch()
        told = (tool, list(map(str, arguments)), str(self.out), str(self.err), environment)
        self.process = _server().Process(target=_main, args=told)
        self.process.start()

    def wait_for(self, *starts: str):
        """Wait until a line of stdout starts with one of `starts`, or the tool ends."""
        while self.process.is_alive():
            lines = self.out.read_text().splitlines()
            if any(line.startswith(starts) for line in lines):
                return
            time.sleep(0.002)

    def send(self, number: signal.Signals):
        """Send a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def finish(self) -> Finished:
        """Wait for its end."""
        self.process.join()
        return Finished(self.process.exitcode, self.out.read_text(), self.err.read_text())


def start(data, out, *more, tool="train.py", fold="0", **environment) -> Tool:
    """train.py or finetune.py, tiny, on the cases and folds of `data` (see `cohort`), writing to `out`."""
    sets = [part for one in TINY for part in ("--set", one)]
    return Tool(
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


def run(*arguments, **keywords) -> Finished:
    """`start`, to its end."""
    return start(*arguments, **keywords).finish()


def trained(data, out) -> tuple[Path, str]:
    """A training that ran through: its directory, and what it said."""
    done = run(data, out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def log(out) -> list[dict]:
    """Rows of log.csv, without what a clock fills."""
    with open(out / "log.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


def same_weights(a, b) -> bool:
    """Whether two checkpoints hold the same bits."""
    one, other = load_weights(a)[0], load_weights(b)[0]
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _main(tool: str, arguments: list[str], out: str, err: str, environment: dict):
    os.environ.update({"OMP_NUM_THREADS": "1"} | environment)
    sys.path.insert(0, str(ROOT / "bin"))
    sys.argv = [tool, *arguments]
    with open(out, "w", buffering=1) as stdout, open(err, "w", buffering=1) as stderr:
        sys.stdout, sys.stderr = stdout, stderr
        try:
            importlib.import_module(tool.removesuffix(".py")).main()
        except Exception:
            traceback.print_exc()
            sys.exit(1)
