"""The training loop: steps, validations, best and final checkpoints, and a state to continue from.

The state holds everything that the next step depends on, and a sample is a function of its number
(`synthct.training.sampling`), so a run that was killed and continued gives, on CPU, the same bits as one that was not.
"""

import contextlib
import functools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed, nn

from synthct.cases.store import Case
from synthct.core.errors import InputError
from synthct.networks.checkpoint import save_weights
from synthct.networks.losses import Objective
from synthct.training.compile import compiled, compiles, worthwhile
from synthct.training.journal import SCORE_COLUMNS, Journal, line, peak_memory, term_column, utilisation
from synthct.training.launch import Place
from synthct.training.sampling import Batches, OutOfSharedMemory, reading
from synthct.training.schedule import last_step, learning_rate
from synthct.training.state import StateFile
from synthct.training.validation import better, picture, validate

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

LOOK_EVERY = 20  # steps between looks at the GPU, which has to finish what it was given for them
NEVER = torch.iinfo(torch.int64).max


@dataclass
class Run:
    """One training: the network with its first weights, what it learns from, how, and where results go."""

    model: nn.Module
    encoders: dict[str, nn.Module]
    training: list[Case]
    validation: list[Case]
    settings: dict
    about: dict
    out: Path
    place: Place
    state: StateFile
    fine_tuning: bool = False  # the first weights are a trained model's, so they may stay the best
    resume: bool = True
    say: Callable[[str], None] = print


class Terminated(Exception):
    """SIGTERM came; the state is saved."""


class Diverged(InputError):
    """The loss is not finite any more, or no validation ever was. The best checkpoint until then is written."""


class Trainer:
    """One run in progress. `train()` takes it to its end, or to `Terminated`."""

    def __init__(self, run: Run):
        self.run, settings = run, run.settings
        self.settings, self.place, self.device = settings, run.place, run.place.device
        _backends(settings)
        layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
        self.layout = layout
        self.model = run.model.to(self.device).train()
        self.model.to(memory_format=layout)
        self.objective = Objective(settings, run.encoders).to(self.device).requires_grad_(False).eval()
        for layer in self.objective.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=layout)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            betas=tuple(settings["betas"]),
            fused=settings["fused"] or None,
        )
        dtype = PRECISIONS[settings["precision"]]
        self.cast = functools.partial(torch.autocast, self.device.type, dtype) if dtype else contextlib.nullcontext
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings["precision"] == "fp16")
        self.batches = Batches(run.training, settings, run.place.rank, run.place.world)
        self.total = last_step(self.batches.steps_per_epoch, settings)
        self.compiles = compiles(settings["compile"], self.device, self.total)
        self.criterion = compiled(self.objective, settings["compile"]) if self.compiles else self.objective
        self.step, self.validated = 0, 0
        self.sums = torch.zeros(len(self.objective.terms), dtype=torch.float64, device=self.device)
        self.best: dict[str, Any] = {"scores": {}, "step": 0, "weights": None}
        self.bad = torch.full((), NEVER, dtype=torch.int64, device=self.device)  # the first step without a finite loss
        self.rows: list[dict] = []
        self.last: dict[str, float] = {}
        self.before = 0.0  # seconds
        self.journal: Journal | None = None  # the first process's
        self.stopping = False
        self.busy: list[float] = []  # samples of the GPU's utilisation since the last validation
        self.watching = True  # until the GPU first does not say

    def train(self):
        """Run to the last step or an early stop, then write best and final weights."""
        old = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            state = self.run.state.load(self._say) if self.run.resume else None
            if state:
                self._restore(state)
                self._say(f"continuing at step {self.step} of {self.total}")
            if self.place.first:
                self.run.state.require_room(self._size_of_state())
                self.journal = Journal(self.run.out, self.rows, self._columns())
            self.model.train()
            self._loop(self._parallel())
        except Diverged:
            self._write_best()  # what was learned before stays of use
            raise
        except OutOfSharedMemory:
            if self.place.first and self.step:
                self.run.state.save(self._state(), self._say)
            raise
        finally:
            signal.signal(signal.SIGTERM, old)
            if self.journal:
                self.journal.close()
        if self.place.first:
            self._write("final", self._weights(), self.step, self.last)
            if self.best["weights"]:
                self._write_best()
            elif self.run.validation:
                raise Diverged("no validation MAE was finite, though the loss is: lower training.learning_rate")
            else:
                self._write("best", self._weights(), self.step, {})
            self.run.state.remove(self._say)

    def _loop(self, network):
        if worthwhile(self.settings["compile"], self.device, self.total) and not self.compiles:
            self._say("training.compile auto: no C compiler or no headers of Python here, so nothing is compiled")
        self.started = self.mark = time.monotonic()
        self.mark_step = self.step
        if self.run.fine_tuning and self.step == 0 and self.run.validation:
            self._judge_start()
        workers = self.settings["workers"]
        with reading(self.batches, self.step, self.total, workers, self.device.type == "cuda") as data:
            while True:
                if self.place.any(self.stopping):
                    self._terminate()
                if self._due():
                    self._validate()
                if self.step >= self.total or self._patience_is_over():
                    return
                self._step(network, *next(data))

    def _step(self, network, x, y, inside):
        rate = learning_rate(self.step, self.total, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        wait = self.device.type == "cuda"
        x = x.to(self.device, non_blocking=wait, memory_format=self.layout)
        y, inside = y.to(self.device, non_blocking=wait), inside.to(self.device, non_blocking=wait)
        self.optimizer.zero_grad(set_to_none=True)
        with self.cast():
            terms = self.criterion(network(x), y, inside)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.bad = torch.where(torch.isfinite(terms["loss"].detach()), self.bad, self.bad.clamp(max=self.step))
        self.sums += torch.stack([terms[key].detach() for key in self.objective.terms])
        self.step += 1
        if self.step % LOOK_EVERY == 0 or (self.device.type == "cpu" and self.place.world == 1):
            self._check_finite()
        if self.watching and self.step % LOOK_EVERY == 0:
            busy = utilisation(self.device)
            self.watching = busy is not None
            self.busy += [busy] if busy is not None else []

    def _columns(self) -> list[str]:
        """Those of the log that depend on the settings: each perceptual term's, and the scores that select."""
        scores = SCORE_COLUMNS.values() if self.settings["select"] == "similarity" else ()
        return [*map(term_column, self.objective.terms), *scores]

    def _judge_start(self):
        """A fine-tuned model is never worse on its validation patients than the one it started from."""
        scores = self._scores()
        self.best = {"scores": scores, "step": 0, "weights": self._weights()}
        self._say(f"start  validation MAE {scores['mae']:.2f} HU")
        self.mark = time.monotonic()

    def _due(self) -> bool:
        every = self.settings["validate_every"]
        return self.step > self.validated and (self.step % every == 0 or self.step >= self.total)

    def _validate(self):
        self._check_finite()
        speed = (self.step - self.mark_step) * self.settings["batch"] / max(1e-9, time.monotonic() - self.mark)
        self.last = scores = self._scores()
        if scores and better(scores, self.best["scores"], self.settings["select"]):
            self.best = {"scores": scores, "step": self.step, "weights": self._weights()}
        means = (self.sums / (self.step - self.validated)).tolist()
        terms = dict(zip(self.objective.terms, means, strict=True))
        elapsed = self.before + time.monotonic() - self.started
        row = {
            "step": self.step,
            "epoch": self.step * self.settings["batch"] / self.batches.per_epoch,
            **{term_column(name): value for name, value in terms.items()},
            "validation_mae_hu": scores.get("mae"),
            "best_mae_hu": self.best["scores"].get("mae"),
            **{column: scores[key] for key, column in SCORE_COLUMNS.items() if key in scores},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "patches_per_s": speed,
            "elapsed_s": elapsed,
            "gpu_utilisation_percent": sum(self.busy) / len(self.busy) if self.busy else None,
            "gpu_memory_gib": peak_memory(self.device),
        }
        self.rows.append(row)
        self.sums.zero_()
        self.busy.clear()
        self.validated = self.step
        if self.journal:
            cases = self.run.validation or self.run.training
            self.journal.add(row, picture(self.model, cases, self.settings, self.cast, self.device))
            if self.step < self.total:
                self.run.state.save(self._state(), self._say)
            self._say(line(row, self.total, elapsed / self.step * (self.total - self.step)))
        self.mark, self.mark_step = time.monotonic(), self.step

    def _scores(self) -> dict[str, float]:
        """The validation scores, means over patients, who are shared out among the processes; {} without patients."""
        if not self.run.validation:
            return {}
        self.place.share(self.model)
        found: dict[str, dict[str, float]] = {}
        stop = (lambda: self.stopping) if self.place.world == 1 else (lambda: False)
        for first in range(0, len(self.run.validation), self.place.world):  # a patient each: one of many GPUs may
            mine = self.run.validation[first : first + self.place.world][self.place.rank :][:1]  # have none at the end
            scores = validate(self.model, mine, self.settings, self.cast, self.device, stop)
            if self.place.any(scores is None or self.stopping):  # torchrun gives the processes 30 s to stop
                self._terminate()
            found |= scores or {}
        names = ("mae", *(SCORE_COLUMNS if self.settings["select"] == "similarity" else ()))
        sums = [sum(scores[name] for scores in found.values()) for name in names]
        *totals, count = self.place.total(
            torch.tensor([*sums, len(found)], dtype=torch.float64, device=self.device)
        ).tolist()
        return {name: total / count for name, total in zip(names, totals, strict=True)}

    def _check_finite(self):
        first = self.place.least(self.bad)
        if first == NEVER:
            return
        raise Diverged(
            f"the loss is not finite at step {first + 1} (patients {', '.join(self.batches.patients(first))}): lower "
            "training.learning_rate, or leave fp16"
        )

    def _patience_is_over(self) -> bool:
        patience = self.settings["patience"]
        fresh = self.run.validation and self.step == self.validated and self.step > 0
        if not fresh or not patience or self.step - self.best["step"] < patience:
            return False
        self._say(f"no better validation for {self.step - self.best['step']} steps: stopping")
        return True

    def _parallel(self):
        network = self.model
        if self.place.world > 1:
            if self.settings["sync_batchnorm"] and self.device.type == "cuda":
                network = self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            devices = [self.device.index] if self.device.type == "cuda" else None
            network = nn.parallel.DistributedDataParallel(network, device_ids=devices)
        return compiled(network, self.settings["compile"]) if self.compiles else network

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().to("cpu", copy=True) for key, value in self.model.state_dict().items()}

    def _write(self, name: str, weights: dict, step: int, scores: dict[str, float]):
        about = self.run.about | {"step": step, "validation_mae": scores.get("mae"), "validation": scores}
        save_weights(self.run.out / f"{name}.safetensors", weights, about)

    def _write_best(self):
        if self.place.first and self.best["weights"]:
            self._write("best", self.best["weights"], self.best["step"], self.best["scores"])

    def _state(self) -> dict:
        return {
            "step": self.step,
            "validated": self.validated,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums,
            "best": self.best,
            "last": self.last,
            "rows": self.rows,
            "elapsed": self.before + time.monotonic() - self.started,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def _size_of_state(self) -> int:
        """Bytes, about: the weights, AdamW's two moments, and the best weights so far."""
        return 4 * sum(one.nbytes for one in self.model.state_dict().values())

    def _restore(self, state: dict):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.validated = state["step"], state["validated"]
        self.sums, self.best, self.rows = state["sums"].to(self.device), state["best"], state["rows"]
        self.last, self.before = state["last"], state["elapsed"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    def _on_sigterm(self, _signal, _frame):
        self.stopping = True

    def _terminate(self) -> NoReturn:
        if self.place.first:
            # a node that is taken away leaves two minutes
            saved = self.run.state.save(self._state(), self._say, waits=(1,), limit=60)
            kept = "the state is saved" if saved else "the last state written is kept"
            self._say(f"terminated at step {self.step} of {self.total}; {kept}, run again to continue")
        if self.place.world > 1:
            distributed.barrier()
        raise Terminated

    def _say(self, text: str):
        if self.place.first:
            self.run.say(text)


def _backends(settings: dict):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings["tf32"]
    torch.backends.cudnn.benchmark = not settings["deterministic"]
    torch.use_deterministic_algorithms(settings["deterministic"], warn_only=True)
