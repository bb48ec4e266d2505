"""Safetensors files: opened without trust in their headers, and a digest over what they hold."""

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from modeledit_jax.reading.files import decode, regular_file
from modeledit_jax.reading.json_text import as_object, parse_json

FLOATING = ("F64", "F32", "F16", "BF16")
"""The dtypes that weights can have, in the words of safetensors."""

DAMAGED = "is damaged: get it again ({reason})"


def open_safetensors(path: str | Path, fault: str = DAMAGED) -> Any:
    """Maps a safetensors file into memory and returns the handle of `safetensors.safe_open`.

    Args:
      path: of the file.
      fault: what to say of a file that is none, with the cure; ``{reason}`` stands for the reason.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is no regular file, its header is not right (sizes that the file does not have
        among them), or names a tensor twice.
    """
    path = regular_file(path)
    try:
        handle = safe_open(path, framework="numpy")
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = file.read(length)  # no longer than the file: safetensors has checked that
    except Exception as error:  # its own errors, and those of the system
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} {fault.replace('{reason}', reason)}") from error
    # safetensors takes the last of two tensors of one name.
    as_object(parse_json(decode(header, path), str(path), fault), str(path), fault)
    return handle


def check_floating(dtypes: Mapping[str, str], where: str | Path) -> None:
    """Checks that tensors can be weights.

    Args:
      dtypes: of the tensors by name, in the words of safetensors.
      where: the file or folder, for messages.

    Raises:
      ValueError: one holds integers, truth values, or a float that this project does not read.
    """
    faults = [
        f"{name} has dtype {dtype}" for name, dtype in dtypes.items() if dtype not in FLOATING
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(
            f"the weights in {where} must have one of the dtypes {', '.join(FLOATING)}: "
            f"{'; '.join(faults[:5])}{more}; save them as floats"
        )


def tensors_digest(tensors: Mapping[str, np.ndarray], *texts: str) -> str:
    """SHA-256 (hex) of names, dtypes, shapes and bytes of tensors, and of texts beside them.

    The order of the tensors does not count; a digest is the same on every machine.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"text {len(text.encode())}:{text};".encode())
    for name in sorted(tensors):
        array = tensors[name]
        little_endian = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        about = f"{len(name.encode())}:{name} {array.dtype.name} {array.shape};"
        digest.update(about.encode())
        digest.update(little_endian.tobytes())
    return digest.hexdigest()
