"""Hugging Face checkpoints: safetensors folders to parameters and back.

Nothing but the `safetensors` and `tokenizers` libraries is needed. Tensors are read by memory map,
one at a time, and on a mesh every device gets only the block it holds.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, Sharding
from tokenizers import Tokenizer

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.config import config_from_json, differing_fields
from modeledit_jax.language.huggingface.config_writer import config_to_json
from modeledit_jax.language.huggingface.names import HEAD, Stored, is_buffer, stored_tensors
from modeledit_jax.language.huggingface.new_folder import new_folder
from modeledit_jax.language.huggingface.tensors import (
    DAMAGED,
    LazyTensor,
    open_tensors,
    write_tensors,
)
from modeledit_jax.language.parameters import (
    layers_are_stacked,
    parameter_shapes,
    unstack_layers,
)
from modeledit_jax.language.sharding import parameter_shardings
from modeledit_jax.reading.files import read_text, regular_file
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.reading.tensor_files import check_floating
from modeledit_jax.types import Array, Params

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_SIDE_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
"""What `save_pretrained` copies from the source: tokenizer and generation settings."""


def load_pretrained(
    folder: str | Path, dtype: Any = None, mesh: Mesh | None = None
) -> tuple[LanguageModelConfig, Params]:
    """Reads a checkpoint of GPT-2, Llama, Mistral, Qwen2 or Gemma 2.

    Args:
      folder: holds ``config.json`` and ``model.safetensors`` or its shards with their index.
      dtype: of the parameters; as stored if None.
      mesh: with axes ``"data"`` and ``"model"``, to spread the parameters over (see
        `parameter_shardings`); None: everything on the default device.

    Returns:
      The configuration, and parameters with one dict per layer (`stack_layers` stacks them).

    Raises:
      FileNotFoundError: a file is missing; the message says which.
      ValueError: an unsupported network, a damaged file, or tensors that are missing, of another
        shape, no floats, not finite, or without a place in the network; the message names them.
    """
    folder, dtype = Path(folder), _float_dtype(dtype)
    config = _read_config(folder)[0]
    tensors = open_tensors(folder)
    stored = stored_tensors(config, tensors)
    _check_tensors(folder, config, tensors, stored)
    shardings = {} if mesh is None else parameter_shardings(config, mesh)
    leaves = {
        path: _read_leaf(tensors[place.name], place, shape, dtype, shardings.get(path))
        for (path, place), shape in zip(
            stored.items(), parameter_shapes(config).values(), strict=True
        )
    }
    return config, unflatten_dict(leaves, sep="/")


def read_config(folder: str | Path) -> LanguageModelConfig:
    """The configuration of a checkpoint; its tensors are not looked at.

    Raises:
      FileNotFoundError, ValueError: as `load_pretrained`.
    """
    return _read_config(Path(folder))[0]


def _float_dtype(dtype: Any) -> Any:
    """A dtype for parameters, or None; ValueError if it is no floating one."""
    if dtype is None:
        return None
    try:
        found = jnp.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"dtype is {dtype!r}: give a name such as 'bfloat16'") from error
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"dtype is {found.name}: parameters are floats, e.g. 'bfloat16'")
    return found


def _read_config(folder: Path) -> tuple[LanguageModelConfig, dict[str, Any]]:
    """The configuration, and the contents of the file as they are."""
    path = folder / CONFIG
    if not os.path.lexists(path):
        raise FileNotFoundError(
            f"no {CONFIG} in {folder}; put a checkpoint there, for example with "
            f"`hf download openai-community/gpt2 --local-dir {folder}`"
        )
    data = read_object(path, DAMAGED)
    return config_from_json(data, str(path)), data


def _check_tensors(
    folder: Path,
    config: LanguageModelConfig,
    tensors: Mapping[str, LazyTensor],
    stored: Mapping[str, Stored],
) -> None:
    """Raises ValueError unless the checkpoint holds exactly the tensors of ``config``."""
    expected = {place.name: place.shape for place in stored.values()}
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    if not config.tied_head and HEAD not in tensors:
        faults[-1] += " (a head shared with the embeddings needs tie_word_embeddings: true)"
    for name, tensor in tensors.items():
        shape = tuple(tensor.get_shape())
        if name not in expected and not is_buffer(name) and not (config.tied_head and name == HEAD):
            faults.append(f"{name} has no place in the network")
        elif name in expected and shape != expected[name]:
            faults.append(f"{name} has shape {shape} instead of {expected[name]}")
    if not faults and config.tied_head and HEAD in tensors and HEAD not in expected:
        table = tensors[stored["tokens/embedding"].name]
        if not np.array_equal(_whole(table), _whole(tensors[HEAD])):
            faults.append(f"{HEAD} differs from the embeddings, but tie_word_embeddings is true")
    check_floating(
        {name: tensors[name].get_dtype() for name in expected if name in tensors}, folder
    )
    if faults:
        more = f" and {len(faults) - 5} faults more" if len(faults) > 5 else ""
        raise ValueError(
            f"the tensors in {folder} do not fit its {CONFIG}: {'; '.join(faults[:5])}{more}; "
            f"download the checkpoint again or correct {CONFIG}"
        )


def _whole(tensor: LazyTensor) -> np.ndarray:
    return tensor[tuple(slice(0, size) for size in tensor.get_shape())]


def _read_leaf(
    tensor: LazyTensor,
    stored: Stored,
    shape: tuple[int, ...],
    dtype: Any,
    sharding: Sharding | None,
) -> Array:
    """One leaf; on a mesh, each device's block of it."""

    def block(index: tuple[slice, ...] | None) -> np.ndarray:
        index = (slice(None),) * len(shape) if index is None else index
        ranges = [slice(*s.indices(size)[:2]) for s, size in zip(index, shape, strict=True)]
        if stored.part is not None:
            begin = stored.part * shape[-1]
            ranges[-1] = slice(begin + ranges[-1].start, begin + ranges[-1].stop)
        values = tensor[tuple(ranges[::-1])].T if stored.transposed else tensor[tuple(ranges)]
        return _finite(values, stored.name, dtype)

    if sharding is None:
        return jnp.asarray(block(None))
    return jax.make_array_from_callback(shape, sharding, block)


def _finite(values: np.ndarray, name: str, dtype: Any) -> np.ndarray:
    """The tensor ``name`` as ``dtype``, or as stored; ValueError unless all of it is finite."""
    dtype = jax.dtypes.canonicalize_dtype(values.dtype) if dtype is None else dtype
    with np.errstate(over="ignore"):  # said below
        converted = values.astype(dtype, copy=False)
    if np.isfinite(converted).all():
        return converted
    if np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are too large for {dtype}: take a wider dtype")
    raise ValueError(f"{name} holds values that are not finite: take an intact checkpoint")


def save_pretrained(
    folder: str | Path,
    config: LanguageModelConfig,
    params: Params,
    source: str | Path | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes a checkpoint that `transformers` loads, whole or not at all.

    Args:
      folder: to create; it may exist if it is empty.
      config: of the network; ``config.family`` names the layout.
      params: with layers stacked or not, on one device or several; written in their own dtype.
      source: folder of the checkpoint that was edited: its ``config.json``, tokenizer and
        generation settings are taken over. None: ``config.json`` is written from ``config``.
      tokenizer: to write as well.
      max_shard_bytes: of one file.

    Raises:
      FileExistsError: ``folder`` is not empty.
      ValueError: leaves that do not fit ``config``, a source of another network, or a network
        that the layout of ``config.family`` cannot express.
    """
    params = unstack_layers(params) if layers_are_stacked(params) else params
    leaves = flatten_dict(params, sep="/")
    _check_leaves(config, leaves)
    description = config_to_json(config) if source is None else _source_config(config, Path(source))
    # transformers reads all leaves in this dtype: one narrower than an edited kernel's would round
    # the edit away.
    description["dtype"] = str(jnp.result_type(*leaves.values()))
    description.pop("torch_dtype", None)  # the spelling before transformers 5

    with new_folder(folder) as partial:
        if source is not None:
            _copy_side_files(Path(source), partial)
        if tokenizer is not None:
            tokenizer.save(str(partial / TOKENIZER))
            kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
            (partial / "tokenizer_config.json").write_text(json.dumps(kind, indent=2))
        (partial / CONFIG).write_text(json.dumps(description, indent=2))
        _write_leaves(partial, config, leaves, max_shard_bytes)


def _check_leaves(config: LanguageModelConfig, leaves: Mapping[str, Array]) -> None:
    expected = parameter_shapes(config)
    faults = [f"{path} is missing" for path in expected if path not in leaves]
    faults += [f"{path} has no place in the network" for path in leaves if path not in expected]
    faults += [
        f"{path} has shape {leaf.shape} instead of {expected[path]}"
        for path, leaf in leaves.items()
        if path in expected and leaf.shape != expected[path]
    ]
    if faults:
        raise ValueError(f"params do not fit the configuration: {'; '.join(faults[:5])}")


def _source_config(config: LanguageModelConfig, source: Path) -> dict[str, Any]:
    known, data = _read_config(source)
    if differing := differing_fields(known, config):
        raise ValueError(
            f"the checkpoint in {source} is of another network (it differs in "
            f"{', '.join(differing)}); name the one that was edited, or no source"
        )
    return data


def _copy_side_files(source: Path, target: Path) -> None:
    for pattern in _SIDE_FILES:
        for file in source.glob(pattern):
            if file.is_file() and not file.name.endswith(".index.json"):
                shutil.copyfile(file, target / file.name)


def _write_leaves(
    folder: Path, config: LanguageModelConfig, leaves: Mapping[str, Array], max_shard_bytes: int
) -> None:
    places = stored_tensors(config)
    paths: dict[str, list[str]] = {}
    for path, place in sorted(places.items(), key=lambda item: item[1].part or 0):
        paths.setdefault(place.name, []).append(path)

    def materialise(name: str) -> np.ndarray:
        parts = [np.asarray(leaves[path]) for path in paths[name]]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return values.T if places[paths[name][0]].transposed else values

    sizes = {name: sum(leaves[path].nbytes for path in group) for name, group in paths.items()}
    write_tensors(folder, sizes, materialise, max_shard_bytes)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Reads ``tokenizer.json``, without the padding and truncation of whoever saved it.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is no tokenizer.
    """
    missing = (
        f"no {TOKENIZER} in {folder}; download it, or write it with transformers: "
        "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
    )
    file = regular_file(Path(folder) / TOKENIZER, missing)
    content = read_text(file)
    try:
        tokenizer = Tokenizer.from_str(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare exceptions; Rust's panics derive from BaseException
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is damaged; download it again ({reason})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
