"""Trains the policies of the transfer experiment, or finds them in the run folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.options import World, run_folder
from experiments.transfer.config import Config
from experiments.transfer.networks import REWARD, Networks, draw_pairs
from modeledit_jax.editors.policy.learned import LearnedEditor
from modeledit_jax.editors.policy.training import PolicyTraining, Trainer
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.resumable import run_chunks
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_in_turn

RECORDED = ("reward", "reward_spread", "approx_kl", "grad_norm")
CHUNK = 20
SEQUENCE, ORDERS = 5, 6
"""Requests of a training episode in which one follows another; episodes for every network."""


@dataclass(frozen=True)
class Policy:
    """A trained policy and what its training took."""

    editor: LearnedEditor
    seconds: float
    evaluations: int


@dataclass(frozen=True)
class Policies:
    """The policies of one world, each trained when it is asked for.

    Attributes:
      config: of the run.
      networks: to train on, and to edit.
      world: of the policies.
    """

    config: Config
    networks: Networks
    world: World
    _trained: dict[int | None, Policy] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """What the policies are called in tables."""
        return f"policy-{self.world}"

    @property
    def first(self) -> bool:
        """Whether this is the first world: what no policy does is done once."""
        return self.world == self.config.worlds[0]

    def without(self, held_out: int | None) -> Policy:
        """The policy that was never asked to forget a class (None: asked for all)."""
        if held_out not in self._trained:
            self._trained[held_out] = self._train(held_out)
        return self._trained[held_out]

    def _train(self, held_out: int | None) -> Policy:
        config, networks = self.config, self.networks
        classes = networks.seen(held_out)
        groups = []
        for shape in config.networks:
            family = networks.family(shape)
            subjects = family.subjects(networks.training_seeds)
            pairs = draw_pairs(config.seed, classes, config.pairs)
            groups.append(family.tasks(subjects, classes) + family.tasks(subjects, pairs))
        options = PolicyTraining(updates=config.updates, tasks=min(16, *map(len, groups)))
        name = self.world if held_out is None else f"{self.world}-without-{held_out}"
        trainer = Trainer.of(options, self.world, groups)
        return train_policy(run_folder(config), name, trainer, config.seed)

    def in_turn(self) -> Policy:
        """The policy that was asked for all classes, trained further on requests in turn."""
        config, networks = self.config, self.networks
        rng = np.random.default_rng(config.seed)
        groups: list[list[Task]] = []
        for shape in config.networks:
            family = networks.family(shape)
            classes = networks.seen(None)
            groups.append(
                [
                    forget_in_turn(subject, family.splits, order, reward=REWARD)
                    for subject in family.subjects(networks.training_seeds)
                    for order in _orders(rng, classes, ORDERS)
                ]
            )
        options = PolicyTraining(updates=config.sequence_updates, tasks=min(8, *map(len, groups)))
        trainer = Trainer.of(options, self.world, groups)
        name, start = f"{self.world}-in-turn", self.without(None)
        return train_policy(run_folder(config), name, trainer, config.seed, start)


def _orders(rng: np.random.Generator, classes: Sequence[int], count: int) -> list[list[int]]:
    length = min(SEQUENCE, len(classes) - 1)
    return [[int(c) for c in rng.permutation(classes)[:length]] for _ in range(count)]


def train_policy(
    folder: Path, name: str, trainer: Trainer, seed: int, start: Policy | None = None
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
            report=report,
        )
    editor = trainer.editor(progress.state)
    editor.save(folder / "policies" / f"{name}.safetensors")
    _write_curve(folder / "policies" / f"{name}.json", progress.record)
    evaluations = trainer.config.evaluations(trainer.envs[0].horizon)
    return Policy(editor, progress.seconds, evaluations)


def _write_curve(path: Path, record: Mapping[str, np.ndarray]) -> None:
    values = {name: np.asarray(curve).round(5).tolist() for name, curve in record.items()}
    atomic_write_text(path, json.dumps(values))
