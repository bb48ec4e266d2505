"""TensorBoard scalars, read back from the event file without TensorBoard."""

import struct
import sys

import numpy as np
import pytest

from modeledit_jax.run.scalars import ScalarWriter


def read_events(folder):
    """``{(name, step): value}``; a record is length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            data = data[16 + size :]
    return found


def test_scalars_are_in_the_event_file(tmp_path):
    writer = ScalarWriter(tmp_path / "tensorboard")
    values = {("ppo-mask/score", 10): 0.25, ("ppo-mask/score", 20): -1.5, ("other", 20): 3.0}
    for (name, step), value in values.items():
        writer.write(name, value, step)
    writer.close()
    found = read_events(tmp_path / "tensorboard")
    assert found.keys() == values.keys()
    np.testing.assert_allclose([found[key] for key in values], list(values.values()))


def test_no_folder_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # nor is the package needed
    writer = ScalarWriter(None)
    writer.write("score", 1.0, 0)
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"pip install 'modeledit-jax\[tensorboard\]'"):
        ScalarWriter(tmp_path)
