"""Splits any pure ``apply`` at the edited leaves, so that an evaluation costs the suffix alone.

Candidates of one search differ in the edited leaves and in nothing else. Whatever the outputs
need that does not depend on those leaves is computed once and cached: the jaxpr of ``apply`` on
one example is sorted, equation by equation, into a *prefix* (no dependence on the edited leaves)
and a *suffix*; both halves are then mapped over examples by `jax.vmap`. No knowledge of the
network's library or layers is needed.

Outputs of an example must not depend on the other examples of its batch (batch normalisation in
training mode, for instance, would): the split sees one example at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.extend.core import ClosedJaxpr, Literal

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.types import Apply, Array, Field, Leaves, Params

_INLINED = ("jit", "pjit", "closed_call", "core_call")


@struct.dataclass
class Features:
    """What the suffix needs beside the edited leaves."""

    shared: Field  # tuple of arrays that are the same for every example (later layers' weights)
    per_example: Field  # tuple of arrays [N, ...]


@dataclass(frozen=True)
class SplitApply:
    """``apply(params, x) == suffix(leaves, prefix(params, x))`` with the leaves of ``params``.

    Attributes:
      prefix: ``(params, x [N, ...]) -> Features``; run once for every evaluation set.
      suffix: ``(leaves, features) -> outputs [N, ...]``; run for every candidate.
    """

    prefix: Callable[[Params, Array], Features]
    suffix: Callable[[Leaves, Features], Array]


@dataclass(frozen=True)
class _Equation:
    """One equation of the flattened jaxpr; ``inputs`` are literals or names of values."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


def split_apply(apply: Apply, params: Params, x: Array, paths: Sequence[str]) -> SplitApply:
    """Splits ``apply`` at the leaves ``paths``.

    Args:
      apply: pure ``(params, x [N, ...]) -> outputs [N, ...]``.
      params: a parameter pytree; only structure, shapes and dtypes matter.
      x: a batch of inputs ``[N, ...]``; only the shape and dtype of an example matter.
      paths: exact paths of the edited leaves (`match_paths`).

    Raises:
      ValueError: the outputs do not depend on the edited leaves.
    """
    flat, treedef = jax.tree.flatten(params)
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    closed = jax.make_jaxpr(lambda flat, x: apply(jax.tree.unflatten(treedef, flat), x))(
        flat, example
    )
    edited = [index for index, path in enumerate(leaf_paths(params)) if path in set(paths)]
    names = [leaf_paths(params)[index] for index in edited]
    program = _Program(closed, edited)

    def prefix(params: Params, x: Array) -> Features:
        leaves = jax.tree.leaves(params)
        per_example = jax.vmap(lambda example: program.varying(leaves, example[None]))(x)
        return Features(shared=program.shared(leaves), per_example=per_example)

    def suffix(leaves: Leaves, features: Features) -> Array:
        values = [leaves[name] for name in names]
        return jax.vmap(lambda varying: program.finish(values, features.shared, varying)[0])(
            features.per_example
        )

    return SplitApply(prefix, suffix)


class _Program:
    """The three parts of a traced ``apply``: shared and per-example prefix, and the suffix."""

    def __init__(self, closed: ClosedJaxpr, edited: Sequence[int]):
        jaxpr = closed.jaxpr
        self.constants = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        *self.leaf_vars, self.x_var = jaxpr.invars
        self.edited_vars = [self.leaf_vars[index] for index in edited]
        self.equations, renamed = _inline(jaxpr)
        (self.output,) = [renamed(var) for var in jaxpr.outvars]

        unknown, varying = set(self.edited_vars), {self.x_var}
        for equation in self.equations:
            read = {name for name in equation.inputs if not isinstance(name, Literal)}
            if read & unknown:
                unknown.update(equation.outputs)
            elif read & varying:
                varying.update(equation.outputs)
        if self.output not in unknown:
            raise ValueError("the outputs do not depend on the edited leaves; choose another site")
        self.late = [e for e in self.equations if unknown.intersection(e.outputs)]
        self.early = [e for e in self.equations if not unknown.intersection(e.outputs)]
        needed = dict.fromkeys(
            name
            for equation in self.late
            for name in equation.inputs
            if not isinstance(name, Literal) and name not in unknown
        )
        self.varying_names = [name for name in needed if name in varying]
        self.shared_names = [name for name in needed if name not in varying]

    def shared(self, leaves: Sequence[Array]) -> tuple[Array, ...]:
        known = {**self.constants, **dict(zip(self.leaf_vars, leaves, strict=True))}
        return _evaluate(self.early, known, self.shared_names)

    def varying(self, leaves: Sequence[Array], x: Array) -> tuple[Array, ...]:
        known = {**self.constants, **dict(zip(self.leaf_vars, leaves, strict=True)), self.x_var: x}
        return _evaluate(self.early, known, self.varying_names)

    def finish(
        self, edited: Sequence[Array], shared: Sequence[Array], varying: Sequence[Array]
    ) -> Array:
        known = {
            **dict(zip(self.edited_vars, edited, strict=True)),
            **dict(zip(self.shared_names, shared, strict=True)),
            **dict(zip(self.varying_names, varying, strict=True)),
        }
        return _evaluate(self.late, known, [self.output])[0]


def _inline(jaxpr: Any) -> tuple[list[_Equation], Callable[[Any], Any]]:
    """Flattens nested calls, since a call that touches the site would else be all suffix."""
    equations: list[_Equation] = []

    def walk(jaxpr: Any, rename: dict[Any, Any]) -> None:
        def name(atom: Any) -> Any:
            return atom if isinstance(atom, Literal) else rename.get(atom, atom)

        for equation in jaxpr.eqns:
            inputs = tuple(name(atom) for atom in equation.invars)
            if equation.primitive.name in _INLINED:
                inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
                body = inner.jaxpr
                # A fresh scope: the same inner jaxpr may be called more than once.
                scope = {var: (object(), var) for eqn in body.eqns for var in eqn.outvars}
                scope |= dict(zip(body.invars, inputs, strict=True))
                scope |= {
                    var: Literal(value, var.aval)
                    for var, value in zip(body.constvars, inner.consts, strict=True)
                }
                walk(body, scope)
                for outer, result in zip(equation.outvars, body.outvars, strict=True):
                    rename[outer] = result if isinstance(result, Literal) else scope[result]
            else:
                outputs = tuple(name(var) for var in equation.outvars)
                equations.append(_Equation(equation.primitive, equation.params, inputs, outputs))

    top: dict[Any, Any] = {}
    walk(jaxpr, top)
    return equations, lambda atom: atom if isinstance(atom, Literal) else top.get(atom, atom)


def _evaluate(
    equations: Sequence[_Equation], known: dict[Any, Array], wanted: Sequence[Any]
) -> tuple[Array, ...]:
    """Evaluates the equations that ``wanted`` needs, given the ``known`` values."""
    needed, plan = set(wanted), []
    for equation in reversed(equations):
        if needed.intersection(equation.outputs):
            plan.append(equation)
            needed.update(name for name in equation.inputs if not isinstance(name, Literal))
    values = dict(known)
    for equation in reversed(plan):
        inputs = [n.val if isinstance(n, Literal) else values[n] for n in equation.inputs]
        bound = equation.primitive.get_bind_params(equation.params)
        # JAX 0.10.2 returns the parameters alone; other releases lead with callables to bind.
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        results = equation.primitive.bind(*functions, *inputs, **params)
        if not equation.primitive.multiple_results:
            results = [results]
        values.update(zip(equation.outputs, results, strict=True))
    return tuple(jnp.asarray(values[name]) for name in wanted)
