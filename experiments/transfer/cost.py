"""What an edit costs by a policy, and by what it replaces; what the policy itself has cost."""

import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from experiments.transfer.config import Config
from experiments.transfer.networks import Networks
from experiments.transfer.policies import Policy
from experiments.transfer.zero_shot import TaskBatch
from modeledit_jax.editors.editor import Cost, Editor
from modeledit_jax.editors.policy.learned import LearnedEditor, planned
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.editors.unlearning.references import Retrain
from modeledit_jax.envs.world import World
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Params

REPEATS = 5


def cost_rows(config: Config, store: Networks, world: str, policy: Policy) -> list[Row]:
    """Seconds of one edit after compilation, alone on the machine; and of the training.

    Rows ``policy-<world>`` (look at the network and write the edit), ``ppo-<world>`` (search from
    scratch), ``neggrad-plus``, ``retrain``, and ``training-<world>`` (of the policy, with its
    reward evaluations). The median of some repetitions; metrics ``seconds_per_edit``, and of the
    training ``break_even_edits``: from how many edits on the policy has cost less time than the
    searches.
    """
    family = store.family(config.networks[0])
    seeds = list(store.new_seeds)[:1]
    tasks = family.tasks(family.subjects(seeds), [store.held_out[0]])
    batch = TaskBatch.of(policy.editor, tasks, seeds)
    task, seed = tasks[0], seeds[0]
    by_policy = _seconds(_zero_shot(policy.editor, batch.env, task))
    search = _seconds(_from_scratch(config, world, task), 1)
    even = policy.seconds / max(search - by_policy, 1e-9)

    def row(name: str, seconds: float, cost: Cost, **more: float) -> Row:
        return Row(name, task.name, seed, {"seconds_per_edit": seconds, **more}, cost)

    rows = [
        row(f"policy-{world}", by_policy, Cost(seconds=by_policy)),
        row(f"ppo-{world}", search, Cost(config.search_budget, seconds=search)),
        Row(
            f"training-{world}",
            task.name,
            seed,
            {"seconds_per_training": policy.seconds, "break_even_edits": float(np.ceil(even))},
            Cost(policy.evaluations, seconds=policy.seconds),
        ),
    ]
    if world == config.worlds[0]:  # of no world in particular, so timed once
        recipe = family.recipe
        retrain = Retrain(recipe.module, recipe.training)
        others: dict[str, Editor] = {"neggrad-plus": NegGradPlus(), "retrain": retrain}
        for name, editor in others.items():
            taken = _seconds(partial(_edited, editor, task), 1)
            rows.append(row(name, taken, Cost(seconds=taken)))
    return rows


def _edited(editor: Editor, task: Task) -> Params:
    return editor.edit(task, jax.random.key(0)).params


def _seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median of some repetitions, after one that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _zero_shot(editor: LearnedEditor, env: World, task: Task) -> Callable[[], object]:
    """From a network and examples to edited weights, with all passes over the examples."""
    return lambda: planned(editor, env, env.params(task))[1]


def _from_scratch(config: Config, world: str, task: Task) -> Callable[[], object]:
    search = preset(f"unlearning/ppo-{world}", budget=config.search_budget, observation="time")
    return lambda: search.edit(task, jax.random.key(0)).params
