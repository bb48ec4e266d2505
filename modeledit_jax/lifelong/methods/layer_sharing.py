"""How the edited layers share what is to be said about the subjects of a batch.

The residual stream after the last edited layer is to move by R at the subjects. Layers add to it,
so up to what those in between make of an addition, the changes have to add up: ``Σ K_l Δ_l = R``.

- Evenly (MEMIT, arXiv 2210.07229, section 4.3): layer after layer, each does what is left divided
  by the layers left.
- At least cost (ours): ``‖Σ K_l Δ_l − R‖² + c Σ tr(Δ_lᵀ H_l⁻¹ Δ_l)`` is minimized over all layers
  at once, whose solution is ``Δ_l = H_l K_lᵀ (cI + Σ_m K_m H_m K_mᵀ)⁻¹ R``. A layer does the more,
  the less its inputs at these subjects resemble those of text and of earlier edits. After every
  layer the rest is measured and shared anew among the layers left.

Layers may be left out by a mask (`routed_closed_form`): the others share all of R. A layer that is
left out remembers the keys of the batch none the less: what it says at these subjects, though not
changed, is part of what the stream there adds up to, and a later change of this layer would take
the batch from where the other layers brought it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.low_rank import preconditioned_shift, remember, room
from modeledit_jax.lifelong.model import Changes, EditableModel
from modeledit_jax.lifelong.token_gradients import Rows
from modeledit_jax.types import Array

Preconditioners: TypeAlias = dict[str, Array]
"""H ``[d_in, d_in]`` of every edited module."""


KeyMean: TypeAlias = Literal["halves", "mean", "bare", "released"]
"""How the rows of a fact make its key (`ClosedForm.key`)."""


def key_weights(kind: KeyMean, rows: int, dtype: jnp.dtype) -> Float[Array, " r"]:
    """Of the rows of a fact in its key; the first is the prompt alone."""
    if kind != "halves" or rows == 1:
        return jnp.full(rows, 1 / rows, dtype)
    return jnp.full(rows, 0.5 / (rows - 1), dtype).at[0].set(0.5)


@dataclass(frozen=True)
class BatchTarget:
    """What is to be said about the subjects of a batch, and what the edited layers see of them.

    Attributes:
      modules: in the order of their layers.
      rest: what is still to be added at the subjects once some modules are changed ``[n, d_out]``.
      read: inputs of modules at the rows of every fact once some are changed ``[n, r, d_in]``.
      weights: of the rows in a fact's key ``[r]``.
      real: facts that count ``[n]``.
    """

    modules: tuple[str, ...]
    rest: Callable[[Changes], Float[Array, "n d_out"]]
    read: Callable[[Changes, Sequence[str]], Sequence[Float[Array, "n r d_in"]]]
    weights: Float[Array, " r"]
    real: Bool[Array, " n"]

    def rows(self) -> Rows:
        """What is known before the edit: of every layer its keys, and what is to be added."""
        read = self.read({}, self.modules)
        keys = {name: self.key(rows) for name, rows in zip(self.modules, read, strict=True)}
        return Rows(keys, dict.fromkeys(self.modules, self.rest({})), self.real)

    def key(self, rows: Float[Array, "n r d_in"]) -> Float[Array, "n d_in"]:
        """The key of every fact, of the inputs of a module at its rows."""
        return (self.weights[:, None] * rows).sum(1)


def edited_layers(model: EditableModel, layers: tuple[int, ...] | None) -> dict[int, str]:
    """The layers whose ``mlp/down`` are edited, ``{layer: module}`` in their order.

    Args:
      model: says which may be edited.
      layers: their numbers; None: all that may be but the network's last, above whose MLP nothing
        reads the subject.

    Raises:
      ValueError: a layer that the model does not allow, or none; several layers of a network
        that normalizes what its MLPs say, which cannot be shared.
    """
    allowed = {
        int(name.split("/")[1]): name for name in model.modules if name.endswith("/mlp/down")
    }
    default = tuple(layer for layer in allowed if layer < model.config.num_layers - 1)
    chosen = default if layers is None else layers
    if missing := sorted(set(chosen) - set(allowed)):
        raise ValueError(
            f"layers {missing} are not among those whose mlp/down may be edited, "
            f"{sorted(allowed)}: change layers of the method or modules of the model"
        )
    if not chosen:
        raise ValueError(
            f"no layer to edit: of {', '.join(model.modules)} none is an mlp/down below the "
            "network's last layer; add one to the modules, or name layers of the method"
        )
    if model.config.post_norms and len(chosen) > 1:
        raise ValueError(
            f"layers {sorted(chosen)} cannot share a change: this network normalizes what its "
            "MLPs add; name one layer of the method"
        )
    return {layer: allowed[layer] for layer in sorted(chosen)}


def share(
    target: BatchTarget,
    preconditioners: Preconditioners,
    ridge: float,
    *,
    evenly: bool = True,
    remembers: bool = False,
    released: bool = False,
    mask: Float[Array, " M"] | None = None,
) -> tuple[Changes, Preconditioners]:
    """Changes of all modules, and H after the batch.

    Args:
      target: what they are to say together.
      preconditioners: H before the batch.
      ridge: c.
      evenly: MEMIT's division; False: that of least cost.
      remembers: the keys of this batch cost later changes.
      released: targets are meant at the keys of the first row alone (ROME's code).
      mask: 1 for modules that may change, 0 for those that stay as they are, which is what the
        masks of the changes then say; None: all may.
    """
    changes: Changes = {}
    remembered = dict(preconditioners)
    for index, module in enumerate(target.modules):
        left = target.modules[index:]
        # Unless layers are weighed against each other, those above are not even run.
        asked = target.read(changes, left[:1] if evenly else left)
        keys = [target.key(rows) for rows in asked]
        above = [room(own, preconditioners[name], target.real)
                 for name, own in zip(left[1:], keys[1:], strict=False)]  # fmt: skip
        if mask is not None:
            above = [size * mask[index + 1 + place] for place, size in enumerate(above)]
        parts = len(left) if mask is None else jnp.maximum(mask[index:].sum(), 1)
        update = preconditioned_shift(
            keys[0],
            target.rest(changes) / (parts if evenly else 1),
            preconditioners[module],
            ridge,
            target.real,
            asked=asked[0][:, 0] if released else None,
            others=jnp.stack(above).sum(0) if above else None,
        )
        own_mask = None if mask is None else mask[index]
        changes[module] = Hook(keys=update.keys, values=update.values, mask=own_mask)
        if remembers:
            remembered[module] = remember(preconditioners[module], keys[0], ridge, target.real)
    return changes, remembered
