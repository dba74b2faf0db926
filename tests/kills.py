"""SIGKILL at moments drawn from a seed, -resume until the run is done, and a comparison of what was published.

A moment is (step, victim, share): when a task of the step runs, `share` of the time that the step usually takes is
waited, then the victim is killed. Victims: "driver", the engine alone, whose tasks go on as orphans; "all", the engine
and everything that it started; "task", a task's processes; "loader", a data loader's process of a training.
"""

import contextlib
import csv
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import SimpleITK as sitk

VICTIMS = ("driver", "all", "task")
# in the order of their first tasks; neighbours may run side by side
STEPS = ("SCAN", "CHECK", "REGISTER", "PREPROCESS", "CURATE", "FOLDS", "BASELINES", "TRAIN", "FINETUNE", "BUNDLE")
STEPS += ("PREDICT", "EVALUATE", "TRUST", "REPORT")
TRAININGS = ("TRAIN", "FINETUNE")
# what tells of the way there: clocks, memory, the day of the provenance, the engine's own pages, states under way
OF_THE_WAY = ("seconds", "memory_mib", "patches_per_s", "elapsed_s", "datePublished")
NOT_COMPARED = re.compile(r"^(pipeline_info/(?!settings\.json)|checkpoints/)")


def draw(seed: int, number: int) -> list[tuple[str, str, float]]:
    """`number` moments: the steps in turn, each victim as often as the others, loaders in trainings alone."""
    dice = random.Random(seed)
    steps = [STEPS[i % len(STEPS)] for i in range(number)]
    moments = []
    for step in steps:
        kinds = (*VICTIMS, "loader", "loader") if step in TRAININGS else VICTIMS
        moments.append((step, dice.choice(kinds), round(dice.random(), 2)))
    return moments


def processes(work: Path) -> dict[int, tuple[str, str]]:
    """{pid: (task's name, command line)} of everything that runs in a task's directory."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            place = Path(os.readlink(f"/proc/{entry}/cwd"))
            if work not in place.parents:
                continue
            task = work.joinpath(*place.relative_to(work).parts[:2])
            head = (task / ".command.run").read_text()[:2000]
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if name := re.search(r"^### name: '(.+)'", head, re.M):  # else the engine is about to write it
                found[int(entry)] = (name[1], command)
    return found


def _step(name: str) -> str:
    return name.split(" ")[0].split(":")[-1]


def _past(step: str, seen: str) -> bool:
    """Whether a task of `seen` runs only when all tasks of `step` are over."""
    return seen in STEPS and STEPS.index(seen) > STEPS.index(step) + 2


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def _end(pids: list[int]):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _loaders(running: dict) -> list[int]:
    """Processes of a training's tool that another one of it has started."""

    def trains(pid: int) -> bool:
        return any(step.lower() in running.get(pid, ("", ""))[1] for step in TRAININGS)

    return [pid for pid in running if trains(pid) and trains(_parent(pid))]


class Run:
    """One study in `place`; `start` again after the engine's end goes on from where it was."""

    def __init__(self, command: list, place: Path, usual: dict[str, float]):
        self.command, self.place, self.usual = [*map(str, command)], Path(place), usual
        self.work, self.driver, self.starts = Path(place).resolve() / "work", None, 0

    def start(self):
        """Start the engine, with -resume where it has run before."""
        resume = ["-resume"] if self.starts else []
        self.starts += 1
        with open(self.place / f"start_{self.starts}.txt", "w") as out:
            self.driver = subprocess.Popen(
                [*self.command, *resume],
                cwd=self.place,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | {"NXF_ANSI_LOG": "false"},
                start_new_session=True,
            )

    def kill(self, step: str, victim: str, share: float, most: float = 3600) -> str:
        """Wait for the moment, `most` seconds, and kill; what was hit, or "" where the run succeeded before it came.

        A run that ends otherwise (a loader's end is its training's) is resumed on the way.
        """
        waited, end = False, time.monotonic() + most
        while self.driver.poll() != 0:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.place}: no {victim} of {step} to kill in {most:.0f} s")
            if self.driver.poll() is not None:
                self.resume()
            running = processes(self.work)
            mine = [pid for pid, (name, _) in running.items() if _step(name) == step]
            if victim == "loader" and waited:
                mine = [pid for pid in _loaders(running) if pid in mine][:1]
            if not mine and any(_past(step, _step(name)) for name, _ in running.values()):
                return ""
            if not mine:
                time.sleep(0.1)
                continue
            if not waited:
                time.sleep(share * self.usual.get(step, 1.0))
                waited = True
                if victim in ("task", "loader"):
                    continue
            name = running[mine[0]][0]
            if victim == "driver":
                killed = [self.driver.pid]
            elif victim == "all":
                killed = [self.driver.pid, *processes(self.work)]
            else:
                killed = [pid for pid in mine if running[pid][0] == name]
            _end(killed)
            if victim in ("driver", "all"):
                self.driver.wait()
            return f"{name}, {len(killed)} process{'es' * (len(killed) > 1)}"
        return ""

    def resume(self, most: int = 60):
        """Start once more, `most` times at most in all: a run that never gets through is a finding."""
        if self.starts >= most:
            raise RuntimeError(f"{self.place}: started {self.starts} times, and not through")
        self.start()

    def stop(self):
        """End the engine and all that it started, whatever state they are in."""
        _end([self.driver.pid, *processes(self.work)])

    def finish(self, most: int = 6) -> int:
        """Resume until the run succeeds, `most` times at most; the last exit status."""
        while (status := self.driver.wait()) and most:
            most -= 1
            self.resume()
        return status


def usual(trace: Path) -> dict[str, float]:
    """Seconds that a task of each step takes, the longest, from the engine's trace of an uninterrupted run."""
    units, found = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600}, {}
    with open(trace, newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            told = re.findall(r"([\d.]+)(ms|s|m|h)", row["realtime"])
            seconds = sum(float(number) * units[unit] for number, unit in told)
            found[_step(row["name"])] = max(found.get(_step(row["name"]), 0.0), seconds)
    return found


def published(outdir: Path) -> dict[str, str]:
    """{path: SHA-256} of every file of a run, without what tells of the way there."""
    found = {}
    for path in sorted(outdir.rglob("*")):
        name = str(path.relative_to(outdir))
        if path.is_file() and not NOT_COMPARED.match(name):
            found[name] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _content(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".csv":
        with open(path, newline="") as handle:
            return json.dumps([_timeless(row) for row in csv.DictReader(handle)]).encode()
    if path.suffix == ".h5":  # HDF5 notes when it was written
        transform = sitk.ReadTransform(str(path))
        return repr((transform.GetParameters(), transform.GetFixedParameters())).encode()
    return path.read_bytes()


def _timeless(tree):
    if isinstance(tree, dict):
        return {key: _timeless(value) for key, value in tree.items() if key not in OF_THE_WAY}
    return [_timeless(each) for each in tree] if isinstance(tree, list) else tree


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of the files that only one has, or that are not the same in both."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
