"""Generalised advantage estimation with terminations and truncations kept apart."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax.types import Array


def generalized_advantages(
    reward: Float[Array, "T *E"],
    value: Float[Array, "T *E"],
    next_value: Float[Array, "T *E"],
    terminated: Bool[Array, "T *E"],
    truncated: Bool[Array, "T *E"],
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Float[Array, "T *E"]:
    """Advantages of a rollout (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    A terminated step has no future: its bootstrap value is zero. A truncated step has one that was
    not played: it keeps ``next_value`` (Pardo et al. 2018, arXiv 1712.00378). Neither passes on
    advantages of the step after it, which belongs to another episode.

    Args:
      reward: rewards.
      value: V(s_t), of the observation the action was chosen at.
      next_value: V(s_{t+1}) of the observation the action led to, *before* any automatic reset.
      terminated: the task ended in this step.
      truncated: a time limit ended the episode in this step.
      gamma: discount, scalar.
      gae_lambda: λ, scalar.

    Returns:
      Advantages; adding ``value`` gives the λ-returns, which are the targets of the critic.
    """
    # Arrays of other shapes would broadcast, and the advantages be of something else.
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    continues = jnp.where(terminated, 0.0, 1.0)
    same_episode = jnp.where(terminated | truncated, 0.0, 1.0)
    delta = reward + gamma * continues * next_value - value
    decay = gamma * gae_lambda * same_episode

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = now
        advantage = delta_t + decay_t * later
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantages
