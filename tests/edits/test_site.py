import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from modeledit_jax.edits.site import get_leaves, leaf_paths, match_paths, set_leaves
from tests import tiny

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)},
    "conv2": {"kernel": jnp.ones((4, 5)), "bias": jnp.zeros(5)},
    "blocks": [{"kernel": jnp.ones((5, 5))}, {"kernel": jnp.ones((5, 5))}],
}


def test_paths_join_keys_and_indices_in_the_order_of_the_leaves():
    assert leaf_paths(PARAMS) == (
        "blocks/0/kernel",
        "blocks/1/kernel",
        "conv1/bias",
        "conv1/kernel",
        "conv2/bias",
        "conv2/kernel",
    )


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("conv1/kernel", ("conv1/kernel",)),
        ("conv*/kernel", ("conv1/kernel", "conv2/kernel")),
        ("1/kernel", ("blocks/1/kernel",)),  # the end of a path
        ("bias", ("conv1/bias", "conv2/bias")),
        ("conv[!1]/*", ("conv2/bias", "conv2/kernel")),
        (["conv2/kernel", "conv1/bias", "conv2/*"], ("conv1/bias", "conv2/bias", "conv2/kernel")),
    ],
)
def test_patterns_match_whole_paths_or_their_ends_in_order_of_the_leaves(patterns, expected):
    assert match_paths(PARAMS, patterns) == expected


@pytest.mark.parametrize("pattern", ["fc2/kernel/value", "fc2/kernel*", "fc2/kernel/*"])
def test_nnx_parameters_are_found_by_their_value(pattern):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.fc2 = nnx.Linear(3, 2, rngs=rngs)

    graph, params = nnx.split(Network(nnx.Rngs(0)))
    assert match_paths(params, pattern) == ("fc2/kernel/value",)
    with pytest.raises(ValueError, match=r"the leaves are: .*fc2/kernel/value"):
        match_paths(params, "fc2/kernel")
    edited = nnx.merge(graph, set_leaves(params, {"fc2/kernel/value": jnp.ones((3, 2))}))
    np.testing.assert_array_equal(edited.fc2(jnp.ones(3)), 3 * np.ones(2))


def test_the_end_of_a_key_is_no_match():
    with pytest.raises(ValueError, match="no parameter matches"):
        match_paths({"myfc2": {"kernel": jnp.ones(2)}}, "fc2/kernel")


@pytest.mark.parametrize("patterns", ["fc2/kernel", ["conv1/kernel", "fc2/kernel"], "Conv1/kernel"])
def test_unknown_pattern_lists_the_leaves(patterns):
    with pytest.raises(ValueError, match=r"no parameter matches .* conv2/kernel"):
        match_paths(PARAMS, patterns)


def test_a_site_needs_a_pattern():
    with pytest.raises(ValueError, match="at least one pattern"):
        match_paths(PARAMS, [])


def test_set_leaves_replaces_the_named_leaves_and_keeps_every_other_object():
    params = tiny.subject().params
    new = jnp.full((5, 4), 7.0)
    edited = set_leaves(params, {"fc2/kernel": new})
    before, after = get_leaves(params, leaf_paths(params)), get_leaves(edited, leaf_paths(params))
    assert after["fc2/kernel"] is new
    assert all(after[path] is before[path] for path in before if path != "fc2/kernel")
    assert params["fc2"]["kernel"] is before["fc2/kernel"]  # the input is not changed


def test_set_leaves_undoes_get_leaves():
    leaves = get_leaves(PARAMS, ("blocks/1/kernel", "conv1/bias"))
    assert list(leaves) == ["blocks/1/kernel", "conv1/bias"]
    edited = set_leaves(PARAMS, {path: leaf + 1 for path, leaf in leaves.items()})
    np.testing.assert_array_equal(edited["blocks"][1]["kernel"], 2 * np.ones((5, 5)))
    np.testing.assert_array_equal(edited["conv1"]["bias"], np.ones(4))
    restored = set_leaves(edited, leaves)
    assert all(
        one is other
        for one, other in zip(
            get_leaves(restored, leaf_paths(PARAMS)).values(),
            get_leaves(PARAMS, leaf_paths(PARAMS)).values(),
            strict=True,
        )
    )


def test_set_leaves_names_an_unknown_leaf():
    with pytest.raises(ValueError, match=r"no leaf named fc9/kernel; the leaves are: .*fc2/kernel"):
        set_leaves(tiny.subject().params, {"fc9/kernel": jnp.ones(2)})


def test_a_path_letter_for_letter_comes_before_a_glob():
    params = {"blk[0]": {"w": jnp.ones(2)}, "blk0": {"w": jnp.ones(3)}, "a*": jnp.ones(1)}
    assert match_paths(params, "blk[0]/w") == ("blk[0]/w",)
    assert match_paths({"net": params}, "blk[0]/w") == ("net/blk[0]/w",)
    assert match_paths(params, "blk[01]/w") == ("blk0/w",)
    assert match_paths(params, "a*") == ("a*",)


def test_two_leaves_of_one_path_cannot_be_told_apart():
    with pytest.raises(ValueError, match="two leaves have the path 'a/b'"):
        match_paths({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, "a/b")


@pytest.mark.parametrize("patterns", [3, None, [3], ["fc2/kernel", None]])
def test_patterns_are_text(patterns, unchecked_annotations):
    with pytest.raises(ValueError, match="the site pattern must be text"):
        match_paths(PARAMS, patterns)


def test_a_message_names_the_argument():
    with pytest.raises(ValueError, match="no parameter matches head_bias 'x'; the leaves are"):
        match_paths(PARAMS, "x", "head_bias")
