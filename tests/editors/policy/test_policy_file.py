"""Policies in files: everything in one is checked on reading, and a flipped bit is noticed.

Of the kind: architectures out of range or of another type, tensors of another architecture, of
another dtype or not finite, metadata that are missing, no JSON or of a newer version, a digest of
another content, and files of earlier versions, which have no digest and must go on being read.
Damaged headers are tested in tests/reading/test_tensor_files.py.
"""

import json
import os
import re
from functools import lru_cache

import chex
import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from modeledit_jax.editors.policy.policy_file import read_policy, write_policy
from tests.editors.policies import untrained

WORLD = "ShiftWorld-v0"
KERNEL = "params/inputs/kernel"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.safetensors"


@lru_cache
def policy():
    editor = untrained()
    return editor.network, editor.params


@pytest.fixture
def contents(path):
    """Tensors and metadata of a file that is right."""
    write_policy(path, *policy(), WORLD)
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def read(path):
    return read_policy(path, ("MaskWorld-v0", WORLD))


def refusal(path, tensors, about):
    """What is said of a file with such tensors and JSON, and without a digest."""
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(tensors, path, metadata={"modeledit_jax": text})
    with pytest.raises(ValueError) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def test_what_was_written_is_read(path):
    write_policy(path, *policy(), WORLD)
    network, params, world = read(path)
    assert network == policy()[0] and world == WORLD
    chex.assert_trees_all_equal(params, policy()[1])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_without_digest_is_read_as_before(path, contents):
    tensors, metadata = contents
    save_file(tensors, path, metadata={"modeledit_jax": metadata["modeledit_jax"]})
    assert read(path)[0] == policy()[0]


def test_every_flipped_bit_is_noticed(path, contents):
    """Two hundred places, and all bits of the first bytes, the length of the header."""
    data = path.read_bytes()
    places = np.random.default_rng(0).choice(8 * len(data), 200, replace=False)
    for place in [*range(64), *places]:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"policy\.safetensors"):
            read(path)


def test_another_content_than_the_digest_says(path, contents):
    tensors, metadata = contents
    for other in (
        (tensors | {KERNEL: np.nextafter(tensors[KERNEL], np.float32(9))}, metadata),
        (tensors, metadata | {"modeledit_jax": metadata["modeledit_jax"].replace("0.25", "0.26")}),
        (tensors, metadata | {"sha256": metadata["sha256"].upper()}),
    ):
        save_file(other[0], path, metadata=other[1])
        with pytest.raises(ValueError, match=r"is damaged: copy or train it again \(its content"):
            read(path)
    save_file(tensors, path, metadata=metadata | {"digest": "x"})
    with pytest.raises(ValueError, match=r"unknown metadata 'digest': .* or update modeledit_jax"):
        read(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rounds": 0}, "'rounds' is 0, it must be an integer from 1 to 64"),
        ({"rounds": 10**9}, "'rounds' is 1000000000"),
        ({"rounds": True}, "'rounds' is True"),
        ({"rounds": 3}, "params/everyone_1/bias is missing"),
        ({"hidden": 6}, r"has shape \(5,\) instead of \(6,\)"),
        ({"hidden": "5"}, "'hidden' is '5'"),
        ({"rank": 2.0}, "'rank' is 2.0"),
        ({"rank": None}, "'rank' is None"),
        ({"rank": 3}, r"params/inputs_factor/kernel has shape"),
        ({"action": "dense"}, "'action' is 'dense', it must be one of low-rank, per-weight"),
        ({"action": "per-weight"}, "params/weight/kernel is missing"),
        ({"gradient": "no"}, "'gradient' is 'no', it must be true or false"),
        ({"gradient": False}, "params/inputs_0/kernel has shape"),
        ({"start_scale": -1}, "'start_scale' is -1"),
        ({"start_scale": float("nan")}, "'start_scale' is nan"),
        ({"depth": 2}, "unknown field 'depth'; known are action.*update modeledit_jax"),
    ],
)
def test_other_architectures(path, contents, changed, message):
    tensors, metadata = contents
    about = json.loads(metadata["modeledit_jax"])
    found = refusal(path, tensors, about | {"network": about["network"] | changed})
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("null", "it holds null, not an object"),
        ("{}", "no field 'world'"),
        ("[]", "it holds a list"),
        ("{", "is damaged: copy or train it again (Expecting"),
        ("[" * 1_000_000, "nested too deeply"),
        ({"world": WORLD}, "no field 'network', it has world"),
        ({"world": WORLD, "network": None}, "'network' is None"),
        ({"world": WORLD, "network": {}}, "no field 'action'"),
        ({"world": "MoonWorld-v0", "network": {}}, "'world' is 'MoonWorld-v0', it must be one of"),
        ({"world": [], "network": {}}, "'world' is []"),
        ({"world": WORLD, "network": {}, "version": 2}, "unknown field 'version'; known are net"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_metadata(path, contents, about, message):
    assert message in refusal(path, contents[0], about)


TENSORS = {
    "integers": (lambda t: {KERNEL: t[KERNEL].astype(np.int32)}, "has dtype I32"),
    "truth values": (lambda t: {KERNEL: t[KERNEL] > 0}, "has dtype BOOL"),
    "nan": (lambda t: {KERNEL: t[KERNEL] * np.float32("nan")}, f"{KERNEL} holds values that are"),
    "inf": (lambda t: {"params/log_std": np.full((), np.inf, np.float32)}, "log_std"),
    "turned": (lambda t: {KERNEL: np.ascontiguousarray(t[KERNEL].T)}, "has shape"),
    "flat": (lambda t: {KERNEL: t[KERNEL].ravel()}, f"{KERNEL} is missing or no matrix"),
    "empty": (lambda t: {KERNEL: t[KERNEL][:0]}, f"{KERNEL} is missing or no matrix"),
    "more": (lambda t: {"params/x": np.zeros(1)}, "'params/x' has no place in the network"),
    "below a leaf": (lambda t: {f"{KERNEL}/x": np.zeros(1)}, "has no place in the network"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_other_tensors(path, contents, name):
    change, message = TENSORS[name]
    tensors, metadata = contents
    found = refusal(path, tensors | change(tensors), metadata["modeledit_jax"])
    assert message in found, found


@pytest.mark.parametrize("name", [KERNEL, "params/log_std", "params/everyone_0/kernel"])
def test_missing_tensors(path, contents, name):
    tensors, metadata = contents
    rest = {key: value for key, value in tensors.items() if key != name}
    assert f"{name} is missing" in refusal(path, rest, metadata["modeledit_jax"])


@pytest.mark.timeout(20)
def test_what_is_no_file(path):
    with pytest.raises(FileNotFoundError, match=r"no policy at .*: train one, or give the path"):
        read(path)
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"policy\.safetensors is a named pipe"):
        read(path)


def test_what_could_not_be_read_is_not_written(path):
    network, params = policy()
    with pytest.raises(
        ValueError, match=r"the policy to be saved .* holds values that are not fin"
    ):
        write_policy(path, network, jax.tree.map(lambda w: np.full_like(w, np.nan), params), WORLD)
    with pytest.raises(ValueError, match="'rounds' is 0"):
        write_policy(path, network.clone(rounds=0), params, WORLD)
    assert not path.parent.exists() or not list(path.parent.iterdir())
