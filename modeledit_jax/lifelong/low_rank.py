"""Changes of a linear layer's weights as pairs of thin matrices: Δ = Kᵀ M.

An edit of n tokens has rank n at most, so the ``[d_in, d_out]`` matrix is never formed: MALMEN's
normal equation is solved for n × n instead of d_in × d_in unknowns by the push-through identity
``(UᵀU + cI)⁻¹ Uᵀ D = Uᵀ (UUᵀ + cI)⁻¹ D``. Everything is differentiable, so the gradients that
MALMEN's released code writes by hand, that of the ridge included, are those of `jax.grad`.

Rows where a mask is False contribute nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax import struct
from modeledit_jax.lifelong.methods.normalization import RunningMoments
from modeledit_jax.types import Array, Field

_HIGHEST = jax.lax.Precision.HIGHEST


@struct.dataclass
class LowRankUpdate:
    """The change ``Δ = keysᵀ values`` of a kernel ``[d_in, d_out]``."""

    keys: Field  # K [n, d_in] float; zero where masked
    values: Field  # M [n, d_out] float; zero where masked

    def dense(self) -> Float[Array, "d_in d_out"]:
        """The matrix Δ itself."""
        return jnp.matmul(self.keys.T, self.values, precision=_HIGHEST)

    def squared_norm(self) -> Float[Array, ""]:
        """``‖Δ‖²`` (Frobenius) from two Gram matrices, without forming Δ."""
        return (_gram(self.keys) * _gram(self.values)).sum()


def ridge_shift(
    keys: Float[Array, "n d_in"],
    targets: Float[Array, "n d_out"],
    ridge: float | Float[Array, ""],
    mask: Bool[Array, " n"] | None = None,
) -> LowRankUpdate:
    """The Δ that minimizes ``‖U Δ − D‖² + c ‖Δ‖²`` (MALMEN, arXiv 2311.04661, equation 5).

    Args:
      keys: U, inputs of the layer.
      targets: D, wanted changes of its outputs.
      ridge: c > 0.
      mask: rows that count; all if None.

    Returns:
      ``K = U`` and ``M = (U Uᵀ + c I)⁻¹ D``.
    """
    keys, targets = _masked(keys, mask), _masked(targets, mask)
    # A masked row leaves only c on the diagonal, hence zero in M.
    system = _gram(keys) + ridge * jnp.eye(keys.shape[0], dtype=keys.dtype)
    return LowRankUpdate(keys, jnp.linalg.solve(system, targets))


def preconditioned_shift(
    keys: Float[Array, "n d_in"],
    targets: Float[Array, "n d_out"],
    preconditioner: Float[Array, "d_in d_in"],
    ridge: float | Float[Array, ""],
    mask: Bool[Array, " n"] | None = None,
    asked: Float[Array, "n d_in"] | None = None,
    others: Float[Array, "n n"] | None = None,
) -> LowRankUpdate:
    """The Δ that minimizes ``‖K Δ − D‖² + c tr(Δᵀ H⁻¹ Δ)``: `ridge_shift` is that of ``H = I``.

    MEMIT (arXiv 2210.07229, equation 14) has ``H = (λC)⁻¹``, AlphaEdit (2410.02355, equation 14)
    the pseudo-inverse that a projector leaves; their d_in × d_in systems become n × n by the
    push-through identity ``(H⁻¹ + KᵀK/c)⁻¹ Kᵀ/c = H Kᵀ (cI + K H Kᵀ)⁻¹``.

    Args:
      keys: K, inputs of the layer.
      targets: D, wanted changes of its outputs.
      preconditioner: H, symmetric, positive semidefinite.
      ridge: c; 0 asks for ``K Δ = D`` exactly, which takes independent keys.
      mask: rows that count; all if None.
      asked: Q, other keys at which the targets are meant: ``M = (cI + Q H Kᵀ)⁻¹ D``, as ROME's
        released code has it; None: K.
      others: ``Σ K' H' K'ᵀ`` of further layers whose outputs add up to D with this one's
        (`methods.layer_sharing`), zero where masked; None: this layer does it alone.

    Returns:
      ``K H`` and ``M = (cI + K H Kᵀ)⁻¹ D``.
    """
    keys, targets = _masked(keys, mask), _masked(targets, mask)
    spread = jnp.matmul(keys, preconditioner, precision=_HIGHEST)
    if asked is None:
        system = _system(keys, spread, ridge, mask)
        if others is not None:
            system = system + others
        return LowRankUpdate(spread, _solve(system, targets))
    system = jnp.matmul(_masked(asked, mask), spread.T, precision=_HIGHEST)
    system = system + _diagonal(len(keys), ridge, mask, system.dtype)
    return LowRankUpdate(spread, jnp.linalg.solve(system, targets))


def room(
    keys: Float[Array, "n d_in"],
    preconditioner: Float[Array, "d_in d_in"],
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, "n n"]:
    """``K H Kᵀ``: how far outputs at the keys move under a change of unit cost ``tr(Δᵀ H⁻¹ Δ)``."""
    keys = _masked(keys, mask)
    spread = jnp.matmul(keys, preconditioner, precision=_HIGHEST)
    found = jnp.matmul(spread, keys.T, precision=_HIGHEST)
    return (found + found.T) / 2


def remember(
    preconditioner: Float[Array, "d_in d_in"],
    keys: Float[Array, "n d_in"],
    ridge: float | Float[Array, ""],
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, "d_in d_in"]:
    """``(H⁻¹ + KᵀK/c)⁻¹`` by a change of rank n: what was edited costs later changes.

    Recursive least squares: batches edited one after another end where all of them edited at once
    do. Rounding makes it lose its symmetry, which is restored.
    """
    keys = _masked(keys, mask)
    spread = jnp.matmul(keys, preconditioner, precision=_HIGHEST)
    down = _solve(_system(keys, spread, ridge, mask), spread)
    after = preconditioner - jnp.matmul(spread.T, down, precision=_HIGHEST)
    return (after + after.T) / 2


def _system(keys: Array, spread: Array, ridge: Any, mask: Array | None) -> Array:
    """``cI + K H Kᵀ``, with ones on the diagonal of masked rows, which are zero otherwise."""
    system = jnp.matmul(spread, keys.T, precision=_HIGHEST)
    return (system + system.T) / 2 + _diagonal(len(keys), ridge, mask, system.dtype)


def _diagonal(size: int, ridge: Any, mask: Array | None, dtype: jnp.dtype) -> Array:
    counted = jnp.ones(size, bool) if mask is None else mask
    return jnp.diag(jnp.where(counted, ridge, 1.0).astype(dtype))


def _solve(system: Array, targets: Array) -> Array:
    return jax.scipy.linalg.solve(system, targets, assume_a="pos")


def malmen_shift(
    keys: Float[Array, "n d_in"],
    pseudo_keys: Float[Array, "n d_in"],
    pseudo_values: Float[Array, "n d_out"],
    lr: float | Float[Array, ""],
    lamda: float | Float[Array, ""],
    mask: Bool[Array, " n"] | None = None,
) -> LowRankUpdate:
    """The shift of MALMEN and RLEdit: ``d_j = −lr ⟨u_j, ũ_j⟩ ṽ_j`` in `ridge_shift`, c = e^lamda.

    Args:
      keys: u, inputs of the layer.
      pseudo_keys: ũ, from `hypernetwork.apply_hypernetwork`.
      pseudo_values: ṽ, likewise.
      lr: learning rate of the module.
      lamda: logarithm of its ridge.
      mask: rows that count; all if None.
    """
    targets = -lr * (keys * pseudo_keys).sum(-1, keepdims=True) * pseudo_values
    return ridge_shift(keys, targets, jnp.exp(lamda), mask)


def mend_shift(
    pseudo_keys: Float[Array, "n d_in"],
    pseudo_values: Float[Array, "n d_out"],
    lr: float | Float[Array, ""],
    mask: Bool[Array, " n"] | None = None,
) -> LowRankUpdate:
    """The shift of MEND, ``Δ = −lr Ũᵀ Ṽ``: a gradient step with the transformed gradient.

    The sign is that of RLEdit's repository. MEND's own code adds ``+lr Ũᵀ Ṽ``: pass ``-lr``.
    """
    return LowRankUpdate(_masked(pseudo_keys, mask), -lr * _masked(pseudo_values, mask))


def ultraedit_shift(
    statistics: RunningMoments,
    keys: Float[Array, "n d_in"],
    values: Float[Array, "n d_out"],
    lr: float | Float[Array, ""] = 1e-6,
    mask: Bool[Array, " n"] | None = None,
) -> LowRankUpdate:
    """The shift of UltraEdit, which learns nothing: ``d_j = −lr ‖û_j‖² v̂_j`` and a ridge of 1.

    û and v̂ are the rows normalized by ``statistics`` of ``[u, v]``, while the normal equation holds
    the raw keys: MALMEN with the identity for a network, but for û in place of u in the product.
    Source: EasyEdit, ``models/ultraedit``.
    """
    rows = statistics.normalize(jnp.concatenate([keys, values], axis=-1))
    normal_keys, normal_values = jnp.split(rows, [keys.shape[-1]], axis=-1)
    targets = -lr * (normal_keys**2).sum(-1, keepdims=True) * normal_values
    return ridge_shift(keys, targets, 1.0, mask)


def _gram(rows: Array) -> Array:
    return jnp.matmul(rows, rows.T, precision=_HIGHEST)


def _masked(rows: Array, mask: Array | None) -> Array:
    return rows if mask is None else jnp.where(mask[:, None], rows, 0)
