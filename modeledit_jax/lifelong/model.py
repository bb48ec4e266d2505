"""A language model some of whose kernels are edited, again and again."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch, check_tokens
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.language.config import LanguageModelConfig, module_names
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.layer import Captured
from modeledit_jax.language.model import apply
from modeledit_jax.types import Array, Field, Params

Kernels = dict[str, Array]
"""The edited kernels ``[d_in, d_out]`` by module. Float32 whatever the network's dtype is: changes
of 1e-5 are lost in a bfloat16 weight, thousands of them one by one."""

Changes = dict[str, Hook]
"""A change of every edited module: ``keys`` and ``values`` or ``delta``, and perhaps ``mask``."""


@struct.dataclass
class EditableModel:
    """A network as it was trained, and the modules that may change.

    Everything that happens to it is held outside, in `Kernels`.
    """

    params: Field  # pytree of subjects.language_model
    config: LanguageModelConfig = struct.field(pytree_node=False)
    modules: tuple[str, ...] = struct.field(pytree_node=False)
    statistics: Field = None  # KeyStatistics of what the modules read on a text; None: not known
    rows_at_once: int | None = struct.field(pytree_node=False, default=None)
    """Facts of a batch at most that one pass reads where a loss is differentiated, for memory
    (`parts_of_rows`); None: all."""

    @classmethod
    def create(
        cls, config: LanguageModelConfig, params: Params, patterns: str | Sequence[str]
    ) -> "EditableModel":
        """A model whose linear layers that match ``patterns`` may change.

        Raises:
          ValueError: a pattern that matches nothing (the message lists the modules), or layers that
            are stacked.
        """
        if config.scan_layers:
            raise ValueError(
                "lifelong editing needs layers apart: pass unstack_layers(params) and a config "
                "with scan_layers=False"
            )
        return cls(params, config, module_names(config, patterns))

    def kernels(self) -> Kernels:
        """Copies of the unedited kernels, in float32 at least."""
        leaves = get_leaves(self.params, [f"{name}/kernel" for name in self.modules])
        return {
            name: jnp.array(leaves[f"{name}/kernel"], self.dtype, copy=True)
            for name in self.modules
        }

    @property
    def dtype(self) -> jnp.dtype:
        """Of kernels, rows and changes: float32, or float64 if the network is."""
        leaves = get_leaves(self.params, [f"{self.modules[0]}/kernel"])
        return jnp.promote_types(next(iter(leaves.values())).dtype, jnp.float32)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """``(d_in, d_out)`` of every edited module."""
        leaves = get_leaves(self.params, [f"{name}/kernel" for name in self.modules])
        found = {}
        for name in self.modules:
            d_in, d_out = leaves[f"{name}/kernel"].shape
            found[name] = (d_in, d_out)
        return found

    def with_kernels(self, kernels: Mapping[str, Array]) -> Params:
        """Parameters of the edited network; every other leaf is the same array."""
        return set_leaves(self.params, {f"{name}/kernel": w for name, w in kernels.items()})

    @property
    def first_layer(self) -> int:
        """The lowest layer that may change; their number, if none but the head may."""
        layers = [int(name.split("/")[1]) for name in self.modules if name != "head"]
        return min(layers, default=self.config.num_layers)

    def forward(
        self,
        kernels: Kernels,
        batch: TokenBatch,
        hooks: Mapping[str, Hook] | None = None,
        capture: tuple[str, ...] = (),
        positions: Int[Array, "n p"] | None = None,
    ) -> tuple[Float[Array, "n p vocab"], Captured]:
        """One pass of the network with ``kernels``; see `language.model.apply`.

        Layers below the first edited one are left out where the batch knows what they say
        (`prepared`).
        """
        start = None if batch.hidden is None else (self.first_layer, batch.hidden)
        return apply(
            self.config,
            self.with_kernels(kernels),
            batch.tokens,
            batch.attention,
            dict(hooks or {}),
            capture,
            start=start,
            positions=positions,
        )

    def logits(
        self, kernels: Kernels, batch: TokenBatch, changes: Mapping[str, Hook] | None = None
    ) -> Float[Array, "n l vocab"]:
        """Float32 logits of the network with ``kernels`` and, beside them, ``changes``."""
        return self.forward(kernels, batch, changes)[0]

    def answer_logits(
        self, kernels: Kernels, batch: TokenBatch, changes: Mapping[str, Hook] | None = None
    ) -> Float[Array, "n p vocab"]:
        """As `logits`, where ``batch.answers`` are predicted: a vocabulary is wide."""
        return self.forward(kernels, batch, changes, positions=batch.positions)[0]


def check_facts(model: EditableModel, facts: FactBatch, name: str) -> None:
    """Checks that a network can read every token of ``facts`` (`tokens.check_tokens`).

    Raises:
      ValueError: it has no embedding of a token, which would make its kernels NaN.
    """
    parts = dict(vars(facts))
    if facts.contexts is not None:
        parts["contexts"] = facts.contexts.rows
    for part, batch in parts.items():
        if isinstance(batch, TokenBatch):
            check_tokens(batch, model.config.vocab_size, f"{name}.{part}")


def check_kernels(model: EditableModel, kernels: Kernels) -> None:
    """Checks that kernels are those of the model's modules and that all of their values are finite.

    Raises:
      ValueError: a module that may not change, a kernel of another shape, or a value that is not
        finite; the modules are named.
    """
    shapes = model.shapes
    if unknown := sorted(set(kernels) - set(shapes)):
        raise ValueError(
            f"the model edits no {', '.join(unknown)}: give kernels of {', '.join(shapes)}"
        )
    for name, kernel in kernels.items():
        if jnp.shape(kernel) != shapes[name]:
            raise ValueError(
                f"the kernel of {name} has the shape {jnp.shape(kernel)}, that of the network is "
                f"{shapes[name]}: give kernels that were edited from it"
            )
    if broken := [name for name, kernel in kernels.items() if not jnp.isfinite(kernel).all()]:
        raise ValueError(
            f"the edited kernels of {', '.join(broken)} hold values that are not finite: lower the "
            "step size of the method"
        )


def dense_change(change: Hook) -> Float[Array, "d_in d_out"]:
    """The matrix ``mask · (Kᵀ M + delta)`` that a change adds to its kernel."""
    parts = []
    if change.keys is not None:
        parts.append(jnp.matmul(change.keys.T, change.values, precision=jax.lax.Precision.HIGHEST))
    if change.delta is not None:
        parts.append(change.delta)
    total = sum(parts[1:], parts[0])
    return total if change.mask is None else change.mask * total


def commit(kernels: Kernels, changes: Changes) -> Kernels:
    """The kernels with the changes written to them, in the kernels' own dtype."""
    return {
        name: (
            (kernel + dense_change(changes[name])).astype(kernel.dtype)
            if name in changes
            else kernel
        )
        for name, kernel in kernels.items()
    }


def squared_norms(changes: Changes) -> dict[str, Float[Array, ""]]:
    """``‖Δ‖²`` (Frobenius) of every module's change, from Gram matrices where it is low-rank."""
    return {name: _squared_norm(change) for name, change in changes.items()}


def _squared_norm(change: Hook) -> Array:
    if change.keys is None or change.delta is not None:
        return jnp.square(dense_change(change)).sum()
    gram = (change.keys @ change.keys.T) * (change.values @ change.values.T)
    return gram.sum() if change.mask is None else jnp.square(change.mask) * gram.sum()
