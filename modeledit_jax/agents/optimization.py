"""Gradient steps of PPO: minibatches, schedule and optimizer."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.loss import Batch, loss
from modeledit_jax.agents.networks import Network, parameter_labels, parameter_name
from modeledit_jax.agents.shuffling import permutation
from modeledit_jax.types import Array, Key, Params


def optimize(
    network: Network,
    config: PPOConfig,
    params: Params,
    optimizer_state: optax.OptState,
    updates: Int[Array, ""],
    batch: Batch,
    key: Key,
) -> tuple[Params, optax.OptState, dict[str, Array]]:
    """Gradient steps on all minibatches of all epochs.

    Args:
      network: policy and value.
      config: hyper-parameters.
      params: of the network.
      optimizer_state: of `make_optimizer`.
      updates: updates made so far, which sets the learning rates.
      batch: samples of one rollout, ``config.batch_size`` of them.
      key: consumed.

    Returns:
      New parameters and optimizer state; parts of the loss and ``grad_norm`` (before clipping)
      of every gradient step, [num_epochs · num_minibatches] each.
    """
    optimizer = make_optimizer(config, updates)
    gradient = jax.grad(partial(loss, network, config), has_aux=True)

    def step(
        carry: tuple[Params, optax.OptState], indices: Int[Array, " minibatch"] | None
    ) -> tuple[tuple[Params, optax.OptState], dict[str, Array]]:
        params, optimizer_state = carry
        gradients, metrics = gradient(params, batch if indices is None else batch.take(indices))
        change, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        return (optax.apply_updates(params, change), optimizer_state), metrics

    # A single minibatch holds all samples, whose order does not matter.
    shuffled = minibatches(config, key) if config.num_minibatches > 1 else None
    (params, optimizer_state), metrics = jax.lax.scan(
        step,
        (params, optimizer_state),
        shuffled,
        length=config.num_epochs * config.num_minibatches,
    )
    return params, optimizer_state, metrics


def minibatches(config: PPOConfig, key: Key) -> Int[Array, "steps minibatch"]:
    """Sample indices of every minibatch; each epoch goes through all samples in a new order."""
    shuffle = partial(permutation, size=config.batch_size)
    epochs = jax.vmap(shuffle)(jax.random.split(key, config.num_epochs))
    return epochs.reshape(-1, config.minibatch_size)


def schedule_fraction(config: PPOConfig, updates: Int[Array, ""]) -> Float[Array, ""]:
    """Share of the learning rates that is in force after a number of updates."""
    progress = jnp.minimum(updates.astype(jnp.float32) / config.num_updates, 1.0)
    if config.schedule == "linear":
        return 1.0 - progress
    if config.schedule == "quadratic":
        return jnp.square(1.0 - progress)
    if config.schedule == "cosine":
        return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return jnp.ones_like(progress)


def make_optimizer(config: PPOConfig, updates: Int[Array, ""]) -> optax.GradientTransformation:
    """Adam for the network; Adam or the natural gradient for the search distribution.

    Gradients are clipped by their global norm, except where they are made natural: there the
    Fisher matrix sets the scale, and a step is measured in standard deviations of the policy.
    """
    fraction = schedule_fraction(config, updates)
    action_rate = config.action_learning_rate
    action_rate = config.learning_rate if action_rate is None else action_rate
    std_rate = action_rate if config.std_learning_rate is None else config.std_learning_rate
    rates = {"network": config.learning_rate, "action_mean": action_rate, "log_std": std_rate}
    descend = {name: optax.scale(-rate * fraction) for name, rate in rates.items()}
    adam = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(eps=config.adam_epsilon),
    )
    if config.search_optimizer == "adam":
        return optax.chain(adam, optax.partition(descend, parameter_labels))
    descend["network"] = optax.chain(adam, descend["network"])
    return optax.chain(natural_gradient(), optax.partition(descend, parameter_labels))


def natural_gradient() -> optax.GradientTransformation:
    """Multiplies the search distribution's gradient by its inverse Fisher matrix.

    For a Gaussian with parameters ``action_mean`` and ``log_std`` the inverse is diagonal: σ² for
    the mean and ½ for the log standard deviation (Wierstra et al. 2014, Natural Evolution
    Strategies). Other parameters pass through.
    """

    def update(
        gradients: Params, state: optax.EmptyState, params: Params | None = None
    ) -> tuple[Params, optax.EmptyState]:
        by_name = {
            parameter_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }

        def precondition(path: tuple[Any, ...], gradient: Array) -> Array:
            name = parameter_name(path)
            if name == "action_mean":
                return gradient * jnp.exp(2.0 * by_name["log_std"])
            return 0.5 * gradient if name == "log_std" else gradient

        return jax.tree_util.tree_map_with_path(precondition, gradients), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
