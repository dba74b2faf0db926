"""What a run tells while it runs: one line per validation, log.csv, TensorBoard events and sample slices."""

import csv
import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from synthct.core.files import atomic, write_text
from synthct.training.events import Events

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "l1",
    "perceptual",
    "validation_mae_hu",
    "best_mae_hu",
    "learning_rate",
    "patches_per_s",
    "elapsed_s",
    "gpu_utilisation_percent",
    "gpu_memory_gib",
)

SCORE_COLUMNS = {"psnr": "validation_psnr_db", "ms_ssim": "validation_ms_ssim"}  # with training.select = "similarity"


class Journal:
    """The log of one run in the directory `out`; `rows` are those of the part before (see `synthct.training.state`).

    `more` are columns after those of `COLUMNS`.
    """

    def __init__(self, out: Path, rows: list[dict], more: Iterable[str] = ()):
        self.out = out
        self.columns = tuple(dict.fromkeys((*COLUMNS, *more)))
        self.rows = list(rows)
        shutil.rmtree(out / "tensorboard", ignore_errors=True)
        shutil.rmtree(out / "samples", ignore_errors=True)
        self.events = Events(out / "tensorboard")
        for row in rows:
            self._event(row)

    def add(self, row: dict, picture: np.ndarray | None):
        """One validation: `row` by `columns` (None is an empty field), `picture` grey values or None."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        for one in self.rows:
            writer.writerow({key: "" if one[key] is None else _short(one[key]) for key in self.columns})
        write_text(self.out / "log.csv", text.getvalue())
        self._event(row)
        if picture is not None:
            with atomic(self.out / "samples" / f"step_{row['step']:07d}.png") as temporary:
                Image.fromarray(picture).save(temporary)
            self.events.add_image("validation/input_sct_ct_error", picture, row["step"])
        self.events.flush()

    def close(self):
        """Finish the events file."""
        self.events.close()

    def _event(self, row: dict):
        for key in self.columns[1:]:
            if row[key] is not None:
                self.events.add_scalar(key, row[key], row["step"])


def term_column(name: str) -> str:
    """The column of a term of the loss: "loss", "l1", "perceptual", or of one perceptual term "perceptual_<name>"."""
    return name if name in COLUMNS else f"perceptual_{name}"


def line(row: dict, last_step: int, seconds_left: float) -> str:
    """One validation as a person reads it."""
    mae = (
        "no validation patients"
        if row["validation_mae_hu"] is None
        else (f"validation MAE {row['validation_mae_hu']:.2f} HU (best {row['best_mae_hu']:.2f})")
    )
    parts = [
        f"step {row['step']}/{last_step}",
        f"loss {row['loss']:.5f}",
        mae,
        f"lr {row['learning_rate']:.2e}",
        f"{row['patches_per_s']:.1f} patches/s",
    ]
    if row["gpu_memory_gib"] is not None:
        busy = "" if row["gpu_utilisation_percent"] is None else f"{row['gpu_utilisation_percent']:.0f} % "
        parts.append(f"GPU {busy}{row['gpu_memory_gib']:.1f} GiB")
    return "  ".join([*parts, f"left {duration(seconds_left)}"])


def duration(seconds: float) -> str:
    """Seconds as "42 s", "12 min" or "3 h 12 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def utilisation(device: torch.device) -> float | None:
    """How busy the GPU was in the last moment, percent; None without a GPU, or where NVIDIA's library does not say."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # absent, refused, a part of a GPU (MIG): errors of no common class, and nothing hangs on it
        return None


def peak_memory(device: torch.device) -> float | None:
    """The most memory that tensors have held on the GPU, GiB."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _short(value):
    return f"{value:.6g}" if isinstance(value, float) else value
