from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from gymnax.wrappers import LogWrapper

from modeledit_jax.agents.distributions import Categorical, Gaussian
from modeledit_jax.agents.rollout import play_episode, reset, rollout, to_action_space
from tests.agents.probes import CLOCK, DISCOUNTED_REWARD, EchoAction, Probe

PROBE, ECHO = Probe(), EchoAction()  # CLOCK shows the times 0, 1, 2 and is reset


def read_clock(observation):
    """A policy for two actions, and a value that shows what was observed."""
    return Categorical(jnp.zeros(2)), 10.0 + observation[0]


def play(env, params, actor_critic, num_steps=7, num_envs=5, **options):
    state = reset(env, params, num_envs, jax.random.key(0))
    return rollout(
        env, params, actor_critic, state, jax.random.key(1), num_steps=num_steps, **options
    )


def test_transitions_of_a_truncated_episode():
    state, steps, metrics = play(PROBE, CLOCK, read_clock)
    time = np.array([0, 1, 2, 0, 1, 2, 0])
    for e in range(5):
        np.testing.assert_array_equal(steps.observation[:, e, 0], time)
        np.testing.assert_array_equal(steps.reward[:, e], time)
        np.testing.assert_array_equal(steps.value[:, e], 10 + time)
        # After time 2 comes 3, although the environment shows 0 of the next episode.
        np.testing.assert_array_equal(steps.next_value[:, e], 11 + time)
        np.testing.assert_array_equal(steps.truncated[:, e], time == 2)
    assert not steps.terminated.any()
    np.testing.assert_array_equal(state.observation, np.ones((5, 1)))
    np.testing.assert_array_equal(state.episode_return, np.zeros(5))
    assert metrics["episodes"] == 2 * 5
    assert metrics["episode_return"] == 0 + 1 + 2
    np.testing.assert_allclose(metrics["reward"], time.mean(), rtol=1e-6)


def test_episodes_go_on_in_the_next_rollout():
    first, _, metrics = play(PROBE, CLOCK, read_clock, num_steps=2)
    assert metrics["episodes"] == 0 and np.isnan(metrics["episode_return"])
    _, steps, metrics = rollout(
        PROBE, CLOCK, read_clock, first, jax.random.key(2), num_steps=1, env_batch_size=None
    )
    np.testing.assert_array_equal(steps.observation, np.full((1, 5, 1), 2))
    assert metrics["episodes"] == 5 and metrics["episode_return"] == 3


def test_termination_is_reported_apart_from_truncation():
    _, steps, _ = play(PROBE, DISCOUNTED_REWARD, read_clock, num_steps=4)
    np.testing.assert_array_equal(steps.terminated, np.tile([[0], [1], [0], [1]], (1, 5)))
    assert not steps.truncated.any()


def test_actions_are_clipped_for_the_environment_alone():
    _, steps, _ = play(
        ECHO,
        ECHO.default_params,
        lambda _: (Gaussian(jnp.ones(1), jnp.log(3.0) + jnp.zeros(1)), jnp.float32(0)),
    )
    action = np.asarray(steps.action[..., 0])
    assert np.abs(action).max() > 2
    np.testing.assert_array_equal(steps.reward, np.clip(action, -2, 2))
    expected = -0.5 * ((action - 1) / 3) ** 2 - np.log(3 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(steps.log_prob, expected, rtol=1e-5)


def test_environments_see_different_actions_and_steps():
    _, steps, _ = play(
        ECHO, ECHO.default_params, lambda _: (Gaussian(jnp.zeros(1), jnp.zeros(1)), jnp.float32(0))
    )
    assert np.unique(np.asarray(steps.action)).size == steps.action.size


def test_scalar_info_becomes_metrics_and_nothing_else_does():
    _, _, metrics = play(PROBE, DISCOUNTED_REWARD, read_clock, num_steps=4)
    info = {name: float(x) for name, x in metrics.items() if name.startswith("info/")}
    # "vector" is no scalar; flags and the final observation are not logged.
    assert info == {"info/doubled": 1.0, "info/terminal": 0.5}


def test_gymnax_wrappers_can_be_played():
    _, _, metrics = play(LogWrapper(PROBE), CLOCK, read_clock)
    np.testing.assert_allclose(metrics["info/returned_episode"], 2 / 7, rtol=1e-6)


def test_env_batch_size_changes_no_bit():
    @partial(jax.jit, static_argnums=0)
    def play_in_batches(size):
        return play(
            ECHO, ECHO.default_params, lambda x: (Gaussian(x, x), x[0]), env_batch_size=size
        )

    # Two does not divide the five environments.
    chex.assert_trees_all_equal(play_in_batches(None), play_in_batches(2))


def test_action_spaces():
    box = spaces.Box(jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.5]), (2,), jnp.float32)
    np.testing.assert_array_equal(to_action_space(box, jnp.array([-3.0, 3.0])), [-1.0, 0.5])
    assert to_action_space(spaces.Discrete(3), jnp.int32(2)) == 2


def test_whole_episodes():
    seen = play_episode(PROBE, CLOCK, lambda x, key: jnp.int32(0), jax.random.key(0))
    assert [float(x) for x in seen] == [0 + 1 + 2, 3]

    total, length = play_episode(
        ECHO, ECHO.default_params, lambda x, key: jnp.full(1, 7.0), jax.random.key(0)
    )
    assert (total, length) == (2.0, 1)
