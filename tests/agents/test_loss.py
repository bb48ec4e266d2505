import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.loss import Batch, explained_variance, loss, standardize
from modeledit_jax.agents.networks import ActorCritic, CategoricalHead, GaussianHead

B = 12
GAUSSIAN = ActorCritic(GaussianHead((2,)), (3,))
CATEGORICAL = ActorCritic(CategoricalHead(3), (3,))
CLIPPED = PPOConfig(value_clip=0.1, entropy_coefficient=0.05, value_coefficient=0.7)
PLAIN = PPOConfig(value_clip=None, entropy_coefficient=0.01, normalize_advantage="none")


def numpy_loss(params, config, batch):
    """PPO's loss in float64, written from the paper without any of the package's code."""
    p = params["params"]

    def mlp(name):
        layer = p[name]["Dense_0"]
        return np.tanh(batch["observation"] @ layer["kernel"] + layer["bias"])

    head, actor = p["head"], mlp("actor")
    if "log_std" in head:
        mean = head["action_mean"] + actor @ head["Dense_0"]["kernel"]
        z = (batch["action"] - mean) / np.exp(head["log_std"])
        log_prob = np.sum(-0.5 * z**2 - head["log_std"] - 0.5 * np.log(2 * np.pi), axis=1)
        entropy = np.sum(head["log_std"] + 0.5 * np.log(2 * np.pi * np.e))
    else:
        logits = actor @ head["Dense_0"]["kernel"] + head["Dense_0"]["bias"]
        p_action = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        log_prob = np.log(p_action[np.arange(B), batch["action"].astype(int)])
        entropy = -np.sum(p_action * np.log(p_action), axis=1).mean()
    value = (mlp("critic") @ p["value"]["kernel"] + p["value"]["bias"])[:, 0]

    advantage, old, target = batch["advantage"], batch["value"], batch["value_target"]
    if config.normalize_advantage == "minibatch":
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = np.exp(log_prob - batch["log_prob"])
    eps = config.clip_epsilon
    # The clipped objective, case by case: the gain is capped, the damage is not.
    gain = np.where(advantage > 0, np.minimum(ratio, 1 + eps), np.maximum(ratio, 1 - eps))
    policy_loss = -np.mean(gain * advantage)
    error = (value - target) ** 2
    if config.value_clip is not None:
        near = np.clip(value, old - config.value_clip, old + config.value_clip)
        error = np.maximum(error, (near - target) ** 2)
    return (
        policy_loss
        + config.value_coefficient * 0.5 * error.mean()
        - config.entropy_coefficient * entropy
    )


def problem(network):
    rng = np.random.default_rng(3)
    shapes = jax.jit(network.init)(jax.random.key(0), jnp.zeros(2))
    params = jax.tree.map(lambda x: rng.normal(size=x.shape) * 0.7, shapes)
    gaussian = network is GAUSSIAN
    batch = {
        "observation": rng.normal(size=(B, 2)),
        "action": rng.normal(size=(B, 2)) if gaussian else rng.integers(0, 3, B),
        "log_prob": rng.normal(-3 if gaussian else -1, 0.6, size=B),
        "value": rng.normal(size=B),
        "advantage": rng.normal(size=B),
        "value_target": rng.normal(size=B),
    }
    arrays = {
        k: jnp.asarray(v, jnp.int32 if v.dtype == int else jnp.float32) for k, v in batch.items()
    }
    return (
        params,
        batch,
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params),
        Batch(**arrays),
    )


@pytest.mark.parametrize("config", [CLIPPED, PLAIN], ids=["clipped", "plain"])
@pytest.mark.parametrize("network", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_loss_and_gradient_agree_with_finite_differences_of_numpy(network, config):
    params64, batch64, params, batch = problem(network)
    value_and_gradient = jax.value_and_grad(loss, argnums=2, has_aux=True)
    (total, parts), gradient = jax.jit(value_and_gradient, static_argnums=(0, 1))(
        network, config, params, batch
    )
    np.testing.assert_allclose(total, numpy_loss(params64, config, batch64), rtol=1e-4)
    assert 0.1 < parts["clip_fraction"] < 0.9  # both sides of the clip are exercised

    leaves, structure = jax.tree.flatten(params64)
    for leaf, found in zip(leaves, jax.tree.leaves(gradient), strict=True):
        expected = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            sides = []
            for step in (1e-6, -1e-6):
                original = leaf[index]
                leaf[index] = original + step
                sides.append(numpy_loss(jax.tree.unflatten(structure, leaves), config, batch64))
                leaf[index] = original
            expected[index] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)


def test_parts_at_the_sampling_policy():
    _, _, params, batch = problem(GAUSSIAN)
    policy, value = jax.vmap(lambda x: GAUSSIAN.apply(params, x))(batch.observation)
    log_prob = jax.vmap(lambda policy, action: policy.log_prob(action))(policy, batch.action)
    _, parts = loss(GAUSSIAN, PLAIN, params, dataclasses.replace(batch, log_prob=log_prob))
    assert parts["ratio_error"] < 1e-6 and parts["clip_fraction"] == 0
    np.testing.assert_allclose(parts["approx_kl"], 0, atol=1e-6)
    np.testing.assert_allclose(parts["policy_loss"], -batch.advantage.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        parts["value_loss"], 0.5 * np.mean((value - batch.value_target) ** 2), rtol=1e-5
    )


def test_standardize_and_explained_variance():
    x = jnp.array([1.0, 2.0, 3.0, 6.0])
    np.testing.assert_allclose(standardize(x), (x - 3) / np.sqrt(3.5), rtol=1e-6)
    assert explained_variance(x, x) == 1.0
    assert explained_variance(jnp.zeros(4), x) == 0.0
    assert explained_variance(-x, x) == -3.0
