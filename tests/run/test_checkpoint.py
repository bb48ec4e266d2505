"""What is on disk is whole, the same bits as in memory, and found again."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax import struct
from modeledit_jax.run.checkpoint import (
    Checkpoints,
    fingerprint,
    load_params,
    load_tree,
    save_tree,
)
from modeledit_jax.types import Field
from tests.run.stored import DAMAGES, assert_same_bits, damage, flip_bit

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
        with pytest.raises(ValueError, match="is of another configuration; delete") as info:
            load_tree(tmp_path / "tree", other)
        assert "\n" not in str(info.value)


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
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["20", "30"]

    newest = tmp_path / "search" / "30"
    for expected in (30, 20):
        checkpoints = Checkpoints(tmp_path / "search")
        step, found = checkpoints.restore(_state(0))
        assert step == expected
        assert_same_bits(found, _state(step))
        if newest.exists():  # as if the kill had come before the rename
            newest.rename(newest.with_name(".30.1f.tmp"))


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


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, kind):
    checkpoints = Checkpoints(tmp_path)
    for step in (10, 20):
        checkpoints.save(step, _state(step))
    damage(tmp_path / "20", kind)
    with pytest.warns(UserWarning, match="20 is damaged: .*: the one before is taken"):
        step, found = checkpoints.restore(_state(0))
    assert step == 10
    assert_same_bits(found, _state(10))
    damage(tmp_path / "10", kind)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="is damaged; choose another"):
        checkpoints.restore(_state(0))


def test_flipped_bits_are_noticed(tmp_path):
    rng = np.random.default_rng(1)
    for _ in range(10):
        save_tree(tmp_path / "tree", TREE)
        place = flip_bit(tmp_path / "tree", rng)
        with pytest.raises(ValueError, match="is damaged"):
            load_tree(tmp_path / "tree"), place


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    save_tree(tmp_path / "tree", TREE)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 3}))
    with pytest.raises(OSError, match=r"cannot save to .*tree: No space left") as info:
        save_tree(tmp_path / "tree", {"w": np.zeros(9)})
    assert "\n" not in str(info.value)
    assert_same_bits(load_tree(tmp_path / "tree"), TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_what_is_there_can_be_left(tmp_path):
    assert save_tree(tmp_path / "tree", TREE, replace=False)
    assert not save_tree(tmp_path / "tree", {"w": np.zeros(9)}, replace=False)
    assert_same_bits(load_tree(tmp_path / "tree"), TREE)
