"""Actor-critic networks: the interface PPO asks for, and the default for flat observations.

A network maps *one* observation, of any pytree structure, to a policy and a value; PPO adds the
batch axes with `jax.vmap`. Two parameter names have a meaning, wherever in the tree they stand:
``action_mean`` and ``log_std``, mean and spread of a search distribution that does not depend on
the observation. They may start at given values and learn at their own rate.
"""

import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from gymnax.environments import spaces
from jaxtyping import Float

from modeledit_jax.agents.distributions import Categorical, Gaussian, Policy
from modeledit_jax.types import Array, Key, Params, PyTree

SEARCH_PARAMETERS = ("action_mean", "log_std")

# Not orthogonal: several batched QR decompositions under `vmap` can deadlock on small CPUs.
# For tanh and square layers this has the same variance as orthogonal matrices times √2.
_HIDDEN_INIT = nn.initializers.variance_scaling(2.0, "fan_avg", "truncated_normal")


@runtime_checkable
class Network(Protocol):
    """What PPO needs of a network; any Flax Linen module with the right outputs has it."""

    def init(self, key: Key, observation: PyTree, /) -> Params:
        """Parameters for one observation (no batch axis); `key` is consumed."""

    def apply(self, params: Params, observation: PyTree, /) -> Any:
        """``(policy, value)`` of one observation: a `Policy` and a float32 scalar."""


def flatten(observation: PyTree) -> Float[Array, " features"]:
    """All arrays of an observation as one float32 vector, in the order of the pytree."""
    return jnp.concatenate(
        [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(observation)]
    )


class TanhMLP(nn.Module):
    """Dense layers with tanh after each; the identity if there are none."""

    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " hidden"]:
        for size in self.hidden_sizes:
            x = nn.tanh(nn.Dense(size, kernel_init=_HIDDEN_INIT)(x))
        return x


class GaussianHead(nn.Module):
    """Gaussian whose mean is ``action_mean`` plus a linear map of features that starts at zero.

    While the observation is constant it is a plain Gaussian search distribution: the map has no
    bias, so ``action_mean`` is the only constant part of the mean.
    """

    action_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Float[Array, " features"]) -> Gaussian:
        mean = self.param("action_mean", nn.initializers.zeros, self.action_shape)
        log_std = self.param("log_std", nn.initializers.zeros, self.action_shape)
        change = nn.Dense(
            math.prod(self.action_shape), use_bias=False, kernel_init=nn.initializers.zeros
        )(features)
        return Gaussian(mean + change.reshape(self.action_shape), log_std)


class CategoricalHead(nn.Module):
    """Categorical whose logits are a linear map of features that starts uniform."""

    num_actions: int

    @nn.compact
    def __call__(self, features: Float[Array, " features"]) -> Categorical:
        return Categorical(nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros)(features))


class ActorCritic(nn.Module):
    """Separate tanh MLPs for policy and value over the flattened observation."""

    head: nn.Module
    hidden_sizes: tuple[int, ...] = (64, 64)

    @nn.compact
    def __call__(self, observation: PyTree) -> tuple[Policy, Float[Array, ""]]:
        x = flatten(observation)
        policy = self.head(TanhMLP(self.hidden_sizes, name="actor")(x))
        features = TanhMLP(self.hidden_sizes, name="critic")(x)
        return policy, nn.Dense(1, name="value")(features)[0]


def default_network(action_space: spaces.Space, hidden_sizes: tuple[int, ...]) -> ActorCritic:
    """`ActorCritic` with the head that fits a gymnax action space.

    Raises:
      ValueError: if the space is neither `Box` nor `Discrete`.
    """
    if isinstance(action_space, spaces.Box):
        return ActorCritic(GaussianHead(tuple(action_space.shape)), hidden_sizes)
    if isinstance(action_space, spaces.Discrete):
        return ActorCritic(CategoricalHead(int(action_space.n)), hidden_sizes)
    raise ValueError(
        f"no default network for the action space {action_space}; use Box or Discrete, or pass one"
    )


def parameter_name(path: tuple[Any, ...]) -> str:
    """Last name of a path in a parameter pytree, e.g. ``"log_std"``."""
    return jax.tree_util.keystr(path[-1:], simple=True)


def parameter_labels(params: Params) -> PyTree:
    """The names in `SEARCH_PARAMETERS` where they stand, ``"network"`` for all others."""

    def label(path: tuple[Any, ...], _: Array) -> str:
        name = parameter_name(path)
        return name if name in SEARCH_PARAMETERS else "network"

    return jax.tree_util.tree_map_with_path(label, params)


def with_search_distribution(
    params: Params, start_action: Array | None, std: float | Array
) -> Params:
    """Parameters with ``action_mean`` set to an action and ``log_std`` to log ``std``.

    Args:
      params: parameters of a network; if it has no ``log_std``, ``std`` is not used.
      start_action: [*action], or None to leave ``action_mean`` as initialized.
      std: scalar or [*action], positive.

    Raises:
      ValueError: if there is a start action but no ``action_mean`` of its shape to take it.
    """
    shapes = {
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if parameter_name(path) == "action_mean"
    }
    if start_action is not None and shapes != {start_action.shape}:
        raise ValueError(
            f"start_action has shape {start_action.shape}, but action_mean of the network "
            f"{shapes or 'does not exist'}; give it a parameter of that name and shape, or no start"
        )

    def replace(path: tuple[Any, ...], leaf: Array) -> Array:
        if parameter_name(path) == "action_mean" and start_action is not None:
            return start_action.astype(leaf.dtype)
        if parameter_name(path) == "log_std":
            return jnp.broadcast_to(jnp.log(std), leaf.shape).astype(leaf.dtype)
        return leaf

    return jax.tree_util.tree_map_with_path(replace, params)
