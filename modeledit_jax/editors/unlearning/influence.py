"""Influence unlearning: one Newton step away from the examples to forget, exact but for damping.

The curvature is that of Gauss and Newton, ``G = E_retain Jᵀ (diag p − p pᵀ) J`` with the Jacobian
``J`` of an example's logits by the leaves, and is never written down: conjugate gradients need its
products alone. So it is exact at any scope, where WoodFisher's recursion, which the comparisons use
(Izzo et al. 2021; Jia et al. 2023, "IU"), sums up a thousand examples.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.editors.unlearning.gradient_editor import network_of, training_sets
from modeledit_jax.editors.unlearning.gradients import (
    CHUNK,
    Setup,
    mean_gradient,
    sum_over_examples,
)
from modeledit_jax.editors.unlearning.scope import Scope
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import Features, cached_features, split_apply
from modeledit_jax.evaluation.accuracy import all_logits
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves, Params, PyTree


@dataclass(frozen=True)
class Influence:
    """``θ ← θ + strength · s · (G + damping I)⁻¹ (∇E_forget ℓ − ∇E_retain ℓ)``.

    ``s`` is the share of the forget examples in all, so that at strength 1 and without damping it
    is the Newton step by which their loss is taken out of a minimum (Koh & Liang 2017).

    Attributes:
      scope: see `Scope`.
      strength: α of the published code.
      damping: added to the curvature, in nats per squared unit of weight; above 0.
      iterations: of conjugate gradients, at most.
      tolerance: of their residual, relative to the right side.
    """

    scope: Scope = "site"
    strength: float = 1.0
    damping: float = 1e-3
    iterations: int = 100
    tolerance: float = 1e-4

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``key`` is not used.

        Raises:
          ValueError: settings out of range, or nothing to retain or to forget.
        """
        del key
        begin = time.perf_counter()
        numbers = (self.damping, self.iterations, self.tolerance)
        if not math.isfinite(self.strength) or not all(0 < n < math.inf for n in numbers):
            raise ValueError(f"all settings but the strength must be finite and above 0: {self}")
        network, sets = network_of(task, self.scope), training_sets(task)
        setup = (network.apply, network.paths)
        features = cached_features(network.apply, network.params, sets.x, network.paths)
        retain, forget = sets.weights["retain"], sets.weights["forget"]
        data = (network.params, sets.x[:1], features)
        lost, kept = (mean_gradient(setup, *data, sets.label, w) for w in (forget, retain))
        right = jax.tree.map(jnp.subtract, lost, kept)
        damping, tolerance = jnp.float32(self.damping), jnp.float32(self.tolerance)
        found = _solved(setup, *data, retain, right, damping, self.iterations, tolerance)
        scale = self.strength * forget.sum() / (forget.sum() + retain.sum())
        leaves = jax.tree.map(lambda leaf, own: leaf + scale * own, network.leaves, found)
        params = jax.block_until_ready(set_leaves(network.params, leaves))
        return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin)))


@partial(jax.jit, static_argnums=(0, 7))
def _solved(
    setup: Setup,
    params: Params,
    example: Array,
    features: Features,
    weight: Float[Array, " n"],
    right: Leaves,
    damping: Array,
    iterations: int,
    tolerance: Array,
) -> Leaves:
    """``(G + damping I)⁻¹ right`` with the curvature of the weighted examples."""
    apply, paths = setup
    suffix = split_apply(apply, params, example, paths).suffix
    leaves = get_leaves(params, paths)

    def product(direction: Leaves) -> Leaves:
        def of_some(per_example: PyTree, weight: Array) -> Leaves:
            own = replace(features, per_example=per_example)

            def logits(leaves: Leaves) -> Array:
                return all_logits(suffix(leaves, own).astype(jnp.float32))

            outputs, change = jax.jvp(logits, (leaves,), (direction,))
            p = jax.nn.softmax(outputs)
            curved = weight[:, None] * p * (change - (p * change).sum(axis=1, keepdims=True))
            return jax.vjp(logits, leaves)[1](curved)[0]

        found = sum_over_examples(of_some, features.per_example, weight, CHUNK)
        mean = jax.tree.map(lambda leaf: leaf / weight.sum(), found)
        return jax.tree.map(lambda leaf, own: leaf + damping * own, mean, direction)

    solve = jax.scipy.sparse.linalg.cg
    return solve(product, right, tol=tolerance, maxiter=iterations)[0]
