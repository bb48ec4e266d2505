"""Splits any pure ``apply`` at the edited leaves, so that an evaluation costs the suffix alone.

Candidates of one search differ in the edited leaves and in nothing else. Whatever the outputs
need that does not depend on those leaves is computed once and cached: the jaxpr of ``apply`` on
one example is sorted, equation by equation, into a *prefix* (no dependence on the edited leaves)
and a *suffix*; both halves are then mapped over examples. No knowledge of the network's library or
layers is needed.

Where an edited leaf is the kernel of a dense layer whose input is in the prefix, an edit that adds
``A Bᵀ`` to it need not be multiplied out: ``h (W + A Bᵀ) = h W + (h A) Bᵀ``, where ``h W`` is the
same for all candidates (`SplitApply.products`).

Outputs of an example must not depend on the other examples of its batch (batch normalization in
training mode, for instance, would): the split sees one example at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.edits.parametrization import Factors
from modeledit_jax.edits.precision import Precision, stored
from modeledit_jax.edits.program import Program
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.types import Apply, Array, Field, Leaves, Params


@struct.dataclass
class Features:
    """What the suffix needs beside the edited leaves."""

    shared: Field  # tuple of arrays that are the same for every example (later layers' weights)
    per_example: Field  # tuple of arrays, of N examples each
    axis: int = struct.field(pytree_node=False, default=0)  # theirs: [N, ...], or -1: [..., N]

    def take(self, rows: Int[Array, " m"]) -> "Features":
        """Those of some of the examples."""
        take = partial(jnp.take, indices=rows, axis=self.axis)
        return replace(self, per_example=jax.tree.map(take, self.per_example))


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
      precision: of the products in `suffix` and `products`; `prefix` and `tapped` have float32.
    """

    apply: Apply
    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    example: jax.ShapeDtypeStruct
    paths: tuple[str, ...]
    context: tuple[Any, ...]
    precision: Precision = "float32"

    def prefix(self, params: Params, x: Float[Array, "n ..."] | Int[Array, "n ..."]) -> Features:
        """What does not depend on the edited leaves; run once for every evaluation set."""
        program, leaves = _program(self), jax.tree.leaves(params)
        per_example = jax.vmap(lambda example: program.varying(leaves, example[None]))(x)
        return Features(shared=program.shared(leaves), per_example=per_example)

    @property
    def entries(self) -> tuple[str, ...]:
        """Edited leaves that are dense kernels, used once, of layers whose input is cached."""
        return tuple(self.paths[index] for index in _program(self).entries)

    @property
    def paths_in_order_of_use(self) -> tuple[str, ...]:
        """The edited leaves that are used, ordered by where each is used last."""
        return tuple(self.paths[index] for index in _program(self).order_of_use)

    def arranged(self, features: Features) -> Features:
        """The same, with the examples along the axis that makes `suffix` fast."""
        axis = _program(self).axis
        per_example = [jnp.moveaxis(x, features.axis, axis) for x in features.per_example]
        return Features(features.shared, tuple(per_example), axis)

    def stored(self, features: Features) -> Features:
        """The same as it is kept for `suffix`: what products alone read is rounded."""
        program = _program(self)

        def keep(names: Sequence[Any], values: Sequence[Array]) -> tuple[Array, ...]:
            pairs = zip(names, values, strict=True)
            return tuple(stored(self.precision, x) if n in program.factors else x for n, x in pairs)

        shared = keep(program.shared_names, features.shared)
        return Features(shared, keep(program.varying_names, features.per_example), features.axis)

    def products(self, leaves: Leaves, features: Features) -> Leaves:
        """What the layers of `entries` put out with these kernels, ``{path: [N, 1, ..., H]}``.

        The examples are along the axis of ``features``.
        """
        program, values = _program(self), [leaves[path] for path in self.paths]

        def one(varying: tuple[Array, ...]) -> list[Array]:
            return program.products(values, features.shared, varying, self.precision)

        found = jax.vmap(one, features.axis, features.axis)(features.per_example)
        return dict(zip(self.entries, found, strict=True))

    def suffix(
        self,
        leaves: Leaves,
        features: Features,
        added: Mapping[str, Factors] = MappingProxyType({}),
        products: Mapping[str, Array] = MappingProxyType({}),
    ) -> Float[Array, "n ..."]:
        """The outputs; run for every candidate.

        Args:
          leaves: edited leaves; those in ``added`` are not read.
          features: of `prefix`, fastest if `arranged`.
          added: of some or all of the `entries`, what is added to the kernel.
          products: those of the kernels without what is added (`products`).
        """
        program, values = _program(self), [leaves[path] for path in self.paths]
        if features.axis != program.axis:
            products = {
                p: jnp.moveaxis(x, features.axis, program.axis) for p, x in products.items()
            }
            features = self.arranged(features)
        pairs = {self.paths.index(path): (f, products[path]) for path, f in added.items()}
        inputs = values, features.shared, features.per_example
        return program.finish(*inputs, pairs, self.precision)

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

        return jax.vmap(one, (features.axis, 0))(features.per_example, taps)


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

run_arranged = jax.jit(SplitApply.arranged, static_argnums=0)
"""`SplitApply.arranged`, likewise."""


def features_in_batches(split: SplitApply, params: Params, x: np.ndarray) -> Features:
    """`SplitApply.prefix` of many examples ``[N, ...]``, arranged; in bounded memory."""
    batches = [
        run_prefix(split, params, x[begin : begin + 4096]) for begin in range(0, len(x), 4096)
    ]
    per_example = jax.tree.map(lambda *b: jnp.concatenate(b), *[b.per_example for b in batches])
    return run_arranged(split, Features(batches[0].shared, per_example))


run_suffix = jax.jit(SplitApply.suffix, static_argnums=0)
"""`SplitApply.suffix`, likewise."""

run_products = jax.jit(SplitApply.products, static_argnums=0)
"""`SplitApply.products`, likewise."""


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
def _program(split: SplitApply) -> "Program":
    """The traced and sorted ``apply`` of a split."""

    def apply(flat: Sequence[Array], x: Array) -> Array:
        return split.apply(jax.tree.unflatten(split.structure, flat), x)

    # A program outlives the call that asks for it, so nothing of a trace around it may leak in.
    with jax.ensure_compile_time_eval():
        closed = jax.make_jaxpr(apply)(list(split.leaves), split.example)
    every = leaf_paths(jax.tree.unflatten(split.structure, split.leaves))
    return Program(closed, [index for index, path in enumerate(every) if path in split.paths])
