import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.tasks.unlearning_metrics import role_outputs, set_accuracies
from tests import tiny


def test_outputs_are_those_of_the_given_network_on_each_roles_own_examples():
    task = tiny.task(1)
    params = jax.tree.map(lambda leaf: 1.5 * leaf, task.subject.params)
    outputs = role_outputs(task, params, ["select", "test"])
    assert outputs.keys() == {"select", "test"}
    for role, logits in outputs.items():
        expected = task.subject.apply(params, jnp.asarray(getattr(tiny.splits(), role).x))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_accuracies_count_the_hits_of_each_set():
    task = tiny.task(1)
    outputs = role_outputs(task, task.subject.params)
    found = set_accuracies(task, outputs)
    assert len(found) == 6  # train, reward and test, two sets each
    for role, logits in outputs.items():
        y = getattr(tiny.splits(), role).y
        hits = logits.argmax(axis=-1) == y
        np.testing.assert_allclose(found[f"forget_accuracy_{role}"], hits[y == 1].mean(), rtol=1e-6)
        np.testing.assert_allclose(found[f"retain_accuracy_{role}"], hits[y != 1].mean(), rtol=1e-6)
