#!/usr/bin/env python3
"""The parts of benchmarks/gpu.py: each a generator of rows {part, what, value, wanted, held}.

Run as a program it is one process of the part `processes`, started by torchrun.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / path) for path in ("bin", "benchmarks", "tests") if str(ROOT / path) not in sys.path]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from inference import volume  # noqa: E402
from models import SMALL, lively  # noqa: E402
from registration_phantom import error, pair, section  # noqa: E402
from torch import distributed  # noqa: E402
from training import write_cases  # noqa: E402

from synthct.cases.store import find_cases, write_case  # noqa: E402
from synthct.core import presets  # noqa: E402
from synthct.core.device import repeatable  # noqa: E402
from synthct.images.orientation import to_lps  # noqa: E402
from synthct.images.volume import read_volume  # noqa: E402
from synthct.networks import network  # noqa: E402
from synthct.networks.perceptual import Photographs, Sam, Vgg19  # noqa: E402
from synthct.prediction import inference  # noqa: E402
from synthct.prediction.bundle import network_for  # noqa: E402
from synthct.registration import pairwise  # noqa: E402
from synthct.registration.dense.bspline import ControlGrid  # noqa: E402
from synthct.training.compile import compiler  # noqa: E402
from synthct.training.journal import peak_memory, utilisation  # noqa: E402
from synthct.training.launch import Place  # noqa: E402
from synthct.training.loop import Run, Trainer  # noqa: E402
from synthct.training.sampling import loader  # noqa: E402
from synthct.training.validation import validate  # noqa: E402

LOSSES = 50
ENCODERS = ", with VGG-19 and SAM (random weights)"
TRAINED = "trained.pt"  # what the part learning leaves for the part prediction
TINY = SMALL | {"decoder_channels": [16, 8, 8]}


@dataclass(frozen=True)
class Size:
    """The paper's sizes (`full`) or the smallest that run through, and the device: "cuda" or "cpu"."""

    full: bool
    device: str

    @property
    def other(self) -> str:
        """What the CPU is compared with, in words."""
        return "GPU" if self.device == "cuda" else "CPU again"


def row(part: str, what: str, value: str, wanted: str = "", held: bool | None = None) -> dict:
    return {"part": part, "what": what, "value": value, "wanted": wanted, "held": None if held is None else bool(held)}


def registration(size: Size, _scratch: Path):
    """A CT of the demo (small form: a made-up body), moved by a known spline, found again on both."""
    repeatable(size.device)
    if size.full:
        moving, mask = (read_volume(ROOT / f"assets/demo/cbct/SIM_HN_034/{name}.mha") for name in ("ct", "mask"))
        control = ControlGrid.covering(moving.grid, 45.0)
        moves = np.random.default_rng(5).uniform(-14, 14, (3, *control.size))
        truth = control.to_sitk(torch.tensor(moves, dtype=torch.float32), moving.grid)
        fixed = pairwise.warp(moving, truth, moving.grid, outside=-1024)
        rules = presets.resolve("paper", "cbct")["registration"]
    else:
        fixed, moving, mask, truth = pair()
        rules = section("cbct")
    before = error(pairwise.sitk.Transform(), truth, mask)
    for arm in ("mi", "mind") if size.full else ("mind",):
        found = {}
        for device in (size.device, "cpu"):
            start = time.monotonic()
            made = pairwise.register(
                fixed, moving, mask, rules, method=arm, modality="cbct", moving_is="ct", device=device
            )
            found[device] = (error(made.transform, truth, mask), made.quality["seconds"], time.monotonic() - start)
        (mine, inner, whole), (cpu, cpu_inner, _) = found[size.device], found["cpu"]
        yield row("registration", f"{arm}: error against the truth, {size.other} / CPU / before (mm)",
                  f"{mine:.3f} / {cpu:.3f} / {before:.3f}", "within 0.1 mm", abs(mine - cpu) < 0.1)  # fmt: skip
        fast = whole <= 10 if size.full else None
        yield row("registration", f"{arm}: seconds a case, {size.other} (search alone; CPU's search)",
                  f"{whole:.1f} ({inner:.1f}; {cpu_inner:.1f})", "at most 10" if size.full else "", fast)  # fmt: skip


def small_settings(full: bool, preset: str = "paper", **changes) -> dict:
    """The training section at a size that a CPU takes fifty steps of in seconds; `full` with the paper's network."""
    small = {"patch": [64, 64], "batch": 4, "workers": 0, "learning_rate": 1e-4, "compile": "off"}
    small |= {} if full else {"patch": [32, 32], "network": TINY}
    return presets.resolve(preset, "mr")["training"] | small | changes


def trainer(cases: Path, settings: dict, place: Place, encoders=None, held_out: tuple = (), seed: int = 1) -> Trainer:
    """A trainer on `cases` but those `held_out`; with L1 alone where no `encoders` are given. Nothing is written."""
    encoders = encoders or {}
    settings = settings | {"perceptual": settings["perceptual"] | {"encoder": ",".join(encoders) or "none"}}
    model = network.build(settings["network"], settings["channels"])
    network.initialise(model, settings["network"], torch.Generator().manual_seed(seed))
    found = find_cases([cases])
    validation = [found[name] for name in held_out]
    learnt_from = [case for name, case in found.items() if name not in held_out] or validation
    return Trainer(
        Run(model=model, encoders=encoders, training=learnt_from, validation=validation,
            settings=settings, about={}, out=cases, place=place, state=None)
    )  # fmt: skip


def losses(
    cases: Path, settings: dict, place: Place, steps: int, held_out: tuple = (), seed: int = 1
) -> tuple[list[float], Trainer]:
    """The loss of each of the first steps, over all processes, and the trainer after them."""
    ours = trainer(cases, settings, place, held_out=held_out, seed=seed)
    parallel = ours._parallel()
    found = []
    workers = settings["workers"] if held_out else 0
    for batch in loader(ours.batches, 0, steps, workers, False):
        before = ours.sums.clone()
        ours._step(parallel, *batch)
        found.append(float(place.total((ours.sums - before)[0]) / place.world))
    return found, ours


def cases_in(scratch: Path, size: Size) -> Path:
    place = scratch / "cases"
    if not place.exists():
        write_cases(place, 4 if size.full else 2, (40, 400, 400) if size.full else (6, 72, 72))
    return place


def compared(mine: list[float], other: list[float]) -> tuple[str, float, float]:
    """Relative difference of two series: in words, the first step's, and the mean's over all steps."""
    one, two = np.array(mine), np.array(other)
    first, mean = abs(one[0] / two[0] - 1), abs(one.mean() / two.mean() - 1)
    return f"{first:.1e}, {mean:.1e} ({one[0]:.4f} to {one[-1]:.4f})", first, mean


def training(size: Size, scratch: Path):
    """Float32 on both: the first step's loss agrees to rounding, which then grows as in any training."""
    steps = LOSSES if size.full else 4
    cases = cases_in(scratch, size)
    cpu, _ = losses(cases, small_settings(size.full), Place(torch.device("cpu")), steps)
    for name, changes in (("float32", {}), ("preset fast", None)):
        settings = small_settings(size.full, "fast") if changes is None else small_settings(size.full, **changes)
        mine, _ = losses(cases, settings, Place(torch.device(size.device)), steps)
        text, first, mean = compared(mine, cpu)
        near = (1e-4, 0.02) if changes is not None else (0.02, 0.05)
        yield row("training", f"{steps} losses, {name} on {size.other} against float32 on CPU: first, mean",
                  text, f"{near[0]:g}, {near[1]:g}", first < near[0] and mean < near[1])  # fmt: skip


def determinism(size: Size, scratch: Path):
    """Two registrations, two predictions, and the weights after some steps of two runs: bit for bit."""
    repeatable(size.device)
    fixed, moving, mask, _ = pair()
    for arm in ("mi", "mind"):
        made = [
            pairwise.register(
                fixed, moving, mask, section("cbct"), method=arm, modality="cbct", moving_is="ct", device=size.device
            ).displacement.array
            for _ in range(2)
        ]
        same = np.array_equal(*made)
        yield row("determinism", f"two registrations, {arm}: the same bits", str(same), "True", same)
    networks = [lively(SMALL, 5, 0).to(size.device).eval()]
    image, inside = volume((6, 96, 96))
    about = presets.resolve("paper", "mr")["preprocessing"]
    views = inference.parse_views("none,x,y")
    given = {"modality": "mr", "rules": about, "channels": 5, "views": views}
    made = [inference.predict(image, inside, networks, **given).uncertainty.array for _ in range(2)]
    same = np.array_equal(*made)
    yield row("determinism", "two predictions: the same bits", str(same), "True", same)
    cases, steps = cases_in(scratch, size), 10 if size.full else 3
    for name in ("paper", "fast"):
        settings = small_settings(size.full, name, deterministic=True)
        same, _ = _twice(cases, settings, size, steps)
        yield row("determinism", f"two runs of {steps} steps, preset {name}: the same bits", str(same), "True", same)


def _twice(cases: Path, settings: dict, size: Size, steps: int) -> tuple[bool, list[float]]:
    """Whether two runs end with the same weights, bit for bit, and the losses of the second."""
    runs = [losses(cases, settings, Place(torch.device(size.device)), steps) for _ in range(2)]
    one, other = (trained.model.state_dict().values() for _, trained in runs)
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True)), runs[1][0]


def learning(size: Size, scratch: Path):
    """Patients of the demo: what `fast` learns in as many steps as `paper`, each from two first weights."""
    place, held_out = scratch / "patients", ("STS_037", "STS_047")
    names = [one.name for one in sorted((ROOT / "assets/demo/mr").iterdir()) if size.full or one.name in held_out]
    for name in names:
        image, mask, ct = (
            to_lps(read_volume(ROOT / f"assets/demo/mr/{name}/{file}.mha")) for file in ("mr", "mask", "ct")
        )
        labels = {"patient": name, "region": "", "center": "", "arm": "none"}
        rules = presets.resolve("paper", "mr")["preprocessing"]
        write_case(place / name, image=image, mask=mask, ct=ct, modality="mr", rules=rules, labels=labels)
    steps, shape = (400, {"patch": [192, 192], "batch": 16}) if size.full else (2, {"patch": [32, 32], "batch": 2})
    shape |= {"schedule": "cosine", "max_steps": steps}  # ends at rest: one step more or less says nothing
    shape |= {"workers": min(8, os.cpu_count() or 1)} if size.full else {"workers": 0, "network": TINY}
    found: dict[str, list[float]] = {}
    for preset in ("paper", "fast"):
        settings = presets.resolve(preset, "mr")["training"] | shape | {"validation_slices": 0 if size.full else 1}
        start = time.monotonic()
        seeds = (1, 2) if size.full else (1,)
        for seed in seeds:
            _, ours = losses(place, settings | {"seed": seed}, Place(torch.device(size.device)), steps, held_out, seed)
            scores = validate(ours.model, ours.run.validation, settings, ours.cast, ours.device)
            found.setdefault(preset, []).append(sum(one["mae"] for one in scores.values()) / len(scores))
        said = ", ".join(f"{mae:.1f}" for mae in found[preset])
        size_of = f"{steps} steps of {settings['batch']}×{settings['channels']}×{settings['patch'][0]}²"
        yield row("learning", f"{preset}: validation MAE after {size_of}, {len(seeds)} seeds (HU)",
                  f"{said}; {time.monotonic() - start:.0f} s")  # fmt: skip
        if size.full and preset == "paper":
            torch.save(ours.model.state_dict(), scratch / TRAINED)
    means = {preset: sum(maes) / len(maes) for preset, maes in found.items()}
    apart = means["fast"] / means["paper"] - 1
    yield row("learning", "fast's mean beside paper's", f"{100 * apart:+.1f} %", "within 5 %" if size.full else "",
              abs(apart) < 0.05 if size.full else None)  # fmt: skip


def processes(size: Size, scratch: Path):
    """Two processes share a batch: their weights agree, and where BatchNorm is shared the losses are one process's."""
    cases, steps = cases_in(scratch, size), 10 if size.full else 3
    alone, _ = losses(cases, small_settings(size.full), Place(torch.device(size.device)), steps)
    several = size.device == "cuda" and torch.cuda.device_count() > 1
    for backend in ("gloo", "nccl") if several else ("gloo",):
        told = {
            "full": size.full,
            "cases": str(cases),
            "steps": steps,
            "device": size.device,
            "backend": backend,
            "out": str(scratch),
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
        environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        done = subprocess.run([*command, __file__, json.dumps(told)], env=environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            yield row("processes", f"two processes, {backend}", f"ended with {done.returncode}", "0", False)
            continue
        ranks = [json.loads((scratch / f"rank{rank}.json").read_text()) for rank in (0, 1)]
        same = ranks[0]["weights"] == ranks[1]["weights"]
        where = "two devices" if backend == "nccl" else "one device"
        yield row("processes", f"two processes on {where}, {backend}: equal weights", str(same), "True", same)
        text, first, mean = compared(ranks[0]["losses"], alone)
        shared = size.device == "cuda"  # on the CPU each process normalises its own half
        yield row("processes", f"{steps} losses, two processes, {backend}, against one: first, mean", text,
                  "0.001, 0.02" if shared else "", (first < 1e-3 and mean < 0.02) if shared else None)  # fmt: skip


def _rank(told: dict):
    """One of the processes of `processes`."""
    distributed.init_process_group(told["backend"])
    rank = distributed.get_rank()
    device = torch.device(told["device"], rank if told["backend"] == "nccl" else 0)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    found, ours = losses(Path(told["cases"]), small_settings(told["full"]), Place(device, rank, 2), told["steps"])
    weights = [float(value.double().sum()) for value in ours.model.parameters()]
    Path(told["out"], f"rank{rank}.json").write_text(json.dumps({"losses": found, "weights": weights}))
    distributed.barrier()
    distributed.destroy_process_group()


def prediction(size: Size, scratch: Path):
    """One volume through the same networks on both, then each way to run them: how near, and a case as large as any."""
    paper = presets.resolve("paper", "mr")
    rules, channels = paper["preprocessing"], paper["training"]["channels"]
    views = inference.parse_views("none,x,y")
    about = {"modality": "mr", "rules": rules, "channels": channels, "views": views}
    repeatable(size.device)

    def made(device: str, shape, networks):
        image, mask = volume(shape)
        return inference.predict(image, mask, [one.to(device).eval() for one in networks], **about)

    def ours(kind: dict, weights: dict):
        one = network_for(kind, channels)
        one.load_state_dict(weights)
        return one.eval().to(size.device)

    kind = paper["training"]["network"] | {"init": "kaiming"} if size.full else SMALL
    networks = [lively(kind, channels, seed) for seed in range(2 if size.full else 1)]
    shape = (8, 256, 256) if size.full else (3, 64, 64)
    cpu, mine = (made(device, shape, networks).sct.array.astype(int) for device in ("cpu", size.device))
    apart = int(np.abs(cpu - mine).max())
    what = f"random weights and image: sCT, {size.other} against CPU, float32, largest difference (HU)"
    yield row("prediction", what, str(apart), "1", apart <= 1)
    trained, real = scratch / TRAINED, "STS_047"
    near, large = None, (100, 512, 512) if size.full else (2, 64, 64)
    image, mask = (read_volume(ROOT / f"assets/demo/mr/{real}/{file}.mha") for file in ("mr", "mask"))
    ways = [(graph, precision) for precision in inference.PRECISIONS for graph in inference.GRAPHS]
    without = ("fused", "float32" if size.device == "cuda" else "bf16")  # the same as "eager" there
    for graph, precision in [way for way in ways if way != without]:
        repeatable(size.device, tf32=precision == "tf32")
        how = f"{precision}, {graph}"
        if trained.exists():  # on what a trained network says rounding tells less than on noise
            one = ours(paper["training"]["network"], torch.load(trained, weights_only=True))
            one = inference.ready(one, graph, precision)
            sct = inference.predict(image, mask, [one], **about).sct.array.astype(int)
            near = sct if near is None else near
            apart = np.abs(sct - near)[mask.array > 0]
            said = f"{apart.mean():.2f}, {np.percentile(apart, 99):.0f}, {apart.max()}"
            held = bool(apart.max() <= 1) if precision == "float32" else None
            what = f"{how}, the part learning's network on a patient: HU from float32, eager: mean, 99 %, largest"
            yield row("prediction", what, said, "at most 1" if precision == "float32" else "", held)
        weights = [lively(kind, channels, seed).state_dict() for seed in range(5 if size.full else 1)]
        networks = [inference.ready(ours(kind, one), graph, precision) for one in weights]
        if size.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        inference.predict(*volume((4, *large[1:])), networks, **about)  # the first passes choose their kernels
        given = volume(large)
        start = time.monotonic()
        inference.predict(*given, networks, **about)
        memory = peak_memory(torch.device(size.device))
        text = f"{time.monotonic() - start:.1f}" + (f", {memory:.1f} GiB" if memory else "")
        size_of = "×".join(map(str, large))
        yield row("prediction", f"{how}: {size_of}, {len(networks)} networks, three views: seconds, memory", text)


def speed(size: Size, scratch: Path):
    """Steps of the trainer, batches from its loader; after as many steps as the device needs to settle.

    With L1 alone, then with perceptual losses of networks that have no trained weights here and cost what those cost.
    """
    cases = cases_in(scratch, size)
    shape = {} if size.full else {"patch": [32, 32], "batch": 2, "network": TINY}
    shape |= {"workers": min(8, os.cpu_count() or 1) if size.full else 0}
    losses = ("", ENCODERS) if size.full else ("",)
    ways: dict[str, tuple[str, dict]] = {
        "paper": ("paper", {}),
        "paper, tf32": ("paper", {"tf32": True}),
        "fast": ("fast", {"compile": "off"}),
    }
    ways = ways if size.full else {name: ways[name] for name in ("paper", "fast")}
    base: dict[str, float] = {}
    for loss in losses:
        for name, (preset, changes) in ways.items():
            settings = presets.resolve(preset, "mr")["training"] | shape | changes
            yield _rate(cases, settings, name + loss, size, base, bool(loss))
    settings = presets.resolve("paper", "mr")["training"] | shape
    reader = trainer(cases, settings, Place(torch.device("cpu")))
    start, read = time.monotonic(), 0
    for _ in loader(reader.batches, 0, 200 if size.full else 2, settings["workers"], False):
        read += 1
        if time.monotonic() - start > 10:
            break
    rate = read * settings["batch"] / (time.monotonic() - start)
    yield row("speed", f"the loader alone, {settings['workers']} processes: patches a second", f"{rate:.0f}")


def compiled(size: Size, scratch: Path):
    """`fast` with training.compile, where the machine can: the last part, since compiling takes minutes."""
    if not size.full or not compiler():
        return
    fast = presets.resolve("fast", "mr")["training"] | {"workers": min(8, os.cpu_count() or 1)}
    cases = cases_in(scratch, size)
    for loss in ("", ENCODERS):
        base: dict[str, float] = {}
        for name, choice in (("fast", "off"), ("fast, compiled", "on")):
            made = _rate(cases, fast | {"compile": choice}, name + loss, size, base, bool(loss))
            yield made | {"part": "compiled"}
    small = small_settings(True, "fast", compile="on", deterministic=True)
    same, runs = _twice(cases, small, size, 10)
    yield row("compiled", "two runs of 10 steps, fast, compiled: the same bits", str(same), "True", same)
    text, *_ = compared(runs, losses(cases, small | {"compile": "off"}, Place(torch.device(size.device)), 10)[0])
    yield row("compiled", "10 losses, compiled against not: first, mean", text)


def _rate(cases: Path, settings: dict, name: str, size: Size, base: dict[str, float], perceptual: bool) -> dict:
    """The row of one way to train; `base` keeps the first one's speed with the same losses."""
    device = torch.device(size.device)
    warm, count, seconds = (8, 200, 8) if size.full else (1, 2, 5)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    encoders = {"vgg19": Photographs(Vgg19([], None)), "sam": Photographs(Sam("vit_b", [], None))}
    ours = trainer(cases, settings, Place(device), encoders if perceptual else None)
    parallel, busy, steps = ours._parallel(), [], 0
    start = begun = time.monotonic()
    for number, batch in enumerate(loader(ours.batches, 0, warm + count, settings["workers"], device.type == "cuda")):
        ours._step(parallel, *batch)
        if number < warm:
            _finish(device)
            start = time.monotonic()
            continue
        steps += 1
        if steps % 5 == 0:
            _finish(device)  # else seconds of steps wait on the device
            busy.append(utilisation(device))
        if time.monotonic() - start > seconds:
            break
    _finish(device)
    rate = steps * settings["batch"] / (time.monotonic() - start)
    first = base.setdefault(name.partition(", with")[2], rate)
    used = [one for one in busy if one is not None]
    more = f", {sum(used) / len(used):.0f} % busy" if used else ""
    more += f", {peak_memory(device):.1f} GiB" if device.type == "cuda" else ""
    more += f", compiled in the first {start - begun:.0f} s" if ours.compiles else ""
    what = f"{name}: patches a second, {settings['batch']}×{settings['channels']}×{settings['patch'][0]}²"
    return row("speed", what, f"{rate:.1f} ({rate / first:.2f} of the first){more}")


def _finish(device: torch.device):
    if device.type == "cuda":
        torch.cuda.synchronize()


PARTS = {
    "registration": registration,
    "training": training,
    "determinism": determinism,
    "processes": processes,
    "learning": learning,
    "prediction": prediction,
    "speed": speed,
    "compiled": compiled,
}

if __name__ == "__main__":
    _rank(json.loads(sys.argv[1]))
