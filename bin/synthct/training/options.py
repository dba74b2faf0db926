"""The options and the ending that train.py and finetune.py share."""

import os
import sys

import click
import torch

from synthct.core.cli import FILE, OUT, cpu_threads, options
from synthct.core.device import CHOICES
from synthct.core.files import write_json
from synthct.core.records import KIND
from synthct.core.tables import read_table
from synthct.training.launch import leave
from synthct.training.loop import Terminated, Trainer
from synthct.training.setup import Request
from synthct.training.start import run_of

TERMINATED = 143  # 128 + SIGTERM; Nextflow's retry list has it

run_options = options(
    click.option(
        "--cases",
        required=True,
        multiple=True,
        type=click.Path(exists=True, file_okay=False),
        help="directory of case directories, or one case; several may follow",
    ),
    click.option("--folds", required=True, type=FILE, help="folds.json"),
    click.option("--fold", required=True, help="number of the fold, from 0; or all, all-K: everyone, no validation"),
    click.option("--arm", default="", help="registration method, recorded with the model"),
    click.option("--modality", type=click.Choice(["mr", "cbct"]), help="[default: that of the cases]"),
    click.option("--settings", type=FILE, help="resolved settings (JSON) instead of --preset"),
    click.option("--preset", default="paper", help="name of a preset, or a TOML file"),
    click.option("--set", "overrides", multiple=True, help="section.key=value"),
    click.option(
        "--checkpoint-dir",
        help="where the state to continue from is kept: a path, or a URI such as s3://bucket/key  [default: OUT/state]",
    ),
    click.option("--resume/--no-resume", default=True, help="continue from a state of the same run, if there is one"),
    click.option("--device", type=click.Choice(CHOICES), default="auto"),
    click.argument("more", nargs=-1, type=click.Path(exists=True, file_okay=False)),
    click.option("--out", required=True, type=OUT, help="directory for checkpoints, log.csv and TensorBoard events"),
)


def set_threads():
    """Before the first torch call: as many threads as this task was given."""
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    torch.set_num_threads(cpu_threads())


def carry_out(request: Request):
    """Train to the end and leave training.json, the log with whose it is; exit 143 when SIGTERM came and the state is
    saved."""
    set_threads()
    run = run_of(request, say)
    try:
        trainer = Trainer(run)
        trainer.train()
        if run.place.first:
            group = run.about["group"].replace("+", "-")  # as the pipeline names it
            about = {KIND: "training", **{key: run.about[key] for key in ("arm", "fold", "weights")}, "group": group}
            about["compiled"] = trainer.compiles
            write_json(run.out / "training.json", {**about, "log": read_table(run.out / "log.csv", "log")})
    except Terminated:
        sys.exit(TERMINATED)
    finally:
        leave()


def say(text: str):
    """A line on stdout, at once."""
    click.echo(text)
    sys.stdout.flush()
