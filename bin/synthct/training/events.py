"""TensorBoard's events, written by the thread that trains.

torch's `SummaryWriter` leaves the writing to a thread of its own: a disk without room then speaks twice, in that
thread's traceback and in the tool's one line. What is written is the same.
"""

import time
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import image, scalar


class Events:
    """The events file in `directory`, which is made; faults of the disk are `OSError`."""

    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self.records = RecordWriter((directory / f"events.out.tfevents.{now:.0f}.synthct").open("wb"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))

    def add_scalar(self, name: str, value: float, step: int):
        """A number of the training at `step`."""
        self._add(scalar(name, value), step)

    def add_image(self, name: str, picture: np.ndarray, step: int):
        """A picture at `step`: grey values, (rows, columns), uint8."""
        self._add(image(name, picture, dataformats="HW"), step)

    def flush(self):
        """Hand everything to the system, so that TensorBoard shows it."""
        self.records.flush()

    def close(self):
        """Finish the file."""
        self.records.close()

    def _add(self, summary: Summary, step: int):
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event):
        self.records.write(event.SerializeToString())
