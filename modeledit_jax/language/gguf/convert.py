"""GGUF files as Hugging Face folders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.gguf.config import config_from_header, metadata_fields
from modeledit_jax.language.gguf.header import Header, read_header
from modeledit_jax.language.gguf.tensors import (
    check_tensors,
    gguf_library,
    gguf_name,
    read_tensor,
)
from modeledit_jax.language.gguf.tokenizer import GgufTokenizer, tokenizer_from_metadata
from modeledit_jax.language.huggingface.checkpoint import CONFIG, TOKENIZER
from modeledit_jax.language.huggingface.config_writer import config_to_json
from modeledit_jax.language.huggingface.names import Stored, stored_tensors
from modeledit_jax.language.huggingface.new_folder import new_folder
from modeledit_jax.language.huggingface.tensors import write_tensors
from modeledit_jax.types import Report

MAX_SHARD_BYTES = 2_000_000_000

_FLOAT = 4


def convert_gguf(source: str | Path, folder: str | Path, report: Report | None = None) -> None:
    """Writes a network of Llama's architecture as a folder that `transformers` loads.

    Weights become float32, whatever they were quantized to; `load_pretrained` reads the folder.

    Args:
      source: a GGUF file.
      folder: to create, whole or not at all; it may exist if it is empty.
      report: shows the tensors done.

    Raises:
      FileNotFoundError: there is no such file.
      FileExistsError: ``folder`` is not empty.
      ValueError: another architecture or kind of tokenizer, a damaged file, tensors that do not fit
        its metadata, or no library `gguf`; one line, with the cure.
    """
    header = read_header(source)
    config = config_from_header(header)
    gguf_library(header)
    check_tensors(header, config)
    tokenizer = tokenizer_from_metadata(metadata_fields(header))
    with new_folder(folder) as partial:
        _write_json(partial / CONFIG, _config_json(config, tokenizer))
        _write_tokenizer(partial, tokenizer, config.context)
        _write_weights(partial, header, config, report or (lambda done, total, metrics: None))


def _config_json(config: LanguageModelConfig, tokenizer: GgufTokenizer) -> dict[str, Any]:
    ids = {f"{role}_id": index for role, index in tokenizer.roles.items() if role != "unk_token"}
    return config_to_json(config) | ids | {"dtype": "float32"}


def _write_tokenizer(folder: Path, found: GgufTokenizer, context: int) -> None:
    found.tokenizer.save(str(folder / TOKENIZER))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **found.tokens,
    }
    if found.chat_template is not None:
        about["chat_template"] = found.chat_template
    _write_json(folder / "tokenizer_config.json", about)
    _write_json(folder / "special_tokens_map.json", found.tokens)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _write_weights(
    folder: Path, header: Header, config: LanguageModelConfig, report: Report
) -> None:
    places = {place.name: (path, place) for path, place in stored_tensors(config).items()}
    done: list[str] = []

    def materialise(name: str) -> np.ndarray:
        values = read_tensor(header, gguf_name(places[name][0]), _heads(config, places[name][0]))
        done.append(name)
        report(len(done), len(places), {})
        return values

    sizes = {name: _bytes(place) for name, (_, place) in places.items()}
    write_tensors(folder, sizes, materialise, MAX_SHARD_BYTES)


def _bytes(place: Stored) -> int:
    return _FLOAT * int(np.prod(place.shape, dtype=np.int64))


def _heads(config: LanguageModelConfig, path: str) -> int | None:
    """Heads whose rows are to be put into another order."""
    if "/attention/query/" in path:
        return config.num_heads
    return config.num_kv_heads if "/attention/key/" in path else None
