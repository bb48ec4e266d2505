"""The course of the transfer experiment: train policies, edit at once, adapt, repeat, time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.common.options import World, run_folder
from experiments.transfer.adaptation import Course, adapted
from experiments.transfer.config import Config
from experiments.transfer.cost import cost_rows
from experiments.transfer.networks import Family, Networks, draw_pairs
from experiments.transfer.parts import cached_courses, cached_rows
from experiments.transfer.policies import Policy, sequence_policy, trained_policy
from experiments.transfer.report import Results, write_report
from experiments.transfer.sequence import sequence_rows
from experiments.transfer.zero_shot import TaskBatch, editor_rows, original_rows, policy_rows
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.unlearning.closed_form import ProjectionEditor, RidgeEditor
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.report.table import Row

SEEN_NETWORKS = 5  # of the training networks that are edited
PAIRS = 10  # of classes, of which each new network is asked to forget both at once


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    store = Networks(config)
    results = Results(config)
    for world in config.worlds:
        course = _Course(config, store, world)
        parts = run_folder(config) / "parts"
        if "zero-shot" in config.parts:
            results.zero_shot += cached_rows(parts / f"zero-shot-{world}.json", course.zero_shot)
        if "adaptation" in config.parts:
            results.courses[world], results.instant[world] = cached_courses(
                parts / f"adaptation-{world}.json", course.adaptation
            )
        if "sequence" in config.parts:
            results.sequence += cached_rows(parts / f"sequence-{world}.json", course.sequence)
        if "cost" in config.parts:
            results.cost += cached_rows(parts / f"cost-{world}.json", course.cost)
    write_report(results)
    return run_folder(config) / "report.md"


@dataclass
class _Course:
    """One world."""

    config: Config
    store: Networks
    world: World
    policies: dict[int | None, Policy] = field(default_factory=dict)

    def policy(self, held_out: int | None) -> Policy:
        """The policy without a class; trained once."""
        if held_out not in self.policies:
            self.policies[held_out] = trained_policy(self.config, self.store, self.world, held_out)
        return self.policies[held_out]

    def zero_shot(self) -> list[Row]:
        """New and seen networks, new and seen classes, other shapes and other data."""
        own, store = self.config.networks, self.store
        rows = []
        settings: list[tuple[str, Family, Sequence[int]]] = [
            ("seen-network", store.family(own[0]), store.training_seeds[:SEEN_NETWORKS]),
            ("new-network", store.family(own[0]), store.new_seeds),
        ]
        for shape in (*own[1:], *self.config.other_networks):
            settings.append((shape, store.family(shape), store.new_seeds))
        for name, family, seeds in tqdm(settings, desc=f"{self.world}: zero-shot", leave=False):
            rows += self._by_held_out(name, family, seeds)
        for data in self.config.other_data:
            rows += self._other_data(data)
        return rows + self._pairs()

    def _pairs(self) -> list[Row]:
        """Two classes in one request, by the policy that was asked for every class."""
        store = self.store
        family = store.family(self.config.networks[0])
        # Of another seed than the pairs to train on; some may be the same.
        pairs = draw_pairs(self.config.seed + 1, store.seen(-1), PAIRS)
        tasks = family.tasks(family.subjects(store.new_seeds), pairs)
        editor = self.policy(None).editor
        batch = TaskBatch.of(editor, tasks, store.new_seeds)
        return policy_rows(f"policy-{self.world}-new-network-pairs", editor, batch)

    def _by_held_out(self, name: str, family: Family, seeds: Sequence[int]) -> list[Row]:
        """Every policy on all classes of some networks; classical editors on the same."""
        classes = self.store.seen(-1)
        tasks = family.tasks(family.subjects(seeds), classes)
        batch = TaskBatch.of(self.policy(self.store.held_out[0]).editor, tasks, seeds)
        rows = original_rows(f"original-{name}", batch) if self._first else []
        for held_out in self.store.held_out:
            found = policy_rows("policy", self.policy(held_out).editor, batch)
            for row in found:
                new = row.task == f"forget-{held_out}"
                kind = "new-class" if new else "seen-class"
                task = row.task if new else f"{row.task}-without-{held_out}"
                editor = f"policy-{self.world}-{name}-{kind}"
                rows.append(Row(editor, task, row.seed, row.metrics, row.cost))
        if self._first and name == "new-network":
            rows += editor_rows("ridge-new-network", RidgeEditor(), batch)
            rows += editor_rows("projection-new-network", ProjectionEditor(), batch)
            rows += editor_rows("neggrad-plus-new-network", NegGradPlus(), batch)
            published = NegGradPlus(alpha=0.95)
            rows += editor_rows("neggrad-plus-published-new-network", published, batch)
        return rows

    @property
    def _first(self) -> bool:
        """Whether this is the first world: what no policy does is done once."""
        return self.world == self.config.worlds[0]

    def _other_data(self, data: str) -> list[Row]:
        family = self.store.family(self.config.networks[0], data)
        tasks = family.tasks(
            family.subjects(self.store.new_seeds), range(family.splits.num_classes)
        )
        editor = self.policy(None).editor
        batch = TaskBatch.of(editor, tasks, self.store.new_seeds)
        rows = policy_rows(f"policy-{self.world}-{data}", editor, batch)
        return rows + (original_rows(f"original-{data}", batch) if self._first else [])

    def adaptation(self) -> tuple[dict[str, Course], list[Row]]:
        """Searches on new networks and new classes, from the policies' edits and others."""
        store = self.store
        family = store.family(self.config.networks[0])
        subjects = family.subjects(store.new_seeds)
        tasks = family.tasks(subjects, store.held_out)
        batch = TaskBatch.of(self.policy(store.held_out[0]).editor, tasks, store.new_seeds)
        plans = [batch.plans(self.policy(index).editor)[:, 0] for index in store.held_out]
        # The policy of a task is the one that was never asked for its class.
        owner = np.arange(len(tasks)) % len(store.held_out)
        policy = np.stack(plans)[owner, np.arange(len(tasks))]
        means = self._mean_edits(family)
        found = batch.evaluated(policy[:, None])
        name = f"policy-{self.world}"
        instant = [
            Row(name, task.name, seed, metrics, Cost())
            for task, seed, metrics in zip(tasks, batch.seeds, found, strict=True)
        ]
        courses = adapted(
            self.config, self.policy(store.held_out[0]).editor, batch, policy, means[owner]
        )
        return courses, instant

    def _mean_edits(self, family: Family) -> np.ndarray:
        """Mean of every policy's edits on some of its training tasks, ``[policies, A]``."""
        seeds = self.store.training_seeds[:SEEN_NETWORKS]
        classes = self.store.seen(-1)
        tasks = family.tasks(family.subjects(seeds), classes)
        held_out = self.store.held_out
        batch = TaskBatch.of(self.policy(held_out[0]).editor, tasks, seeds)
        asked = np.array(classes * len(seeds))
        return np.stack(
            [batch.plans(self.policy(own).editor)[asked != own, 0].mean(0) for own in held_out]
        )

    def sequence(self) -> list[Row]:
        """Requests in turn, by the policy as it is and after further training on such."""
        start = self.policy(None)
        name = f"policy-{self.world}"
        rows = sequence_rows(name, start.editor, self.config, self.store)
        if self.config.sequence_updates:
            trained = sequence_policy(self.config, self.store, self.world, start)
            rows += sequence_rows(f"{name}-in-turn", trained.editor, self.config, self.store)
        return rows

    def cost(self) -> list[Row]:
        """Seconds of an edit, and of the training of the policy."""
        return cost_rows(self.config, self.store, self.world, self.policy(None))
