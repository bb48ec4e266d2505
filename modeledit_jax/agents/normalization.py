"""Running statistics of observations and rewards.

They stay fixed while a rollout is played and learnt from, so the policy that is improved is exactly
the policy that acted, and take in the whole rollout afterwards.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax import struct
from modeledit_jax.types import Array, Field, PyTree

_CLIP = 10.0  # largest normalized magnitude: guards against features that have not varied yet
_EPSILON = 1e-8


@struct.dataclass
class RunningStatistics:
    """Mean and variance of every array of a pytree, over all samples seen so far."""

    mean: Field  # pytree of float32 like one sample
    variance: Field  # likewise
    count: Field  # () float32

    @classmethod
    def create(cls, sample: PyTree) -> "RunningStatistics":
        """Statistics that leave samples shaped like ``sample`` (almost) as they are."""
        mean = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), sample)
        # A count near zero gives the first batch all the weight.
        return cls(mean, jax.tree.map(jnp.ones_like, mean), jnp.float32(1e-4))

    def update(self, batch: PyTree) -> "RunningStatistics":
        """Take in a batch of samples along a leading axis (Chan et al. 1979, parallel variance)."""
        size = jax.tree.leaves(batch)[0].shape[0]
        total = self.count + size

        def merge(mean: Array, variance: Array, x: Array) -> tuple[Array, Array]:
            x = x.astype(jnp.float32)
            batch_mean = x.mean(axis=0)
            delta = batch_mean - mean
            squares = variance * self.count + x.var(axis=0) * size
            squares += delta**2 * (self.count * size / total)
            return mean + delta * (size / total), squares / total

        merged = jax.tree.map(merge, self.mean, self.variance, batch)
        mean, variance = jax.tree.transpose(
            jax.tree.structure(self.mean), jax.tree.structure((0, 0)), merged
        )
        return RunningStatistics(mean, variance, total)

    def normalize(self, sample: PyTree) -> PyTree:
        """Samples with mean 0 and variance 1, clipped to ±10; leading axes are allowed."""

        def normalize_leaf(mean: Array, variance: Array, x: Array) -> Array:
            scaled = (x.astype(jnp.float32) - mean) / jnp.sqrt(variance + _EPSILON)
            return jnp.clip(scaled, -_CLIP, _CLIP)

        return jax.tree.map(normalize_leaf, self.mean, self.variance, sample)


@struct.dataclass
class RewardScale:
    """Scale of the rewards: the standard deviation of the discounted return.

    The running return of each environment is that of Engstrom et al. 2020 (arXiv 2005.12729),
    known from VecNormalize; rewards are divided, not centered, as a shift would change the task.
    """

    discounted_return: Field  # [E] float32, of the episode under way
    statistics: Field  # RunningStatistics of a scalar

    @classmethod
    def create(cls, num_envs: int) -> "RewardScale":
        """Scale of one."""
        return cls(jnp.zeros(num_envs), RunningStatistics.create(jnp.float32(0)))

    def update(
        self, reward: Float[Array, "T E"], done: Bool[Array, "T E"], gamma: float | Array
    ) -> "RewardScale":
        """Take in a rollout; ``done`` marks the last step of an episode, however it ended."""

        def step(running: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            reward_t, done_t = now
            running = gamma * running + reward_t
            return jnp.where(done_t, 0.0, running), running

        running, returns = jax.lax.scan(step, self.discounted_return, (reward, done))
        return RewardScale(running, self.statistics.update(returns.reshape(-1)))

    def scale(self, reward: Float[Array, "..."]) -> Float[Array, "..."]:
        """Rewards divided by the standard deviation, clipped to ±10."""
        scaled = reward / jnp.sqrt(self.statistics.variance + _EPSILON)
        return jnp.clip(scaled, -_CLIP, _CLIP)
