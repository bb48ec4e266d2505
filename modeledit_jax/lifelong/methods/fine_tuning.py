"""Fine-tuning of the edited layers on each batch: FT-L and FT-M.

FT-L predicts every token of the answer from the last token of the prompt, as the code of ROME and
MEMIT does (``baselines/ft/ft_main.py``); FT-M is the ordinary loss under teacher forcing, which
EasyEdit added because FT-L is a straw man for answers of several tokens.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.evaluation.knowledge import mean_log_probability
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.objective import token_mean
from modeledit_jax.lifelong.parts_of_rows import by_parts
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.types import Array, Key


@dataclass(frozen=True)
class FineTune(StreamEditor):
    """Adam on the change of the edited modules, anew for every batch. No state.

    Attributes:
      loss: ``"last"`` (FT-L) or ``"teacher"`` (FT-M).
      learning_rate: of Adam.
      steps: at most; a batch whose loss is below ``floor`` is left alone from then on.
      floor: see ``steps``.
      bound: largest absolute change of a single weight, as ROME's norm constraint; None: none.
    """

    loss: Literal["last", "teacher"] = "teacher"
    learning_rate: float = 5e-4
    steps: int = 25
    floor: float = 1e-2
    bound: float | None = None

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`."""
        return self.steps * batches

    def edit(
        self, model: EditableModel, kernels: Kernels, state: None, batch: FactBatch, key: Key
    ) -> tuple[Changes, None]:
        """See `StreamEditor.edit`."""
        optimizer = optax.adam(self.learning_rate)
        deltas = {name: jnp.zeros(shape) for name, shape in model.shapes.items()}

        last = self.loss == "last"
        of_row, over_rows = (
            (at_last_token, row_mean) if last else (mean_log_probability, token_mean)
        )

        def loss(deltas: dict[str, Array]) -> Array:
            changes = {name: Hook(delta=delta) for name, delta in deltas.items()}

            def of_rows(rows: TokenBatch) -> Array:
                return of_row(model.answer_logits(kernels, rows, changes), rows.answers)

            per_row = by_parts(of_rows, batch.edit, model.rows_at_once)
            return -over_rows(per_row, batch.edit.answers)

        def step(
            carry: tuple[dict[str, Array], optax.OptState], _: None
        ) -> tuple[tuple[dict[str, Array], optax.OptState], None]:
            deltas, moments = carry
            value, gradients = jax.value_and_grad(loss)(deltas)
            updates, new_moments = optimizer.update(gradients, moments)
            moved = optax.apply_updates(deltas, updates)
            if self.bound is not None:
                moved = optax.tree.clip(moved, -self.bound, self.bound)
            keep = value < self.floor
            chosen = jax.tree.map(
                lambda old, new: jnp.where(keep, old, new), carry, (moved, new_moments)
            )
            return chosen, None

        (deltas, _), _ = jax.lax.scan(step, (deltas, optimizer.init(deltas)), length=self.steps)
        return {name: Hook(delta=delta) for name, delta in deltas.items()}, None


def at_last_token(logits: Float[Array, "n p v"], labels: Int[Array, "n p"]) -> Float[Array, " n"]:
    """Of every row the mean log-probability of its answer's tokens, all of them predicted at the
    last token of the prompt; 0 where there are none."""
    scored = labels != IGNORED
    last = scored.argmax(-1)  # the first labeled position is the prompt's last token
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    there = jnp.take_along_axis(log_p, last[:, None, None], axis=1)  # [n, 1, v]
    targets = jnp.where(scored, labels, 0)
    per_token = jnp.take_along_axis(there[:, 0], targets, axis=-1)
    return jnp.where(scored, per_token, 0.0).sum(-1) / jnp.maximum(scored.sum(-1), 1)


def row_mean(per_row: Float[Array, " n"], labels: Int[Array, "n p"]) -> Float[Array, ""]:
    """Mean over the rows that have labels, all alike; 0 if there is none."""
    return per_row.sum() / jnp.maximum((labels != IGNORED).any(-1).sum(), 1)
