"""What a few reward evaluations add to a policy's edit, beside searches that start elsewhere.

All searches edit the same networks for the same requests: from the edit of a policy that never saw
either, from the mean of the edits that the policy makes on its training tasks, or from scratch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.memory import announcer
from experiments.common.options import memory_budget, open_mesh
from experiments.transfer.batch import TaskBatch, forget_retain_metrics
from experiments.transfer.policies import Policies
from experiments.transfer.zero_shot import SEEN_NETWORKS
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import policy_parametrization
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.evaluation.targets import first_met, forgotten
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.table import Row
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.types import Key

POINTS = 40  # of a curve that are evaluated on the test examples
SEARCHES = ("ppo", "openes", "snes")


def adaptation_rows(policies: Policies) -> list[Row]:
    """Searches on new networks and new classes, from the policies' edits and others.

    Factors: ``start`` of a search (``policy``, ``mean-edit`` or ``scratch``) and its ``budget``;
    with a budget of 0 the policy's edit is as it is. Rows of searches have curves.
    """
    config, networks = policies.config, policies.networks
    family = networks.family(config.networks[0])
    tasks = family.tasks(family.subjects(networks.new_seeds), networks.held_out)
    editor = policies.without(networks.held_out[0]).editor
    batch = TaskBatch.of(editor, tasks, networks.new_seeds)
    keys = jax.random.split(jax.random.key(config.seed), len(tasks))
    by_policy, means = _starts(policies, batch)

    def factors(start: str, budget: int) -> dict[str, Any]:
        return config.factors("adaptation", start=start, budget=budget)

    def found(method: str, searches: Sequence[SearchEditor], start: str, budget: int) -> list[Row]:
        shown = factors(start, budget)
        where = {"mesh": open_mesh(config), "memory": memory_budget(config)}
        name = f"{method} from {start}, budget {budget}"
        return search_rows(method, searches, batch, keys, shown, announce=announcer(name), **where)

    rows = batch.rows(policies.method, _at_once(batch, by_policy), factors("policy", 0))
    for budget in config.budgets:
        searches = [editor.adaptation_search(budget, jnp.asarray(start)) for start in by_policy]
        rows += found(policies.method, searches, "policy", budget)
    budget = config.search_budget
    for kind in SEARCHES:
        method = f"{kind}-{policies.world}"
        scratch = preset(f"unlearning/{method}", budget=budget, observation="time")
        flat = replace(scratch, parametrization=policy_parametrization(editor.network))
        from_mean = [replace(flat, start=jnp.asarray(start)) for start in means]
        from_scratch = [scratch] * len(tasks)
        rows += found(method, from_scratch, "scratch", budget)
        rows += found(method, from_mean, "mean-edit", budget)
    return rows


def _at_once(batch: TaskBatch, edits: np.ndarray) -> list[dict[str, float]]:
    """Metrics of edits ``[B, A]`` without a reward evaluation: a good one needs none."""
    found = batch.metrics(edits[:, None])
    for metrics, original in zip(found, batch.original, strict=True):
        forget, retain = metrics["forget_accuracy_test"], metrics["retain_accuracy_test"]
        good = forgotten(forget, retain, original["retain"])
        metrics["evaluations_to_target"] = 0.0 if good else np.nan
    return found


def _starts(policies: Policies, batch: TaskBatch) -> tuple[np.ndarray, np.ndarray]:
    """Where searches start, ``[B, A]`` each: the policies' edits, and means of training tasks.

    The policy of a task is the one that was never asked for its class.
    """
    held_out = policies.networks.held_out
    plans = [batch.plans(policies.without(index).editor)[:, 0] for index in held_out]
    owner = np.arange(len(batch.tasks)) % len(held_out)
    by_policy = np.stack(plans)[owner, np.arange(len(batch.tasks))]
    return by_policy, _mean_edits(policies)[owner]


def _mean_edits(policies: Policies) -> np.ndarray:
    """Mean of every policy's edits on some of its training tasks, ``[policies, A]``."""
    networks = policies.networks
    family = networks.family(policies.config.networks[0])
    seeds = networks.training_seeds[:SEEN_NETWORKS]
    classes, held_out = networks.seen(None), networks.held_out
    tasks = family.tasks(family.subjects(seeds), classes)
    batch = TaskBatch.of(policies.without(held_out[0]).editor, tasks, seeds)
    asked = np.array(classes * len(seeds))
    return np.stack(
        [
            batch.plans(policies.without(index).editor)[asked != index, 0].mean(0)
            for index in held_out
        ]
    )


def search_rows(
    method: str,
    searches: Sequence[SearchEditor],
    batch: TaskBatch,
    keys: Key,
    factors: Mapping[str, Any],
    **options: Any,
) -> list[Row]:
    """Runs a search on all tasks side by side and evaluates it on the way.

    Args:
      method: name of the search.
      searches: one for each task; they differ in their starts alone.
      batch: of ``B`` tasks.
      keys: ``[B]``.
      factors: of the rows.
      **options: of `edit_many`: mesh, memory, announce.
    """
    search = searches[0]
    found = edit_many(searches, batch.tasks, keys, **options)
    count = search.updates
    shown = np.unique(np.linspace(0, count - 1, min(POINTS, count)).round().astype(int))
    plans = np.stack([result.trace.plans[shown] for result in found])
    curves = PlanEvaluator(search.make_world(batch.tasks[0]), batch.tasks).curves(plans, "test")
    evaluations = (shown + 1) * search.evaluations_per_update
    needed = evaluations_to_target(curves, batch.original, evaluations)
    cost = Cost(reward_evaluations=int(evaluations[-1]))
    rows = []
    for index, after in enumerate(batch.accuracies(curves)):
        metrics = forget_retain_metrics(after, batch.original[index])
        metrics["evaluations_to_target"] = float(needed[index])
        way = {"reward_evaluations": evaluations} | {
            f"{name}_accuracy_test": values[index] for name, values in curves.items()
        }
        task, seed = batch.tasks[index], batch.seeds[index]
        rows.append(Row(method, task.name, seed, metrics, cost, factors, way))
    return rows


def evaluations_to_target(
    curves: Mapping[str, np.ndarray],
    original: Sequence[Mapping[str, float]],
    evaluations: np.ndarray,
) -> np.ndarray:
    """Reward evaluations ``[B]`` until the target is first met; NaN if never."""
    base = np.array([accuracies["retain"] for accuracies in original], np.float32)
    met = forgotten(curves["forget"], curves["retain"], base[:, None])
    return first_met(met, evaluations)
