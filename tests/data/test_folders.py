"""Where files are looked for."""

from pathlib import Path

import pytest

from modeledit_jax.data.folders import default_cache_dir, locate


def test_default_cache_dir_follows_the_environment(monkeypatch):
    monkeypatch.delenv("MODELEDIT_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/modeledit_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/modeledit_jax")
    monkeypatch.setenv("MODELEDIT_CACHE_DIR", "~/own")
    assert default_cache_dir() == Path("/home/someone/own")


def test_a_missing_file_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELEDIT_DATA_DIR", raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"no zsre/a\.json: put it into a folder zsre/ and set MODELEDIT_DATA_DIR to its",
    ):
        locate("zsre", "a.json", None)
    with pytest.raises(FileNotFoundError, match=r"put it into .*zsre, or set MODELEDIT_DATA_DIR"):
        locate("zsre", "a.json", tmp_path)


def test_the_folder_is_taken_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "zsre").mkdir()
    path = tmp_path / "zsre" / "facts.json"
    path.write_text("[]")
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path))
    assert locate("zsre", "facts.json", None) == path
