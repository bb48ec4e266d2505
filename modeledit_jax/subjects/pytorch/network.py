"""A torch network as a pure function of JAX: the steps of its exported graph, one after another."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from modeledit_jax.subjects.pytorch import elementwise, layers, shapes
from modeledit_jax.subjects.pytorch.layouts import Kernel, Leaf
from modeledit_jax.types import Array, Params

OPERATORS: dict[str, Callable[..., Any]] = {
    **elementwise.OPERATORS,
    **layers.OPERATORS,
    **shapes.OPERATORS,
    "operator.getitem": operator.getitem,
    # Sizes that depend on the number of examples.
    **{
        f"operator.{name}": getattr(operator, name)
        for name in ("add", "floordiv", "mod", "mul", "neg", "sub")
    },
}
"""What each operator of a graph does, by the name that torch has for it."""


@dataclass(frozen=True)
class Value:
    """Stands for the result of a step, or for an input, by its name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operator of the graph.

    Attributes:
      operator: its name in `OPERATORS`.
      inputs: numbers, texts, `Value`, and tuples of these.
      options: the same, by name.
      result: name of what it gives.
      dtype: of that; None where it is no array.
    """

    operator: str
    inputs: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    result: str
    dtype: str | None


@dataclass(frozen=True)
class TorchNetwork:
    """``network(params, x [N, ...])``, equal by value: networks of one architecture compile once.

    Attributes:
      leaves: of the parameters.
      steps: of the graph, in their order.
      input: name of ``x``.
      output: of what is returned.
      shape: of one example, as torch reads it.
      dtype: of the examples.
      channels_last: whether ``x`` has its channels last, and torch reads them first.
    """

    leaves: tuple[Leaf, ...]
    steps: tuple[Step, ...]
    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    channels_last: bool

    @cached_property
    def _hash(self) -> int:
        return hash((self.leaves, self.steps, self.shape, self.dtype, self.channels_last))

    def __hash__(self) -> int:
        return self._hash  # asked for at every call of what is compiled

    def __call__(self, params: Params, x: Array) -> Array:
        """The outputs ``[N, ...]``.

        Raises:
          ValueError: examples of another shape or kind than the network was read with.
        """
        values: dict[str, Any] = {self.input: self._checked(jnp.asarray(x))}
        for leaf in self.leaves:
            values |= dict.fromkeys(leaf.values, _read(params, leaf))
        for step in self.steps:
            inputs = _resolved(step.inputs, values)
            options = {name: _resolved(given, values) for name, given in step.options}
            result = OPERATORS[step.operator](*inputs, **options)
            if step.dtype is not None and result.dtype != step.dtype:
                result = result.astype(step.dtype)  # torch and JAX differ in what they promote to
            values[step.result] = result
        return values[self.output]

    def _checked(self, x: Array) -> Array:
        """``x`` as the first step reads it."""
        own = (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape
        if x.shape[1:] != own:
            raise ValueError(
                f"the network of torch reads examples of shape {own}, got {x.shape[1:]}: "
                "torch has the channels of images first; with from_torch(…, channels_last=True) "
                "x has them last"
            )
        kinds = [jnp.issubdtype(dtype, jnp.floating) for dtype in (x.dtype, self.dtype)]
        if kinds[0] and not kinds[1]:
            raise ValueError(f"the network of torch reads {self.dtype}, got {x.dtype}")
        x = x.astype(self.dtype)
        return jnp.moveaxis(x, -1, 1) if self.channels_last else x


def _read(params: Params, leaf: Leaf) -> Array | Kernel:
    value: Any = params
    for key in leaf.keys:
        value = value[key]
    if leaf.layout == "torch":
        return jnp.asarray(value)
    return Kernel(jnp.asarray(value), leaf.shape[2:], leaf.unfold)


def _resolved(given: Any, values: Mapping[str, Any]) -> Any:
    """Arguments of an operator, with the values in place of their names."""
    if isinstance(given, Value):
        return values[given.name]
    if isinstance(given, tuple):
        return tuple(_resolved(one, values) for one in given)
    return given
