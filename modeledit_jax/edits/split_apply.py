"""Splits any pure ``apply`` at the edited leaves, so that an evaluation costs the suffix alone.

Candidates of one search differ in the edited leaves and in nothing else. Whatever the outputs
need that does not depend on those leaves is computed once and cached: the jaxpr of ``apply`` on
one example is sorted, equation by equation, into a *prefix* (no dependence on the edited leaves)
and a *suffix*; both halves are then mapped over examples by `jax.vmap`. No knowledge of the
network's library or layers is needed.

Outputs of an example must not depend on the other examples of its batch (batch normalization in
training mode, for instance, would): the split sees one example at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Float, Int

from modeledit_jax import struct
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

    Equal by value: what is compiled for one split serves every network of the same ``apply``,
    shapes and edited leaves. Build it with `split_apply`.

    Attributes:
      apply: the function that is split.
      structure: tree definition of its parameters.
      leaves: shape and dtype of every parameter.
      example: shape ``[1, ...]`` and dtype of an input.
      paths: of the edited leaves, in the order of the parameters.
      context: settings of JAX that a trace depends on.
    """

    apply: Apply
    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    example: jax.ShapeDtypeStruct
    paths: tuple[str, ...]
    context: tuple[Any, ...]

    def prefix(self, params: Params, x: Float[Array, "n ..."] | Int[Array, "n ..."]) -> Features:
        """What does not depend on the edited leaves; run once for every evaluation set."""
        program, leaves = _program(self), jax.tree.leaves(params)
        per_example = jax.vmap(lambda example: program.varying(leaves, example[None]))(x)
        return Features(shared=program.shared(leaves), per_example=per_example)

    def suffix(self, leaves: Leaves, features: Features) -> Float[Array, "n ..."]:
        """The outputs; run for every candidate."""
        program, values = _program(self), [leaves[path] for path in self.paths]
        return jax.vmap(lambda varying: program.finish(values, features.shared, varying)[0])(
            features.per_example
        )

    def tapped(self, leaves: Leaves, features: Features, taps: Leaves) -> tuple[Array, Leaves]:
        """The outputs with something added behind every edited layer, and what the layers read.

        Args:
          leaves: edited leaves, dense kernels ``[D, H]``.
          features: of `prefix`.
          taps: ``{path: [N, H]}``, added to what the layers put out, at each of their ``Q``
            positions (1, but for convolutions on unfolded patches), so that a gradient by zero taps
            is that by the layer's outputs.

        Returns:
          Outputs ``[N, ...]`` and the layers' inputs ``{path: [N, Q, D]}``.

        Raises:
          ValueError: a leaf is used in another way than as a dense kernel.
        """
        program, values = _program(self), [leaves[path] for path in self.paths]
        program.check_dense(self.paths)

        def one(varying: tuple[Array, ...], taps: Leaves) -> tuple[Array, Leaves]:
            added = [taps[path] for path in self.paths]
            output, inputs = program.finish_tapped(values, features.shared, varying, added)
            rows = [h.reshape(-1, h.shape[-1]) for h in inputs]
            return output[0], dict(zip(self.paths, rows, strict=True))

        return jax.vmap(one)(features.per_example, taps)


_TRACED_WITH = ("jax_enable_x64", "jax_default_matmul_precision")


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
    flat, structure = jax.tree.flatten(params)
    split = SplitApply(
        apply=apply,
        structure=structure,
        leaves=tuple(map(_abstract, flat)),
        example=jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
        paths=tuple(path for path in leaf_paths(params) if path in set(paths)),
        context=tuple(getattr(jax.config, name) for name in _TRACED_WITH),
    )
    _program(split)  # mistakes show here
    return split


run_prefix = jax.jit(SplitApply.prefix, static_argnums=0)
"""`SplitApply.prefix`, compiled once for all equal splits."""

run_suffix = jax.jit(SplitApply.suffix, static_argnums=0)
"""`SplitApply.suffix`, likewise."""


@partial(jax.jit, static_argnums=(0, 3))
def cached_features(apply: Apply, params: Params, x: Array, paths: tuple[str, ...]) -> Features:
    """What the outputs need beside the leaves ``paths`` (`split_apply`), in bounded memory."""
    split = split_apply(apply, params, x, paths)

    def one(example: Array) -> tuple[Array, ...]:
        features = split.prefix(params, example[None])
        return jax.tree.map(lambda feature: feature[0], features.per_example)

    per_example = jax.lax.map(one, x, batch_size=2048)
    return Features(shared=split.prefix(params, x[:1]).shared, per_example=per_example)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    aval = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


@lru_cache(maxsize=128)
def _program(split: SplitApply) -> "_Program":
    """The traced and sorted ``apply`` of a split."""

    def apply(flat: Sequence[Array], x: Array) -> Array:
        return split.apply(jax.tree.unflatten(split.structure, flat), x)

    # A program outlives the call that asks for it, so nothing of a trace around it may leak in.
    with jax.ensure_compile_time_eval():
        closed = jax.make_jaxpr(apply)(list(split.leaves), split.example)
    every = leaf_paths(jax.tree.unflatten(split.structure, split.leaves))
    return _Program(closed, [index for index, path in enumerate(every) if path in split.paths])


@dataclass(frozen=True)
class _Equation:
    """One equation of the flattened jaxpr; ``inputs`` are literals or names of values."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


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
        return _evaluate(self.late, self._known(edited, shared, varying), [self.output])[0]

    def finish_tapped(
        self,
        edited: Sequence[Array],
        shared: Sequence[Array],
        varying: Sequence[Array],
        taps: Sequence[Array],
    ) -> tuple[Array, list[Array]]:
        """`finish` with something added behind every edited layer; also what the layers read."""
        added = {
            self.layers[var].outputs[0]: tap for var, tap in zip(self.layers, taps, strict=True)
        }
        read = [self.layers[var].inputs[0] for var in self.edited_vars]
        output, *inputs = _evaluate(
            self.late, self._known(edited, shared, varying), [self.output, *read], added
        )
        return output, inputs

    def _known(
        self, edited: Sequence[Array], shared: Sequence[Array], varying: Sequence[Array]
    ) -> dict[Any, Array]:
        return {
            **dict(zip(self.edited_vars, edited, strict=True)),
            **dict(zip(self.shared_names, shared, strict=True)),
            **dict(zip(self.varying_names, varying, strict=True)),
        }

    @cached_property
    def layers(self) -> dict[Any, _Equation]:
        """Of every edited leaf that is used once, as ``x @ W``, the equation that does so."""
        users = {var: [e for e in self.late if var in e.inputs] for var in self.edited_vars}
        return {
            var: equations[0]
            for var, equations in users.items()
            if len(equations) == 1 and _is_dense(equations[0], var)
        }

    def check_dense(self, names: Sequence[str]) -> None:
        """Raises ValueError unless every edited leaf is a dense kernel."""
        others = [
            n for n, var in zip(names, self.edited_vars, strict=True) if var not in self.layers
        ]
        if others:
            raise ValueError(
                f"the network does not use {', '.join(others)} once, as x @ W: what a layer reads "
                "and puts out is known for dense kernels alone, in the dtype of their input; "
                "choose another site"
            )


def _is_dense(equation: _Equation, kernel: Any) -> bool:
    """Whether it contracts the last axis of some array with the first of ``kernel``."""
    if equation.primitive.name != "dot_general" or equation.inputs[1] is not kernel:
        return False
    (left, right), batch = equation.params["dimension_numbers"]
    read = equation.inputs[0]
    axes = (read[1] if isinstance(read, tuple) else read).aval.ndim  # a scope's name: (_, variable)
    return (tuple(left), tuple(right), batch) == ((axes - 1,), (0,), ((), ()))


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
    equations: Sequence[_Equation],
    known: dict[Any, Array],
    wanted: Sequence[Any],
    added: Mapping[Any, Array] = MappingProxyType({}),
) -> tuple[Array, ...]:
    """Evaluates the equations that ``wanted`` needs, given the ``known`` values.

    ``added`` is added to the results of that name.
    """
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
        named = zip(equation.outputs, results, strict=True)
        values.update({name: x + added[name] if name in added else x for name, x in named})
    return tuple(jnp.asarray(values[name]) for name in wanted)
