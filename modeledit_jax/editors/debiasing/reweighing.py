"""Ceilings that retrain: balanced training data, which an edit of one layer cannot hope to beat.

The classifier is trained from scratch on the ``train`` role with example weights that undo what
identity terms tell about toxicity: *reweighing* (Kamiran & Calders 2012, as in AIF360) makes term
and label independent, *Dixon rebalancing* (Dixon et al. 2018) adds harmless comments to the terms
that go with toxicity. Where there are further texts they can be added instead: harmless sentences
with terms, as Dixon et al. did it, or the counterfactuals of the reward, which shows what all that
the reward knows is worth to a network that may change every weight. Without any of these it is the
control: the same training with another seed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num

from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.subjects.training import TrainingConfig, gradient_steps, train_classifier
from modeledit_jax.tasks.debiasing import ADDED, comment_targets
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Examples, Key, Params


def group_of(groups: Num[np.ndarray, "n i"]) -> Int[np.ndarray, " n"]:
    """Numbers the distinct combinations of terms; where none mentions two, these are none, t1, …"""
    return np.unique(groups, axis=0, return_inverse=True)[1].reshape(-1)


def reweighing_weights(
    label: Int[np.ndarray, " n"], groups: Num[np.ndarray, "n i"]
) -> Float[np.ndarray, " n"]:
    """Weights ``n_g·n_y / (n·n_gy)`` under which group and label are independent.

    A group is a combination of terms (`group_of`). One that occurs with a single label keeps it,
    whatever the weights: `one_sided` finds such comments.

    Returns:
      float32, mean 1 if every group occurs with both labels.
    """
    _check(label, groups)
    group = group_of(groups)
    cells = np.zeros((group.max(initial=-1) + 1, int(label.max(initial=0)) + 1))
    np.add.at(cells, (group, label), 1.0)
    expected = cells.sum(axis=1, keepdims=True) * cells.sum(axis=0) / max(len(label), 1)
    # An empty cell has no comment that would read its weight.
    return (expected / np.maximum(cells, 1.0))[group, label].astype(np.float32)


def one_sided(
    label: Int[np.ndarray, " n"], groups: Num[np.ndarray, "n i"]
) -> Int[np.ndarray, " k"]:
    """Rows of comments whose combination of terms occurs with a single label."""
    _check(label, groups)
    group = group_of(groups)
    toxic = np.bincount(group, weights=label)[group]
    return np.flatnonzero((toxic == 0) | (toxic == np.bincount(group)[group]))


def _check(label: np.ndarray, groups: np.ndarray, strata: np.ndarray | None = None) -> None:
    check_shapes(label=(label, "n"), groups=(groups, "n i"), strata=(strata, "n"))
    check_integers(label=label, strata=strata)


def additions(
    toxic: Num[np.ndarray, " i"], harmless: Num[np.ndarray, " i"], share: float
) -> Float[np.ndarray, " i"]:
    """Harmless comments that a term lacks, ``(f·(t + n) − n) / (1 − f)``; 0 where it lacks none.

    Args:
      toxic, harmless: ``t`` and ``n``, comments with the term.
      share: ``f``, harmless comments among all.

    Raises:
      ValueError: no comment is toxic, so that no number would do.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"{share:.3f} of the comments are harmless: give some toxic ones")
    return np.maximum((share * (toxic + harmless) - harmless) / (1.0 - share), 0.0)


def dixon_weights(
    label: Int[np.ndarray, " n"],
    groups: Num[np.ndarray, "n i"],
    strata: Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Weights that act like the `additions` where there are no further texts to add.

    Every harmless comment with a term is counted ``1 + a/n`` times, which gives the term the
    overall share of toxic comments. Not as good as new texts: the same comments are seen more
    often. A comment with several terms gets the additions of each; a term without any harmless
    comment keeps its weights.

    Args:
      label: 1 = toxic.
      groups: 1 where a comment mentions the term.
      strata: numbers from 0; terms are balanced within each (Dixon et al. take bins of length).
    """
    _check(label, groups, strata)
    strata = np.zeros(len(label), int) if strata is None else strata
    weights, share = np.ones(len(label)), float(np.mean(label == 0))
    for stratum in np.unique(strata):
        named = (groups > 0) & (strata == stratum)[:, None]
        harmless = named & (label == 0)[:, None]
        number = harmless.sum(axis=0)
        lacking = additions(named.sum(axis=0) - number, number, share)
        weights += harmless @ (lacking / np.maximum(number, 1))
    return weights.astype(np.float32)


COUNTERFACTUALS = "counterfactuals"
"""Of `RetrainWith.added`: those that the reward knows."""

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(label [N], groups [N, I]) -> weights [N]``."""

RULES: dict[str, Rule] = {"reweighing": reweighing_weights, "dixon": dixon_weights}


@dataclass(frozen=True)
class RetrainWith:
    """Trains the subject's network from scratch on weighted comments of the ``train`` role.

    Attributes:
      module: the network of the subject.
      training: the recipe the subject was trained with.
      weights: ``"reweighing"`` (`reweighing_weights`), ``"dixon"`` (`dixon_weights`), or a rule of
        yours; None counts every comment once: the control, whose distance from the subject is
        chance.
      added: comments to train on as well: ``"counterfactuals"`` (those of the ``reward`` role) or a
        name of `CommentData.added`; None: no others.
      train: trains one network, as `train_classifier`.
    """

    module: nn.Module
    training: TrainingConfig = field(default_factory=TrainingConfig)
    weights: str | Rule | None = None
    added: str | None = None
    train: Callable[..., Params] = train_classifier

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the retrained network; no reward is evaluated.

        Raises:
          ValueError: the task is not about comments, the weights have an unknown name, or there are
            no such comments to add.
        """
        begin = time.perf_counter()
        x, label, groups = self._examples(task)
        weights = self._rule()(label, groups)
        examples = Examples(jnp.asarray(x), jnp.asarray(label))
        setup = (self.train, self.module, self.training)
        params = _train(setup, examples, key, jnp.asarray(weights, jnp.float32))
        params = jax.block_until_ready(params)
        steps = gradient_steps(self.training, len(label))
        return checked(
            task,
            EditResult(params, Cost(gradient_steps=steps, seconds=time.perf_counter() - begin)),
        )

    def _examples(self, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, labels and groups of all comments to train on."""
        sets, targets = comment_targets(task, "train")
        if self.added is None:
            return sets.x, targets.label, targets.groups
        name = "reward" if self.added == COUNTERFACTUALS else f"{ADDED}{self.added}"
        if name not in task.roles:
            known = [role.removeprefix(ADDED) for role in task.roles if role.startswith(ADDED)]
            raise ValueError(
                f"the task {task.name!r} has no comments {self.added!r} to add; there are "
                f"{', '.join([COUNTERFACTUALS, *known])}"
            )
        further, more = comment_targets(task, name)
        kind = COUNTERFACTUALS if self.added == COUNTERFACTUALS else "comments"
        rows = np.asarray(further.weights[kind]) > 0
        return (
            np.concatenate([sets.x, np.asarray(further.x)[rows]]),
            np.concatenate([targets.label, more.label[rows]]),
            np.concatenate([targets.groups, more.groups[rows]]),
        )

    def _rule(self) -> Rule:
        if self.weights is None:
            return lambda label, groups: np.ones(len(label))
        if not isinstance(self.weights, str):
            return self.weights
        if self.weights not in RULES:
            raise ValueError(f"unknown weights {self.weights!r}; choose one of {', '.join(RULES)}")
        return RULES[self.weights]


@partial(jax.jit, static_argnums=0)
def _train(setup: tuple[Any, ...], examples: Examples, key: Key, weights: Array) -> Params:
    # Outside the method and without the rule, so that all rules share one compiled training.
    train, module, config = setup
    return train(module, examples, config, key, weights)
