"""Outputs by role, of a network that is given, and how far an edit goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.tasks.outputs import SiteOutputs, edit_metrics, role_outputs
from tests import tiny


def test_outputs_are_those_of_the_given_network_on_each_roles_own_examples():
    task = tiny.task(1)
    params = jax.tree.map(lambda leaf: 1.5 * leaf, task.subject.params)
    outputs = role_outputs(task, params, ["select", "test"])
    assert outputs.keys() == {"select", "test"}
    for role, logits in outputs.items():
        expected = task.subject.apply(params, jnp.asarray(getattr(tiny.splits(), role).x))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", ["site", "elsewhere"])
def test_outputs_of_many_edits_are_those_of_whole_networks(path):
    tasks = [tiny.task(1, seed=0), tiny.task(0, seed=1), tiny.task(1, seed=0)]
    outputs = SiteOutputs()
    other = next(p for p in leaf_paths(tasks[0].subject.params) if p not in tasks[0].site)
    for scale, task in enumerate(tasks, start=2):
        name = task.site[0] if path == "site" else other
        leaf = get_leaves(task.subject.params, [name])[name]
        params = set_leaves(task.subject.params, {name: scale * leaf})
        found = outputs(task, params, ["train", "test"])
        expected = role_outputs(task, params, ["train", "test"])
        assert found.keys() == expected.keys()
        for role, logits in expected.items():
            np.testing.assert_allclose(found[role], logits, rtol=1e-5, atol=1e-5)


def test_size_and_rank_of_an_edit():
    rng = np.random.default_rng(0)
    original = {"a": rng.normal(size=(6, 5)), "b": rng.normal(size=7)}
    change = {"a": rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5)), "b": np.zeros(7)}
    edited = {path: leaf + change[path] for path, leaf in original.items()}
    as_arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (original, edited))
    found = edit_metrics(*as_arrays)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in original.values()))
    assert found["edit_size"] == pytest.approx(np.linalg.norm(change["a"]) / norm, rel=1e-5)
    assert found["edit_rank"] == 2
