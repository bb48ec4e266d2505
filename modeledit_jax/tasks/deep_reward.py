"""Rewards that see what an edit leaves inside: hidden prototypes, and how fast the lost comes back.

A reward on outputs is content with a class that is merely hidden. These penalties look at hidden
layers of the edited network on some of the reward examples, at the cost of a second, small forward
pass, and at what one gradient step on the forgotten would bring back.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.edits.layers import layers_in_order
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.edits.split_apply import SplitApply, cached_features, split_apply
from modeledit_jax.evaluation.accuracy import true_class_probabilities, weighted_mean
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.reward import EditedWeights, Reward, Sets
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.types import Array, Field, Leaves, Params


@struct.dataclass
class Inside:
    """What the penalties look at: some reward examples, and the network but for its edited leaves.

    Equal shapes for tasks of equal shapes, so that they are searched side by side.
    """

    features: Field  # `Features` of the M examples, at the site and the layers looked at
    kernels: Field  # {path: [D, H]}, unedited, of the layers looked at, which may be of the site
    label: Field  # [M] int32
    weights: Field  # {set: [M] float32}
    goals: Field  # {part: [L] or [] float32}, what each part is wanted to be, in every layer
    step: Field  # [] float32, of relearning


@struct.dataclass
class DeepReward(Reward):
    """Another reward, minus ``weight · |part − goal|`` for every part; see `deep_reward`.

    Where a part is of several layers the mean of their gaps counts: what one tells too much another
    cannot make up for.
    """

    base: Field = None  # `Reward`
    weights: Field = struct.field(default_factory=dict)  # {part: [] float32}
    inside: Field = None  # `Inside`
    split: SplitApply | None = struct.field(pytree_node=False, default=None)
    num_classes: int = struct.field(pytree_node=False, default=0)

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        score, parts = self.base(sets, edit)
        found = self.measured(edit.leaves)
        for name, weight in self.weights.items():
            score = score - weight * jnp.abs(found[name] - self.inside.goals[name]).mean()
        return score, {**parts, **{name: found[name].mean() for name in self.weights}}

    def measured(self, leaves: Leaves) -> dict[str, Float[Array, "*layers"]]:
        """The parts of a network with these leaves, in 0…1; those without a weight are left out.

        Returns:
          ``prototypes [L]``, of every layer looked at, and ``relearning []``.
        """
        own, found = {**self.inside.kernels, **leaves}, {}
        if "prototypes" in self.weights:
            found["prototypes"] = self._prototypes(own)
        if "relearning" in self.weights:
            found["relearning"] = self._relearning(own)
        return found

    def _prototypes(self, leaves: Leaves) -> Array:
        inside, split = self.inside, self.split
        assert split is not None
        count = len(inside.label)
        taps = {path: jnp.zeros((count, leaf.shape[-1])) for path, leaf in leaves.items()}
        _, read = split.tapped(leaves, inside.features, taps)
        sets = (inside.label, inside.weights["retain"], inside.weights["forget"])
        found = [
            prototype_probability(read[path].mean(axis=1), *sets, self.num_classes)
            for path in inside.kernels
        ]
        return jnp.stack(found)

    def _relearning(self, leaves: Leaves) -> Array:
        inside, split = self.inside, self.split
        assert split is not None
        forget = inside.weights["forget"]

        def logits(leaves: Leaves) -> Array:
            return split.suffix(leaves, inside.features).astype(jnp.float32)

        def loss(leaves: Leaves) -> Array:
            return weighted_mean(cross_entropy(logits(leaves), inside.label), forget)

        slope = jax.grad(loss)(leaves)
        after = jax.tree.map(lambda leaf, own: leaf - inside.step * own, leaves, slope)
        return weighted_mean(true_class_probabilities(logits(after), inside.label), forget)


def prototype_probability(
    features: Float[Array, "m d"],
    label: Int[Array, " m"],
    retain: Float[Array, " m"],
    forget: Float[Array, " m"],
    num_classes: int,
) -> Float[Array, ""]:
    """How surely class means tell the forget examples apart, 0…1, differentiable.

    The mean probability of the true class under Gaussians around the classes' mean features, of one
    variance: that of the retained examples around their own means. Scaling the features changes
    nothing.

    Args:
      features: of all examples.
      label: theirs.
      retain, forget: membership of the sets, neither empty.
      num_classes: static; one without examples is never the answer.
    """
    own = jax.nn.one_hot(label, num_classes)
    count = own.sum(axis=0)
    means = (own.T @ features) / jnp.maximum(count, 1.0)[:, None]
    distance = jnp.square(features[:, None, :] - means).sum(axis=-1)
    spread = weighted_mean((own * distance).sum(axis=1), retain) / features.shape[1]
    scores = jnp.where(count > 0, -distance / (2.0 * jnp.maximum(spread, 1e-12)), -jnp.inf)
    return weighted_mean((own * jax.nn.softmax(scores)).sum(axis=1), forget)


def deep_reward(
    task: UnlearningTask,
    *,
    prototypes: float = 1.0,
    relearning: float = 0.0,
    layers: int | Sequence[str] = 1,
    reference: Params | None = None,
    step: float = 0.03,
    examples: int = 512,
    base: Reward | None = None,
) -> DeepReward:
    """The reward of a task, minus penalties for what the edit leaves inside.

    Args:
      task: to forget classes, its site dense kernels; ``replace(task, reward=deep_reward(task))``
        is the same task with the penalties.
      prototypes: weight of ``|prototype_probability − goal|``, the mean of the layers looked at.
      relearning: weight of ``|p − goal|`` with the mean probability ``p`` of the true class of the
        forget examples after one gradient step on them, by the kernels of the site and of the
        layers looked at.
      layers: how many of the last layers are looked at, by what they read, or paths of kernels;
        those that read nothing of an edited layer are left out.
      reference: a network whose values are the goals, a retrained one where there is one. None:
        chance for prototypes, 0 for relearning.
      step: length of the gradient step; where a retrained network would relearn in one, networks
        cannot be told apart.
      examples: of the reward role, at most and at least 2, evenly chosen from either set; below a
        thousand they cost little beside the reward itself.
      base: None: the task's own reward.

    Returns:
      A reward whose minimum is that of the base less both weights.

    Raises:
      ValueError: no class to forget, a site without dense kernels, nothing to look at behind the
        site, or a weight or step out of range.
    """
    weights = {"prototypes": prototypes, "relearning": relearning}
    _check(task, {**weights, "step": step}, examples)
    sets = task.roles["reward"]
    x = jnp.asarray(sets.x[_chosen(np.asarray(sets.weights["forget"]), examples)])
    looked_at = _kernels(task, layers, x)
    apply, params = task.subject.apply, task.subject.params
    num_classes = max(jax.eval_shape(apply, params, x).shape[-1], 2)
    base = task.reward if base is None else base
    reward = DeepReward(
        minimum=jnp.asarray(base.minimum - sum(weights.values()), jnp.float32),
        base=base,
        weights={name: jnp.float32(value) for name, value in weights.items() if value > 0},
        inside=_inside(task, looked_at, examples, step, num_classes),
        split=split_apply(apply, params, x, _paths(task, looked_at)),
        num_classes=num_classes,
    )
    _measured(reward, task.leaves)  # mistakes show here
    return reward if reference is None else _with_goals_of(reward, reference, x, looked_at)


def _check(task: UnlearningTask, numbers: dict[str, float], examples: int) -> None:
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {value}")
    if examples < 2:
        raise ValueError(f"examples must be at least 2, got {examples}")
    if not task.forget_classes:
        raise ValueError(f"{task.name!r} forgets no whole class, which deep rewards are about")


def _inside(
    task: UnlearningTask, looked_at: tuple[str, ...], examples: int, step: float, num_classes: int
) -> Inside:
    """What is looked at of the unedited network, with the goals of no reference."""
    sets, subject = task.roles["reward"], task.subject
    rows = _chosen(np.asarray(sets.weights["forget"]), examples)
    x = jnp.asarray(sets.x[rows])
    return Inside(
        features=cached_features(subject.apply, subject.params, x, _paths(task, looked_at)),
        kernels=get_leaves(subject.params, looked_at),
        label=jnp.asarray(sets.label[rows]),
        weights={name: jnp.asarray(weight[rows]) for name, weight in sets.weights.items()},
        goals={
            "prototypes": jnp.full(len(looked_at), 1 / num_classes, jnp.float32),
            "relearning": jnp.float32(0.0),
        },
        step=jnp.float32(step),
    )


def _with_goals_of(
    reward: DeepReward, reference: Params, x: Array, looked_at: tuple[str, ...]
) -> DeepReward:
    """The same, with the values of another network as goals."""
    split = reward.split
    assert split is not None
    features = cached_features(split.apply, reference, x, split.paths)
    inside = replace(reward.inside, features=features, kernels=get_leaves(reference, looked_at))
    goals = _measured(replace(reward, inside=inside), get_leaves(reference, split.paths))
    inside = replace(reward.inside, goals={**reward.inside.goals, **goals})
    return replace(reward, inside=inside)


def _kernels(task: UnlearningTask, layers: int | Sequence[str], x: Array) -> tuple[str, ...]:
    """Paths of the kernels to look at: what they read depends on the site, which may have them."""
    params = task.subject.params
    order = layers_in_order(task.subject.apply, params, x)
    first = next(i for i, layer in enumerate(order) if not set(layer).isdisjoint(task.site))
    behind = {path for layer in order[first + 1 :] for path in layer}
    if isinstance(layers, int):
        found = order[-layers:] if layers > 0 else ()
        leaves = [get_leaves(params, layer) for layer in found]
        paths = [path for layer in leaves for path, leaf in layer.items() if leaf.ndim == 2]
    else:
        paths = list(get_leaves(params, layers))
    if not (chosen := tuple(path for path in paths if path in behind)):
        raise ValueError(
            f"layers={layers!r}: there is no layer behind the site {', '.join(task.site)} to look "
            "at; name kernels behind it"
        )
    return chosen


def _paths(task: UnlearningTask, looked_at: tuple[str, ...]) -> tuple[str, ...]:
    """Kernels of the site and those looked at, each once."""
    return tuple(dict.fromkeys((*task.site, *looked_at)))


def _chosen(forget: Float[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """Rows of both sets in their shares, evenly spread; as many of them whatever the shares are."""
    if most >= len(forget):
        return np.arange(len(forget))
    lost, kept = np.flatnonzero(forget > 0), np.flatnonzero(forget <= 0)
    count = min(max(round(most * len(lost) / len(forget)), 1), most - 1)
    parts = ((lost, count), (kept, most - count))
    found = [rows[np.linspace(0, len(rows) - 1, own).astype(int)] for rows, own in parts]
    return np.sort(np.concatenate(found))


_measured = jax.jit(DeepReward.measured)
