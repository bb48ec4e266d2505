"""What a value is, the same in every process: tells whether kept work is that of given settings."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.run.checkpoint import fingerprint


def identities(values: Sequence[Any]) -> list[str]:
    """A digest of every value: dataclasses and containers of numbers, texts, arrays, functions.

    Arrays count by their content, functions by their name alone. Arrays that several values share
    are read once.
    """
    known: dict[int, str] = {}  # by identity, while the values live
    return [fingerprint({"value": _described(value, known)}) for value in values]


def _described(value: Any, known: dict[int, str]) -> Any:
    """The value as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _described(item, known) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item, known) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if id(value) not in known:
            known[id(value)] = _digest(value)
        return known[id(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"class": _name(type(value)), "fields": _described(fields, known)}
    return _name(value) if hasattr(value, "__qualname__") else _without_address(repr(value))


def _digest(array: Any) -> str:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:20]
    return f"{array.dtype}{array.shape} {content}"


def _name(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"


def _without_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
