"""What is on disk is whole, the same bits as in memory, and found again."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from modeledit_jax.run.checkpoint import (
    Checkpoints,
    cached_tree,
    fingerprint,
    load_params,
    load_tree,
    save_tree,
)
from modeledit_jax.types import Field

TREE = {
    "fc1": {"kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)},
    "scale": jnp.asarray([0.1, 1e-30, -3.0], jnp.bfloat16),
    "flags": np.array([True, False]),
    "count": jnp.int32(7),
}


@struct.dataclass
class State:
    mean: Field
    key: Field
    optimizer: Field = None


def assert_same_bits(found, expected):
    def check(a, b):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    jax.tree.map(check, found, expected)


def damage(folder: Path, kind: str) -> None:
    """Truncates, empties or removes a file that a checkpoint needs."""
    if kind == "no metadata":
        (folder / "_METADATA").unlink()
    if kind == "empty manifest":
        (folder / "manifest.ocdbt").write_bytes(b"")
    if kind == "truncated data":
        for file in folder.glob("**/d/*"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if kind == "emptied folder":
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGES = ("no metadata", "empty manifest", "truncated data", "emptied folder")


def test_a_tree_comes_back_bit_by_bit_on_the_host(tmp_path):
    save_tree(tmp_path / "deep" / "tree", TREE)
    found = load_tree(tmp_path / "deep" / "tree")
    assert_same_bits(found, TREE)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    assert_same_bits(load_params(str(tmp_path / "deep" / "tree")), TREE)


def test_a_tree_comes_back_in_a_structure_of_yours(tmp_path):
    state = State(jnp.arange(3.0), jax.random.split(jax.random.key(5), 2), (jnp.zeros(2), None))
    save_tree(tmp_path / "state", state)
    for like in (state, jax.eval_shape(lambda: state)):
        found = load_tree(tmp_path / "state", like)
        assert isinstance(found, State)
        assert_same_bits(found, state)


def test_saving_again_replaces(tmp_path):
    save_tree(tmp_path / "tree", TREE)
    save_tree(tmp_path / "tree", {"other": np.ones(2)})
    assert_same_bits(load_tree(tmp_path / "tree"), {"other": np.ones(2)})


def test_a_missing_tree_and_one_of_other_shapes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere"):
        load_tree(tmp_path / "nowhere")
    save_tree(tmp_path / "tree", {"a": np.zeros(3), "b": jnp.zeros(3)})
    for other in (
        {"a": np.zeros(4), "b": jnp.zeros(3)},
        {"a": np.zeros(3), "b": jnp.zeros((3, 1))},
        {"a": np.zeros(3)},
        {"a": np.zeros(3), "c": jnp.zeros(3)},
    ):
        with pytest.raises(ValueError, match="damaged or of another configuration; delete") as info:
            load_tree(tmp_path / "tree", other)
        assert "\n" not in str(info.value)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_cached_tree_is_built_once_and_again_if_damaged(tmp_path, kind):
    calls = []

    def build():
        calls.append(1)
        return {"w": jnp.arange(1000.0)}

    folder = tmp_path / "cache"
    first = cached_tree(folder, {"seed": 0}, build)
    assert_same_bits(cached_tree(folder, {"seed": 0}, build), first)
    assert len(calls) == 1
    damage(folder / fingerprint({"seed": 0}), kind)
    assert_same_bits(cached_tree(folder, {"seed": 0}, build), first)
    assert len(calls) == 2
    assert_same_bits(cached_tree(folder, {"seed": 0}, build), first)
    assert len(calls) == 2
    assert isinstance(first["w"], np.ndarray)


def test_other_content_is_another_entry(tmp_path):
    for seed in (0, 1):
        found = cached_tree(tmp_path, {"seed": seed}, lambda seed=seed: {"w": np.full(2, seed)})
        np.testing.assert_array_equal(found["w"], seed)
    np.testing.assert_array_equal(cached_tree(tmp_path, {"seed": 0}, dict)["w"], 0)


def test_what_a_kill_left_under_a_temporary_name_is_no_entry(tmp_path):
    path = tmp_path / fingerprint({"seed": 0})
    save_tree(path, {"w": np.zeros(2)})
    path.rename(path.with_name(f"{path.name}.orbax-checkpoint-tmp"))
    found = cached_tree(tmp_path, {"seed": 0}, lambda: {"w": np.ones(2)})
    np.testing.assert_array_equal(found["w"], 1)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_fingerprints_depend_on_the_content_alone():
    content = {"module": "MLP(3)", "training": {"epochs": 5, "rate": 2e-3}, "data": Path("a/b")}
    backwards = dict(reversed(content.items()))
    assert fingerprint(content) == fingerprint(backwards) == "79f4f896730caed0e449"
    assert len({fingerprint(content | {"module": name}) for name in ("MLP(3)", "MLP(4)")}) == 2


def _state(step):
    return {
        "state": State(jnp.full(3, float(step)), jax.random.split(jax.random.key(step), 2)),
        "record": np.full((2, 5), step),
        "seconds": np.float64(step),
    }


def test_a_search_continues_from_the_newest_whole_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "search")
    assert checkpoints.restore(_state(0)) is None
    for step in (10, 20, 30):
        checkpoints.save(step, _state(step))
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["20", "30"]

    newest = tmp_path / "search" / "30"
    for expected in (30, 20):
        checkpoints = Checkpoints(tmp_path / "search")
        step, found = checkpoints.restore(_state(0))
        assert step == expected
        assert_same_bits(found, _state(step))
        checkpoints.close()
        if newest.exists():  # as if the kill had come before the rename
            newest.rename(newest.with_name("30.orbax-checkpoint-tmp"))


def test_a_checkpoint_of_another_search_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, _state(10))
    own = _state(0)
    others = (
        own | {"record": np.zeros((2, 6))},
        own | {"state": own["state"].replace(mean=jnp.zeros(4))},
        own | {"state": own["state"].replace(optimizer=jnp.zeros(1))},
    )
    for other in others:
        with pytest.raises(ValueError, match="choose another --run-dir, or delete that folder"):
            checkpoints.restore(other)
    assert checkpoints.restore(own)[0] == 10
    checkpoints.close()
