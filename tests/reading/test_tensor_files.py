"""Safetensors files of users: headers that lie, and digests that notice every change.

Of the kind: headers longer than the file or than any header, offsets outside of it, shapes whose
product overflows, one name twice, no JSON, nested without end, cut and empty files, other dtypes.
"""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from modeledit_jax.reading.tensor_files import check_floating, open_safetensors, tensors_digest

pytestmark = pytest.mark.timeout(20)

A = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}


def write(path, header, length=None, data=bytes(64)):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def test_a_file_that_is_right(tmp_path):
    save_file({"a": np.arange(3.0)}, tmp_path / "a", metadata={"x": "y"})
    with open_safetensors(tmp_path / "a") as file:
        assert file.metadata() == {"x": "y"}
        np.testing.assert_array_equal(file.get_tensor("a"), np.arange(3.0))


@pytest.mark.parametrize(
    "damage",
    [
        (b"{}", 2**60),
        (b"{}", 99_000_000),
        ({"a": A | {"shape": [400], "data_offsets": [0, 1600]}},),
        ({"a": A | {"shape": [-16]}},),
        ({"a": A | {"shape": [2**40, 2**40]}},),
        ({"a": A | {"dtype": "F33"}},),
        ({"a": A | {"data_offsets": [64, 0]}},),
        ({"a": A, "b": A},),
        (b'{"a":%s,"a":%s}' % ((json.dumps(A).encode(),) * 2),),
        (b"null",),
        (b"[" * 100_000,),
        (b'{"\xff":1}',),
    ],
    ids=lambda damage: repr(damage)[:40],
)
def test_headers_that_lie(tmp_path, damage):
    path = write(tmp_path / "a", *damage)
    with pytest.raises(ValueError, match=r"/a is damaged: get it again \(") as error:
        open_safetensors(path)
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_tensors(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a named pipe"):
        open_safetensors(tmp_path / "pipe")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty is broken \(.*too small\), copy it"):
        open_safetensors(tmp_path / "empty", "is broken ({reason}), copy it")


@pytest.mark.parametrize("dtype", ["I8", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64"])
def test_weights_are_floats(dtype):
    check_floating({"a": "F32", "b": "BF16", "c": "F16", "d": "F64"}, "x")
    with pytest.raises(ValueError, match=rf"the weights in x must .*: b has dtype {dtype}; save"):
        check_floating({"a": "F32", "b": dtype}, "x")


def test_a_digest_is_of_names_dtypes_shapes_bytes_and_texts():
    tensors = {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 3), np.float32)}
    digest = tensors_digest(tensors, "text")
    assert digest == tensors_digest(dict(reversed(tensors.items())), "text")
    swapped = {"a": tensors["a"].astype(">f4"), "b": np.asfortranarray(tensors["b"])}
    assert digest == tensors_digest(swapped, "text")
    changed = [
        tensors | {"a": np.nextafter(tensors["a"], 9)},
        tensors | {"a": tensors["a"].reshape(2, 3)},
        tensors | {"a": tensors["a"].view(np.int32)},
        tensors | {"b": -tensors["b"]},
        {"c": tensors["a"], "b": tensors["b"]},
        {"a": tensors["a"]},
    ]
    others = {tensors_digest(other, "text") for other in changed}
    others |= {tensors_digest(tensors, *texts) for texts in ([], ["texts"], ["te", "xt"])}
    assert len(others) == len(changed) + 3 and digest not in others
