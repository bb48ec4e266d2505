"""PPO on many tasks at once: bandits whose best action is a number of each task."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnax.environments import environment, spaces

from modeledit_jax import struct
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.distributions import Gaussian
from modeledit_jax.agents.grpo import grouped_loss, init, play_task, update
from modeledit_jax.agents.networks import GaussianHead, TanhMLP, flatten

KEY = jax.random.key(0)


class Actor(nn.Module):
    """A policy without a value."""

    @nn.compact
    def __call__(self, observation: Any) -> Gaussian:
        return GaussianHead((2,), name="head")(TanhMLP((16,), name="body")(flatten(observation)))


NETWORK = Actor()


@struct.dataclass
class Target:
    best: Any = None  # [2] float32, the best first action; minus it the best second
    scale: Any = 1.0  # of the rewards
    max_steps_in_episode: Any = 1


@struct.dataclass
class Here:
    time: Any
    last: Any  # [2] float32


class Bandit(environment.Environment[Here, Target]):
    """Shows the task's best action, the time, and the last action; pays 1 − distance²."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon

    def observe(self, key, state, action, params):
        return {"best": params.best, "time": jnp.float32(state.time)[None], "last": state.last}

    def reset_env(self, key, params):
        state = Here(jnp.int32(0), jnp.zeros(2))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        right = jnp.where(state.time == 0, params.best, -params.best)
        reward = params.scale * (1.0 - jnp.square(action - right).sum())
        state = Here(state.time + 1, action)
        seen, over = self.observe(key, state, action, params), state.time == self.horizon
        return seen, state, reward, over, {}

    def action_space(self, params):
        return spaces.Box(-3.0, 3.0, (2,), jnp.float32)


def _config(horizon, **options):
    options = {
        "learning_rate": 0.02,
        "std_learning_rate": 0.0,
        "initial_std": 0.3,
        "num_envs": 8,
        "num_steps": horizon,
        "num_epochs": 3,
        "num_minibatches": 1,
        "num_updates": 60,
        "schedule": "cosine",
        "max_grad_norm": 1.0,
        **options,
    }
    return PPOConfig(**options)


def _draw(key):
    """Six tasks whose rewards differ in size tenfold."""
    best = jax.random.uniform(key, (6, 2), minval=-1.0)
    return Target(best, jnp.array([0.3, 1.0, 3.0, 0.3, 1.0, 3.0]), jnp.ones(6))


@lru_cache
def _env(horizon):
    return Bandit(horizon)


@jax.jit
def _start(key):
    observation, _ = _env(1).reset_env(key, Target(jnp.zeros(2)))
    return init(NETWORK, _config(1), observation, key)


@partial(jax.jit, static_argnums=0)
def _train(horizon, key):
    env, config = _env(horizon), _config(horizon)
    state = _start(key)
    step = lambda state, _: update(env, _draw, config, NETWORK, state)  # noqa: E731
    return jax.lax.scan(step, state, length=60)


@lru_cache
def _trained(horizon):
    return _train(horizon, KEY)


@jax.jit
def _distance(params):
    """Of the most probable first action from the best, over new tasks."""
    tasks = _draw(jax.random.key(99))

    def one(task):
        observation, _ = _env(1).reset_env(KEY, task)
        return jnp.linalg.norm(NETWORK.apply(params, observation).mode() - task.best)

    return jax.vmap(one)(tasks).mean()


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 2])
def test_a_policy_learns_what_tasks_have_in_common(horizon):
    state, metrics = _trained(horizon)
    assert int(state.updates) == 60 and np.all(np.isfinite(jax.tree.leaves(metrics)[0]))
    wanted = {"reward", "reward_spread", "policy_loss", "approx_kl", "grad_norm"}
    assert wanted <= set(metrics) and all(x.shape == (60,) for x in metrics.values())
    best = horizon * np.mean([0.3, 1.0, 3.0]) * (1 - 2 * 0.3**2)  # the spread of actions stays
    first, late = metrics["reward"][0], metrics["reward"][-10:].mean()
    assert first < 0.7 * best and 0.9 * best < late < 1.05 * best
    assert _distance(state.params) < 0.4 * _distance(_start(KEY).params)
    np.testing.assert_allclose(state.params["params"]["head"]["log_std"], np.log(0.3), rtol=1e-5)


@pytest.mark.slow
def test_the_same_key_gives_the_same_bits_and_another_does_not():
    one = _trained(2)[0].params
    two, other = (_train(2, jax.random.key(seed))[0].params for seed in (0, 1))
    chex.assert_trees_all_equal(one, two)
    kernel = lambda params: params["params"]["body"]["Dense_0"]["kernel"]  # noqa: E731
    assert np.any(kernel(one) != kernel(other))


@lru_cache
def _played(horizon, tasks=3):
    """Trials on some tasks, by a network that has left its start."""
    env, config = _env(horizon), _config(horizon)
    params = _start(KEY).params
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), params)
    targets = jax.tree.map(lambda leaf: leaf[:tasks], _draw(jax.random.key(5)))
    play = partial(play_task, env, partial(NETWORK.apply, params), config)
    keys = jax.random.split(jax.random.key(6), tasks)
    return params, targets, *jax.jit(jax.vmap(play))(targets, keys)


def _said(params, observation):
    """Mean and log-deviation of the policy, state by state."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), observation)
    policy = jax.jit(jax.vmap(partial(NETWORK.apply, params)))(flat)
    shape = observation["time"].shape[:2]
    return (np.asarray(x).reshape(*shape, 2) for x in (policy.mean, policy.log_std))


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 3])
def test_the_most_probable_action_leads_on_and_others_are_tried(horizon):
    params, targets, trials, reward = _played(horizon)
    assert trials.action.shape == (3, horizon, 8, 2)
    assert trials.advantage.shape == trials.log_prob.shape == reward.shape == (3, horizon, 8)
    seen, (mean, log_std) = trials.observation, _said(params, trials.observation)
    np.testing.assert_array_equal(seen["best"], np.repeat(targets.best[:, None], horizon, axis=1))
    np.testing.assert_array_equal(seen["time"][..., 0], np.tile(np.arange(horizon), (3, 1)))
    np.testing.assert_array_equal(seen["last"][:, 0], 0.0)
    taken = np.clip(mean, -3, 3)
    np.testing.assert_allclose(seen["last"][:, 1:], taken[:, :-1], rtol=1e-4, atol=1e-5)
    right = np.stack([targets.best] + [-targets.best] * (horizon - 1), axis=1)[:, :, None]
    paid = 1 - ((np.clip(trials.action, -3, 3) - right) ** 2).sum(axis=-1)
    np.testing.assert_allclose(
        reward, np.asarray(targets.scale)[:, None, None] * paid, rtol=1e-4, atol=1e-5
    )
    z = (np.asarray(trials.action) - mean[:, :, None]) / np.exp(log_std[:, :, None])
    density = scipy.stats.norm.logpdf(z).sum(-1) - log_std.sum(-1)[:, :, None]
    np.testing.assert_allclose(trials.log_prob, density, rtol=1e-3, atol=1e-4)
    assert 0.5 < z.std() < 2 and np.unique(z).size == z.size


@pytest.mark.parametrize("horizon", [1, 2])
def test_advantages_are_standard_in_every_state(horizon):
    """Though the rewards of one task are many times those of another."""
    _, targets, trials, reward = _played(horizon)
    assert np.ptp(np.log(targets.scale)) > 0.5 and np.ptp(np.asarray(reward.std(axis=2))) > 0.3
    reward = np.asarray(reward, np.float64)
    expected = (reward - reward.mean(2, keepdims=True)) / reward.std(2, keepdims=True)
    np.testing.assert_allclose(trials.advantage, expected, rtol=1e-3, atol=1e-4)


def test_equal_rewards_say_nothing():
    env, config = _env(1), _config(1)
    nothing = Target(jnp.zeros(2), jnp.zeros(()), jnp.ones(()))
    play = partial(play_task, env, partial(NETWORK.apply, _start(KEY).params), config)
    trials, _ = jax.jit(play)(nothing, KEY)
    np.testing.assert_array_equal(trials.advantage, 0.0)


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_loss_is_the_clipped_surrogate_of_all_trials(horizon):
    """Against NumPy, as if the policy had moved on, so that some ratios are clipped."""
    params, _, trials, _ = _played(horizon)
    config = _config(horizon, clip_epsilon=0.15)
    rng = np.random.default_rng(1)
    noise = 0.3 * rng.normal(size=trials.log_prob.shape).astype(np.float32)
    noisy = replace(trials, log_prob=trials.log_prob + noise)
    value, parts = jax.jit(partial(grouped_loss, NETWORK, config))(params, noisy)
    ratio, advantage = np.exp(-noise.astype(float)), np.asarray(trials.advantage, float)
    gain = np.where(advantage > 0, np.minimum(ratio, 1.15), np.maximum(ratio, 0.85))
    np.testing.assert_allclose(value, -(gain * advantage).mean(), rtol=1e-3, atol=1e-5)
    outside = (np.abs(ratio - 1) > 0.15).mean()
    np.testing.assert_allclose(parts["clip_fraction"], outside, atol=0.05)
    assert 0 < outside < 1
