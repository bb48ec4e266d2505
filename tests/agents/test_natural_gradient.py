"""The natural gradient of PPO's search distribution against the closed form for a Gaussian.

With one minibatch, the policy that drew the samples and no normalization, the surrogate's natural
gradient is ``E[A (a − μ)]`` for the mean and ``½ E[A ((a − μ)² / σ² − 1)]`` for the log standard
deviation: the update of natural evolution strategies (Wierstra et al. 2014, equations 10 and 11).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.loss import Batch
from modeledit_jax.agents.networks import ActorCritic, GaussianHead, with_search_distribution
from modeledit_jax.agents.optimization import make_optimizer, optimize

MEAN, STD = np.array([0.5, -1.0]), np.array([0.2, 0.7])


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(0.3, 0.05), (1.5, 0.0)])
def test_one_update_is_that_of_natural_evolution_strategies(rates):
    config = PPOConfig(
        num_envs=8,
        num_steps=2,
        num_epochs=1,
        num_minibatches=1,
        search_optimizer="natural",
        normalize_advantage="none",
        learning_rate=0.0,
        action_learning_rate=rates[0],
        std_learning_rate=rates[1],
        max_grad_norm=1e-3,  # clips the network's gradient alone
    )
    network = ActorCritic(GaussianHead((2,)), (4,))
    params = with_search_distribution(
        jax.jit(network.init)(jax.random.key(0), jnp.zeros(3)),
        jnp.asarray(MEAN, jnp.float32),
        jnp.asarray(STD),
    )
    rng = np.random.default_rng(0)
    noise, advantage = rng.normal(size=(16, 2)), 3 * rng.normal(size=16)
    action = MEAN + STD * noise
    log_prob = scipy.stats.norm.logpdf(action, MEAN, STD).sum(axis=1)
    batch = Batch(
        observation=jnp.zeros((16, 3)),
        action=jnp.asarray(action, jnp.float32),
        log_prob=jnp.asarray(log_prob, jnp.float32),
        value=jnp.zeros(16),
        advantage=jnp.asarray(advantage, jnp.float32),
        value_target=jnp.ones(16),
    )
    state = make_optimizer(config, jnp.int32(0)).init(params)
    after, _, _ = jax.jit(
        lambda: optimize(network, config, params, state, jnp.int32(0), batch, jax.random.key(1))
    )()
    head = after["params"]["head"]
    moved = rates[0] * np.mean(advantage[:, None] * STD * noise, axis=0)
    np.testing.assert_allclose(head["action_mean"] - MEAN, moved, rtol=1e-3, atol=1e-5)
    spread = rates[1] * np.mean(advantage[:, None] * (noise**2 - 1), axis=0) / 2
    np.testing.assert_allclose(head["log_std"] - np.log(STD), spread, rtol=1e-3, atol=1e-5)
