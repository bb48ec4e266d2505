"""The tensors of a GGUF file as float32, in the order of rows of Hugging Face checkpoints."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.gguf.header import DAMAGED, Header, TensorPlace
from modeledit_jax.language.parameters import parameter_shapes

ROTARY_FACTORS = "rope_freqs.weight"
"""By how much each rotary frequency is divided; no parameter."""

_MODULES = {
    "attention/query": "attn_q",
    "attention/key": "attn_k",
    "attention/value": "attn_v",
    "attention/output": "attn_output",
    "mlp/gate": "ffn_gate",
    "mlp/up": "ffn_up",
    "mlp/down": "ffn_down",
    "attention_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
}
_TOP = {"tokens": "token_embd", "final_norm": "output_norm", "head": "output"}


def gguf_name(path: str) -> str:
    """Returns the name in GGUF of the leaf ``path``, as `parameter_shapes` calls it."""
    module, leaf = path.rsplit("/", 1)
    end = "bias" if leaf == "bias" else "weight"
    if not module.startswith("layers/"):
        return f"{_TOP[module]}.{end}"
    _, index, module = module.split("/", 2)
    return f"blk.{index}.{_MODULES[module]}.{end}"


def stored_shapes(config: LanguageModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor of ``config`` by its name in GGUF."""
    return {
        gguf_name(path): shape[::-1] if path.endswith("/kernel") else shape
        for path, shape in parameter_shapes(config).items()
    }


def check_tensors(header: Header, config: LanguageModelConfig) -> None:
    """Checks that a file holds exactly the tensors of ``config``, whole and of known formats.

    Raises:
      ValueError: the first five faults, and the cure.
    """
    expected, held = stored_shapes(config), header.tensors
    faults = [f"{name} is missing" for name in expected if name not in held]
    for name, place in held.items():
        if name not in expected and name != ROTARY_FACTORS:
            faults.append(f"{name} has no place in the network")
        elif name in expected and place.shape != expected[name]:
            faults.append(f"{name} has shape {place.shape} instead of {expected[name]}")
    if faults:
        more = f" and {len(faults) - 5} faults more" if len(faults) > 5 else ""
        raise ValueError(
            f"the tensors in {header.path} do not fit its metadata: {'; '.join(faults[:5])}{more}; "
            "download it again, or take the Hugging Face folder of the network"
        )
    _check_extents(header)


def _check_extents(header: Header) -> None:
    """Raises ValueError for tensors that the file does not hold whole, or that overlap."""
    size, end, last = header.path.stat().st_size, 0, ""
    for name, place in sorted(header.tensors.items(), key=lambda item: item[1].offset):
        if place.offset < end:
            raise _damaged(header, f"{name} begins inside of {last}")
        last, end = name, place.offset + _stored_bytes(header, name, place)
        if end > size:
            raise _damaged(header, f"it has {size:,} bytes, {name} ends at {end:,}")


def read_tensor(header: Header, name: str, heads: int | None = None) -> np.ndarray:
    """Reads one tensor as float32.

    Args:
      header: of the file.
      name: of the tensor.
      heads: of queries or keys, whose rows llama.cpp stores in another order; None: as stored.

    Returns:
      Float32 of the shape in the header.

    Raises:
      ValueError: a format without a rule to decode it, a file cut off, values that are not finite.
    """
    library = gguf_library(header)
    place = header.tensors[name]
    size = _stored_bytes(header, name, place)
    data = np.fromfile(header.path, np.uint8, size, offset=place.offset)
    if data.size != size:
        raise _damaged(header, f"it ends inside of {name}")
    kind = library.GGMLQuantizationType(place.kind)
    rows = data.reshape(*place.shape[:-1], -1)
    try:
        with np.errstate(all="ignore"):  # said below
            values = library.quants.dequantize(rows, kind)
    except NotImplementedError as error:
        raise ValueError(
            f"{header.path}: {name} has the format {kind.name}, which the gguf library does not "
            "decode: take a file of another quantization, e.g. Q8_0"
        ) from error
    if not np.isfinite(values).all():
        raise _damaged(header, f"{name} holds values that are not finite")
    values = values.reshape(place.shape)
    return values if heads is None else neighbours_to_halves(values, heads)


def neighbours_to_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Puts the rows of queries or keys back into the order of Hugging Face checkpoints.

    Rotary positions turn pairs of features: llama.cpp stores the two of a pair as neighbors
    (2i, 2i + 1) in each head, Hugging Face half a head apart (i, i + d/2).

    Args:
      rows: ``[heads · d, ...]``, a kernel or a bias.
      heads: of queries, or of keys for their rows.
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def gguf_library(header: Header) -> Any:
    """Returns the module `gguf`.

    Raises:
      ValueError: it is not installed; the message says how to.
    """
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise ValueError(
            f"reading {header.path} needs the gguf library: pip install 'modeledit-jax[gguf]'"
        ) from error
    return gguf


def _stored_bytes(header: Header, name: str, place: TensorPlace) -> int:
    library = gguf_library(header)
    sizes: Mapping[Any, tuple[int, int]] = library.GGML_QUANT_SIZES
    if place.kind not in sizes:
        raise ValueError(
            f"{header.path}: {name} has the format {place.kind}, which the gguf library does not "
            "know: pip install --upgrade gguf, or download the file again"
        )
    values, size = sizes[library.GGMLQuantizationType(place.kind)]
    if place.shape[-1] % values:
        raise _damaged(header, f"rows of {name} are no multiple of {values}, as its format asks")
    return math.prod(place.shape) // values * size


def _damaged(header: Header, reason: str) -> ValueError:
    return ValueError(f"{header.path} {DAMAGED.replace('{reason}', reason)}")
