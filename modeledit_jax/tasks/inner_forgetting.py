"""What is left of the forgotten inside a network, which its outputs do not show.

Three measurements of one network (`inner_measurements`): what its hidden layers tell apart, how
fast it learns the forgotten again, and whether its losses give away which examples it was trained
on. Each is read against the same of Retrain (`inner_metrics`), and against the distance of a second
Retrain from the first, which is chance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from modeledit_jax.edits.layers import fresh_leaves, layer_name, layers_in_order, weight_paths
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import cached_features, split_apply
from modeledit_jax.evaluation.accuracy import correct
from modeledit_jax.evaluation.auc import auc
from modeledit_jax.evaluation.prototypes import draw_shots, prototype_recall
from modeledit_jax.subjects.subject import predict
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.task import EvaluationSets, Task
from modeledit_jax.types import Apply, Array, Key, Leaves, Params


@dataclass(frozen=True)
class InnerMeasurement:
    """How a network is measured.

    Attributes:
      shots: labeled examples of each class that make its prototype.
      draws: of these examples.
      steps: of relearning, at most.
      learning_rate: of its SGD with momentum 0.9.
      batch_size: of all training examples, drawn with replacement.
      recovered: share of the original accuracy on the forget examples at which they are relearned.
      judged: forget examples that the accuracy is taken on at most, after every step.
      repeats: of relearning, with other batches and another fresh head; their mean counts.
      seed: of all draws.
    """

    shots: tuple[int, ...] = (1, 5)
    draws: int = 20
    steps: int = 500
    learning_rate: float = 0.01
    batch_size: int = 128
    recovered: float = 0.95
    judged: int = 512
    repeats: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Probes:
    """What measurements of all networks of a task have in common.

    Attributes:
      draws: rows of train by number of shots, ``[draws, C, shots]``.
      judged: forget examples of train whose accuracy says when they are relearned.
      judged_label: theirs.
      goal: accuracy at which they are.
    """

    draws: Mapping[int, np.ndarray]
    judged: Array
    judged_label: Array
    goal: float


def make_probes(task: Task, settings: InnerMeasurement = InnerMeasurement()) -> Probes:
    """The probes of a task, by which all its networks are measured."""
    sets = task.roles["train"]
    label = np.asarray(sets.label)
    rows = _judged(sets, settings.judged)
    return Probes(
        {
            shots: draw_shots(label, shots, settings.draws, settings.seed)
            for shots in settings.shots
        },
        jnp.asarray(np.asarray(sets.x)[rows]),
        jnp.asarray(label[rows]),
        settings.recovered * _forget_accuracy(task),
    )


def inner_measurements(
    task: Task,
    params: Params,
    settings: InnerMeasurement = InnerMeasurement(),
    probes: Probes | None = None,
) -> dict[str, float]:
    """Measures one network; numbers of different networks of a task may be compared.

    Args:
      task: the unlearning task, whose roles ``train`` and ``test`` are read.
      params: of the network, of the shapes of the subject's.
      settings: how.
      probes: of the task and the settings, where several networks are measured; None: made here.

    Returns:
      ``prototype_<shots>_layer_<k>``: `prototype_recall` of the forget examples of test, by what
      the k-th layer from the end reads, of dense layers; ``relearn_steps`` and
      ``relearn_steps_fresh``, of the network and of it with a new last layer, ``steps`` where the
      forgotten is not relearned; ``membership_auc``, the probability that the loss of a forget
      example is less than that of one the network was not trained on (of test's forget set; for
      single samples, which have none, of its retain set).
    """
    probes = make_probes(task, settings) if probes is None else probes
    found = _prototype_recalls(task, params, probes)
    found |= _relearn_steps(task, params, settings, probes)
    found["membership_auc"] = _membership_auc(task, params)
    return found


def inner_metrics(own: Mapping[str, float], retrain: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a report from `inner_measurements` of a network and of Retrain.

    Returns:
      ``prototype_gap_…``: recall minus that of Retrain; ``relearn_index`` and
      ``relearn_index_fresh``: steps over those of Retrain, of which at least one counts;
      ``membership_gap``: minus that of Retrain.
    """
    found = {}
    for name, value in own.items():
        if name.startswith("prototype_"):
            found[name.replace("prototype_", "prototype_gap_")] = value - retrain[name]
        elif name.startswith("relearn_"):
            ratio = value / max(retrain[name], 1.0)
            found[name.replace("relearn_steps", "relearn_index")] = ratio
        else:
            found["membership_gap"] = value - retrain[name]
    return found


def hidden_features(apply: Apply, params: Params, x: Array) -> dict[str, Float[Array, "n d"]]:
    """What every dense layer behind the first reads, mean over positions, in the order of use.

    Args:
      apply: of the network.
      params: likewise.
      x: inputs ``[N, ...]``.

    Returns:
      ``{name of the layer: [N, D]}``; layers that are not dense, or used more than once, and the
      first one are left out.
    """
    names = []
    for layer in layers_in_order(apply, params, x)[1:]:
        kernels = [p for p, leaf in get_leaves(params, layer).items() if leaf.ndim == 2]
        names += [kernels[0]] if len(kernels) == 1 else []
    found = {}
    for path in names:
        try:
            found[layer_name(path)] = _read_by(apply, params, x, path)
        except ValueError:  # used in another way
            continue
    return found


@partial(jax.jit, static_argnums=(0, 3))
def _read_by(apply: Apply, params: Params, x: Array, path: str) -> Float[Array, "n d"]:
    split = split_apply(apply, params, x, (path,))
    features, leaves = cached_features(apply, params, x, (path,)), get_leaves(params, (path,))
    taps = {path: jnp.zeros((len(x), leaves[path].shape[-1]), leaves[path].dtype)}
    return split.tapped(leaves, features, taps)[1][path].mean(axis=1)


def _prototype_recalls(task: Task, params: Params, probes: Probes) -> dict[str, float]:
    train, test = task.roles["train"], task.roles["test"]
    rows = np.unique(np.concatenate([own.reshape(-1) for own in probes.draws.values()]))
    apply = task.subject.apply
    support = hidden_features(apply, params, jnp.asarray(np.asarray(train.x)[rows]))
    query = hidden_features(apply, params, jnp.asarray(test.x))
    against = (jnp.asarray(test.label), jnp.asarray(test.weights["forget"]))
    found = {}
    for back, name in enumerate(reversed(support), start=1):
        for shots, own in probes.draws.items():
            places = jnp.asarray(np.searchsorted(rows, own))
            recall = _recall(support[name], places, query[name], *against)
            found[f"prototype_{shots}_layer_{back}"] = float(recall)
    return found


_recall = jax.jit(prototype_recall)
_auc = jax.jit(auc)
_predict = jax.jit(predict, static_argnums=(0, 3))


def _judged(sets: EvaluationSets, most: int) -> Int[np.ndarray, " k"]:
    """Rows of the forget examples, evenly chosen where there are more than so many."""
    rows = np.flatnonzero(np.asarray(sets.weights["forget"]) > 0)
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]


def _forget_accuracy(task: Task) -> float:
    """Of the unedited network, on the forget examples of train."""
    sets = task.roles["train"]
    rows = np.flatnonzero(np.asarray(sets.weights["forget"]) > 0)
    x, label = np.asarray(sets.x)[rows], np.asarray(sets.label)[rows]
    logits = _predict(task.subject.apply, task.subject.params, jnp.asarray(x))
    return float(correct(logits, jnp.asarray(label)).mean())


def _relearn_steps(
    task: Task, params: Params, settings: InnerMeasurement, probes: Probes
) -> dict[str, float]:
    """Steps until the forgotten is relearned, of the network and of it with a new last layer."""
    sets, apply = task.roles["train"], task.subject.apply
    judged = (probes.judged, probes.judged_label)
    examples = (jnp.asarray(sets.x), jnp.asarray(sets.label))
    goal = jnp.float32(probes.goal)
    last = get_leaves(params, layers_in_order(apply, params, examples[0][:1])[-1])
    setup = (apply, weight_paths(params), settings)
    found: dict[str, list[float]] = {"relearn_steps": [], "relearn_steps_fresh": []}
    for key in jax.random.split(jax.random.key(settings.seed), settings.repeats):
        head = fresh_leaves(last, jax.random.fold_in(key, settings.steps))  # no key of a step
        for name, start in zip(found, (params, set_leaves(params, head)), strict=True):
            steps = _relearned(setup, start, *examples, *judged, goal, key)
            found[name].append(float(steps))
    return {name: float(np.mean(steps)) for name, steps in found.items()}


@partial(jax.jit, static_argnums=0)
def _relearned(
    setup: tuple[Apply, tuple[str, ...], InnerMeasurement],
    params: Params,
    x: Array,
    label: Int[Array, " n"],
    judged: Array,
    judged_label: Int[Array, " k"],
    goal: Float[Array, ""],
    key: Key,
) -> Int[Array, ""]:
    """Stops as soon as the goal is reached."""
    apply, paths, settings = setup
    optimizer = optax.sgd(settings.learning_rate, momentum=0.9)
    keys = jax.random.split(key, settings.steps)

    def loss(leaves: Leaves, rows: Array) -> Array:
        logits = apply(set_leaves(params, leaves), x[rows]).astype(jnp.float32)
        return cross_entropy(logits, label[rows]).mean()

    def short_of_goal(leaves: Leaves) -> Array:
        logits = apply(set_leaves(params, leaves), judged)
        return correct(logits, judged_label).mean() < goal

    def step(carry: Any) -> Any:
        step, leaves, state, _ = carry
        rows = jax.random.randint(keys[step], (settings.batch_size,), 0, len(label))
        updates, state = optimizer.update(jax.grad(loss)(leaves, rows), state)
        leaves = optax.apply_updates(leaves, updates)
        return step + 1, leaves, state, short_of_goal(leaves)

    def goes_on(carry: Any) -> Array:
        return carry[3] & (carry[0] < settings.steps)

    leaves = get_leaves(params, paths)
    start = (jnp.int32(0), leaves, optimizer.init(leaves), short_of_goal(leaves))
    return jax.lax.while_loop(goes_on, step, start)[0]


def _membership_auc(task: Task, params: Params) -> float:
    """Of minus the loss, members against examples of the same kind that are none."""
    train, test = task.roles["train"], task.roles["test"]
    kind = "retain" if getattr(task, "samples", False) else "forget"
    losses = []
    for sets, name in ((train, "forget"), (test, kind)):
        rows = np.flatnonzero(np.asarray(sets.weights[name]) > 0)
        x, label = np.asarray(sets.x)[rows], np.asarray(sets.label)[rows]
        logits = _predict(task.subject.apply, params, jnp.asarray(x)).astype(jnp.float32)
        losses.append(cross_entropy(logits, jnp.asarray(label)))
    if not all(len(own) for own in losses):
        return math.nan
    member = jnp.concatenate([jnp.ones(len(losses[0])), jnp.zeros(len(losses[1]))])
    return float(_auc(-jnp.concatenate(losses), member.astype(jnp.int32)))
