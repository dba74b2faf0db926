#!/usr/bin/env python3
"""What a GPU has to show: that it computes what the CPU computes, and how fast. Started by benchmarks/bench-gpu.

    make bench-gpu                          at most nine minutes; without a GPU the small form on the CPU, seconds

Parts run in this order, each in a process of its own with the time that is left for it; what a part has measured when
its time ends is kept. Correctness comes first:

registration   each dense recipe from a known deformation of a CT: error against the truth on CPU and GPU, seconds
training       the first losses of one run on CPU and GPU, both float32
determinism    two registrations, two predictions, two runs with training.deterministic: the same bits
processes      two processes under torchrun on one device (gloo; nccl where two devices are): losses against one process
learning       the validation MAE after as many steps of `paper` and of `fast` on patients of the demo, two seeds each
prediction     the sCT of one volume on CPU and GPU; graphs and precisions: HU from float32, seconds a case
speed          patches a second, utilisation and memory at the paper's size, for `paper` and `fast`; the loader alone
compiled       the same of `fast` with torch.compile, in the time that is left: compiling takes two minutes of it

Writes DEVICE-DATE.md and .json into benchmarks/gpu (a GPU) or build/bench-gpu (none). Exit status 1 where a number
misses what is wanted of it or a correctness part did not end.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not take it: parts are forks
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products, for that part
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from gpu_parts import PARTS, Size  # noqa: E402

# part: (seconds at most on a GPU, and in the small form, which a busy machine must not fail; whether all rests on it)
LIMITS = {
    "registration": (110, 240, True),
    "training": (70, 240, True),
    "determinism": (40, 240, True),
    "processes": (70, 240, True),
    "learning": (150, 240, False),
    "prediction": (120, 240, True),
    "speed": (140, 240, False),
    "compiled": (420, 240, False),
}


def about() -> dict[str, str]:
    """The machine and what runs on it."""
    cuda = torch.cuda.is_available()
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        "device": torch.cuda.get_device_name(0) if cuda else "CPU",
        "devices": str(torch.cuda.device_count()) if cuda else "0",
        "memory GiB": f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f}" if cuda else "",
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "" if cuda else "",
        "cudnn": str(torch.backends.cudnn.version()) if cuda else "",
    }


def _child(name: str, size: Size, scratch: str, file: str):
    """One part: a row a line into `file` as soon as it is known."""
    if name == "about":
        Path(file).write_text(json.dumps(about()) + "\n")
        return
    with open(file, "w", buffering=1) as out:
        for row in PARTS[name](size, Path(scratch)):
            out.write(json.dumps(row) + "\n")


def run(name: str, size: Size, scratch: Path, seconds: float) -> tuple[list[dict], str]:
    """The rows of a part, and "" or why it did not end."""
    file = scratch / f"{name}.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_child, args=(name, size, str(scratch), str(file)))
    process.start()
    process.join(seconds)
    fault = ""
    if process.is_alive():
        fault = f"its {seconds:.0f} s were over"
        process.kill()
        process.join()
    elif process.exitcode:
        fault = f"ended with {process.exitcode}, see its message above"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return rows, fault


def again(before: list[dict], rows: list[dict]) -> list[dict]:
    """The rows of an earlier call with those measured again in their place; new ones end their part."""
    found = {(row["part"], row["what"]): row for row in before + rows}  # keeps the first one's place
    return sorted(found.values(), key=lambda row: list(LIMITS).index(row["part"]))


def table(machine: dict, rows: list[dict], faults: dict[str, str], small: bool, seconds: float) -> str:
    """The result as Markdown."""
    lines = [f"# {machine['device']}, {time.strftime('%Y-%m-%d')}", ""]
    if small:
        lines += ["**The small form.** It shows that every part runs; no number here speaks for a study.", ""]
    lines += [", ".join(f"{key} {value}" for key, value in machine.items() if value) + f"; {seconds:.0f} s in all.", ""]
    lines += ["| part | what | value | wanted | |", "|---|---|---|---|---|"]
    marks = {True: "yes", False: "**no**", None: ""}
    for row in rows:
        lines.append(f"| {row['part']} | {row['what']} | {row['value']} | {row['wanted']} | {marks[row['held']]} |")
    lines += [f"| {part} | not ended | | | {fault} |" for part, fault in faults.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=9, help="for everything, installation included")
    parser.add_argument("--small", action="store_true", help="the small form, also on a GPU")
    parser.add_argument("--only", help="comma list of parts")
    parser.add_argument("--out", type=Path, help="directory of the table")
    given = parser.parse_args()
    end = given.started + 60 * given.minutes - 15  # the table, and slack
    rows, faults, held = [], {}, True
    with tempfile.TemporaryDirectory(prefix="synthct-gpu-") as place:
        scratch = Path(place)
        (machine,), _ = run("about", Size(False, "cpu"), scratch, 120)
        cuda = machine["devices"] != "0"
        size = Size(full=cuda and not given.small, device="cuda" if cuda else "cpu")
        chosen = given.only.split(",") if given.only else list(LIMITS)
        if unknown := sorted(set(chosen) - set(LIMITS)):
            sys.exit(f"bench-gpu: {unknown[0]}: no such part, expected {', '.join(LIMITS)}")
        print(f"{machine['device']}, {'the paper’s sizes' if size.full else 'the small form'}", flush=True)
        for name in chosen:
            longest, longest_small, needed = LIMITS[name]
            seconds = min(longest if size.full else longest_small, end - time.time())
            part, fault = run(name, size, scratch, seconds) if seconds > 5 else ([], "no time was left")
            rows += part
            for row in part:
                wanted = f"   wanted {row['wanted']}" if row["wanted"] else ""
                print(f"{row['part']:<13} {row['what']:<70} {row['value']}{wanted}", flush=True)
            if fault:
                faults[name] = fault
                print(f"{name:<13} {fault}", file=sys.stderr, flush=True)
                held &= not needed
    held &= all(row["held"] is not False for row in rows)
    took = time.time() - given.started
    out = given.out or (ROOT / "benchmarks/gpu" if size.full else ROOT / "build/bench-gpu")
    out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine["device"]).strip("-").lower() + time.strftime("-%Y-%m-%d")
    if given.only and (out / f"{name}.json").exists():  # what is measured again takes the place of what is there
        before = json.loads((out / f"{name}.json").read_text())
        if before["machine"] == machine:
            rows = again(before["rows"], rows)
            faults = {part: fault for part, fault in before["faults"].items() if part not in chosen} | faults
            took += before["seconds"]
    (out / f"{name}.md").write_text(table(machine, rows, faults, not size.full, took))
    record = {"machine": machine, "small": not size.full, "seconds": round(took, 1), "rows": rows, "faults": faults}
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{out / name}.md, {took:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        traceback.print_exc(limit=0)
        sys.exit(130)
