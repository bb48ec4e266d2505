"""The editors that searches are compared with: same layer and reward data, or trained anew."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.bias_mitigation.run import Setup, fairness_course, outputs_of
from experiments.common.searching import Result
from modeledit_jax.editors.debiasing.ablation import NeuronAblation, RandomEdit
from modeledit_jax.editors.debiasing.erasure import INLP, LEACE
from modeledit_jax.editors.debiasing.fine_tuning import FineTune, tune
from modeledit_jax.editors.debiasing.refit import LastLayerRefit
from modeledit_jax.editors.debiasing.reweighing import (
    RetrainWith,
    dixon_weights,
    reweighing_weights,
)
from modeledit_jax.editors.editor import Editor, EditResult
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.evaluation.forgetting import relative_edit_size
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.task import EvaluationSets
from modeledit_jax.types import Array, Key

TOLERATED = 0.005
"""Loss of accuracy on ``select`` that costs a fine-tuned edit nothing when its weight is chosen."""

Edit = Callable[[DebiasingTask, Key, int], EditResult]


def compare(setup: Setup, searches: Sequence[Result]) -> list[Result]:
    """Runs every comparison editor on every task.

    Args:
      bench: tasks and recipe.
      searches: results so far; random edits are given the size of PPO's.
    """
    sizes = ppo_sizes(setup, searches)
    editors: dict[str, Edit] = {
        "clp": partial(fine_tuned, FineTune("logit-pairing")),
        "mindiff": partial(fine_tuned, FineTune("mindiff")),
        "leace": plain(LEACE()),
        "inlp": plain(INLP()),
        "last-layer-refit": plain(LastLayerRefit()),
        "neuron-ablation": plain(NeuronAblation(), ablation_budget(setup)),
        "random-edit": lambda task, key, index: RandomEdit(sizes[index], setup.config.rank).edit(
            task, key
        ),
    }
    recipes = {
        "dixon-rebalancing": dixon_weights,
        "reweighing": reweighing_weights,
        "other-seed": None,
    }
    for name, weights in recipes.items():
        editors[name] = plain(RetrainWith(setup.module, weights, setup.training))
    found = [evaluated(setup, name, edit) for name, edit in editors.items()]
    return [result for result in found if result is not None]


def plain(editor: Editor, budget: int = 0) -> Edit:
    """An editor whose settings are the same for all tasks."""
    return lambda task, key, index: editor.edit(task, key, budget)


def evaluated(setup: Setup, name: str, edit: Edit) -> Result | None:
    """One editor on all tasks, each with a key of its own; None, and a note, if it cannot serve."""
    found = []
    progress = tqdm(list(zip(setup.tasks, setup.seeds, strict=True)), desc=name, leave=False)
    for index, (task, seed) in enumerate(progress):
        key = jax.random.fold_in(jax.random.key(1_000 + seed), index)
        try:
            found.append(edit(task, key, index))
        except ValueError as error:  # e.g. too few comments of a term
            setup.notes.append(f"{name} was left out: {error}")
            return None
    leaves = [
        get_leaves(one.params, task.site) for one, task in zip(found, setup.tasks, strict=True)
    ]
    outputs = outputs_of(setup, [one.params for one in found])
    return Result(name, outputs, [one.cost for one in found], leaves=leaves)


def fine_tuned(editor: FineTune, task: DebiasingTask, key: Key, index: int) -> EditResult:
    """Fine-tuning with the weight of its penalty chosen on ``select``."""
    del index
    begin = time.perf_counter()
    before = on_select(task, _outputs(task))

    def criterion(scores: Array, sets: EvaluationSets) -> float:
        del sets
        after = on_select(task, scores[:, None])
        lost = max(before["accuracy"] - after["accuracy"] - TOLERATED, 0.0)
        return -after["fped"] - after["fned"] - 4.0 * lost

    _, result = tune(editor, task, key, criterion)
    return replace(result, cost=replace(result.cost, seconds=time.perf_counter() - begin))


def on_select(task: DebiasingTask, outputs: Array) -> dict[str, float]:
    """`fairness_course` of one classifier on ``select``."""
    sets = task.roles["select"]
    targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
    found = jax.jit(fairness_course)(jnp.asarray(outputs), targets, weights)
    return {name: float(value) for name, value in found.items()}


def ppo_sizes(setup: Setup, searches: Sequence[Result]) -> list[float]:
    """Mean size of PPO's edits of each task; 0.5 where PPO did not run."""
    own = [result.leaves for result in searches if result.editor.startswith("ppo")]
    return [
        float(
            np.mean([relative_edit_size(task.leaves, each[index]) for each in own if each])
            if own
            else 0.5
        )
        for index, task in enumerate(setup.tasks)
    ]


def ablation_budget(setup: Setup) -> int:
    """The searches' budget, or one round of ablation where that is more."""
    leaves = setup.tasks[0].leaves.values()
    return max(setup.config.budget, sum(sum(leaf.shape[-2:]) for leaf in leaves))


def _outputs(task: DebiasingTask) -> Array:
    apply = jax.jit(task.subject.apply)
    return apply(task.subject.params, jnp.asarray(task.roles["select"].x))
