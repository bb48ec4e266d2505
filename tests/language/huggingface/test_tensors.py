"""Safetensors folders: shards, lazy blocks, damage."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from modeledit_jax.language.huggingface.tensors import (
    INDEX,
    SINGLE,
    open_tensors,
    read_index,
    write_tensors,
)

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


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def sharded(tmp_path):
    """Two files and their index, and a way to change what the index says."""
    write_tensors(tmp_path, SIZES, TENSORS.__getitem__, max_shard_bytes=100)

    def change(**weight_map):
        index = json.loads((tmp_path / INDEX).read_text())
        holder = index["weight_map"] | weight_map
        index["weight_map"] = {name: file for name, file in holder.items() if file is not None}
        (tmp_path / INDEX).write_text(json.dumps(index))
        return tmp_path

    return change


def test_of_a_tensor_in_two_files_that_of_the_index_counts(sharded):
    folder = sharded()
    save_file({"c": TENSORS["c"], "a": TENSORS["a"] + 9}, folder / SHARDS[1])
    np.testing.assert_array_equal(open_tensors(folder)["a"][0:4, 0:3], TENSORS["a"])
    sharded(a=SHARDS[1])
    np.testing.assert_array_equal(open_tensors(folder)["a"][0:4, 0:3], TENSORS["a"] + 9)
    sharded(a=None)
    with pytest.raises(ValueError, match=rf"{SHARDS[1]} in .* holds a, which .* has nowhere or in"):
        open_tensors(folder)


def test_an_index_that_contradicts_its_files(sharded):
    with pytest.raises(ValueError, match=rf"{SHARDS[0]} in .* holds a, .* or in another file"):
        open_tensors(sharded(a=SHARDS[1]))


def test_a_tensor_that_only_the_index_or_only_a_file_knows(sharded):
    """What the network needs is checked by name later; a tied head is often listed for nothing."""
    assert set(open_tensors(sharded(head=SHARDS[0], b=None))) == set("abc")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("", r"is damaged; download it again \(Expecting value"),
        ("null", "it holds null, not an object"),
        ("{}", "no entry 'weight_map'"),
        ('{"weight_map": null}', "'weight_map' is None, it must be an object of tensor and file"),
        ('{"weight_map": ["a"]}', r"'weight_map' is \['a'\]"),
        ('{"weight_map": {}}', r"'weight_map' is {}"),
        ('{"weight_map": {"a": 3}}', "puts 'a' into 3, which must be the name of a .safetensors"),
        ('{"weight_map": {"a": "../b.safetensors"}}', "must be the name of a .safetensors file be"),
        ('{"weight_map": {"a": "/b.safetensors"}}', "must be the name of a .safetensors file be"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "must be the name of a .safetensors file"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "'a' is there twice"),
        ("[" * 1_000_000, "nested too deeply"),
    ],
    ids=range(12),
)
def test_indices_that_are_none(tmp_path, index, message):
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ValueError, match=message) as error:
        open_tensors(tmp_path)
    assert INDEX in str(error.value) and "\n" not in str(error.value)


def test_an_index_with_a_byte_order_mark(sharded):
    folder = sharded()
    (folder / INDEX).write_bytes(b"\xef\xbb\xbf" + (folder / INDEX).read_bytes())
    assert read_index(folder / INDEX) == {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}
