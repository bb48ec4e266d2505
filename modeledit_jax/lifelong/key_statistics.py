"""What the edited layers usually read: second moments of their inputs, and what these protect.

A change Δ of a layer moves its outputs on ordinary text by ``tr(Δᵀ C Δ)`` on average, where
``C = E[kᵀk]`` over the inputs k of that text. The closed-form methods keep it small through a
preconditioner H (`low_rank.preconditioned_shift`), which is made here once, in float64: ``C`` is
nearly singular, and its inverse in float32 is noise beyond a condition number of 1e6.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.types import Array, Field

JITTER = 1e-6
"""Added to C, in units of its mean eigenvalue: inputs that never fire leave it singular."""


@struct.dataclass
class KeyStatistics:
    """Sums over tokens."""

    moments: Field  # {module: Σ kᵀk [d_in, d_in] float32}
    count: Field  # () float32, tokens

    @classmethod
    def empty(cls, model: EditableModel) -> "KeyStatistics":
        """Of no text."""
        moments = {name: jnp.zeros((d, d), model.dtype) for name, (d, _) in model.shapes.items()}
        return cls(moments, jnp.zeros((), model.dtype))

    def covariance(self, module: str) -> Float[np.ndarray, "d_in d_in"]:
        """C of a module in float64, not centered, as MEMIT has it.

        Raises:
          ValueError: there was no token.
        """
        if not float(self.count):
            raise ValueError("key statistics of no token: give facts to train on")
        return np.asarray(self.moments[module], np.float64) / float(self.count)


def add_keys(
    model: EditableModel, kernels: Kernels, statistics: KeyStatistics, batch: FactBatch
) -> KeyStatistics:
    """Adds all attended tokens of the prompts of a batch: to edit, rephrased, and about others."""
    for part in (batch.edit, batch.rephrase, batch.locality):
        statistics = add_text(model, kernels, statistics, part)
    return statistics


def add_text(
    model: EditableModel, kernels: Kernels, statistics: KeyStatistics, text: TokenBatch
) -> KeyStatistics:
    """Adds all attended tokens of a text ``[n, l]``."""
    params = model.with_kernels(kernels)
    _, inputs = apply(
        model.config, params, text.tokens, text.attention, capture=tuple(model.modules)
    )
    moments = {}
    for name, moment in statistics.moments.items():
        keys = jnp.where(text.attention[..., None], inputs[name].astype(moment.dtype), 0)
        keys = keys.reshape(-1, keys.shape[-1])
        moments[name] = moment + jnp.matmul(keys.T, keys, precision=jax.lax.Precision.HIGHEST)
    return KeyStatistics(moments, statistics.count + text.attention.sum())


def covariance_preconditioner(
    covariance: Float[np.ndarray, "d d"], weight: float
) -> Float[np.ndarray, "d d"]:
    """``(λ (C + jitter))⁻¹`` in float64: of ROME, MEMIT and EMMET.

    Args:
      covariance: C.
      weight: λ, how many average tokens an edited fact counts against.
    """
    size = len(covariance)
    jitter = JITTER * np.trace(covariance) / size
    inverse = np.linalg.inv(weight * (covariance + jitter * np.eye(size)))
    return (inverse + inverse.T) / 2


def null_space(covariance: Float[np.ndarray, "d d"], energy: float) -> Float[np.ndarray, "d r"]:
    """Orthonormal directions that ordinary inputs hardly have (AlphaEdit, section 3.2).

    The released code takes the singular vectors of C below 0.02, an absolute number, which means
    something else in every network: here they are the weakest ones that together hold at most
    ``1 − energy`` of the trace of C.

    Raises:
      ValueError: there is none; the message says which energy has one.
    """
    values, vectors = np.linalg.eigh(covariance)
    share = np.cumsum(np.clip(values, 0, None)) / max(np.clip(values, 0, None).sum(), 1e-300)
    rank = int((share <= 1 - energy).sum())
    if not rank:
        raise ValueError(
            f"energy={energy} protects all {len(values)} directions, so that nothing could be "
            f"edited: give less than {1 - share[0]:.6g}"
        )
    return vectors[:, :rank]


def null_space_preconditioner(
    covariance: Float[np.ndarray, "d d"], energy: float, ridge: float
) -> Float[np.ndarray, "d d"]:
    """``P / L2``, P the projector on `null_space`: of AlphaEdit before its first edit."""
    basis = null_space(covariance, energy)
    return basis @ basis.T / ridge


def identity_preconditioner(size: int, ridge: float) -> Float[np.ndarray, "d d"]:
    """``I / L2``: nothing is protected but by the size of the change."""
    return np.eye(size) / ridge


def as_array(preconditioner: Float[np.ndarray, "d d"], dtype: jnp.dtype) -> Array:
    """In the dtype of the rows."""
    return jnp.asarray(preconditioner, dtype)
