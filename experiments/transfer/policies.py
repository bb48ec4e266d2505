"""Trains the policies of the transfer experiment, or finds them in the run folder."""

from collections.abc import Sequence

import numpy as np

from experiments.common.options import run_folder
from experiments.common.policies import Policy, train_policy
from experiments.transfer.config import Config
from experiments.transfer.networks import REWARD, Networks, draw_pairs
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.envs.worlds import WorldName
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_in_turn

SEQUENCE, ORDERS = 5, 6
"""Requests of a training episode in which one follows another; episodes for every network."""


def trained_policy(
    config: Config, store: Networks, world: WorldName, held_out: int | None
) -> Policy:
    """The policy of a world that was never asked to forget ``held_out`` (None: asked for all)."""
    classes = store.seen(-1 if held_out is None else held_out)
    groups = []
    for shape in config.networks:
        family = store.family(shape)
        subjects = family.subjects(store.training_seeds)
        pairs = draw_pairs(config.seed, classes, config.pairs)
        groups.append(family.tasks(subjects, classes) + family.tasks(subjects, pairs))
    options = PolicyTraining(updates=config.updates, tasks=min(16, *map(len, groups)))
    name = world if held_out is None else f"{world}-without-{held_out}"
    trainer = PolicyTrainer.of(options, world, groups)
    return train_policy(run_folder(config), name, trainer, config.seed)


def sequence_policy(config: Config, store: Networks, world: WorldName, start: Policy) -> Policy:
    """A policy trained further on requests that come one after another."""
    rng = np.random.default_rng(config.seed)
    groups: list[list[Task]] = []
    for shape in config.networks:
        family = store.family(shape)
        classes = store.seen(-1)
        groups.append(
            [
                forget_in_turn(subject, family.splits, order, reward=REWARD)
                for subject in family.subjects(store.training_seeds)
                for order in _orders(rng, classes, ORDERS)
            ]
        )
    options = PolicyTraining(updates=config.sequence_updates, tasks=min(8, *map(len, groups)))
    trainer = PolicyTrainer.of(options, world, groups)
    return train_policy(run_folder(config), f"{world}-in-turn", trainer, config.seed, start)


def _orders(rng: np.random.Generator, classes: Sequence[int], count: int) -> list[list[int]]:
    length = min(SEQUENCE, len(classes) - 1)
    return [[int(c) for c in rng.permutation(classes)[:length]] for _ in range(count)]
