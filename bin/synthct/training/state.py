"""Continuing an interrupted run: one state file in a directory that outlives the machine.

The directory is a local path or any URI that fsspec knows (s3://, gs://, abfs://). The file's name holds the run's
name and a digest of its settings and data, so runs share a directory and a state is never used for another run.

A state is insurance, not a result: a store that fails is tried again, then a warning is all and the training goes on,
for the state before is whole. Two trainings of one run (a driver died, its job did not) do each other no harm: what
they write has names of its own until it is whole, and a state never gives way to an earlier one.
"""

import os
import platform
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import torch

from synthct.core.errors import InputError
from synthct.core.files import out_of_room
from synthct.networks.checkpoint import load_torch

FORMAT = 1
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "memory"}  # an object appears whole or not at all
WAITS = (1, 3, 9)  # seconds before each further try
LIMIT = float(os.environ.get("SYNTHCT_STATE_TIMEOUT", 600))  # seconds that a store may take for one answer


class Silent(Exception):
    """A store gave no answer within the limit."""


def within(seconds: float, call: Callable):
    """The value or fault of `call()`; `Silent` after so many seconds (a hung call cannot be ended, it stays behind)."""
    outcome = {}

    def work():
        try:
            outcome["value"] = call()
        except BaseException as fault:
            outcome["fault"] = fault

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Silent(f"no answer within {seconds:g} s")
    if "fault" in outcome:
        raise outcome["fault"]
    return outcome["value"]


def patiently(call: Callable, limit: float, waits=WAITS):
    """`call()`, tried again after each of `waits`; not after silence, a full disk or a place that may not be used."""
    for wait in (*waits, None):
        try:
            return within(limit, call)
        except (Silent, PermissionError):
            raise
        except Exception as fault:
            if wait is None or out_of_room(fault):
                raise
            time.sleep(wait)


class StateFile:
    """Where the state of one run is kept, `name` for people, `digest` for safety."""

    def __init__(self, directory: str, name: str, digest: str):
        try:
            self.files, self.directory = fsspec.core.url_to_fs(str(directory))
            patiently(lambda: self.files.makedirs(self.directory, exist_ok=True), LIMIT)
        except Exception as fault:  # every store raises its own kinds; all mean that the place cannot be used
            raise InputError(f"checkpoint directory {directory}: cannot be used ({fault})") from None
        protocol = self.files.protocol
        self.whole = bool(OBJECT_STORES & set([protocol] if isinstance(protocol, str) else protocol))
        self.name = re.sub(r"[^A-Za-z0-9_.+-]", "_", name)
        self.digest = digest
        self.path = f"{self.directory.rstrip('/')}/{self.name}.{digest[:16]}.state.pt"
        self.mark: str | None = None  # what the store says of the state that we wrote or read last

    def load(self, say) -> dict | None:
        """The state to continue from, or None; `say` gets a line on every state that is passed over."""
        try:
            names = patiently(self._names, LIMIT)
            for other in names:
                if Path(other).name != Path(self.path).name:
                    say(f"state {Path(other).name} is of other settings or data: ignored")
            if Path(self.path).name not in {Path(name).name for name in names}:
                return None
            with tempfile.TemporaryDirectory() as scratch:
                local = Path(scratch) / "state.pt"
                mark = self._mark()
                patiently(lambda: self.files.get_file(self.path, str(local)), LIMIT)
                try:
                    state = load_torch(local)
                except InputError as fault:
                    say(f"state {Path(self.path).name} cannot be read, starting anew: {fault}")
                    return None
        except Exception as fault:  # to begin anew would throw away what lies there
            raise InputError(
                f"checkpoint directory {self.directory}: the state of this run cannot be fetched ({_reason(fault)}); "
                "run the same again to continue from it"
            ) from None
        if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("digest") != self.digest:
            say(f"state {Path(self.path).name} is of other settings or data: ignored")
            return None
        self.mark = mark
        return state

    def _names(self) -> list[str]:
        self.files.invalidate_cache()
        return self.files.glob(f"{self.directory.rstrip('/')}/{self.name}.*.state.pt")

    def require_room(self, size: int):
        """`InputError` when a disk has no room for a state of `size` bytes and the one that replaces it."""
        if "file" not in self.files.protocol:
            return
        there = self.files.size(self.path) if self.files.exists(self.path) else 0
        free = shutil.disk_usage(self.directory).free + there
        if free < 2 * size:
            raise InputError(
                f"checkpoint directory {self.directory}: {free / 2**20:.0f} MiB of room, expected "
                f"{size / 2**19:.0f} MiB for two states of this run (one stays until the next is whole)"
            )

    def save(self, state: dict, say=print, waits=WAITS, limit: float = LIMIT) -> bool:
        """Write the state so that it is there whole, or the one before still is; whether it, or a later one, is.

        A store that fails is tried again after each of `waits`; then `say` gets a warning and False comes back. A disk
        without room and a place that may not be written to are an `InputError`: they need a person.
        """
        try:
            if self._later_is_there(state["step"], limit):
                say(f"another training of this run is ahead of step {state['step']}: its state stays")
                return True
            patiently(lambda: self._save({"format": FORMAT, "digest": self.digest, **state}), limit, waits)
        except Exception as fault:
            if out_of_room(fault):
                raise InputError(
                    f"checkpoint directory {self.directory}: no room for the state of step {state['step']}; the last "
                    "one written is whole: make room and run the same again to continue from it"
                ) from None
            if isinstance(fault, PermissionError):
                raise InputError(f"checkpoint directory {self.directory}: may not be written to ({fault})") from None
            say(
                f"warning: the state of step {state['step']} could not be written ({_reason(fault)}); "
                "training goes on, and the last state written is whole"
            )
            return False
        self.mark = self._mark()
        return True

    def _mark(self) -> str | None:
        """What tells one content of the state from the next; None where the store does not say, or there is none."""
        try:
            within(LIMIT, self.files.invalidate_cache)
            return within(LIMIT, lambda: self.files.ukey(self.path))
        except Exception:
            return None

    def _later_is_there(self, step: int, limit: float) -> bool:
        """Whether a twin has written a state of a later step since we last looked."""
        mark = self._mark()
        if mark is None or mark == self.mark:
            return False
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "state.pt"
            try:
                within(limit, lambda: self.files.get_file(self.path, str(local)))
                there = load_torch(local)
            except Exception:
                return False  # it cannot be read: ours replaces it
        self.mark = mark
        return isinstance(there, dict) and there.get("digest") == self.digest and there.get("step", 0) > step

    def _save(self, state: dict):
        beside = f"{self.path}.{platform.node()}.{uuid.uuid4().hex[:8]}.{os.getpid()}.writing"
        if "file" in self.files.protocol:
            try:
                with open(beside, "wb") as file:
                    torch.save(state, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, self.path)
            finally:
                Path(beside).unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "state.pt"
            torch.save(state, local)
            self.files.put_file(str(local), self.path if self.whole else beside)
            if not self.whole:
                self.files.mv(beside, self.path)

    def remove(self, say=print):
        """The run is done: nothing is left to continue, nor of a write that a kill cut short on this machine.

        The weights are written by now: a store that does not answer costs a warning.
        """
        try:
            patiently(self._remove, LIMIT)
        except Exception as fault:
            say(f"warning: the state {self.path} could not be removed ({_reason(fault)}); nothing needs it any more")

    def _remove(self):
        self.files.invalidate_cache()
        if self.files.exists(self.path):
            self.files.rm_file(self.path)
        for beside in self.files.glob(f"{self.path}.{platform.node()}.*.writing"):
            writer = beside.split(".")[-2]
            if not Path("/proc", writer).exists():  # a living one is a twin of this run, left by a killed driver
                self.files.rm_file(beside)


def _reason(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
