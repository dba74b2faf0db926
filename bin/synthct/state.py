"""Continuing an interrupted run: one state file in a directory that outlives the machine.

The directory is a local path or any URI that fsspec knows (s3://, gs://, abfs://). The file's name holds the run's
name and a digest of its settings and data, so runs share a directory and a state is never used for another run.
"""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

import fsspec
import torch

from synthct.checkpoint import load_torch
from synthct.errors import InputError
from synthct.files import out_of_room

FORMAT = 1
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "memory"}  # an object appears whole or not at all


class StateFile:
    """Where the state of one run is kept, `name` for people, `digest` for safety."""

    def __init__(self, directory: str, name: str, digest: str):
        try:
            self.files, self.directory = fsspec.core.url_to_fs(str(directory))
            self.files.makedirs(self.directory, exist_ok=True)
        except Exception as fault:  # every store raises its own kinds; all mean that the place cannot be used
            raise InputError(f"checkpoint directory {directory}: cannot be used ({fault})") from None
        protocol = self.files.protocol
        self.whole = bool(OBJECT_STORES & set([protocol] if isinstance(protocol, str) else protocol))
        self.name = re.sub(r"[^A-Za-z0-9_.+-]", "_", name)
        self.digest = digest
        self.path = f"{self.directory.rstrip('/')}/{self.name}.{digest[:16]}.state.pt"

    def load(self, say) -> dict | None:
        """The state to continue from, or None; `say` gets a line on every state that is passed over."""
        self.files.invalidate_cache()
        for other in self.files.glob(f"{self.directory.rstrip('/')}/{self.name}.*.state.pt"):
            if Path(other).name != Path(self.path).name:
                say(f"state {Path(other).name} is of other settings or data: ignored")
        if not self.files.exists(self.path):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "state.pt"
            self.files.get_file(self.path, str(local))
            try:
                state = load_torch(local)
            except InputError as fault:
                say(f"state {Path(self.path).name} cannot be read, starting anew: {fault}")
                return None
        if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("digest") != self.digest:
            say(f"state {Path(self.path).name} is of other settings or data: ignored")
            return None
        return state

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

    def save(self, state: dict):
        """Write the state so that it is there whole, or the one before it still is."""
        try:
            self._save({"format": FORMAT, "digest": self.digest, **state})
        except Exception as fault:
            if not out_of_room(fault):
                raise
            raise InputError(
                f"checkpoint directory {self.directory}: no room for the state of step {state['step']}; the last one "
                "written is whole: make room and run the same again to continue from it"
            ) from None

    def _save(self, state: dict):
        beside = f"{self.path}.{platform.node()}.{os.getpid()}.writing"
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

    def remove(self):
        """The run is done: nothing is left to continue, nor of a write that a kill cut short on this machine."""
        if self.files.exists(self.path):
            self.files.rm_file(self.path)
        for beside in self.files.glob(f"{self.path}.{platform.node()}.*.writing"):
            writer = beside.split(".")[-2]
            if not Path("/proc", writer).exists():  # a living one is a twin of this run, left by a killed driver
                self.files.rm_file(beside)
