"""Strategies that damage what a file holds: its bytes, or the values of its JSON."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NASTY = (
    None, True, False, "", " ", "x", "NaN", "16", "../../etc/passwd", "\u2028\ud83d", [], {}, [[]],
    0, -1, 1, 0.5, -0.0, 1e400, -1e400, float("nan"), 1e30, 1e-320, 2**31, 2**63, 10**30, -(2**70),
)  # fmt: skip
"""Values that a field was not made for."""


@st.composite
def damaged_bytes(draw: Callable, data: bytes) -> bytes:
    """A few changes of a file: cut off, bits flipped, pieces removed, doubled, or made up."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((1, 2, 7, 64)))
        piece = data[begin : begin + length]
        change = draw(st.sampled_from(("cut", "flip", "remove", "double", "make up", "head")))
        if change == "cut":
            data = data[:begin]
        elif change == "flip" and piece:
            byte = piece[0] ^ (1 << draw(st.integers(0, 7)))
            data = data[:begin] + bytes([byte]) + data[begin + 1 :]
        elif change == "remove":
            data = data[:begin] + data[begin + length :]
        elif change == "double":
            data = data[:begin] + piece + data[begin:]
        elif change == "make up":
            data = data[:begin] + draw(st.binary(max_size=length)) + data[begin + length :]
        elif change == "head":
            data = draw(st.binary(max_size=16)) + data[draw(st.integers(0, 16)) :]
    return data


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all values in a JSON value, the whole one included."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value[:8]):
            found += places(item, (*path, index))
    return found


@st.composite
def damaged_json(draw: Callable, value: Any) -> bytes:
    """A JSON text of which one or two values are others, missing, doubled, or nested deep."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(value)))
        change = draw(st.sampled_from(("replace", "replace", "remove", "rename", "nest")))
        other = draw(st.sampled_from(NASTY))
        if not path:
            if change == "replace":
                value = other
            continue
        parent = value
        for step in path[:-1]:
            parent = parent[step]
        if change == "replace":
            parent[path[-1]] = other
        elif change == "nest":
            parent[path[-1]] = [parent[path[-1]]]
        elif change == "remove":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[f"{path[-1]}_"] = parent.pop(path[-1])
        if not isinstance(value, dict | list):
            break
    text = json.dumps(value)
    if draw(st.integers(0, 29)) == 29:  # deeper than any parser's stack
        text = "[" * 100_000 + text + "]" * 100_000
    return text.encode()
