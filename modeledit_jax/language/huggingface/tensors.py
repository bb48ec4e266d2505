"""Folders of safetensors files: lazily read by name, written in shards."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from safetensors.numpy import save_file

from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.reading.tensor_files import open_safetensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DAMAGED = "is damaged; download it again ({reason})"

_SHARD = re.compile(r"[^/\\\0]+\.safetensors")
"""Names of files in one folder: an index never leads out of it."""


@runtime_checkable
class LazyTensor(Protocol):
    """A tensor on disk; only the blocks asked for are read."""

    def get_shape(self) -> list[int]:
        """Returns its shape."""

    def get_dtype(self) -> str:
        """Returns its dtype in the words of safetensors, such as ``"BF16"``."""

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Reads one block."""


def open_tensors(folder: Path) -> dict[str, LazyTensor]:
    """Maps the checkpoint in ``folder`` into memory, one file or several with an index.

    ``model.safetensors`` counts where it is there, as for `transformers`: an index beside it, with
    its shards or without, is left over from an older checkpoint.

    Raises:
      FileNotFoundError: there is no checkpoint, or a file of its index is missing.
      ValueError: a file is damaged, or the index is, or says what its files do not hold.
    """
    if os.path.lexists(folder / SINGLE):
        return _open_file(folder / SINGLE)
    if os.path.lexists(folder / INDEX):
        return _open_shards(folder)
    raise FileNotFoundError(
        f"neither {SINGLE} nor {INDEX} is in {folder}; a checkpoint in another format has to "
        "be saved again with safetensors (transformers: model.save_pretrained)"
    )


def _open_file(path: Path) -> dict[str, LazyTensor]:
    handle = open_safetensors(path, DAMAGED)
    return {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118


def _open_shards(folder: Path) -> dict[str, LazyTensor]:
    """The tensors of all shards; where several hold one name, that of the index counts."""
    holder = read_index(folder / INDEX)
    files = sorted(set(holder.values()))
    if missing := [file for file in files if not os.path.lexists(folder / file)]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing[:5])}, named in {INDEX}; download the checkpoint "
            "again"
        )
    shards = {file: _open_file(folder / file) for file in files}
    tensors: dict[str, LazyTensor] = {}
    for file, shard in shards.items():
        for name, tensor in shard.items():
            counts = holder.get(name)
            if (counts is None and name in tensors) or (counts and name not in shards[counts]):
                raise ValueError(
                    f"{file} in {folder} holds {name}, which {INDEX} has nowhere or in "
                    "another file; download the checkpoint again"
                )
            if counts in (None, file):
                tensors[name] = tensor
    return tensors


def read_index(path: Path) -> dict[str, str]:
    """Reads which file beside the index ``path`` holds each tensor.

    Raises:
      FileNotFoundError: there is no index.
      ValueError: it is no JSON object with such a ``weight_map``, or names files elsewhere.
    """
    cure = "download the file again"
    fields = Fields(read_object(path, DAMAGED), str(path), noun="entry", cure=cure)
    holder = fields.get("weight_map")
    if not isinstance(holder, dict) or not holder:
        raise fields.wrong("weight_map", "an object of tensor and file names, with at least one")
    for name, file in holder.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise ValueError(
                f"{path}: weight_map puts {name[:80]!r} into {repr(file)[:80]}, which must be the "
                f"name of a .safetensors file beside the index; {cure}"
            )
    return holder


def write_tensors(
    folder: Path,
    sizes: Mapping[str, int],
    materialise: Callable[[str], np.ndarray],
    max_shard_bytes: int,
) -> None:
    """Writes tensors in shards, holding no more than one shard in memory.

    Args:
      folder: exists.
      sizes: bytes of each tensor by name, in the order to write.
      materialise: returns the tensor of a name.
      max_shard_bytes: of one file, unless a single tensor is larger.
    """
    shards = _shards(sizes, max_shard_bytes)
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = [SINGLE]
    for file, names in zip(files, shards, strict=True):
        # safetensors writes the buffer as it lies, so a transposed view has to be copied first.
        tensors = {name: np.ascontiguousarray(materialise(name)) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        holder = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": holder}
        (folder / INDEX).write_text(json.dumps(index, indent=2))


def _shards(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
