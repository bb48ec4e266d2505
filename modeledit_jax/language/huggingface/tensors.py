"""Folders of safetensors files: lazily read by name, written in shards."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@runtime_checkable
class LazyTensor(Protocol):
    """A tensor on disk; only the blocks asked for are read."""

    def get_shape(self) -> list[int]:
        """Returns its shape."""

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Reads one block."""


def open_tensors(folder: Path) -> dict[str, LazyTensor]:
    """Maps the checkpoint in ``folder`` into memory, one file or several with an index.

    Raises:
      FileNotFoundError: there is no checkpoint, or a file of its index is missing.
      ValueError: a file is damaged.
    """
    tensors: dict[str, LazyTensor] = {}
    for file in _files(folder):
        try:
            handle: Any = safe_open(file, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged; download it again ({error})") from error
        tensors |= {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
    return tensors


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        files = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    elif (folder / SINGLE).is_file():
        files = [SINGLE]
    else:
        raise FileNotFoundError(
            f"neither {SINGLE} nor {INDEX} is in {folder}; a checkpoint in another format has to "
            "be saved again with safetensors (transformers: model.save_pretrained)"
        )
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}, named in {INDEX}; download the checkpoint again"
        )
    return [folder / file for file in files]


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
