import os

import pytest

from modeledit_jax.run.files import atomic_write_text, cached_json


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


def test_a_finished_part_is_read_and_not_built_again(tmp_path):
    path, calls = tmp_path / "parts" / "a.json", []

    def build():
        calls.append(1)
        return {"score": 1 / 3, "pair": (1, 2)}

    first = cached_json(path, build)
    assert first == cached_json(path, build) == {"score": 1 / 3, "pair": [1, 2]}
    assert len(calls) == 1


@pytest.mark.parametrize("damage", [b"", b'{"a": 1', b"\xff", b"[" * 100_000])
def test_a_damaged_value_is_named(tmp_path, damage):
    (tmp_path / "score.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"score\.json is damaged: delete it"):
        cached_json(tmp_path / "score.json", lambda: 1)
