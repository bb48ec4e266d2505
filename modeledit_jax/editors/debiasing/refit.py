"""Refit of the last layer: DFR (deep feature reweighting).

Kirichenko, Izmailov & Wilson 2023, *Last Layer Re-Training is Sufficient for Robustness to
Spurious Correlations*: a network's features often hold what is needed, so the output layer alone is
fitted anew, on data in which groups and labels are balanced.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.editors.debiasing.erasure import layer_inputs
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import match_paths, set_leaves
from modeledit_jax.tasks.debiasing import comment_targets
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key

OUT = -1
"""Cell of an example that takes no part."""


@dataclass(frozen=True)
class LastLayerRefit:
    """Fits the output layer anew by L1 logistic regressions on balanced subsamples.

    Edits ``head/*``, not the task's site: the method is about the last layer. Comments and
    counterfactuals of the ``reward`` role fall into cells (identity term, label), see `cells`. The
    penalty is chosen by the worst cell's accuracy on one half of the role after fits on the other
    half; the final weights are the mean over balanced subsamples of the whole role.

    Attributes:
      strengths: inverse strengths ``C`` of the L1 penalty to choose from; of equal ones the first.
      refits: subsamples of the final fit.
      trials: subsamples of the fit for every strength.
      min_cell: comments that a term must have of each label to form cells of its own.
      head: the output layer.
    """

    strengths: tuple[float, ...] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
    refits: int = 20
    trials: int = 3
    min_cell: int = 30
    head: str = "head"

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the refitted network; ``trace`` holds the worst accuracy of every strength.

        Args:
          task: of bias mitigation; only its ``reward`` role is read.
          key: draws halves and subsamples.

        Raises:
          ValueError: no task about comments, not one output, or too few comments.
        """
        begin = time.perf_counter()
        sets, targets = comment_targets(task, "reward")
        params = task.subject.params
        kernel, *others = match_paths(params, f"{self.head}/kernel", "the head, as")
        bias, *more = match_paths(params, f"{self.head}/bias", "the head, as")
        if others or more:
            raise ValueError(f"head {self.head!r} names several layers: give the whole path of one")
        h = layer_inputs(task.subject, kernel, jnp.asarray(sets.x))
        cell = cells(targets.label, targets.groups, self.min_cell)
        scaler = StandardScaler().fit(h)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        x, label = scaler.transform(h), np.asarray(targets.label)
        fitted = halves(cell, targets.blocks, rng)
        worst = {c: self._worst_accuracy(x, label, cell, fitted, c, rng) for c in self.strengths}
        best = max(worst, key=worst.__getitem__)
        w, b = balanced_fit(x, label, cell, best, self.refits, rng)
        w = w / scaler.scale_
        leaves = {
            kernel: jnp.asarray(w[:, None], jnp.float32),
            bias: jnp.asarray([b - scaler.mean_ @ w], jnp.float32),
        }
        cost = Cost(seconds=time.perf_counter() - begin)
        trace = {"strength": best, "worst_accuracy": worst}
        return checked(task, EditResult(set_leaves(task.subject.params, leaves), cost, trace))

    def _worst_accuracy(
        self,
        x: np.ndarray,
        label: np.ndarray,
        cell: np.ndarray,
        fitted: np.ndarray,
        strength: float,
        rng: np.random.Generator,
    ) -> float:
        chosen = np.where(fitted, cell, OUT)
        w, b = balanced_fit(x, label, chosen, strength, self.trials, rng)
        right = (x @ w + b >= 0) == (label == 1)
        rest = np.where(fitted, OUT, cell)
        return min(float(right[rest == c].mean()) for c in np.unique(rest[rest != OUT]))


def cells(
    label: Int[np.ndarray, " n"], groups: Num[np.ndarray, "n i"], min_cell: int
) -> Int[np.ndarray, " n"]:
    """Numbers the cells (group, label): ``2·group + label``, `OUT` for what is left out.

    A group is the comments without a term (0), or those that mention one term and no other
    (1 + its column). Comments with a term that has fewer than ``min_cell`` of either label, and
    those with several terms, make up one further group. A group that is still too small is left
    out: a balanced subsample would be as small as its smallest cell.

    Raises:
      ValueError: every group is too small.
    """
    check_shapes(label=(label, "n"), groups=(groups, "n i"))
    check_integers(label=label)
    named = np.asarray(groups) > 0
    rest = groups.shape[1] + 1
    group = np.select(
        [named.sum(axis=1) == 0, named.sum(axis=1) == 1], [0, 1 + named.argmax(axis=1)], rest
    )
    small = [g for g in range(1, rest) if _smallest(label[group == g]) < min_cell]
    group = np.where(np.isin(group, small), rest, group)
    left_out = [g for g in np.unique(group) if _smallest(label[group == g]) < min_cell]
    if len(left_out) == len(np.unique(group)):
        raise ValueError(
            f"no group of the reward role has {min_cell} comments of each label: give it more "
            "comments, or lower min_cell"
        )
    return np.where(np.isin(group, left_out), OUT, 2 * group + label)


def halves(
    cell: Int[np.ndarray, " n"], blocks: Int[np.ndarray, "k variants"], rng: np.random.Generator
) -> np.ndarray:
    """Which examples are in the first half, ``[N]`` bool; every cell is halved.

    A counterfactual block stays whole, for its comments are nearly the same. Blocks of one label
    count as one cell.
    """
    first = np.zeros(len(cell), bool)
    loose = np.setdiff1d(np.arange(len(cell)), blocks)
    for value in np.unique(cell[loose]):
        members = rng.permutation(loose[cell[loose] == value])
        first[members[: (len(members) + 1) // 2]] = True
    heads = blocks[:, 0] if blocks.size else np.zeros(0, int)
    for parity in (0, 1):
        members = rng.permutation(np.flatnonzero(cell[heads] % 2 == parity))
        first[blocks[members[: (len(members) + 1) // 2]].reshape(-1)] = True
    return first


def balanced_fit(
    x: Float[np.ndarray, "n d"],
    label: Int[np.ndarray, " n"],
    cell: Int[np.ndarray, " n"],
    strength: float,
    times: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, " d"], float]:
    """Mean weights and bias of L1 logistic regressions on subsamples with equally many per cell."""
    members = [np.flatnonzero(cell == c) for c in np.unique(cell[cell != OUT])]
    size = min(len(rows) for rows in members)
    fits = []
    for _ in range(times):
        rows = np.concatenate([rng.permutation(rows)[:size] for rows in members])
        model = LogisticRegression(
            C=strength, solver="liblinear", max_iter=1000, random_state=0, **_l1()
        )
        model.fit(x[rows], label[rows])
        fits.append(np.append(model.coef_[0], model.intercept_))
    mean = np.mean(fits, axis=0)
    return mean[:-1], float(mean[-1])


def _l1() -> dict[str, object]:
    """The L1 penalty; scikit-learn 1.8 has renamed it."""
    renamed = LogisticRegression().get_params()["penalty"] == "deprecated"
    return {"l1_ratio": 1.0} if renamed else {"penalty": "l1"}


def _smallest(label: Sequence[int] | np.ndarray) -> int:
    """The smaller of the numbers of toxic and harmless comments."""
    toxic = int(np.sum(label))
    return min(toxic, len(label) - toxic)
