"""The network that gets edited: a pure function and its parameters."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax

from modeledit_jax import struct
from modeledit_jax.subjects.pytorch.modules import read_module, state_dict
from modeledit_jax.subjects.pytorch.network import TorchNetwork
from modeledit_jax.types import Apply, Array, Field, Params


@struct.dataclass
class Subject:
    """A trained network.

    Any pure ``apply`` serves: Flax Linen through `flax_apply`, NNX through ``nnx.split`` (whose
    paths end in ``/value``: see `edits.site`), Equinox through ``eqx.partition``, PyTorch through
    `Subject.from_torch`. Build ``apply`` once and share it: it is static under `jit`.
    """

    params: Field  # parameter pytree
    apply: Apply = struct.field(pytree_node=False)  # (params, x [N, ...]) -> logits [N, C]

    @classmethod
    def from_torch(
        cls,
        module: Any,
        example: Any,
        *,
        channels_last: bool = False,
        unfold: str | Sequence[str] = (),
    ) -> "Subject":
        """A classifier of PyTorch, in evaluation mode (extra ``torch``).

        The module is exported (`torch.export`) and its operators are run in JAX: those of
        `modeledit_jax.subjects.pytorch.network.OPERATORS`, others are refused by name. Its outputs
        on the example are compared.

        Args:
          module: a ``torch.nn.Module`` of float32 whose forward takes one batch and returns logits
            ``[N, C]``; it is left as it is.
          example: a batch of inputs ``[N, ...]``, of which shape and dtype count.
          channels_last: whether images are ``[N, H, W, C]`` here, as `load_images` has them; torch
            is given ``[N, C, H, W]``.
          unfold: site pattern(s) of kernels of convolutions to run as dense layers on unfolded
            windows: slower and with more memory, but what editors of dense layers alone (closed
            forms, cheap low-rank shifts) can edit.

        Returns:
          The subject. The path of a leaf is its name in the state dict with slashes for dots, after
          ``params/`` or ``buffers/``: ``"fc2/weight"`` is a site. Weights of linear layers are
          ``[in, out]``, those of convolutions ``[rows · columns · in, out]``
          (`modeledit_jax.subjects.pytorch.layouts`), everything else is as torch has it.

        Raises:
          ValueError: torch is missing, or the module or the example cannot be read; the message
            says which operator, tensor or line is in the way.
        """
        return cls(*read_module(module, example, channels_last=channels_last, unfold=unfold))

    def to_state_dict(self, params: Params = None) -> dict[str, Any]:
        """The state dict of the module that `from_torch` has read, for ``load_state_dict``.

        Args:
          params: those of an edit of this network; None: its own. Leaves that are as they were
            read give tensors of the same bits, buffers and unused parameters among them, and a
            tensor of several names has all of them.

        Raises:
          ValueError: a subject of another origin, or parameters of another structure or shape.
        """
        if not isinstance(self.apply, TorchNetwork):
            raise ValueError(
                "to_state_dict is for a subject of Subject.from_torch: its apply is "
                f"{getattr(self.apply, '__qualname__', type(self.apply).__name__)}"
            )
        return state_dict(self.apply, self.params if params is None else params)


@cache
def flax_apply(module: nn.Module) -> Apply:
    """Returns ``(params, x) -> module(x)``, the same function object for equal modules."""

    def apply(params: Params, x: Array) -> Array:
        return module.apply({"params": params}, x)  # type: ignore[return-value]

    return apply


@partial(jax.jit, static_argnames=("apply", "batch_size"))
def predict(apply: Apply, params: Params, x: Array, batch_size: int = 2048) -> Array:
    """Returns ``apply(params, x)`` computed ``batch_size`` examples at a time, to bound memory.

    Args:
      apply: pure ``(params, x) -> outputs``.
      params: parameter pytree.
      x: ``[N, ...]``.
      batch_size: examples of one forward pass.
    """
    return jax.lax.map(lambda one: apply(params, one[None])[0], x, batch_size=batch_size)
