"""Outputs by role, of a network that is given."""

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.tasks.outputs import role_outputs
from tests import tiny


def test_outputs_are_those_of_the_given_network_on_each_roles_own_examples():
    task = tiny.task(1)
    params = jax.tree.map(lambda leaf: 1.5 * leaf, task.subject.params)
    outputs = role_outputs(task, params, ["select", "test"])
    assert outputs.keys() == {"select", "test"}
    for role, logits in outputs.items():
        expected = task.subject.apply(params, jnp.asarray(getattr(tiny.splits(), role).x))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
