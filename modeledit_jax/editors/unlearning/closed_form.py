"""Unlearning in closed form: one forward and backward pass, then linear algebra on every layer.

*Projection* takes away what a layer reads along the direction that the mean input of the forgotten
class shares with no retained class (in the manner of DAMP, arXiv 2604.15166). *Prototype
projection* does so with what the layer puts out, so that nothing behind it sees the class on its
own. *Ridge* asks for other outputs on the examples to forget and the same ones on the rest, in
least squares (Meng et al. 2023, *Mass-Editing Memory in a Transformer*, for a dense classifier).

They read the ``reward`` role, as a search does, and edit dense kernels ``z = h W`` alone, each from
the activations ``h [N, Q, D]`` of the unedited network. Linear algebra is float64.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import cached_features, split_apply
from modeledit_jax.evaluation.accuracy import margins
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Apply, Array, Key, Leaves, Params

PerExample: TypeAlias = Num[np.ndarray, " n"]
Inputs: TypeAlias = Num[np.ndarray, "n q d"]
Prototypes: TypeAlias = Float[np.ndarray, "_ d"]
Outputs: TypeAlias = Float[np.ndarray, "n h"]
ZERO = 1e-6  # a residual shorter than this, relative to its prototype, is float32 rounding


def class_means(h: Inputs, label: PerExample, weights: PerExample) -> Prototypes:
    """Mean of ``h`` over the examples and positions of every class that has weight."""
    weighted = np.stack([weights * (label == c) for c in np.unique(label[weights > 0])])
    return weighted @ h.mean(axis=1, dtype=np.float64) / weighted.sum(axis=1, keepdims=True)


def residual_basis(forget: Prototypes, retain: Prototypes) -> Float[np.ndarray, "d k"]:
    """Orthonormal basis of the residuals of the rows of ``forget`` off the span of ``retain``.

    Of one row it is the normalized residual; fewer columns than rows where residuals depend on one
    another. Raises ValueError where one is numerically zero.
    """
    residual = forget.T - retain.T @ np.linalg.lstsq(retain.T, forget.T, rcond=None)[0]
    size = np.linalg.norm(residual, axis=0)
    if np.any(size <= ZERO * np.linalg.norm(forget, axis=1)):
        raise ValueError(
            "the mean input of a forgotten class lies in the span of those of the retained ones: "
            "choose RidgeEditor, or a layer with more inputs than there are classes"
        )
    basis, values, _ = np.linalg.svd(residual / size, full_matrices=False)
    return basis[:, values > ZERO * values[0]]


def lead_steps(
    lead: PerExample, slope: Outputs, label: PerExample, weights: PerExample, margin: float
) -> Outputs:
    """Changes of a layer's outputs that put the true class ``margin`` nats behind, to first order.

    ``−max(lead + margin, 0) ḡ / ‖ḡ‖²`` with the mean ``ḡ`` over the example's class of ``slope``,
    the gradient of the lead; 0 where ``weights`` is. Raises ValueError where ``ḡ`` is zero.
    """
    steps = np.zeros(slope.shape)
    for c in np.unique(label[weights > 0]):
        rows = (label == c) & (weights > 0)
        mean = np.average(slope[rows], axis=0, weights=weights[rows])
        if not mean @ mean > 0:
            raise ValueError(f"the layer does not influence class {c}: choose another site")
        steps[rows] = -np.outer(np.maximum(lead[rows] + margin, 0.0), mean / (mean @ mean))
    return steps


def ridge_update(
    h: Inputs, steps: Outputs, retain: PerExample, forget: PerExample, weight: float, ridge: float
) -> Float[np.ndarray, "d h"]:
    """The ``Δ`` that minimizes ``E_r‖hΔ‖² + weight · E_f‖hΔ − step‖² + ρ‖Δ‖²``.

    ``Δ = (M_r + weight · M_f + ρI)⁻¹ · weight · E_f[hᵀ step]`` with means over the positions and
    the weighted examples of a set, and ``ρ`` = ``ridge`` × mean diagonal of ``M_r + weight · M_f``.
    """
    share_r, share_f = (w / (w.sum(dtype=np.float64) * h.shape[1]) for w in (retain, forget))
    rows = h.reshape(-1, h.shape[-1]).astype(np.float64)
    moment = (rows.T * np.repeat(share_r + weight * share_f, h.shape[1])) @ rows
    moment += ridge * np.trace(moment) / len(moment) * np.eye(len(moment))
    return np.linalg.solve(moment, weight * (h.sum(axis=1, dtype=np.float64).T * share_f) @ steps)


@dataclass(frozen=True)
class Activations:
    """The reward role, and what the unedited network does on it."""

    retain: np.ndarray  # [N] float32, weights of the sets
    forget: np.ndarray
    label: np.ndarray  # [N] int32
    lead: np.ndarray  # [N] float32, see `margins`
    slopes: dict[str, np.ndarray]  # {path: [N, H]} float32, gradients of the lead
    inputs: dict[str, np.ndarray]  # {path: [N, Q, D]} float32


@dataclass(frozen=True)
class _ClosedForm(ABC):
    """What these editors share; they differ in the change of a kernel."""

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``key`` is not used.

        Raises:
          ValueError: no examples to retain or to forget, a leaf that is no dense kernel, settings
            or activations out of range, or as `residual_basis` and `lead_steps`.
        """
        del key
        begin = time.perf_counter()
        if not np.isfinite(astuple(self)).all():
            raise ValueError(f"{self}: all settings must be finite")
        seen, leaves = collect(task), {}
        for path, leaf in task.leaves.items():
            kernel = np.asarray(leaf, np.float64)
            leaves[path] = jnp.asarray(kernel + self._change(seen, path, kernel), leaf.dtype)
        params = set_leaves(task.subject.params, leaves)
        return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin)))

    @abstractmethod
    def _change(self, seen: Activations, path: str, kernel: np.ndarray) -> np.ndarray:
        """What is added to a kernel ``[D, H]``."""


@dataclass(frozen=True)
class ProjectionEditor(_ClosedForm):
    """``W ← W − strength · B Bᵀ W`` with the `residual_basis` ``B`` of the classes' mean inputs.

    Attributes:
      strength: 1 removes what the layer answers to the residual, 2 inverts it. Removed, a class
        may still win by what it shares with others. Inversions in several layers at once undo one
        another.
    """

    strength: float = 2.0

    def _change(self, seen: Activations, path: str, kernel: np.ndarray) -> np.ndarray:
        sets = (seen.forget, seen.retain)
        basis = residual_basis(*(class_means(seen.inputs[path], seen.label, w) for w in sets))
        return -self.strength * basis @ (basis.T @ kernel)


@dataclass(frozen=True)
class PrototypeProjection(_ClosedForm):
    """``W ← W − strength · W U Uᵀ`` with the `residual_basis` ``U`` of the classes' mean outputs.

    Mean outputs are relative to the mean of the retained classes, so that a bias, which is no part
    of a kernel, has no share in them. What the forgotten prototypes differ by is gone from what the
    layer puts out; what they share with others stays, and is what the class is then taken for.

    Attributes:
      strength: 1 takes the directions away, 2 mirrors them.
    """

    strength: float = 1.0

    def _change(self, seen: Activations, path: str, kernel: np.ndarray) -> np.ndarray:
        sets = (seen.forget, seen.retain)
        forget, retain = (class_means(seen.inputs[path], seen.label, w) @ kernel for w in sets)
        center = retain.mean(axis=0)
        basis = residual_basis(forget - center, retain - center)
        return -self.strength * (kernel @ basis) @ basis.T


@dataclass(frozen=True)
class RidgeEditor(_ClosedForm):
    """`ridge_update` towards `lead_steps`; of several layers each takes an equal part of the lead.

    Examples move by their own lead along the mean gradient of their class. By the mean lead the
    surest examples would fall short; along their own gradients, which point at different rivals,
    one linear map could not follow.

    Attributes:
      weight: of the examples to forget, relative to the others; above 0.
      ridge: see `ridge_update`; above 0, so that units that never fire keep their weights.
      margin: see `lead_steps`. At 0 the class is to be even with the others, and fits fall short.
    """

    weight: float = 1.0
    ridge: float = 0.01
    margin: float = 5.0

    def _change(self, seen: Activations, path: str, kernel: np.ndarray) -> np.ndarray:
        if min(self.weight, self.ridge) <= 0:
            raise ValueError(f"{self}: weight and ridge must be above 0")
        steps = lead_steps(seen.lead, seen.slopes[path], seen.label, seen.forget, self.margin)
        sets, part = (seen.retain, seen.forget), steps / len(seen.inputs)
        return ridge_update(seen.inputs[path], part, *sets, self.weight, self.ridge)


def collect(task: Task) -> Activations:
    """Runs the unedited network once over the reward role, as NumPy arrays.

    Raises:
      ValueError: nothing to retain or to forget, or activations that are not finite.
    """
    subject, sets = task.subject, task.roles["reward"]
    retain, forget = (np.asarray(sets.weights.get(name, [0.0])) for name in ("retain", "forget"))
    if min(retain.sum(), forget.sum()) <= 0:
        raise ValueError(
            f"{task.name!r} has no examples to retain or none to forget in its reward role: "
            "closed-form unlearning takes a task of forget_classes or forget_samples"
        )
    found = _passes(subject.apply, subject.params, sets.x, sets.label, task.site)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)):
        raise ValueError("the network's activations are not finite on the reward role: check it")
    return Activations(retain, forget, np.asarray(sets.label), *jax.tree.map(np.asarray, found))


@partial(jax.jit, static_argnums=(0, 4))
def _passes(
    apply: Apply, params: Params, x: Array, label: Array, paths: tuple[str, ...]
) -> tuple[Array, Leaves, Leaves]:
    """Leads ``[N]``, their gradients ``{path: [N, H]}``, and inputs ``{path: [N, Q, D]}``."""
    split = split_apply(apply, params, x, paths)
    features, leaves = cached_features(apply, params, x, paths), get_leaves(params, paths)
    taps = {path: jnp.zeros((len(x), W.shape[-1]), W.dtype) for path, W in leaves.items()}
    out, pull_back, inputs = jax.vjp(partial(split.tapped, leaves, features), taps, has_aux=True)
    lead, by_outputs = jax.vjp(lambda out: margins(out.astype(jnp.float32), label), out)
    (slopes,) = pull_back(*by_outputs(jnp.ones_like(lead)))
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (lead, slopes, inputs))
