"""Worlds of one edit per episode promise that all edits are made in one state; and it is so."""

import jax
import numpy as np
import pytest

from modeledit_jax.agents import PPOConfig, init, scan_updates
from modeledit_jax.agents.rollout import one_state
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from tests import tiny


class Apart(ShiftWorld):
    """Does not promise it, so that every environment is played and read apart."""

    one_state = False


def test_episodes_of_one_edit_are_in_one_state():
    task = tiny.task(0)
    assert one_state(MaskWorld(task)) and not one_state(MaskWorld(task, horizon=2))
    assert not one_state(Apart(task))


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["weights", "time"])
def test_ppo_learns_the_same_edit(observation):
    task, key = tiny.task(0), jax.random.key(0)
    config = PPOConfig(
        num_envs=10, num_steps=1, num_epochs=1, num_minibatches=1, num_updates=6, hidden_sizes=(4,),
        search_optimizer="natural", action_learning_rate=1.0, initial_std=0.3,
    )  # fmt: skip
    ends = []
    for world in (ShiftWorld, Apart):
        env = world(task, observation=observation)
        state = init(env, env.default_params, config, key)
        run = jax.jit(lambda params, state, env=env: scan_updates(env, params, config, state, 6))
        ends.append(run(env.default_params, state))
    (one, metrics), (apart, others) = ends
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        one.params,
        apart.params,
    )
    np.testing.assert_allclose(metrics["reward"], others["reward"], rtol=1e-3, atol=1e-4)
    assert metrics["reward"][-1] > metrics["reward"][0]
