"""Trains the policies of the transfer experiment, or finds them in the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.common.memory import announcer
from experiments.common.options import World, memory_budget, open_mesh, run_folder
from experiments.common.policies import Policy, train_policy
from experiments.transfer.config import ORDERS, TASKS, TASKS_IN_TURN, Config
from experiments.transfer.networks import REWARD, Networks, draw_pairs
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_in_turn

SEQUENCE = 5
"""Requests of a training episode in which one follows another."""


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
        for family in networks.training_families:
            subjects = family.subjects(networks.training_seeds)
            pairs = draw_pairs(config.seed, classes, config.pairs)
            groups.append(family.tasks(subjects, classes) + family.tasks(subjects, pairs))
        tasks = min(TASKS, *map(len, groups))
        options = PolicyTraining(updates=config.updates, tasks=tasks)
        name = self.world if held_out is None else f"{self.world}-without-{held_out}"
        trainer = self._trainer(name, options, groups)
        return train_policy(run_folder(config), name, trainer, config.seed)

    def in_turn(self) -> Policy:
        """The policy that was asked for all classes, trained further on requests in turn."""
        config, networks = self.config, self.networks
        rng = np.random.default_rng(config.seed)
        groups: list[list[Task]] = []
        classes = networks.seen(None)
        for family in networks.training_families:
            groups.append(
                [
                    forget_in_turn(subject, family.splits, order, reward=REWARD)
                    for subject in family.subjects(networks.training_seeds)
                    for order in _orders(rng, classes, ORDERS)
                ]
            )
        tasks = min(TASKS_IN_TURN, *map(len, groups))
        options = PolicyTraining(updates=config.sequence_updates, tasks=tasks)
        name, start = f"{self.world}-in-turn", self.without(None)
        trainer = self._trainer(name, options, groups)
        return train_policy(run_folder(config), name, trainer, config.seed, start)

    def _trainer(
        self, name: str, options: PolicyTraining, groups: Sequence[Sequence[Task]]
    ) -> PolicyTrainer:
        config = self.config
        return PolicyTrainer.of(
            options,
            self.world,
            groups,
            open_mesh(config),
            memory_budget(config),
            announcer(f"policy {name}"),
        )


def _orders(rng: np.random.Generator, classes: Sequence[int], count: int) -> list[list[int]]:
    length = min(SEQUENCE, len(classes) - 1)
    return [[int(c) for c in rng.permutation(classes)[:length]] for _ in range(count)]
