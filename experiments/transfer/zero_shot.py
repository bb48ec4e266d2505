"""Edits without any reward evaluation: policies and closed-form editors on networks they meet."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from experiments.transfer.batch import TaskBatch, forget_retain_metrics
from experiments.transfer.networks import draw_pairs
from experiments.transfer.policies import Policies
from modeledit_jax.editors.editor import Cost, Editor
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.evaluation.accuracy import accuracies
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.table import Row

SEEN_NETWORKS = 5  # of the training networks that are edited
PAIRS = 10  # of classes, of which each new network is asked to forget both at once
COMPARED = ("ridge", "projection", "neggrad-plus", "neggrad-plus-published")
"""Presets of editors that need neither training nor evaluations."""


def zero_shot_rows(policies: Policies) -> list[Row]:
    """New and seen networks, new and seen classes, other shapes and other data.

    Factors: ``data``, ``network`` and ``seen_network`` of what is edited; ``held_out``, the class
    that the policy was never asked for; ``seen_class``, whether the request is for another one;
    ``classes`` of one request.
    """
    config, networks = policies.config, policies.networks
    seen = networks.training_seeds[:SEEN_NETWORKS]
    rows = _by_held_out(policies, config.networks[0], seen, seen_network=True)
    shapes = list(dict.fromkeys((*config.networks, *config.other_networks)))
    for shape in tqdm(shapes, desc=f"{policies.world}: zero-shot", leave=False):
        rows += _by_held_out(policies, shape, networks.new_seeds, seen_network=False)
    for data in config.other_data:
        rows += _on_other_data(policies, data)
    return rows + _of_pairs(policies)


def _by_held_out(
    policies: Policies, shape: str, seeds: Sequence[int], *, seen_network: bool
) -> list[Row]:
    """Every policy on all classes of some networks; classical editors on the same."""
    config, networks = policies.config, policies.networks
    factors = config.factors("zero-shot", network=shape, seen_network=seen_network, classes=1)
    family = networks.family(shape)
    tasks = family.tasks(family.subjects(seeds), networks.seen(None))
    batch = TaskBatch.of(policies.without(networks.held_out[0]).editor, tasks, seeds)
    rows = original_rows(batch, factors) if policies.first else []
    for held_out in networks.held_out:
        editor = policies.without(held_out).editor
        for row in batch.rows(policies.method, batch.metrics(batch.plans(editor)), factors):
            seen_class = row.task != f"forget-{held_out}"
            known = {"held_out": held_out, "seen_class": seen_class}
            rows.append(replace(row, factors=factors | known))
    if policies.first and shape == config.networks[0] and not seen_network:
        for name in COMPARED:
            rows += editor_rows(name, preset(f"unlearning/{name}"), batch, factors)
    return rows


def _on_other_data(policies: Policies, data: str) -> list[Row]:
    """Networks trained on other data, by the policy that was asked for every class."""
    config, networks = policies.config, policies.networks
    factors = config.factors("zero-shot", data=data, seen_network=False, classes=1)
    family = networks.family(config.networks[0], data)
    tasks = family.tasks(family.subjects(networks.new_seeds), range(family.splits.num_classes))
    editor = policies.without(None).editor
    batch = TaskBatch.of(editor, tasks, networks.new_seeds)
    rows = batch.rows(policies.method, batch.metrics(batch.plans(editor)), factors)
    return rows + (original_rows(batch, factors) if policies.first else [])


def _of_pairs(policies: Policies) -> list[Row]:
    """Two classes in one request, by the policy that was asked for every class."""
    config, networks = policies.config, policies.networks
    factors = config.factors("zero-shot", seen_network=False, classes=2)
    family = networks.family(config.networks[0])
    # Of another seed than the pairs to train on; some may be the same.
    pairs = draw_pairs(config.seed + 1, networks.seen(None), PAIRS)
    tasks = family.tasks(family.subjects(networks.new_seeds), pairs)
    editor = policies.without(None).editor
    batch = TaskBatch.of(editor, tasks, networks.new_seeds)
    return batch.rows(policies.method, batch.metrics(batch.plans(editor)), factors)


def editor_rows(
    method: str, editor: Editor, batch: TaskBatch, factors: Mapping[str, Any]
) -> list[Row]:
    """Rows of an editor that needs neither training nor evaluations."""
    rows = []
    for index, task in enumerate(tqdm(batch.tasks, desc=method, leave=False)):
        begin = time.perf_counter()
        params = jax.block_until_ready(editor.edit(task, jax.random.key(0)).params)
        cost = Cost(seconds=time.perf_counter() - begin)
        outputs = batch.evaluator.outputs(index, get_leaves(params, task.site), "test")
        sets = task.roles["test"]
        weights = {name: jnp.asarray(values) for name, values in sets.weights.items()}
        found = accuracies(jnp.asarray(outputs), jnp.asarray(sets.label), weights)
        after = {name: float(value) for name, value in found.items()}
        metrics = forget_retain_metrics(after, batch.original[index])
        rows.append(Row(method, task.name, batch.seeds[index], metrics, cost, factors))
    return rows


def original_rows(batch: TaskBatch, factors: Mapping[str, Any]) -> list[Row]:
    """Rows of the unedited networks."""
    metrics = [forget_retain_metrics(accuracies, accuracies) for accuracies in batch.original]
    return batch.rows("original", metrics, factors)
