"""TensorBoard's events: TensorBoard reads them, and a disk without room is a fault of the thread that writes."""

import contextlib

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from synthct.core.files import out_of_room
from synthct.training.events import Events

PICTURE = np.random.default_rng(5).integers(0, 256, (96, 128), dtype=np.uint8)


def read(directory):
    there = EventAccumulator(str(directory), size_guidance={IMAGES: 0})
    there.Reload()
    scalars = {name: [(one.step, one.value) for one in there.Scalars(name)] for name in there.Tags()["scalars"]}
    return scalars, [(one.step, one.encoded_image_string) for one in there.Images("sample")]


def test_tensorboard_reads_what_torch_s_own_writer_would_have_left(tmp_path):
    ours, theirs = Events(tmp_path / "ours"), SummaryWriter(str(tmp_path / "theirs"))
    for step, loss in ((2, 0.5), (4, 0.25)):
        for writer in (ours, theirs):
            writer.add_scalar("loss", loss, step)
    ours.add_image("sample", PICTURE, 4)
    theirs.add_image("sample", PICTURE, 4, dataformats="HW")
    theirs.close()
    ours.flush()  # a training that goes on
    assert read(tmp_path / "ours") == read(tmp_path / "theirs")
    assert read(tmp_path / "ours")[0] == {"loss": [(2, 0.5), (4, 0.25)]}
    ours.close()


def test_a_disk_without_room_is_told_once(tmp_path, small_disk, capfd):
    events = Events(small_disk(2**18) / "tensorboard")
    with pytest.raises(OSError) as fault:
        for step in range(100):
            events.add_image("sample", PICTURE, step)
            events.flush()
    assert out_of_room(fault.value)
    with contextlib.suppress(OSError):  # once more, for what had no room
        events.close()
    assert not capfd.readouterr().err
