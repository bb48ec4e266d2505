"""What the edited layers usually read: second moments of their inputs, and what these protect.

A change Δ of a layer moves its outputs on ordinary text by ``tr(Δᵀ C Δ)`` on average, where
``C = E[kᵀk]`` over the inputs k of that text. The closed-form methods keep it small through a
preconditioner H (`low_rank.preconditioned_shift`), which is made here once, in float64: ``C`` is
nearly singular, and its inverse in float32 is noise beyond a condition number of 1e6.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.stream import TrainingLoop
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

    def covariance(
        self, module: str, *, invertible: bool = False
    ) -> Float[np.ndarray, "d_in d_in"]:
        """C of a module in float64, not centered, as MEMIT has it.

        Raises:
          ValueError: there was no token; or, if C has to be ``invertible``, fewer than ``d_in``:
            changes would be huge or no numbers at all.
        """
        if not float(self.count):
            raise ValueError("key statistics of no token: give facts to train on")
        size = self.moments[module].shape[0]
        if invertible and self.count < size:
            raise ValueError(
                f"key statistics of {int(self.count)} tokens: the covariance of the {size} inputs "
                f"of {module} has no inverse; give a longer text, or more facts to train on"
            )
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
    inputs = model.forward(kernels, text, capture=model.modules)[1]
    moments = {}
    for name, moment in statistics.moments.items():
        keys = jnp.where(text.attention[..., None], inputs[name].astype(moment.dtype), 0)
        keys = keys.reshape(-1, keys.shape[-1])
        moments[name] = moment + jnp.matmul(keys.T, keys, precision=jax.lax.Precision.HIGHEST)
    return KeyStatistics(moments, statistics.count + text.attention.sum())


def read_keys(model: EditableModel, stream: FactBatch, loop: TrainingLoop) -> KeyStatistics:
    """Statistics of the unedited network over all prompts of a stream ``[S, n, ...]``."""

    def advance(state: KeyStatistics, done: int, steps: int) -> tuple[KeyStatistics, dict]:
        part = jax.tree.map(lambda leaf: leaf[done : done + steps], stream)
        return _read(model, state, part), {}

    return loop(KeyStatistics.empty(model), advance, stream.batches)


@partial(jax.jit, donate_argnums=1)
def _read(model: EditableModel, statistics: KeyStatistics, stream: FactBatch) -> KeyStatistics:
    kernels = model.kernels()

    def step(statistics: KeyStatistics, batch: FactBatch) -> tuple[KeyStatistics, None]:
        return add_keys(model, kernels, statistics, batch), None

    return jax.lax.scan(step, statistics, stream)[0]


def covariance_preconditioner(
    covariance: Float[np.ndarray, "d d"], weight: float, damping: float = 0.0
) -> Float[np.ndarray, "d d"]:
    """``(λ (C + jitter) + λₙ I)⁻¹`` in float64: of ROME, MEMIT and EMMET, with λₙ of ENCORE.

    Args:
      covariance: C.
      weight: λ, how many average tokens an edited fact counts against.
      damping: λₙ, against the size of the change.
    """
    size = len(covariance)
    jitter = JITTER * np.trace(covariance) / size
    inverse = np.linalg.inv(weight * covariance + (weight * jitter + damping) * np.eye(size))
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


def text_and_size(
    covariance: Float[np.ndarray, "d d"] | None, weight: float, size: int
) -> Float[np.ndarray, "d d"]:
    """``(λC + I)⁻¹`` in float64: the size of a change counts, and what it does to text.

    Args:
      covariance: C; None: nothing is known of text.
      weight: λ.
      size: d.
    """
    if covariance is None:
        return np.eye(size)
    inverse = np.linalg.inv(weight * covariance + np.eye(size))
    return (inverse + inverse.T) / 2


def as_array(preconditioner: Float[np.ndarray, "d d"], dtype: jnp.dtype) -> Array:
    """In the dtype of the rows."""
    return jnp.asarray(preconditioner, dtype)
