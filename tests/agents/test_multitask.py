"""PPO on many tasks at once: bandits whose best action is a number of each task."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.loss import Batch, loss
from modeledit_jax.agents.multitask import grouped_loss, init, play_task, update
from modeledit_jax.agents.networks import ActorCritic, GaussianHead

KEY = jax.random.key(0)
NETWORK = ActorCritic(GaussianHead((2,)), (16,))


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
        "gamma": 1.0,
        "initial_std": 0.3,
        "num_envs": 8,
        "num_steps": horizon,
        "num_epochs": 3,
        "num_minibatches": 1,
        "num_updates": 60,
        "schedule": "cosine",
        "normalize_advantage": "none",
        "value_coefficient": 0.05,
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
        return jnp.linalg.norm(NETWORK.apply(params, observation)[0].mode() - task.best)

    return jax.vmap(one)(tasks).mean()


@pytest.mark.parametrize("horizon", [1, 2])
def test_a_policy_learns_what_tasks_have_in_common(horizon):
    state, metrics = _trained(horizon)
    assert int(state.updates) == 60 and np.all(np.isfinite(jax.tree.leaves(metrics)[0]))
    wanted = {"reward", "reward_spread", "policy_loss", "value_loss", "entropy", "grad_norm"}
    assert wanted <= set(metrics) and all(x.shape == (60,) for x in metrics.values())
    best = horizon * np.mean([0.3, 1.0, 3.0]) * (1 - 2 * 0.3**2)  # the spread of actions stays
    first, late = metrics["reward"][0], metrics["reward"][-10:].mean()
    assert first < 0.7 * best and 0.9 * best < late < 1.05 * best
    assert _distance(state.params) < 0.4 * _distance(_start(KEY).params)
    np.testing.assert_allclose(state.params["params"]["head"]["log_std"], np.log(0.3), rtol=1e-5)


def test_the_same_key_gives_the_same_bits_and_another_does_not():
    one = _trained(2)[0].params
    two, other = (_train(2, jax.random.key(seed))[0].params for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    kernel = lambda params: params["params"]["value"]["kernel"]  # noqa: E731
    assert np.any(kernel(one) != kernel(other))


@lru_cache
def _played(horizon, tasks=3):
    """Samples of some tasks, by the network as it starts, but for a value that is not zero."""
    env, config = _env(horizon), _config(horizon)
    params = _start(KEY).params
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), params)
    targets = jax.tree.map(lambda leaf: leaf[:tasks], _draw(jax.random.key(5)))
    play = partial(play_task, env, partial(NETWORK.apply, params), config)
    keys = jax.random.split(jax.random.key(6), tasks)
    return params, targets, *jax.jit(jax.vmap(play))(targets, keys)


def test_episodes_of_one_step_share_what_is_seen():
    params, targets, batch, reward = _played(1)
    assert batch.action.shape == (3, 1, 8, 2) and reward.shape == (3, 8)
    assert batch.advantage.shape == batch.log_prob.shape == (3, 1, 8)
    np.testing.assert_array_equal(batch.observation["best"], targets.best[:, None])
    paid = 1 - ((np.clip(batch.action[:, 0], -3, 3) - targets.best[:, None]) ** 2).sum(axis=-1)
    paid = np.asarray(targets.scale)[:, None] * paid
    np.testing.assert_allclose(reward, paid, rtol=1e-4, atol=1e-5)
    # One step: the advantage is the reward less the value, which is the same for all of a task.
    expected = (paid - paid.mean(axis=1, keepdims=True)) / paid.std(axis=1, keepdims=True)
    np.testing.assert_allclose(batch.advantage[:, 0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(batch.value_target[:, 0], paid, rtol=1e-4, atol=1e-5)
    values = jax.jit(jax.vmap(lambda seen: NETWORK.apply(params, seen)[1]))(
        jax.tree.map(lambda x: x[:, 0], batch.observation)
    )
    values = np.broadcast_to(values[:, None, None], (3, 1, 8))
    np.testing.assert_allclose(batch.value, values, rtol=1e-4, atol=1e-6)


def test_longer_episodes_are_seen_one_by_one():
    _, targets, batch, reward = _played(2)
    assert batch.action.shape == (3, 16, 1, 2) and reward.shape == (3, 8)
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(batch.observation)} == {(3, 16)}
    steps = jax.tree.map(lambda x: np.asarray(x).reshape(3, 2, 8, *x.shape[2:]), batch)
    seen, action = steps.observation, steps.action[:, :, :, 0]
    np.testing.assert_array_equal(seen["time"][:, 0], 0.0)
    np.testing.assert_array_equal(seen["time"][:, 1], 1.0)
    np.testing.assert_array_equal(seen["last"][:, 0], 0.0)
    np.testing.assert_array_equal(seen["last"][:, 1], np.clip(action[:, 0], -3, 3))
    right = np.stack([targets.best, -targets.best], axis=1)[:, :, None]
    paid = 1 - ((np.clip(action, -3, 3) - right) ** 2).sum(axis=-1)
    paid = np.asarray(targets.scale)[:, None, None] * paid
    np.testing.assert_allclose(reward, paid.sum(axis=1), rtol=1e-4, atol=1e-5)
    # Advantages over the λ-returns by hand; nothing follows the second step.
    value = steps.value[..., 0]
    last = paid[:, 1] - value[:, 1]
    first = paid[:, 0] + value[:, 1] - value[:, 0] + 0.95 * last
    raw = np.stack([first, last], axis=1)
    expected = (raw - raw.mean(axis=2, keepdims=True)) / raw.std(axis=2, keepdims=True)
    np.testing.assert_allclose(steps.advantage[..., 0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(steps.value_target[..., 0], raw + value, rtol=1e-3, atol=1e-4)
    assert np.abs(value).max() > 0.01


@pytest.mark.parametrize("horizon", [1, 2])
def test_advantages_are_standard_within_a_task_and_step(horizon):
    """Though the rewards of one task are many times those of another."""
    _, targets, batch, reward = _played(horizon)
    assert np.ptp(np.log(targets.scale)) > 0.5 and np.ptp(np.asarray(reward.std(axis=1))) > 0.3
    advantage = np.asarray(batch.advantage).reshape(3, horizon, 8)
    np.testing.assert_allclose(advantage.mean(axis=2), 0.0, atol=1e-5)
    np.testing.assert_allclose(advantage.std(axis=2), 1.0, rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_grouped_loss_is_that_of_the_samples_one_by_one(horizon):
    params, _, batch, _ = _played(horizon)
    config = _config(horizon, entropy_coefficient=0.1, value_clip=0.2, value_coefficient=0.7)
    rng = np.random.default_rng(1)
    shape = batch.log_prob.shape
    noisy = replace(
        batch,  # as if the policy had moved on, so that some ratios are clipped
        log_prob=batch.log_prob + 0.3 * rng.normal(size=shape).astype(np.float32),
        value=batch.value + 0.3 * rng.normal(size=shape).astype(np.float32),
    )
    groups = shape[:2]
    flat = {
        name: getattr(noisy, name).reshape(-1, *getattr(noisy, name).shape[3:])
        for name in ("action", "log_prob", "value", "advantage", "value_target")
    }
    seen = jax.tree.map(
        lambda x: jnp.repeat(x.reshape(-1, *x.shape[2:]), shape[2], axis=0), noisy.observation
    )
    assert len(flat["value"]) == groups[0] * groups[1] * shape[2]
    gradient = partial(jax.value_and_grad, argnums=2, has_aux=True)
    found = jax.jit(gradient(grouped_loss), static_argnums=0)(NETWORK, config, params, noisy)
    one_by_one = Batch(observation=seen, **flat)
    expected = jax.jit(gradient(loss), static_argnums=0)(NETWORK, config, params, one_by_one)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )
    (_, parts), _ = found
    assert 0 < parts["clip_fraction"] < 1
