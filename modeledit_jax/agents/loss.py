"""The loss of PPO on a minibatch of samples."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.networks import Network
from modeledit_jax.types import Array, Field, Params, PyTree


@struct.dataclass
class Batch:
    """Samples to learn from, along a leading axis of any length B."""

    observation: Field  # pytree, leaves [B, ...], normalized; of `one_state` without that axis
    action: Field  # [B, *action]
    log_prob: Field  # [B] float32, when it was sampled
    value: Field  # [B] float32, likewise
    advantage: Field  # [B] float32
    value_target: Field  # [B] float32
    one_state: bool = struct.field(pytree_node=False, default=False)  # all in one state

    def take(self, indices: Int[Array, " b"]) -> "Batch":
        """Some of the samples."""
        samples = replace(self, observation=None) if self.one_state else self
        taken = jax.tree.map(lambda x: x[indices], samples)
        return replace(taken, observation=self.observation) if self.one_state else taken


def loss(
    network: Network, config: PPOConfig, params: Params, batch: Batch
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Clipped surrogate, value and entropy loss (Schulman et al. 2017, equations 7 and 9).

    Args:
      network: policy and value.
      config: hyper-parameters; advantages are normalized here if per minibatch.
      params: of the network, to differentiate by.
      batch: minibatch of any length.

    Returns:
      Loss to minimize, and its parts by name.
    """

    def evaluate_action(observation: PyTree, action: Array) -> tuple[Array, Array, Array]:
        policy, value = network.apply(params, observation)
        return policy.log_prob(action), policy.entropy(), value

    # In one state the network does not depend on the sample: `vmap` computes it once.
    evaluate = jax.vmap(evaluate_action, in_axes=(None if batch.one_state else 0, 0))
    log_prob, entropy, value = evaluate(batch.observation, batch.action)
    advantage = batch.advantage
    if config.normalize_advantage == "minibatch":
        advantage = standardize(advantage)
    policy_loss, parts = clipped_surrogate(config, advantage, log_prob, batch.log_prob)

    value_error = jnp.square(value - batch.value_target)
    if config.value_clip is not None:
        step = jnp.clip(value - batch.value, -config.value_clip, config.value_clip)
        value_error = jnp.maximum(value_error, jnp.square(batch.value + step - batch.value_target))
    value_loss = 0.5 * value_error.mean()

    mean_entropy = entropy.mean()
    total = (
        policy_loss
        + config.value_coefficient * value_loss
        - config.entropy_coefficient * mean_entropy
    )
    return total, {**parts, "value_loss": value_loss, "entropy": mean_entropy}


def clipped_surrogate(
    config: PPOConfig,
    advantage: Float[Array, "*B"],
    log_prob: Float[Array, "*B"],
    before: Float[Array, "*B"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The clipped surrogate alone (Schulman et al. 2017, equation 7), to minimize, and its parts.

    Args:
      config: of which ``clip_epsilon`` is read.
      advantage: of the samples.
      log_prob: of their actions under the policy that learns.
      before: the same under the policy that drew them.
    """
    chex.assert_equal_shape([advantage, log_prob, before])
    log_ratio = log_prob - before
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - config.clip_epsilon, 1.0 + config.clip_epsilon)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    return policy_loss, {
        "policy_loss": policy_loss,
        "approx_kl": (ratio - 1.0 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip_epsilon).astype(jnp.float32).mean(),
        "ratio_error": jnp.abs(ratio - 1.0).max(),
    }


def standardize(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Mean 0 and (population) standard deviation 1 over all samples."""
    return (x - x.mean()) / (x.std() + 1e-8)


def explained_variance(value: Float[Array, " B"], target: Float[Array, " B"]) -> Float[Array, ""]:
    """1 if the values predict their targets exactly, 0 if no better than a constant."""
    return 1.0 - jnp.var(target - value) / jnp.maximum(jnp.var(target), 1e-8)
