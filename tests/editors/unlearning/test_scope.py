"""Scopes name the leaves that they say, in networks of any library's paths."""

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.scope import scope_paths
from modeledit_jax.subjects.subject import Subject
from tests import tiny

ALL = ("fc1/bias", "fc1/kernel", "fc2/bias", "fc2/kernel", "head/bias", "head/kernel")


@pytest.mark.parametrize(
    ("scope", "paths"),
    [("site", ("fc2/kernel",)), ("network", ALL), (1, ALL[4:]), (2, ALL[2:]), (3, ALL)],
)
def test_scopes_of_a_network(scope, paths):
    assert scope_paths(tiny.task(0), scope) == paths


def _out_of_order(params, x):
    """The layer named first is used last; statistics and counts are no weights."""
    h = jnp.tanh(x @ params["z"]["kernel"]["value"] / params["batch_stats"]["scale"])
    return h @ params["a"]["kernel"]["value"] + params["a"]["bias"]["value"]


def test_the_last_layer_is_the_one_used_last():
    rng = np.random.default_rng(0)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    params = {
        "a": {"kernel": {"value": array(4, 3)}, "bias": {"value": array(3)}},
        "z": {"kernel": {"value": array(6, 4)}},
        "batch_stats": {"scale": jnp.ones(4)},
        "count": jnp.int32(3),
    }
    options = {"site": "z/kernel/value", "head_bias": None}
    task = tiny.task(0, base=Subject(params, _out_of_order), **options)
    last = ("a/bias/value", "a/kernel/value")
    assert scope_paths(task, 1) == last
    assert scope_paths(task, 2) == scope_paths(task, "network") == (*last, "z/kernel/value")


@pytest.mark.parametrize("scope", [0, -1, True])
def test_other_scopes_are_refused(scope):
    with pytest.raises(ValueError, match="scope must be 'site', 'network' or a number of layers"):
        scope_paths(tiny.task(0), scope)


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"scope=4: the network has 3 layers \(fc1, fc2, head\)"):
        scope_paths(tiny.task(0), 4)
