"""Policies that edit at once: trained in chunks that are saved, written, and found again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from modeledit_jax.editors.policy.learned import LearnedEditor
from modeledit_jax.editors.policy.training import PolicyTrainer
from modeledit_jax.processes import is_first
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.resumable import run_chunks

RECORDED = ("reward", "reward_spread", "approx_kl", "grad_norm")
CHUNK = 20


PRESET = """class = "modeledit_jax.editors.policy.learned:SavedPolicy"

[settings]
path = "./{name}.safetensors"
"""
"""A policy as a method: ``--methods runs/.../policies/shift.toml``."""


@dataclass(frozen=True)
class Policy:
    """A trained policy and what its training took."""

    editor: LearnedEditor
    seconds: float
    evaluations: int


def train_policy(
    folder: Path, name: str, trainer: PolicyTrainer, seed: int, start: Policy | None = None
) -> Policy:
    """Trains a policy in chunks that are saved, and writes it.

    Args:
      folder: of the run; the policy is ``policies/<name>.safetensors`` in it.
      name: of the policy.
      trainer: with its tasks.
      seed: of the training.
      start: a policy to begin with; None: a fresh one.
    """
    updates = trainer.config.updates
    state = trainer.init(jax.random.key(seed), start.editor if start else None)
    with tqdm(desc=f"policy {name}", total=updates, unit="update", leave=False) as bar:

        def report(done: int, total: int, record: Mapping[str, np.ndarray]) -> None:
            bar.n = done
            bar.set_postfix(reward=f"{record['reward'].mean():.3f}")

        def advance(state: Any, done: int, steps: int) -> tuple[Any, dict[str, Any]]:
            state, metrics = trainer.advance(state, done, steps)
            return state, {key: metrics[key] for key in RECORDED}

        progress = run_chunks(
            state,
            dict.fromkeys(RECORDED, np.zeros(updates, np.float32)),
            advance,
            chunk=CHUNK,
            folder=folder / "checkpoints" / f"policy-{name}",
            placement=trainer.placement(state),
            report=report,
        )
    editor = trainer.editor(progress.state)
    if is_first():
        editor.save(folder / "policies" / f"{name}.safetensors")
    atomic_write_text(folder / "policies" / f"{name}.toml", PRESET.format(name=name))
    _write_curve(folder / "policies" / f"{name}.json", progress.record)
    evaluations = trainer.config.evaluations(trainer.envs[0].horizon)
    return Policy(editor, progress.seconds, evaluations)


def _write_curve(path: Path, record: Mapping[str, np.ndarray]) -> None:
    values = {name: np.asarray(curve).round(5).tolist() for name, curve in record.items()}
    atomic_write_text(path, json.dumps(values))
