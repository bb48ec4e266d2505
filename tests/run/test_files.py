import os

import pytest

from modeledit_jax.run.files import atomic_write_text


def test_atomic_write_replaces_whole_files(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    atomic_write_text(path, "old")
    atomic_write_text(path, "new − ½\n")
    assert path.read_bytes() == "new − ½\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_a_crash_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    atomic_write_text(path, "old")

    def crash(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]
