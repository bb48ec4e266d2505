"""Next-token training of a language model, in compiled chunks that a caller may save between.

Every random choice of a step follows from the key and the number of that step, both in the state:
a run resumed from a saved state gives the same bits as one that was never stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.sharding import Mesh
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch, check_tokens
from modeledit_jax.language.model import LanguageModelConfig, apply, init_params
from modeledit_jax.mesh import constrained
from modeledit_jax.types import Array, Field, Key, Params


@dataclass(frozen=True)
class LanguageTrainingConfig:
    """A linear warm-up and a cosine decay to a tenth of the peak.

    Attributes:
      optimizer: ``"adamw"``, or ``"muon"`` for the layers' kernels and Adam for the rest; steps are
        scaled as in Liu et al. 2025 (arXiv 2502.16982), so one learning rate serves both.
      steps: gradient steps of the whole run; the schedule ends there.
      batch_size: rows of one gradient step, drawn with replacement.
      learning_rate: peak step size.
      warmup_steps: steps from zero to the peak.
      weight_decay: decoupled, on kernels only.
      beta2: decay of the second moment.
      clip_norm: the gradient is shortened to this length.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    steps: int = 2_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    beta2: float = 0.95
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"{self.warmup_steps} warm-up steps do not fit a run of {self.steps}; "
                "lower warmup_steps"
            )


@struct.dataclass
class LanguageTrainingState:
    """A run between two steps; all of its arrays are saved and restored together."""

    params: Field  # of the network
    optimizer: Field  # of optax
    step: Field  # int32: gradient steps done
    key: Field  # seeds the order of the rows; the same throughout the run
    model: LanguageModelConfig = struct.field(pytree_node=False)
    training: LanguageTrainingConfig = struct.field(pytree_node=False)


def next_token_loss(
    logits: Float[Array, "n l vocab"], labels: Int[Array, "n l"]
) -> Float[Array, ""]:
    """Returns the cross-entropy, averaged over the positions that are scored; 0 if none is."""
    scored = labels != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(scored, labels, 0))
    return jnp.where(scored, losses, 0.0).sum() / jnp.maximum(scored.sum(), 1)


def init_state(
    model: LanguageModelConfig,
    training: LanguageTrainingConfig,
    key: Key,
    params: Params | None = None,
) -> LanguageTrainingState:
    """Returns the start of a run.

    Args:
      model, training: static.
      key: seeds initial parameters and the order of the rows.
      params: to train further; random ones if None. They are copied, as `train_chunk` uses up the
        arrays of the state.
    """
    init_key, order_key = jax.random.split(key)
    params = init_params(model, init_key) if params is None else jax.tree.map(jnp.array, params)
    return LanguageTrainingState(
        params=params,
        optimizer=_optimizer(training).init(params),
        step=jnp.int32(0),
        key=order_key,
        model=model,
        training=training,
    )


def train_chunk(
    state: LanguageTrainingState, data: TokenBatch, n_steps: int, mesh: Mesh | None = None
) -> tuple[LanguageTrainingState, Float[Array, " n_steps"]]:
    """Takes ``n_steps`` gradient steps in one compiled scan.

    Args:
      state: from `init_state` or the last chunk; used up.
      data: all rows to train on, ``[N, l]``; `encode_sentences` makes them of text.
      n_steps: static; a chunk of another length is compiled anew.
      mesh: devices with the axis ``data``, along which the rows of every batch are spread; state
        and data then are on every device (`mesh.on_every_device`). None: one device.

    Returns:
      The state afterwards, and the loss of every step's batch before the step.

    Raises:
      ValueError: a token of ``data`` is none of the network's.
    """
    check_tokens(data, state.model.vocab_size, "data")
    return _train_chunk(state, data, n_steps, mesh)


@partial(jax.jit, static_argnames=("n_steps", "mesh"), donate_argnames="state")
def _train_chunk(
    state: LanguageTrainingState, data: TokenBatch, n_steps: int, mesh: Mesh | None
) -> tuple[LanguageTrainingState, Float[Array, " n_steps"]]:
    def loss(params: Params, batch: TokenBatch) -> Array:
        logits, _ = apply(state.model, params, batch.tokens, batch.attention)
        return next_token_loss(logits, batch.labels)

    def step(state: LanguageTrainingState, _: None) -> tuple[LanguageTrainingState, Array]:
        training = state.training
        key = jax.random.fold_in(state.key, state.step)
        rows = jax.random.randint(key, (training.batch_size,), 0, data.tokens.shape[0])
        batch = constrained(jax.tree.map(lambda leaf: leaf[rows], data), mesh, "data")
        value, gradient = jax.value_and_grad(loss)(state.params, batch)
        optimizer = _optimizer(training)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(  # type: ignore[attr-defined]
            params=params, optimizer=optimizer_state, step=state.step + 1
        )
        return state, value

    return constrained(jax.lax.scan(step, state, None, length=n_steps), mesh, None)


def _optimizer(training: LanguageTrainingConfig) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=training.learning_rate,
        warmup_steps=training.warmup_steps,
        decay_steps=training.steps,
        end_value=0.1 * training.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(training.clip_norm),
        optax.adamw(schedule, b2=training.beta2, weight_decay=training.weight_decay, mask=_kernels)
        if training.optimizer == "adamw"
        else optax.contrib.muon(
            schedule,
            adam_b2=training.beta2,
            consistent_rms=0.2,
            weight_decay=training.weight_decay,
            weight_decay_mask=_kernels,
            muon_weight_dimension_numbers=_matrices,
        ),
    )


def _matrices(params: Params) -> Params:
    """The two axes of every kernel in a layer, before which there may be one of stacked layers."""

    def axes(path: tuple[Any, ...], leaf: Array) -> optax.contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path)
        if not name.endswith("['kernel']") or "layers" not in name:
            return None
        return optax.contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def _kernels(params: Params) -> Params:
    """Which leaves decay: no embeddings, as most words are in few batches; no norms or biases."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path).endswith("['kernel']"), params
    )
