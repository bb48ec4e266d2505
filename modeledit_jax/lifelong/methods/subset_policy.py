"""Which modules are edited: masks with K ones among M modules, learned or not.

Two ways to learn the scores of a `router` from what the edit did, and they are not the same:

- `straight_through` passes the gradient with respect to the mask on to the scores. A reward that is
  subtracted because it does not depend on the mask, such as that of editing all modules, changes
  nothing here.
- `SubsetPolicy` samples, and its log-probability is for a score-function gradient (REINFORCE, PPO),
  where such a baseline is what the advantage is measured against.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.types import Array, Field, Key


def selected_count(fraction: float, num_modules: int) -> int:
    """Returns K: a fraction of the modules, rounded, at least one.

    Raises:
      ValueError: if the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of modules to edit must be in (0, 1], got {fraction}")
    return max(1, round(fraction * num_modules))


def dense_mask(num_modules: int) -> Float[Array, " M"]:
    """Returns the mask that edits every module."""
    return jnp.ones(num_modules)


def fixed_mask(modules: Sequence[int], num_modules: int) -> Float[Array, " M"]:
    """Returns the mask of the given indices, always the same.

    Raises:
      ValueError: if an index occurs twice or does not exist.
    """
    if len(set(modules)) != len(modules) or not set(modules) <= set(range(num_modules)):
        raise ValueError(f"{list(modules)} are not different indices of {num_modules} modules")
    mask = np.zeros(num_modules, np.float32)
    mask[list(modules)] = 1
    return jnp.asarray(mask)


def random_mask(key: Key, num_modules: int, k: int) -> Float[Array, " M"]:
    """Returns the mask of ``k`` modules, all subsets being equally likely; `key` is consumed."""
    return top_k_mask(jax.random.uniform(key, (num_modules,)), k)


def top_k_mask(scores: Float[Array, " M"], k: int) -> Float[Array, " M"]:
    """Returns the mask of the ``k`` largest scores, without a gradient; of equals the first.

    With the norms of the shifts for scores this is the rule "edit where the edit is largest".
    """
    _, indices = jax.lax.top_k(scores, k)
    return jnp.zeros_like(scores).at[indices].set(1)


def straight_through(logits: Float[Array, " M"], k: int) -> Float[Array, " M"]:
    """Returns `top_k_mask`, exactly, whose gradient is that of the logits (released HiEdit).

    The released code computes ``(mask − z) + z``, which large logits z leave inexact.
    """
    return top_k_mask(logits, k) + (logits - jax.lax.stop_gradient(logits))


@struct.dataclass
class Subset:
    """The first ``count`` modules of an order, the action of a `SubsetPolicy`."""

    order: Field  # [M] int32, a permutation; what follows the first count entries has no meaning
    count: Field  # () int32

    def mask(self) -> Float[Array, " M"]:
        """``[M]`` with ``count`` ones."""
        chosen = jnp.arange(self.order.shape[-1]) < self.count
        return jnp.zeros(self.order.shape[-1]).at[self.order].set(chosen.astype(jnp.float32))


@struct.dataclass
class SubsetPolicy:
    """Modules drawn one after the other without replacement, by softmax among those left.

    This is the Plackett–Luce distribution; Gumbel noise on the logits and a sort draw from it
    (Kool et al. 2019, arXiv 1903.06059). Probabilities are those of *ordered* subsets: a reward
    that does not see the order makes the score-function gradient no less right.
    With ``count_logits`` the number of modules is drawn first, else it is ``k``.
    """

    logits: Field  # [M] float32
    count_logits: Field = None  # [M] float32, of 1 … M modules
    k: int = struct.field(pytree_node=False, default=1)

    def sample(self, key: Key) -> Subset:
        """A subset; `key` is consumed."""
        order_key, count_key = jax.random.split(key)
        noise = jax.random.gumbel(order_key, self.logits.shape, self.logits.dtype)
        count = jnp.int32(self.k)
        if self.count_logits is not None:
            count = jax.random.categorical(count_key, self.count_logits).astype(jnp.int32) + 1
        return Subset(_descending(self.logits + noise), count)

    def mode(self) -> Subset:
        """The most probable number of modules, and as many with the largest logits."""
        count = jnp.int32(self.k)
        if self.count_logits is not None:
            count = jnp.argmax(self.count_logits).astype(jnp.int32) + 1
        return Subset(_descending(self.logits), count)

    def log_prob(self, action: Subset) -> Float[Array, ""]:
        """Log-probability of the count and of the first ``count`` modules in their order."""
        chosen = jnp.diagonal(self._draws(action))
        total = jnp.where(self._drawn(action), chosen, 0).sum()
        if self.count_logits is not None:
            total += jax.nn.log_softmax(self.count_logits)[action.count - 1]
        return total

    def entropy(self, action: Subset) -> Float[Array, ""]:
        """Unbiased estimate of the entropy in nats: that of every draw, given those before it.

        Its mean over sampled actions is the entropy (chain rule), and for a single draw it is
        exact. Its gradient leaves out how the logits change which draws come first.
        """
        total = jnp.where(self._drawn(action), _entropy(self._draws(action)), 0).sum()
        return total if self.count_logits is None else total + self._count_entropy()

    def _count_entropy(self) -> Array:
        return _entropy(jax.nn.log_softmax(self.count_logits))

    def _drawn(self, action: Subset) -> Array:
        return jnp.arange(self.logits.shape[0]) < action.count

    def _draws(self, action: Subset) -> Float[Array, "M M"]:
        """Row j: log-probabilities of the j-th draw, modules in the order of the action."""
        modules = self.logits.shape[0]
        left = np.triu(np.ones((modules, modules), bool))  # the j-th draw is among those from j on
        logits = jnp.broadcast_to(self.logits[action.order], left.shape)
        return jax.nn.log_softmax(logits, where=left)


def _entropy(log_probs: Float[Array, "*rows M"]) -> Float[Array, "*rows"]:
    finite = jnp.where(jnp.isfinite(log_probs), log_probs, 0)
    return -jnp.where(jnp.isfinite(log_probs), jnp.exp(finite) * finite, 0).sum(axis=-1)


def _descending(scores: Float[Array, " M"]) -> Int[Array, " M"]:
    return jnp.argsort(-scores).astype(jnp.int32)
