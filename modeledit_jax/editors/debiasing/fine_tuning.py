"""Fine-tuning of the edited layer with a fairness penalty: what gradients do at equal scope.

Same leaves and same reward data as the searches. Two penalties: counterfactual logit pairing
(Garg et al. 2019, *Counterfactual Fairness in Text Classification through Robustness*) and MinDiff
(Prost et al. 2019, *Toward a better trade-off between performance and fairness with kernel-based
distribution matching*).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.editors.debiasing.reweighing import reweighing_weights
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import Features, cached_features, split_apply
from modeledit_jax.subjects.subject import predict
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.debiasing import CommentTargets, comment_targets
from modeledit_jax.tasks.debiasing_metrics import select_criterion
from modeledit_jax.tasks.network import NonFiniteError
from modeledit_jax.tasks.task import EvaluationSets, Task
from modeledit_jax.types import Apply, Array, Key, Leaves, Params

PENALTIES = ("logit-pairing", "mindiff", "none")


def logit_pairing(scores: Float[Array, " n"], blocks: Int[Array, "k variants"]) -> Float[Array, ""]:
    """Mean ``|z(x) − z(x′)|`` over the pairs of comments of a block (Garg et al. 2019).

    Args:
      scores: logits.
      blocks: rows of comments that differ in the identity term alone, at least two a block.
    """
    check_shapes(scores=(scores, "n"), blocks=(blocks, "k v"))
    z = scores[blocks]
    apart = jnp.abs(z[:, :, None] - z[:, None, :])
    return apart.sum() / (blocks.shape[0] * blocks.shape[1] * (blocks.shape[1] - 1))


def squared_mmd(p: Float[Array, " n"], q: Float[Array, " m"], bandwidth: float) -> Float[Array, ""]:
    """``E k(p, p′) − 2 E k(p, q) + E k(q, q′)`` with ``k(a, b) = exp(−(a − b)² / bandwidth²)``.

    The biased estimate of Gretton et al. 2012 (a value is paired with itself too), at least 0.
    """

    check_shapes(p=(p, "n"), q=(q, "m"))

    def kernel(a: Array, b: Array) -> Array:
        return jnp.exp(-jnp.square((a[:, None] - b[None, :]) / bandwidth)).mean()

    return kernel(p, p) - 2.0 * kernel(p, q) + kernel(q, q)


@dataclass(frozen=True)
class FineTune:
    """Adam on the leaves of the site: ``cross-entropy + weight · penalty``.

    The step size falls to zero along a cosine. Batches are drawn with replacement.

    Attributes:
      penalty: ``"logit-pairing"``: `logit_pairing` over the counterfactual blocks. ``"mindiff"``:
        `squared_mmd` between the toxicity (sigmoid) of harmless comments and counterfactuals that
        mention an identity and that of harmless comments that mention none. ``"none"``.
      weight: of the penalty; None: chosen among ``weights`` by the ``select`` role (`tune`).
      steps: of the optimizer.
      learning_rate: at the first step.
      batch_size: comments of a step, and of either side of MinDiff; one block for every eight.
        None: all of them at every step.
      reweighed: weigh the cross-entropy so that terms and label are independent
        (`reweighing_weights`).
      bandwidth: of MinDiff's kernel, in units of probability.
      weights: see ``weight``.
    """

    penalty: str = "logit-pairing"
    weight: float | None = 1.0
    steps: int = 400
    learning_rate: float = 1e-3
    batch_size: int | None = 256
    reweighed: bool = False
    bandwidth: float = 0.1
    weights: tuple[float, ...] = (0.03, 0.3, 3.0, 30.0)

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the fine-tuned network; ``trace`` holds the loss of every step, or is `tune`'s.

        Args:
          task: of bias mitigation; its ``reward`` role is read, and ``select`` to choose a weight.
          key: draws the batches.

        Raises:
          ValueError: an unknown penalty, one without examples, or no task about comments.
        """
        if self.penalty not in PENALTIES:
            raise ValueError(
                f"unknown penalty {self.penalty!r}; choose one of {', '.join(PENALTIES)}"
            )
        begin = time.perf_counter()
        if self.weight is None:
            result = tune(self, task, key, select_criterion(task), self.weights)[1]
            return replace(result, cost=replace(result.cost, seconds=time.perf_counter() - begin))
        sets, targets = comment_targets(task, "reward")
        data = _data(self, sets, targets)
        apply, params = task.subject.apply, task.subject.params
        features = cached_features(apply, params, jnp.asarray(sets.x), task.site)
        # Weight and step size are no part of what is compiled: sweeps share it.
        setup = _Setup(apply, task.site, replace(self, weight=0.0, learning_rate=0.0))
        numbers = jnp.asarray([self.weight, self.learning_rate], jnp.float32)
        leaves, losses = jax.block_until_ready(
            _fit(setup, params, jnp.asarray(sets.x[:1]), features, data, numbers, key)
        )
        cost = Cost(gradient_steps=self.steps, seconds=time.perf_counter() - begin)
        return checked(task, EditResult(set_leaves(params, leaves), cost, {"loss": losses}))


def tune(
    editor: FineTune,
    task: Task,
    key: Key,
    criterion: Callable[[Array, EvaluationSets], float],
    weights: Sequence[float] = (0.03, 0.3, 3.0, 30.0),
) -> tuple[FineTune, EditResult]:
    """Chooses the weight of the penalty on the ``select`` role.

    Args:
      editor: its other settings stay.
      task: of bias mitigation.
      key: the same for every weight.
      criterion: ``(scores [N], sets) -> value``, higher is better; NaN is never chosen.
      weights: to choose from; of equal values the first.

    Returns:
      The editor of choice and its edit, whose cost is that of all of them; ``trace`` holds the
      ``criterion`` of every weight.

    Raises:
      ValueError: the criterion is NaN for every weight.
    """
    sets, _ = comment_targets(task, "select")
    results, values = [], []
    for weight in weights:
        try:
            results.append(replace(editor, weight=weight).edit(task, key))
        except NonFiniteError:  # it diverged with this weight, and may not with others
            results.append(EditResult(task.subject.params, Cost(gradient_steps=editor.steps)))
            values.append(float("nan"))
        else:
            values.append(float(criterion(_scores(task, results[-1].params, sets), sets)))
    if np.isnan(values).all():
        raise ValueError(f"the criterion is NaN for all of {len(values)} weights: check it")
    best = int(np.nanargmax(values))
    cost = Cost(
        gradient_steps=sum(result.cost.gradient_steps for result in results),
        seconds=sum(result.cost.seconds for result in results),
    )
    trace = {"criterion": dict(zip(weights, values, strict=True))}
    return replace(editor, weight=weights[best]), EditResult(results[best].params, cost, trace)


@dataclass(frozen=True)
class _Setup:
    """What is static in `_fit`."""

    apply: Apply
    paths: tuple[str, ...]
    editor: FineTune


def _data(editor: FineTune, sets: EvaluationSets, targets: CommentTargets) -> dict[str, Array]:
    """Labels and weights of the comments, and the rows that the penalty compares."""
    number = int(np.sum(np.asarray(sets.weights["comments"]) > 0))  # they are the first rows
    label, named = targets.label, targets.groups.any(axis=1)
    weights = np.ones(number, np.float32)
    if editor.reweighed:
        weights = reweighing_weights(label[:number], targets.groups[:number])
    data = {"label": label[:number], "weights": weights}
    if editor.penalty == "logit-pairing":
        data["blocks"] = targets.blocks
        if targets.blocks.size == 0 or targets.blocks.shape[1] < 2:
            raise ValueError("logit pairing needs counterfactual blocks of two or more comments")
    if editor.penalty == "mindiff":
        data["named"] = np.flatnonzero(named & (label == 0))
        data["other"] = np.flatnonzero(~named & (label == 0))
        if not len(data["named"]) or not len(data["other"]):
            raise ValueError(
                "MinDiff needs harmless comments with and without an identity term in the reward "
                "role: give it more comments"
            )
    return jax.tree.map(jnp.asarray, data)


@partial(jax.jit, static_argnums=0)
def _fit(
    setup: _Setup,
    params: Params,
    example: Array,
    features: Features,
    data: dict[str, Array],
    numbers: Float[Array, " 2"],
    key: Key,
) -> tuple[Leaves, Float[Array, " steps"]]:
    editor = setup.editor
    suffix = split_apply(setup.apply, params, example, setup.paths).suffix
    leaves = get_leaves(params, setup.paths)
    optimizer = optax.adam(optax.cosine_decay_schedule(numbers[1], editor.steps))

    def scores(leaves: Leaves, rows: Array) -> Array:
        batch = jax.tree.map(lambda feature: feature[rows], features.per_example)
        return suffix(leaves, replace(features, per_example=batch))[:, 0].astype(jnp.float32)

    def loss(leaves: Leaves, key: Key) -> Array:
        comment_key, penalty_key = jax.random.split(key)
        rows = _draw(comment_key, jnp.arange(data["label"].shape[0]), editor.batch_size)
        losses = cross_entropy(scores(leaves, rows)[:, None], data["label"][rows])
        mean = (data["weights"][rows] * losses).mean()
        if editor.penalty == "none":
            return mean
        return mean + numbers[0] * _penalty(editor, partial(scores, leaves), data, penalty_key)

    def step(carry: Any, key: Key) -> tuple[Any, Array]:
        leaves, state = carry
        value, gradient = jax.value_and_grad(loss)(leaves, key)
        updates, state = optimizer.update(gradient, state, leaves)
        return (optax.apply_updates(leaves, updates), state), value

    keys = jax.random.split(key, editor.steps)
    (leaves, _), losses = jax.lax.scan(step, (leaves, optimizer.init(leaves)), keys)
    return leaves, losses


def _penalty(
    editor: FineTune, scores: Callable[[Array], Array], data: dict[str, Array], key: Key
) -> Array:
    size = editor.batch_size
    if editor.penalty == "logit-pairing":
        blocks = _draw(key, data["blocks"], None if size is None else max(size // 8, 1))
        z = scores(blocks.reshape(-1))
        return logit_pairing(z, jnp.arange(blocks.size).reshape(blocks.shape))
    first, second = jax.random.split(key)
    p, q = (_draw(k, data[name], size) for k, name in ((first, "named"), (second, "other")))
    return squared_mmd(
        jax.nn.sigmoid(scores(p)), jax.nn.sigmoid(scores(q)), bandwidth=editor.bandwidth
    )


def _draw(key: Key, rows: Array, size: int | None) -> Array:
    """``size`` of the rows, with replacement; all of them if there are no more."""
    if size is None or size >= rows.shape[0]:
        return rows
    return rows[jax.random.randint(key, (size,), 0, rows.shape[0])]


def _scores(task: Task, params: Params, sets: EvaluationSets) -> Array:
    run = jax.jit(predict, static_argnums=(0, 3))
    return run(task.subject.apply, params, jnp.asarray(sets.x))[:, 0]
