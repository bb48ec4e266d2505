"""Variants of RLEdit: each differs from it in what its name says."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.rledit_ablation.config import AblationConfig
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.presets.preset import load_preset

RLEDIT = "rledit"


@dataclass(frozen=True)
class Variant:
    """One variant.

    Attributes:
      method: trained and edited with.
      preset: that it is made of.
      dtype: of the edited kernels; None: that of the model.
      shares_training: it differs from RLEdit in editing alone, and takes its training.
    """

    method: StreamEditor
    preset: str = RLEDIT
    dtype: Any = None
    shares_training: bool = False

    @property
    def is_rledit(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.shares_training and self.dtype is None


def make_variants(config: AblationConfig) -> dict[str, dict[str, Variant]]:
    """All variants, by question and name; RLEdit itself comes first in every question."""
    (preset,) = load_methods([RLEDIT], config)
    rledit: Any = build_method(preset)
    training: MetaTraining = rledit.training

    def trained(**changes: Any) -> Variant:
        return Variant(replace(rledit, training=replace(training, **changes)))

    def judged_by(**changes: Any) -> Variant:
        return trained(objective=replace(training.objective, **changes))

    lengths = dict.fromkeys(max(1, training.updates // parts) for parts in (10, 3))
    questions: dict[str, dict[str, Variant]] = {
        "updates": {
            "untrained": Variant(replace(rledit, training=None)),
            "1 of a whole trajectory": trained(updates=1, update_every=None, clip="sum"),
            **{f"{count}": trained(updates=count) for count in lengths},
        },
        "size": {"no gradient": judged_by(size_gradient=False), "1": judged_by(size=1.0)},
        "memory": {f"{k}": judged_by(memory=k) for k in (1, 2)},
        "past": {
            "1": judged_by(past=1.0),
            "released weights": judged_by(past=1.0, decay=0.95, locality=0.6, reference="previous"),
        },
        "accumulator": {"bfloat16": Variant(rledit, dtype=jnp.bfloat16, shares_training=True)},
    }
    for name in ("ft-m", "ultraedit"):
        other = build_method(load_preset(name, "lifelong"))
        questions["accumulator"] |= {
            name: Variant(other, name),
            f"{name} bfloat16": Variant(other, name, jnp.bfloat16),
        }
    return {
        question: {_rledit_name(question, training): Variant(rledit, shares_training=True)} | others
        for question, others in questions.items()
    }


def _rledit_name(question: str, training: MetaTraining) -> str:
    """What RLEdit is called among the variants of a question: its value there."""
    values = {
        "updates": training.updates,
        "size": f"{training.objective.size:g}",
        "memory": training.objective.memory,
        "past": f"{training.objective.past:g}",
    }
    return f"{RLEDIT} ({values[question]})" if question in values else RLEDIT
