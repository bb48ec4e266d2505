"""What an edit costs by a policy, and by what it replaces; what the policy itself has cost."""

import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from experiments.transfer.batch import TaskBatch
from experiments.transfer.policies import Policies
from modeledit_jax.editors.editor import Cost, Editor
from modeledit_jax.editors.policy.learned import LearnedEditor, planned
from modeledit_jax.editors.unlearning.references import Retrain
from modeledit_jax.envs.world import World
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Params

REPEATS = 5


def cost_rows(policies: Policies) -> list[Row]:
    """Seconds of one edit after compilation, alone on the machine; and of the training.

    The factor ``phase`` is ``edit`` of the policy (look at the network and write the edit), of PPO
    from scratch, of NegGrad+ and of Retrain, with the metric ``seconds_per_edit``, the median of
    some repetitions. It is ``training`` of the policy, with its reward evaluations and the metric
    ``break_even_edits``: from how many edits on the policy has cost less time than searches.
    """
    config, networks, world = policies.config, policies.networks, policies.world
    policy = policies.without(None)
    family = networks.family(config.networks[0])
    seeds = list(networks.new_seeds)[:1]
    tasks = family.tasks(family.subjects(seeds), [networks.held_out[0]])
    batch = TaskBatch.of(policy.editor, tasks, seeds)
    task, seed = tasks[0], seeds[0]
    by_policy = _seconds(_zero_shot(policy.editor, batch.env, task))
    ppo = preset(f"unlearning/ppo-{world}", budget=config.search_budget, observation="time")
    search = _seconds(partial(_edited, ppo, task), 1)
    even = policy.seconds / max(search - by_policy, 1e-9)

    def row(method: str, seconds: float, evaluations: int = 0) -> Row:
        cost = Cost(evaluations, seconds=seconds)
        factors = config.factors("cost", phase="edit")
        return Row(method, task.name, seed, {"seconds_per_edit": seconds}, cost, factors)

    rows = [
        row(policies.method, by_policy),
        row(f"ppo-{world}", search, config.search_budget),
        Row(
            policies.method,
            task.name,
            seed,
            {"seconds_per_training": policy.seconds, "break_even_edits": float(np.ceil(even))},
            Cost(policy.evaluations, seconds=policy.seconds),
            config.factors("cost", phase="training"),
        ),
    ]
    if policies.first:  # of no world in particular, so timed once
        recipe = family.recipe
        others: dict[str, Editor] = {
            "neggrad-plus": preset("unlearning/neggrad-plus"),
            "retrain": Retrain(recipe.module, recipe.training),
        }
        rows += [
            row(name, _seconds(partial(_edited, editor, task), 1))
            for name, editor in others.items()
        ]
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
