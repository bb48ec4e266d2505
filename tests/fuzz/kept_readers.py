"""What the package itself keeps: made again with the same bits, or refused; and what it reads then.

Belongs to the kind: features of texts, key statistics, networks, models that have a name, edits,
checkpoints of searches, rows of finished parts. Compiled programs: tests/run/test_programs.py.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from modeledit_jax.editors.search.evolution import SNES
from modeledit_jax.editors.unlearning.closed_form import RidgeEditor
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.presets.preset import load_preset, preset_source
from modeledit_jax.report.serialization import as_plain, cached_rows
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.named_models import NAMED_MODELS, model_folder
from modeledit_jax.run.text_features import TextFeatures
from modeledit_jax.run.text_statistics import text_statistics
from tests import tiny
from tests.fuzz.reader import Reader, finite, same
from tests.language.gguf.files import Content
from tests.lifelong.folders import write_folder
from tests.report.rows import rows_of

TREE = {"w": np.arange(12.0).reshape(3, 4), "b": {"c": np.ones(2, np.int32)}}
TEXTS = ["the dog slept by the door", "water", "the sea is deep and wide"]
NAME = "smollm2-135m"


def _features(folder: Path) -> np.ndarray:
    return TextFeatures(folder / "network", folder / "cache", layer=1, length=8)(TEXTS).pooled


def _features_anew(folder: Path) -> np.ndarray:
    return TextFeatures(folder / "network", folder / "none", layer=1, length=8)(TEXTS).pooled


def _write_features(folder: Path) -> None:
    write_folder(folder / "network")
    _features(folder)


def _statistics(folder: Path) -> Any:
    found = text_statistics(_tiny_model(), folder / "text.txt", folder / "cache")
    return found.moments, found.count


@cache
def _tiny_model() -> Any:
    return read_language_model(write_folder(Path(tempfile.mkdtemp()) / "tiny"), "layers/1/mlp/down")


def _write_statistics(folder: Path) -> None:
    (folder / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    _statistics(folder)


def _write_named(folder: Path, form: str = "wheel") -> None:
    place = folder / "data" / NAME
    place.mkdir(parents=True)
    named = NAMED_MODELS[NAME]
    gguf = Content().write(place / Path(named.gguf).name)
    if form == "wheel":
        with zipfile.ZipFile(place / named.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(gguf, named.gguf)
        gguf.unlink()


def _write_kept_model(folder: Path) -> None:
    _write_named(folder)
    _named(folder)


@cache
def _digest_of_tiny() -> str:
    with tempfile.TemporaryDirectory() as place:
        gguf = Content().write(Path(place) / "tiny.gguf")
        return hashlib.sha256(gguf.read_bytes()).hexdigest()


def _named(folder: Path, cache: Path | None = None) -> dict[str, bytes]:
    """The files of a model by its name, whose GGUF file is a tiny one; nothing is downloaded."""
    known = {NAME: replace(NAMED_MODELS[NAME], sha256=_digest_of_tiny())}
    environment = {"MODELEDIT_DATA_DIR": str(folder / "data")}
    with mock.patch.dict(NAMED_MODELS, known), mock.patch.dict(os.environ, environment):
        found = model_folder(NAME, cache or folder / "cache")
    return {path.name: path.read_bytes() for path in found.iterdir()}


def _named_anew(folder: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        return _named(folder, Path(place))


def _edited(folder: Path) -> Any:
    found = edit_many(RidgeEditor(), [tiny.task(0)], jax.random.key(0), folder / "edits")
    return jax.tree.map(np.asarray, found[0].params)


SEARCH = SNES(population=4, budget=12, parametrization=PerRow())


def _searched(folder: Path) -> Any:
    found = edit_many(SEARCH, [tiny.task(0)], jax.random.key(0), folder / "search")
    return jax.tree.map(np.asarray, found[0].params)


def _rows(folder: Path) -> Any:
    return as_plain(cached_rows(folder / "rows.json", lambda: rows_of("ppo-shift", [[0.9, 0.8]])))


def _remade(
    read: Callable[[Path], Any], write: Callable[[Path], Any] | None = None
) -> Callable[[Any], bool]:
    """Whether a result has the bits of what a folder as it was written gives."""

    @cache
    def expected() -> Any:
        with tempfile.TemporaryDirectory() as place:
            if write is not None:
                write(Path(place))
            return read(Path(place))

    return lambda result: same(result, expected())


def _write_method(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        text = preset_source(name)[1]
        (folder / "own.toml").write_text(text, encoding="utf-8")

    return write


def _method(folder: Path) -> Any:
    return load_preset(folder / "own.toml").for_pretrained().build(contexts=2, budget=40)


KEPT_READERS = {
    "kept network": Reader(
        lambda f: cached_tree(f, {"seed": 0}, lambda: TREE),
        "*/**/*",
        lambda f: cached_tree(f, {"seed": 0}, lambda: TREE),
        right=lambda found: same(found, TREE),
    ),
    "kept features": Reader(
        _write_features,
        "cache/features/*/*/**/*",
        _features,
        right=_remade(_features, _write_features),
    ),
    "features config.json": Reader(
        _write_features, "network/config.json", _features_anew, right=finite
    ),
    "features tokenizer.json": Reader(
        _write_features, "network/tokenizer.json", _features_anew, right=finite
    ),
    "features safetensors": Reader(
        _write_features, "network/model.safetensors", _features_anew, right=finite
    ),
    "text of key statistics": Reader(_write_statistics, "text.txt", _statistics, right=finite),
    "kept key statistics": Reader(
        _write_statistics,
        "cache/key-statistics/**/*",
        _statistics,
        right=_remade(_statistics, _write_statistics),
    ),
    "wheel of a named model": Reader(
        _write_named,
        f"data/{NAME}/{NAMED_MODELS[NAME].wheel}",
        _named_anew,
        right=_remade(_named, _write_named),
    ),
    "gguf of a named model": Reader(
        lambda f: _write_named(f, "gguf"),
        f"data/{NAME}/{Path(NAMED_MODELS[NAME].gguf).name}",
        _named_anew,
        exact=True,
    ),
    "kept named model": Reader(
        _write_kept_model,
        f"cache/models/{NAME}/**/*",
        _named,
        right=_remade(_named, _write_named),
    ),
    "kept edit": Reader(_edited, "edits/**/*", _edited, right=_remade(_edited)),
    "kept search": Reader(_searched, "search/**/*", _searched, right=_remade(_searched)),
    "kept rows": Reader(_rows, "rows.json", _rows, right=_remade(_rows)),
    "lifelong method.toml": Reader(_write_method("lifelong/memit-amortized"), "own.toml", _method),
    "method.toml of real comments": Reader(
        _write_method("bias_real/ppo-shift"), "own.toml", _method
    ),
}
