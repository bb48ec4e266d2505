"""The equations of a traced ``apply``, sorted by what they depend on, and their evaluation.

A `Program` sees one example ``[1, ...]``. Its suffix can be evaluated example by example, mapped by
`jax.vmap`, or, where every equation maps rows to rows (dense layers and what acts on single
numbers), with all examples as columns: then whatever runs along the examples is contiguous, and
the classes, few as they are, never are the innermost loop.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Float

from modeledit_jax.edits.column_product import column_product
from modeledit_jax.edits.parametrization import Factors
from modeledit_jax.edits.precision import Precision, is_product, prepared
from modeledit_jax.types import Array

_INLINED = ("jit", "pjit", "closed_call", "core_call")

_NUMBERWISE = """
abs add add_any and ceil clamp convert_element_type copy cos div eq erf exp exp2 expm1 floor ge gt
integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow rsqrt select_n sign sin
sqrt square sub tanh xor
"""
_ELEMENTWISE = frozenset(_NUMBERWISE.split())
"""Primitives that act on single numbers."""


@dataclass(frozen=True)
class Equation:
    """One equation of the flattened jaxpr; ``inputs`` are literals or names of values."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def names(self) -> list[Any]:
        """Of the values it reads."""
        return [name for name in self.inputs if not isinstance(name, Literal)]

    @property
    def is_product(self) -> bool:
        """Whether it multiplies matrices of float32."""
        return is_product(self.primitive.name, [_aval(name).dtype for name in self.inputs])

    def prepared(
        self, inputs: Sequence[Any], precision: Precision
    ) -> tuple[dict[str, Any], list[Any]]:
        """Parameters of the primitive, and its inputs, in some precision."""
        dtypes = [_aval(name).dtype for name in self.inputs]
        return prepared(precision, self.primitive.name, self.params, inputs, dtypes)

    def __call__(self, *inputs: Any, precision: Precision = "float32") -> list[Array]:
        """The results for these inputs."""
        given, values = self.prepared(inputs, precision)
        bound = self.primitive.get_bind_params(given)
        # JAX 0.10.2 returns the parameters alone; other releases lead with callables to bind.
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        results = self.primitive.bind(*functions, *values, **params)
        return results if self.primitive.multiple_results else [results]


class Program:
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
            if unknown.intersection(equation.names):
                unknown.update(equation.outputs)
            if varying.intersection(equation.names):
                varying.update(equation.outputs)
        if self.output not in unknown:
            raise ValueError("the outputs do not depend on the edited leaves; choose another site")
        self.late = [e for e in self.equations if unknown.intersection(e.outputs)]
        self.early = [e for e in self.equations if not unknown.intersection(e.outputs)]
        needed = dict.fromkeys(
            name for equation in self.late for name in equation.names if name not in unknown
        )
        self.per_example = varying
        self.varying_names = [name for name in needed if name in varying]
        self.shared_names = [name for name in needed if name not in varying]

    def shared(self, leaves: Sequence[Array]) -> tuple[Array, ...]:
        known = {**self.constants, **dict(zip(self.leaf_vars, leaves, strict=True))}
        return _evaluate(self.early, known, self.shared_names)

    def varying(self, leaves: Sequence[Array], x: Array) -> tuple[Array, ...]:
        known = {**self.constants, **dict(zip(self.leaf_vars, leaves, strict=True)), self.x_var: x}
        return _evaluate(self.early, known, self.varying_names)

    def finish(
        self,
        edited: Sequence[Array],
        shared: Sequence[Array],
        varying: Sequence[Array],
        added: Mapping[int, tuple[Factors, Array]] = MappingProxyType({}),
        precision: Precision = "float32",
    ) -> Array:
        """The outputs ``[N, ...]`` of all examples.

        Args:
          edited: the edited leaves.
          shared: as `shared` gives them.
          varying: as `varying` gives them, of all examples, which are along `axis`.
          added: by index of an edited leaf that is in `entries`, what is added to its kernel, and
            what the layer puts out with the kernel alone, the examples along `axis` again. The leaf
            of that index is not read.
          precision: of products.
        """
        call = partial(self._call, precision=precision)
        layers = [(self.layers[self.edited_vars[i]], *pair) for i, pair in added.items()]
        names = [*self.varying_names, *(layer.outputs[0] for layer, *_ in layers)]
        values = [*varying, *(product for *_, product in layers)]

        def finish(values: Sequence[Array]) -> Array:
            known = dict(zip(self.edited_vars, edited, strict=True))
            known |= zip(self.shared_names, shared, strict=True)
            known |= zip(names, values, strict=True)
            for layer, factors, _ in layers:
                name, read = layer.outputs[0], known[layer.inputs[0]]
                for factor in (factors.left, factors.right.T):
                    read = self._product(layer, read, factor, precision)
                known[name] = known[name] + read
            return _evaluate(self.late, known, [self.output], call=call)[0]

        if self.by_columns:
            return jnp.moveaxis(finish(values)[0], -1, 0)
        return jax.vmap(lambda values: finish(values)[0])(values)

    def products(
        self,
        edited: Sequence[Array],
        shared: Sequence[Array],
        varying: Sequence[Array],
        precision: Precision = "float32",
    ) -> list[Array]:
        """What the layers of `entries` put out for one example, in their order."""
        names = [self.layers[self.edited_vars[index]].outputs[0] for index in self.entries]
        known = self._known(edited, shared, varying)
        return list(_evaluate(self.late, known, names, call=partial(_call, precision=precision)))

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

    def _product(
        self, layer: "Equation", read: Array, kernel: Float[Array, "d h"], precision: Precision
    ) -> Array:
        """``read @ kernel``, as a layer computes it: of one example, or of all as columns."""
        params, (read, kernel) = layer.prepared((read, kernel), precision)
        options = {name: params[name] for name in ("precision", "preferred_element_type")}
        if not self.by_columns:
            axes = (((read.ndim - 1,), (0,)), ((), ()))
            return jax.lax.dot_general(read, kernel, axes, **options)
        columns = read.reshape(read.shape[-2:])
        product = column_product(kernel, columns, **options)
        return product.reshape(*read.shape[:-2], *product.shape)

    def _call(
        self, equation: "Equation", inputs: Sequence[Any], precision: Precision
    ) -> list[Array]:
        """Evaluates one equation of the suffix, with the examples along the last axis."""
        vary = [not isinstance(n, Literal) and n in self.per_example for n in equation.inputs]
        if not self.by_columns or not any(vary):
            return equation(*inputs, precision=precision)
        if equation.primitive.name == "dot_general":
            row, kernel = inputs
            return [self._product(equation, row, kernel, precision)]
        axes = [-1 if varies else None for varies in vary]
        call = lambda *inputs: equation(*inputs, precision=precision)  # noqa: E731
        return jax.vmap(call, axes, -1)(*inputs)

    @property
    def axis(self) -> int:
        """Of the examples in `finish`: the first under `vmap`, the last where they are columns."""
        return -1 if self.by_columns else 0

    @cached_property
    def by_columns(self) -> bool:
        """Whether the suffix maps rows to rows, so that examples can be columns."""
        late = [e for e in self.late if self.per_example.intersection(e.names)]
        return self.output in self.per_example and all(
            self._is_row_product(e) or _is_elementwise(e) for e in late
        )

    def _is_row_product(self, equation: "Equation") -> bool:
        """Whether it multiplies one row of an example by a matrix that all examples share."""
        if not _is_dense(equation, equation.inputs[-1]):
            return False
        row, kernel = equation.inputs
        alone = math.prod(_shape(row)[:-1]) == 1 and len(_shape(kernel)) == 2
        return alone and row in self.per_example and kernel not in self.per_example

    @cached_property
    def factors(self) -> set[Any]:
        """Names of the values that products in the suffix read, and nothing else does."""
        others = {name for e in self.late if not e.is_product for name in e.names}
        return {name for e in self.late for name in e.names} - others - {self.output}

    @property
    def order_of_use(self) -> list[int]:
        """Indices of the edited leaves that are used, by the last equation that reads each."""
        last = {name: at for at, equation in enumerate(self.late) for name in equation.names}
        used = [index for index, var in enumerate(self.edited_vars) if var in last]
        return sorted(used, key=lambda index: last[self.edited_vars[index]])

    @cached_property
    def entries(self) -> list[int]:
        """Indices of the edited leaves that are dense kernels of layers with a known input."""
        reads = {var: layer.inputs[0] for var, layer in self.layers.items()}
        return [
            index
            for index, var in enumerate(self.edited_vars)
            if var in reads and reads[var] in self.varying_names
        ]

    @cached_property
    def layers(self) -> dict[Any, Equation]:
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


def _is_dense(equation: Equation, kernel: Any) -> bool:
    """Whether it contracts the last axis of some array with the first of ``kernel``."""
    if equation.primitive.name != "dot_general" or equation.inputs[1] is not kernel:
        return False
    (left, right), batch = equation.params["dimension_numbers"]
    axes = len(_shape(equation.inputs[0]))
    return (tuple(left), tuple(right), batch) == ((axes - 1,), (0,), ((), ()))


def _aval(name: Any) -> Any:
    """Shape and dtype of a value, for one example."""
    return (name[1] if isinstance(name, tuple) else name).aval  # a scope's name: (_, variable)


def _shape(name: Any) -> tuple[int, ...]:
    return tuple(_aval(name).shape)


def _call(equation: Equation, inputs: Sequence[Any], precision: Precision) -> list[Array]:
    return equation(*inputs, precision=precision)


def _is_elementwise(equation: Any) -> bool:
    """Whether it acts on single numbers; equations of a custom derivative rule all have to."""
    if equation.primitive.name in _INLINED or equation.primitive.name == "custom_jvp_call":
        inner = equation.params.get("call_jaxpr", equation.params.get("jaxpr"))
        return all(_is_elementwise(one) for one in inner.eqns)
    return equation.primitive.name in _ELEMENTWISE


def _inline(jaxpr: Any) -> tuple[list[Equation], Callable[[Any], Any]]:
    """Flattens nested calls, since a call that touches the site would else be all suffix."""
    equations: list[Equation] = []

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
                equations.append(Equation(equation.primitive, equation.params, inputs, outputs))

    top: dict[Any, Any] = {}
    walk(jaxpr, top)
    return equations, lambda atom: atom if isinstance(atom, Literal) else top.get(atom, atom)


def _evaluate(
    equations: Sequence[Equation],
    known: dict[Any, Array],
    wanted: Sequence[Any],
    added: Mapping[Any, Array] = MappingProxyType({}),
    call: Callable[[Equation, Sequence[Any]], list[Array]] = lambda equation, x: equation(*x),
) -> tuple[Array, ...]:
    """Evaluates the equations that ``wanted`` needs, given the ``known`` values.

    ``added`` is added to the results of that name; ``call`` evaluates one equation.
    """
    needed, plan = set(wanted) - known.keys(), []
    for equation in reversed(equations):
        if needed.intersection(equation.outputs):
            plan.append(equation)
            needed.update(name for name in equation.names if name not in known)
    values = dict(known)
    for equation in reversed(plan):
        inputs = [n.val if isinstance(n, Literal) else values[n] for n in equation.inputs]
        named = zip(equation.outputs, call(equation, inputs), strict=True)
        values.update({name: x + added[name] if name in added else x for name, x in named})
    return tuple(jnp.asarray(values[name]) for name in wanted)
