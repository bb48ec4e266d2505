"""Which modules a batch of facts changes: HiEdit's high level, and what it is compared with.

HiEdit's reward of a choice ω is how much better the selected change does than the change of all
modules, ``r(ω) − r(1)``. Its released code has no gradient from that to the router: the weights are
written between forward and backward pass, and a baseline that does not depend on ω adds nothing to
a straight-through gradient. Both estimators are here, by name:

- ``"ste"``: the mask passes its gradient on to the scores. No baseline.
- ``"reinforce"``: modules are drawn, and ``L(ω) − L(1)`` weighs the gradient of their
  log-probability, which gives the reward of the paper its meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.lifelong.methods.router import Router, RouterConfig, apply_router, init_router
from modeledit_jax.lifelong.methods.subset_policy import (
    Subset,
    SubsetPolicy,
    dense_mask,
    fixed_mask,
    random_mask,
    selected_count,
    straight_through,
    top_k_mask,
)
from modeledit_jax.lifelong.model import Changes, EditableModel, squared_norms
from modeledit_jax.lifelong.token_gradients import Rows
from modeledit_jax.types import Array, Key

Loss = Callable[[Changes], Array]


@dataclass(frozen=True)
class Routing:
    """How modules are chosen, by M modules K = fraction · M of them.

    Attributes:
      how: ``"learned"`` (the router), ``"random"``, ``"fixed"``, ``"norm"`` (the largest changes)
        or ``"dense"`` (all).
      fraction: of the modules.
      fixed: indices of the modules, with ``how="fixed"``; empty: the last K of the network.
      router: its size, and whether it also learns how many modules to change.
      gradient: estimator; see the module's docstring.
      entropy: weight of the bonus that keeps a drawing router from deciding early.
    """

    how: Literal["learned", "random", "fixed", "norm", "dense"] = "learned"
    fraction: float = 0.5
    fixed: tuple[int, ...] = ()
    router: RouterConfig = field(default_factory=RouterConfig)
    gradient: Literal["ste", "reinforce"] = "reinforce"
    entropy: float = 0.01

    def __post_init__(self) -> None:
        selected_count(self.fraction, 1)
        if self.how == "learned" and self.router.learn_count and self.gradient == "ste":
            raise ValueError(
                "how many modules to change is drawn: learn_count needs gradient='reinforce'"
            )

    def init(self, model: EditableModel, key: Key) -> Router | None:
        """The router, if one is learned."""
        return init_router(key, model.shapes, self.router) if self.how == "learned" else None

    def policy(
        self, router: Router, model: EditableModel, statistics: dict[str, Any], rows: Rows
    ) -> SubsetPolicy:
        """The router's distribution over choices for one batch."""
        scores = apply_router(
            router, model.shapes, statistics, rows.keys, rows.values, self.router, rows.mask
        )
        k = selected_count(self.fraction, len(model.modules))
        return SubsetPolicy(scores.modules, scores.count, k=k)

    def choose(
        self,
        router: Router | None,
        model: EditableModel,
        statistics: dict[str, Any],
        rows: Rows,
        changes: Changes,
        key: Key,
    ) -> Float[Array, " M"]:
        """The mask of a batch when editing, in the order of ``model.modules``; no gradient."""
        modules = len(model.modules)
        k = selected_count(self.fraction, modules)
        if router is not None:
            return self.policy(router, model, statistics, rows).mode().mask()
        if self.how == "random":
            return random_mask(key, modules, k)
        if self.how == "fixed":
            return fixed_mask(self.fixed or tuple(range(modules))[-k:], modules)
        if self.how == "norm":
            norms = squared_norms(changes)
            return top_k_mask(jnp.stack([norms[name] for name in model.modules]), k)
        return dense_mask(modules)

    def training_loss(
        self,
        router: Router | None,
        model: EditableModel,
        statistics: dict[str, Any],
        rows: Rows,
        changes: Changes,
        key: Key,
        loss: Loss,
    ) -> tuple[Float[Array, ""], Changes, dict[str, Array]]:
        """A loss whose gradient trains networks and router alike.

        Args:
          router: None if nothing is learned.
          model, statistics, rows: as in `choose`.
          changes: of all modules.
          key: of the choice.
          loss: of masked changes; the negative of the reward.

        Returns:
          What to differentiate, the changes as chosen, and numbers to log.
        """
        if router is None:
            mask = self.choose(None, model, statistics, rows, changes, key)
            chosen = masked(changes, model, jax.lax.stop_gradient(mask))
            value = loss(chosen)
            return value, chosen, {"loss": value}
        policy = self.policy(router, model, statistics, rows)
        if self.gradient == "ste":
            chosen = masked(changes, model, straight_through(policy.logits, policy.k))
            value = loss(chosen)
            return value, chosen, {"loss": value}
        action = jax.lax.stop_gradient(policy.sample(key))
        chosen = masked(changes, model, action.mask())
        value = loss(chosen)
        dense = loss(jax.lax.stop_gradient(changes))
        advantage = jax.lax.stop_gradient(dense - value)  # r(ω) − r(1)
        surrogate = self.surrogate(policy, action, advantage)
        return value + surrogate, chosen, {"loss": value, "advantage": advantage}

    def surrogate(
        self, policy: SubsetPolicy, action: Subset, advantage: Float[Array, ""]
    ) -> Float[Array, ""]:
        """What to minimize in place of the expected advantage, with the bonus of entropy: the
        gradient is that of REINFORCE."""
        return -advantage * policy.log_prob(action) - self.entropy * policy.entropy(action)


def masked(changes: Changes, model: EditableModel, mask: Float[Array, " M"]) -> Changes:
    """The changes with a mask, in the order of ``model.modules``."""
    return {
        name: changes[name].replace(mask=mask[index])  # type: ignore[attr-defined]
        for index, name in enumerate(model.modules)
    }
