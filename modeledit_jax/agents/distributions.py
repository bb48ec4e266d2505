"""Policy distributions as plain pytrees of their parameters; the only module that uses distrax.

A distrax object loses its batch shape when `vmap` returns it. The classes here hold arrays alone,
so they may cross `vmap`, `scan` and `jit`; each method builds the distrax distribution where it
is used. All describe *one* action: batches come from `jax.vmap` around the caller.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.types import Array, Field, Key


@runtime_checkable
class Policy(Protocol):
    """A distribution over one action, as returned by a network; a pytree of arrays."""

    def sample(self, key: Key) -> Array:
        """An action; `key` is consumed."""

    def log_prob(self, action: Array) -> Array:
        """Log density or probability of an action, shape ()."""

    def entropy(self) -> Array:
        """Entropy in nats, shape ()."""

    def mode(self) -> Array:
        """The most probable action."""


@struct.dataclass
class Gaussian:
    """Normal distribution with independent coordinates, without squashing.

    Actions are unbounded: whoever steps a bounded environment clips them there, and keeps the
    unclipped ones, of which alone the log density is known.
    """

    mean: Field  # [*action] float32
    log_std: Field  # [*action] float32

    def _distribution(self) -> Any:
        distrax = _distrax()
        normal = distrax.Normal(self.mean, jnp.exp(self.log_std))
        return distrax.Independent(normal, reinterpreted_batch_ndims=self.mean.ndim)

    def sample(self, key: Key) -> Float[Array, "..."]:
        """An action of the mean's shape; `key` is consumed."""
        return self._distribution().sample(seed=key)

    def log_prob(self, action: Float[Array, "..."]) -> Float[Array, ""]:
        """Log density, summed over the coordinates of the action."""
        return self._distribution().log_prob(action)

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy in nats, summed over the coordinates."""
        return self._distribution().entropy()

    def mode(self) -> Float[Array, "..."]:
        """The mean."""
        return self.mean


@struct.dataclass
class Categorical:
    """Distribution over the integers 0 … n − 1."""

    logits: Field  # [n] float32, unnormalised

    def _distribution(self) -> Any:
        return _distrax().Categorical(logits=self.logits)

    def sample(self, key: Key) -> Int[Array, ""]:
        """An int32 action; `key` is consumed."""
        return self._distribution().sample(seed=key)

    def log_prob(self, action: Int[Array, ""]) -> Float[Array, ""]:
        """Log probability of an action."""
        return self._distribution().log_prob(action)

    def entropy(self) -> Float[Array, ""]:
        """Entropy in nats."""
        return self._distribution().entropy()

    def mode(self) -> Int[Array, ""]:
        """The action of the largest logit, int32."""
        return self._distribution().mode().astype(jnp.int32)


def _distrax() -> Any:
    """distrax, imported where a policy is first asked: it imports all of TensorFlow Probability."""
    with jax.ensure_compile_time_eval():  # the constants of its modules outlive a trace
        import distrax
    return distrax
