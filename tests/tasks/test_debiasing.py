"""The task: which rows are in which set, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.comments.comments import no_blocks
from modeledit_jax.envs.check import check_env
from modeledit_jax.envs.worlds import make
from modeledit_jax.tasks.debiasing import comment_targets, members, mitigate_bias
from tests import tiny
from tests.tiny_comments import corpus, subject


@pytest.mark.slow
def test_a_role_joins_comments_and_counterfactuals():
    data, task = corpus(), mitigate_bias(subject(), corpus())
    for role in ("reward", "select", "test"):
        sets = task.roles[role]
        plain, blocks = data.roles[role], data.counterfactuals[role]
        own, rest = members(sets, "comments"), members(sets, "counterfactuals")
        assert len(own) + len(rest) == len(sets.x) == len(sets.label)
        np.testing.assert_array_equal(sets.x[own], plain.tokens)
        np.testing.assert_array_equal(sets.x[rest], blocks.tokens)
        np.testing.assert_array_equal(sets.label[rest], blocks.label)
        np.testing.assert_array_equal(sets.targets.groups[own], plain.groups)
        # Blocks point into the joined batch.
        np.testing.assert_array_equal(sets.x[sets.targets.blocks], blocks.tokens[blocks.blocks])


def test_train_and_suites_have_one_set():
    data, task = corpus(), mitigate_bias(subject(), corpus())
    assert set(task.roles["train"].weights) == {"comments"}
    assert set(data.suites) <= set(task.roles)
    suite = task.roles["swapped_test"]
    assert set(suite.weights) == {"counterfactuals"}
    np.testing.assert_array_equal(suite.targets.blocks, data.suites["swapped_test"].blocks)


def test_the_targets_of_a_role_are_numpy_arrays():
    task = mitigate_bias(subject(), corpus())
    moved = jax.tree.map(jnp.asarray, task.roles["select"])
    sets, targets = comment_targets(replace(task, roles={"select": moved}), "select")
    assert sets is moved
    for name in ("label", "groups", "blocks"):
        found = getattr(targets, name)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, getattr(task.roles["select"].targets, name))
    with pytest.raises(ValueError, match="'forget-0' has no comments with identity terms"):
        comment_targets(tiny.task(0), "select")


def test_the_reward_role_never_names_a_held_out_term():
    task = mitigate_bias(subject(), corpus())
    held_out = np.asarray(task.held_out)
    for role in ("reward", "select"):
        rows = members(task.roles[role], "counterfactuals")
        assert not task.roles[role].targets.groups[rows][:, held_out].any()
    rows = members(task.roles["test"], "counterfactuals")
    assert task.roles["test"].targets.groups[rows][:, held_out].any(axis=0).all()


@pytest.mark.slow
def test_own_reward_functions_see_both_sets():
    def reward(sets, edit):
        comments, blocks = sets["comments"], sets["counterfactuals"]
        spread = jnp.std(blocks.outputs[blocks.targets.blocks, 0], axis=1).mean()
        return comments.accuracy() - 0.1 * spread, {"accuracy": comments.accuracy()}

    task = mitigate_bias(subject(), corpus(), reward=reward)
    _, params = make("ShiftWorld-v0", task)
    sets = task.roles["reward"]
    scores = np.asarray(task.subject.apply(task.subject.params, jnp.asarray(sets.x)))[:, 0]
    plain = members(sets, "comments")
    expected = ((scores[plain] > 0) == sets.label[plain]).mean()
    np.testing.assert_allclose(params.parts["accuracy"], expected, atol=1e-6)
    spread = scores[sets.targets.blocks].std(axis=1).mean()
    np.testing.assert_allclose(params.score, expected - 0.1 * spread, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["MaskWorld-v0", "ShiftWorld-v0"])
def test_worlds_of_the_task_keep_the_contract(world):
    env, params = make(world, mitigate_bias(subject(), corpus()), horizon=2)
    check_env(env, params, key=jax.random.key(0))


def test_a_data_set_that_cannot_serve_is_refused():
    data = corpus()
    with pytest.raises(ValueError, match="unknown reward 'fair'; choose one of fairness"):
        mitigate_bias(subject(), data, reward="fair")
    with pytest.raises(ValueError, match="the leaves are: "):
        mitigate_bias(subject(), data, site="nowhere")
    plain = data.roles["select"]
    harmless = plain.replace(label=np.zeros_like(plain.label))
    broken = replace(data, roles={**data.roles, "select": harmless})
    with pytest.raises(ValueError, match="role select of synthetic lacks toxic or harmless"):
        mitigate_bias(subject(), broken)
    without = {**data.counterfactuals, "test": data.roles["test"].replace(blocks=no_blocks())}
    with pytest.raises(ValueError, match="no counterfactuals for the role test"):
        mitigate_bias(subject(), replace(data, counterfactuals=without))
