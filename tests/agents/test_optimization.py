import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.loss import Batch
from modeledit_jax.agents.networks import ActorCritic, GaussianHead
from modeledit_jax.agents.optimization import (
    make_optimizer,
    minibatches,
    natural_gradient,
    optimize,
    schedule_fraction,
)

NETWORK = ActorCritic(GaussianHead((2,)), (4,))
OPTIMIZE = jax.jit(partial(optimize, NETWORK))
CONFIG = PPOConfig(num_envs=6, num_steps=2, num_epochs=3, num_minibatches=4, num_updates=10)


def run(config, params):
    rng = np.random.default_rng(0)
    batch = Batch(
        observation=jnp.asarray(rng.normal(size=(12, 3)), jnp.float32),
        action=jnp.asarray(rng.normal(size=(12, 2)), jnp.float32),
        log_prob=jnp.full(12, -2.0),
        value=jnp.zeros(12),
        advantage=jnp.asarray(rng.normal(size=12), jnp.float32),
        value_target=jnp.ones(12),
    )
    state = make_optimizer(config, jnp.int32(0)).init(params)
    # Updates past those of the schedule are allowed, and change nothing if it is constant.
    return OPTIMIZE(config, params, state, jnp.int32(20), batch, jax.random.key(1))


@pytest.fixture(scope="module")
def params():
    return jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros(3))


def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own():
    config = dataclasses.replace(CONFIG, num_epochs=5)
    order = np.asarray(minibatches(config, jax.random.key(0)))
    assert order.shape == (5 * 4, 3)
    epochs = order.reshape(5, 12)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(12), (5, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 5


@pytest.mark.slow
def test_two_learning_rates(params):
    for frozen, rates in (
        ("search", {"learning_rate": 1e-2, "action_learning_rate": 0.0}),
        ("network", {"learning_rate": 0.0, "action_learning_rate": 1e-2}),
    ):
        after, _, _ = run(dataclasses.replace(CONFIG, **rates), params)
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after, params)["params"]
        assert moved["head"]["action_mean"] == (frozen == "network")
        assert moved["head"]["log_std"] == (frozen == "network")
        assert moved["critic"]["Dense_0"]["kernel"] == (frozen == "search")
        assert moved["head"]["Dense_0"]["kernel"] == (frozen == "search")
    same = run(dataclasses.replace(CONFIG, action_learning_rate=CONFIG.learning_rate), params)
    chex.assert_trees_all_equal(same, run(CONFIG, params))


def test_spread_can_have_a_rate_of_its_own(params):
    rates = {"learning_rate": 0.0, "action_learning_rate": 1e-2, "std_learning_rate": 0.0}
    head = run(dataclasses.replace(CONFIG, **rates), params)[0]["params"]["head"]
    assert np.any(head["action_mean"]) and not np.any(head["log_std"])


def test_natural_gradient_divides_by_the_curvature_of_the_divergence():
    mean, log_std = np.array([0.3, -1.0, 2.0]), np.array([-1.0, 0.0, 0.7])

    def divergence(step):
        """KL from the Gaussian to the one whose parameters are moved by ``step`` [2, 3]."""
        ratio = np.exp(-2 * step[1])
        shift = step[0] ** 2 / np.exp(2 * (log_std + step[1]))
        return np.sum(step[1] + 0.5 * (ratio + shift) - 0.5)

    fisher, h = np.zeros((2, 3)), 1e-3
    for index in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[index] = h
        fisher[index] = (divergence(step) + divergence(-step)) / h**2

    params = {"head": {"action_mean": jnp.asarray(mean, jnp.float32)}, "other": jnp.ones(2)}
    params["head"]["log_std"] = jnp.asarray(log_std, jnp.float32)
    gradient = jax.tree.map(lambda x: jnp.arange(1.0, 1.0 + x.size), params)
    natural, _ = natural_gradient().update(gradient, natural_gradient().init(params), params)
    np.testing.assert_allclose(natural["head"]["action_mean"], [1, 2, 3] / fisher[0], rtol=1e-4)
    np.testing.assert_allclose(natural["head"]["log_std"], [1, 2, 3] / fisher[1], rtol=1e-4)
    np.testing.assert_array_equal(natural["other"], gradient["other"])


def test_natural_steps_are_neither_clipped_nor_scaled_by_adam():
    config = dataclasses.replace(
        CONFIG, search_optimizer="natural", action_learning_rate=0.5, learning_rate=0.1
    )
    params = {"action_mean": jnp.zeros(1), "log_std": jnp.log(2.0) * jnp.ones(1), "w": jnp.zeros(1)}
    gradient = jax.tree.map(lambda x: 100.0 * jnp.ones_like(x), params)
    optimizer = make_optimizer(config, jnp.int32(0))
    change, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(change["action_mean"], [-0.5 * 100 * 2**2], rtol=1e-5)
    np.testing.assert_allclose(change["log_std"], [-0.5 * 100 / 2], rtol=1e-5)
    np.testing.assert_allclose(change["w"], [-0.1], rtol=1e-3)  # Adam's first step


def test_first_step_is_adam_on_the_gradient_clipped_by_its_global_norm():
    config = dataclasses.replace(CONFIG, max_grad_norm=0.5, adam_epsilon=1.0, learning_rate=0.1)
    gradient = {"w": jnp.array([3.0, 0.0]), "log_std": jnp.array([4.0])}  # norm 5
    optimizer = make_optimizer(config, jnp.int32(0))
    change, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    # At the first step Adam's moments are g and g²; ε = 1 keeps its scale visible.
    for name, clipped in (("w", np.array([0.3, 0.0])), ("log_std", np.array([0.4]))):
        np.testing.assert_allclose(change[name], -0.1 * clipped / (clipped + 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "fractions"),
    [("constant", [1, 1, 1]), ("linear", [1, 0.75, 0]), ("cosine", [1, (1 + 0.5**0.5) / 2, 0])],
)
def test_schedules(schedule, fractions):
    config = PPOConfig(schedule=schedule, num_updates=8)
    found = [schedule_fraction(config, jnp.int32(n)) for n in (0, 2, 8)]
    np.testing.assert_allclose(found, fractions, atol=1e-6)
    np.testing.assert_allclose(schedule_fraction(config, jnp.int32(99)), fractions[-1], atol=1e-6)
