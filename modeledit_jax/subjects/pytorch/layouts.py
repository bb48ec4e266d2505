"""How the tensors of a torch module are kept as leaves: kernels as matrices, the rest as it is.

The last axis of a kernel is the layer's outputs, as everywhere in this package; the first axes are
what one output reads. Both directions only move numbers, so that their bits stay.

=========================  ===========================  ==========================================
layout                     in torch                     here
=========================  ===========================  ==========================================
``"torch"``                any shape                    the same
``"dense"``                ``[out, in]``                ``[in, out]``
``"convolution"``          ``[out, in, *size]``         ``[size · in, out]``: row, column, input
``"grouped"``              ``[out, in / g, *size]``     ``[size · in / g, out]``, likewise
``"transposed"``           ``[in, out / g, *size]``     ``[size · in, out / g]``, likewise
=========================  ===========================  ==========================================
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from modeledit_jax.types import Array

Layout = Literal["torch", "dense", "convolution", "grouped", "transposed"]

_OUTPUTS: dict[str, int] = {"dense": 0, "convolution": 0, "grouped": 0, "transposed": 1}
"""The axis of a torch kernel that has the outputs; the other one of the first two the inputs."""


@dataclass(frozen=True)
class Leaf:
    """A tensor of a torch module as a leaf of the parameters.

    Attributes:
      name: in the state dict, with dots.
      collection: ``"params"`` or ``"buffers"``, the first key of its path.
      shape: in torch.
      dtype: in torch, as NumPy calls it.
      layout: see the module's text.
      aliases: every name that this tensor has in the state dict; none for constants.
      values: what the steps of the network call it; none for one that they do not read.
      unfold: whether a convolution with this kernel is run as a dense layer on unfolded windows.
    """

    name: str
    collection: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout
    aliases: tuple[str, ...]
    values: tuple[str, ...]
    unfold: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the nested dictionaries."""
        return (self.collection, *self.name.split("."))

    @property
    def path(self) -> str:
        """In the parameters."""
        return "/".join(self.keys)


class Kernel(NamedTuple):
    """The weights of a layer, for operators that read them as a matrix."""

    matrix: Float[Array, "d h"]
    size: tuple[int, ...]  # of a convolution's window
    unfold: bool = False  # see `Leaf`


def kernel_matrix(weight: Any, layout: Layout) -> Any:
    """A torch kernel, of NumPy or JAX, as the matrix ``[D, H]`` of the layout."""
    if layout == "torch":
        return weight
    outputs = _OUTPUTS[layout]
    window = range(2, weight.ndim)
    moved = weight.transpose(*window, 1 - outputs, outputs)
    return moved.reshape(-1, weight.shape[outputs])


def torch_tensor(
    matrix: Shaped[np.ndarray, "..."], layout: Layout, shape: tuple[int, ...]
) -> Shaped[np.ndarray, "..."]:
    """The inverse of `kernel_matrix`, for a torch kernel of this shape."""
    if layout == "torch":
        return matrix.reshape(shape)
    outputs, axes = _OUTPUTS[layout], len(shape)
    moved = matrix.reshape(*shape[2:], shape[1 - outputs], shape[outputs])
    first = (axes - 1, axes - 2) if outputs == 0 else (axes - 2, axes - 1)
    return moved.transpose(*first, *range(axes - 2))


def as_kernel(weight: Array | Kernel, layout: Layout) -> Kernel:
    """The matrix of a kernel that an operator reads: a leaf in this layout, or a torch array."""
    if isinstance(weight, Kernel):
        return weight
    return Kernel(kernel_matrix(weight, layout), tuple(weight.shape[2:]))


def window_kernel(kernel: Kernel) -> Float[Array, "..."]:
    """The matrix of a convolution as ``[*size, in, out]``."""
    rows, columns = kernel.matrix.shape
    return jnp.reshape(kernel.matrix, (*kernel.size, rows // math.prod(kernel.size), columns))
