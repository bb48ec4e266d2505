"""Safetensors folders: shards, lazy blocks, damage."""

import json

import numpy as np
import pytest

from modeledit_jax.language.huggingface.tensors import INDEX, SINGLE, open_tensors, write_tensors

TENSORS = {name: np.full((4, 3), i, np.float32) for i, name in enumerate("abc")}
SIZES = {name: tensor.nbytes for name, tensor in TENSORS.items()}


def test_shards_hold_what_fits_and_the_index_says_where(tmp_path):
    write_tensors(tmp_path, SIZES, TENSORS.__getitem__, max_shard_bytes=100)  # 48 bytes each
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00001-of-00002.safetensors",
        "c": "model-00002-of-00002.safetensors",
    }
    assert index["metadata"] == {"total_size": 144}
    opened = open_tensors(tmp_path)
    assert set(opened) == set("abc") and opened["c"].get_shape() == [4, 3]
    np.testing.assert_array_equal(opened["c"][1:3, 0:2], np.full((2, 2), 2.0))


def test_a_transposed_view_is_written_as_seen(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_tensors(tmp_path, {"x": 48}, lambda _: array, max_shard_bytes=10)
    assert [file.name for file in tmp_path.iterdir()] == [SINGLE]
    np.testing.assert_array_equal(open_tensors(tmp_path)["x"][0:4, 0:3], array)


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="another format has to be saved again"):
        open_tensors(tmp_path)
    write_tensors(tmp_path, SIZES, TENSORS.__getitem__, max_shard_bytes=100)
    second = tmp_path / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors is damaged; download"):
        open_tensors(tmp_path)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-00002\.safetensors"):
        open_tensors(tmp_path)
