"""From a plan to a run in its place: processes first, then what an earlier run left is cleared away."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from synthct.core.files import sha256_of, write_json
from synthct.training.checks import check_share
from synthct.training.launch import Place, join, take_place
from synthct.training.loop import Run
from synthct.training.setup import Plan, Request, plan
from synthct.training.state import StateFile

NOT_IN_DIGEST = ("workers",)  # settings that cannot change the result


def run_of(request: Request, say: Callable[[str], None] = print) -> Run:
    """The run that `request` asks for, ready to train; with several GPUs this process may become theirs and not return.

    Raises `InputError` before any process is started, but for what hangs on their number.
    """
    made = plan(request)
    return start(made, take_place(request.device, made.settings["batch"]), say)


def start(plan: Plan, place: Place, say: Callable[[str], None] = print) -> Run:
    """Put `plan` in its place. The first process writes settings.json and removes the weights of an earlier run."""
    check_share(plan.settings, place)
    if place.first:  # all of them is read once
        for case in [*plan.training, *plan.validation]:
            case.check_arrays()
    join(place)
    request, out = plan.request, Path(plan.request.out)
    state = StateFile(
        request.checkpoint_dir or str(out / "state"),
        f"{request.arm or 'run'}_{request.group}_fold{request.fold}",
        _digest(plan),
    )
    if place.first:
        out.mkdir(parents=True, exist_ok=True)
        for stale in ("best.safetensors", "final.safetensors"):
            (out / stale).unlink(missing_ok=True)
        write_json(out / "settings.json", plan.about)
        say(
            f"{request.group}, fold {request.fold}: {len(plan.training)} patients to learn from, "
            f"{len(plan.validation)} to validate, on {place.world} × {place.device.type}"
        )
    return Run(
        model=plan.model,
        encoders=plan.encoders,
        training=plan.training,
        validation=plan.validation,
        settings=plan.settings,
        about=plan.about,
        fine_tuning=request.section == "finetuning",
        out=out,
        place=place,
        state=state,
        resume=request.resume,
        say=say,
    )


def _digest(plan: Plan) -> str:
    """What tells this run from every other: its state is continued only where nothing of this has changed."""
    known = {
        "settings": {key: value for key, value in plan.settings.items() if key not in NOT_IN_DIGEST},
        "training": [(case.patient, case.digest) for case in plan.training],
        "validation": [(case.patient, case.digest) for case in plan.validation],
        "init": sha256_of(plan.request.init) if plan.request.init else None,
        "run": [plan.about[key] for key in ("version", "fold", "arm", "group")],
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _code() -> dict[str, str]:
    """Every module of the package that is loaded, with its digest: a state is not for a run of other code."""
    loaded = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "synthct"}
    return {name: sha256_of(file) for name, file in sorted(loaded.items()) if file}
