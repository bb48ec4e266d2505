"""The judge's suffix equals the whole edited network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.stacking import stack_params
from modeledit_jax.envs.worlds import MaskWorld
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from tests import tiny

SITE = ("fc1/bias", "fc2/kernel")
TASKS = [
    tiny.task(0, site=SITE),
    tiny.task((1, 2), site=SITE),
    tiny.task(2, base=tiny.subject(4), site=SITE),
]


@pytest.fixture(scope="module")
def situation():
    """Env, stacked params, 9 plans of two edits for each task, judge."""
    env = MaskWorld(TASKS[0], parametrization=LowRank(2), horizon=2)
    params = stack_params([env.params(task) for task in TASKS])
    shape = (len(TASKS), 9, 2, env.num_actions)
    plans = np.asarray(0.7 * jax.random.normal(jax.random.key(0), shape))
    return env, params, plans, PlanEvaluator(env, TASKS)


def whole_network(env, task, plan, role):
    """Logits by a full forward pass of the network with the edited leaves."""
    leaves = env.apply_plan(jnp.asarray(plan), task.leaves)
    x = jnp.asarray(task.roles[role].x)
    return np.asarray(task.subject.apply(set_leaves(task.subject.params, leaves), x))


@pytest.mark.parametrize("role", ["select", "test"])
def test_accuracies_are_those_of_the_whole_edited_network(situation, role):
    env, params, plans, judge = situation
    found = judge.curves(plans, params, role)
    assert found.keys() == {"retain", "forget"}
    expected = {name: np.zeros((3, 9)) for name in found}
    for index, task in enumerate(TASKS):
        sets = task.roles[role]
        for k in range(9):
            hits = whole_network(env, task, plans[index, k], role).argmax(axis=1) == sets.targets
            for name in expected:
                expected[name][index, k] = hits[sets.weights[name] > 0].mean()
    for name, values in expected.items():
        assert found[name].shape == (3, 9)
        np.testing.assert_allclose(found[name], values, atol=1e-6)
        assert np.unique(values).size > 3


def test_outputs_are_those_of_the_whole_edited_network(situation):
    env, params, plans, judge = situation
    for index, task in enumerate(TASKS):
        leaves = judge.edited(index, plans[index, 0], params)
        assert leaves.keys() == set(SITE)
        expected = whole_network(env, task, plans[index, 0], "test")
        found = judge.outputs(index, leaves, "test")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_networks_run_their_prefix_once_for_each_role(situation):
    *_, judge = situation
    assert judge.features(0, "test") is judge.features(1, "test")  # one network, one batch
    assert judge.features(0, "test") is not judge.features(2, "test")
    assert judge.features(0, "test") is not judge.features(0, "select")
    assert judge.features(0, "test") is judge.features(0, "test")
