"""The reward of bias mitigation: fair ranking on counterfactuals, unchanged use on comments.

What makes a classifier look fair without being so is excluded by construction. Nothing is measured
at a threshold that the edit could move its scores across: AUCs of `evaluation.auc` and the
dispersion within counterfactual blocks ignore a shift of all scores. A classifier that calls
everything harmless has equal error rates for all terms; here it pays for its lost AUC. Two rewards
at a threshold are kept as examples of what goes wrong (``"rates"``, ``"fped"``).

AUCs let all scores of texts with a term be moved together, and then error rates at the threshold of
other comments move too. The reward ``"fidelity"`` forbids that: scores of comments stay what they
are, and so do the mean score of every block and the error rates on every kind of context; what is
left to change is who the text is about.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.evaluation.auc import auc, group_aucs
from modeledit_jax.evaluation.fairness import (
    counterfactual_dispersion,
    equal_error_threshold,
    equality_differences,
    error_rates,
    power_mean,
)
from modeledit_jax.tasks.reward import EditedWeights, Reward, Sets
from modeledit_jax.types import Array, Field

WEIGHTS: dict[str, float] = {
    "bpsn": 1.0,
    "bnsp": 1.0,
    "dispersion": 2.0,
    "auc_loss": 4.0,
    "accuracy_loss": 4.0,
    "subgroup_loss": 4.0,
    "edit_size": 0.05,
    "fped": 1.0,
    "fned": 1.0,
    "distillation": 1.0,
    "block_mean": 5.0,
    "pairing": 5.0,
    "rate_shift": 40.0,
    "term_rates": 60.0,
}
"""Weight of every part; where a part is a loss or a difference it counts negatively."""

KINDS: dict[str, tuple[str, ...]] = {
    "fairness": (
        "bpsn", "bnsp", "dispersion", "auc_loss", "accuracy_loss", "subgroup_loss", "edit_size",
    ),
    "rates": ("fped", "fned", "auc_loss", "accuracy_loss"),
    "fped": ("fped",),
    "fidelity": ("distillation", "block_mean", "pairing", "rate_shift", "term_rates"),
}  # fmt: skip
"""Parts of each kind of reward."""

MARGINS: dict[str, float] = {"auc": 0.003, "accuracy": 0.005, "subgroup": 0.005}
"""Losses that cost nothing."""

SOFTNESS = 0.1
"""Width of the step at the threshold in ``rate_shift``, in standard deviations of the scores."""


@struct.dataclass
class Baseline:
    """The unedited classifier on the reward role."""

    auc: Field  # [] float32, on comments
    accuracy: Field  # [] float32, on comments at `threshold`
    subgroup: Field  # [] float32, power mean of the subgroup AUCs on counterfactuals
    threshold: Field  # [] float32, logit of its equal error rate on comments; the edit's as well
    variance: Field  # [] float32, of its scores on comments


@struct.dataclass
class DebiasingReward(Reward):
    """Signed, weighted sum of the parts of a kind; see `debiasing_reward`."""

    weights: Field  # {part: [] float32}
    baseline: Baseline
    number: int = struct.field(pytree_node=False)  # of comments: the first rows of the batch
    parts: tuple[str, ...] = struct.field(pytree_node=False)
    kinds: int = struct.field(pytree_node=False)  # of contexts

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        """Returns the score, at most 0, and its parts without their weights."""
        batch = sets["comments"]
        values = self._on_comments(batch.outputs[:, 0], batch.targets)
        values |= self._on_counterfactuals(batch.outputs[:, 0], batch.targets)
        if "pairing" in self.parts:
            before = batch.original[:, 0]
            values |= self._fidelity(batch.outputs[:, 0], before, batch.targets)
        values["edit_size"] = -jnp.square(edit.size())
        chosen = {name: values[name] for name in self.parts}
        return sum((self.weights[n] * v for n, v in chosen.items()), start=jnp.zeros(())), chosen

    def _on_comments(self, scores: Array, targets: Any) -> dict[str, Array]:
        scores, label = scores[: self.number], targets.label[: self.number]
        called = (scores >= self.baseline.threshold).astype(label.dtype)
        return {
            "auc_loss": _loss(self.baseline.auc, auc(scores, label), "auc"),
            "accuracy_loss": _loss(self.baseline.accuracy, jnp.mean(called == label), "accuracy"),
        }

    def _on_counterfactuals(self, scores: Array, targets: Any) -> dict[str, Array]:
        rest = slice(self.number, None)
        counterfactual, label, groups = scores[rest], targets.label[rest], targets.groups[rest]
        aucs = group_aucs(counterfactual, label, groups)
        differences = equality_differences(
            error_rates(counterfactual, label, groups, self.baseline.threshold)
        )
        subgroup = power_mean(aucs.subgroup)
        dispersion = counterfactual_dispersion(scores, targets.blocks)
        return {
            "bpsn": power_mean(aucs.bpsn) - 1.0,
            "bnsp": power_mean(aucs.bnsp) - 1.0,
            # Undefined where all scores are equal, which is no kind of fairness to pay for.
            "dispersion": -jnp.where(jnp.isnan(dispersion), 1.0, dispersion),
            "subgroup_loss": _loss(self.baseline.subgroup, subgroup, "subgroup"),
            "fped": -differences.fped,
            "fned": -differences.fned,
        }

    def _fidelity(self, scores: Array, original: Array, targets: Any) -> dict[str, Array]:
        """Squared changes and the spread within blocks, in units of the variance of the scores."""
        blocks, unit = targets.blocks, self.baseline.variance
        moved = jnp.square(scores - original)[: self.number]
        named = targets.groups.any(axis=1)[blocks].astype(jnp.float32)
        level, spread = jnp.zeros(()), jnp.zeros(())
        # Texts with a term and those with other words apart: their levels may differ, and to bring
        # them together would move every text with a term.
        for chosen in (named, 1.0 - named):
            change, _ = _moments((scores - original)[blocks], chosen)
            _, variance = _moments(scores[blocks], chosen)
            level, spread = level + jnp.square(change).mean(), spread + variance.mean()
        return {
            "distillation": -moved.mean() / unit,
            "block_mean": -level / unit,
            "pairing": -spread / unit,
            "rate_shift": self._rate_shift(scores, original, targets),
            "term_rates": self._term_rates(scores, targets),
        }

    def _rate_shift(self, scores: Array, original: Array, targets: Any) -> Array:
        """Squared change of the share of texts with a term called toxic, by kind and label.

        Less spread within a context moves its texts across the threshold, whatever their mean.
        """
        named = targets.groups.any(axis=1).at[: self.number].set(False)
        width = SOFTNESS * jnp.sqrt(self.baseline.variance)
        before, after = (jax.nn.sigmoid((z - self.baseline.threshold) / width)
                         for z in (original, scores))  # fmt: skip
        cells = jax.nn.one_hot(2 * targets.kind + targets.label, 2 * self.kinds) * named[:, None]
        change = (after - before) @ cells / jnp.maximum(cells.sum(axis=0), 1.0)
        return -jnp.square(change).sum() / self.kinds

    def _term_rates(self, scores: Array, targets: Any) -> Array:
        """Squared difference of a term's share called toxic from that of its contexts' terms.

        What FPED and FNED are made of, but smooth, and within contexts, of which each shows some
        terms alone. Summed over labels, mean over the terms there are.
        """
        blocks, width = targets.blocks, SOFTNESS * jnp.sqrt(self.baseline.variance)
        called = jax.nn.sigmoid((scores - self.baseline.threshold) / width)[blocks]
        shown = targets.groups[blocks]  # [K, V, I]
        named = shown.any(axis=2).astype(jnp.float32)
        mean, _ = _moments(called, named)
        excess = (called - mean[:, None]) * named
        total = jnp.zeros(())
        toxic = targets.label[blocks[:, 0]].astype(jnp.float32)
        for of_label in (toxic, 1.0 - toxic):
            number = jnp.einsum("k,kvi->i", of_label, shown)
            sums = jnp.einsum("k,kv,kvi->i", of_label, excess, shown)
            difference = sums / jnp.maximum(number, 1.0)
            total += jnp.square(difference).sum() / jnp.maximum((number > 0).sum(), 1)
        return -total


def _moments(
    values: Float[Array, "k v"], chosen: Float[Array, "k v"]
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Mean and variance over the chosen of every row; 0 where there are none."""
    number = jnp.maximum(chosen.sum(axis=1), 1.0)
    mean = (chosen * values).sum(axis=1) / number
    return mean, (chosen * jnp.square(values - mean[:, None])).sum(axis=1) / number


def debiasing_reward(
    outputs: ArrayLike,
    targets: Any,
    sets: Mapping[str, ArrayLike],
    kind: str = "fairness",
    weights: Mapping[str, float] | None = None,
) -> DebiasingReward:
    """The reward for one classifier.

    Args:
      outputs: ``[N, 1]`` logits of the unedited classifier on the reward role, whose losses of AUC
        and accuracy are counted from here.
      targets: `CommentTargets` of that role.
      sets: weights of ``comments`` (the first rows) and ``counterfactuals``.
      kind: ``"fairness"``: ``− (1 − M₋₅ BPSN) − (1 − M₋₅ BNSP) − 2·dispersion − 4·(AUC loss +
        accuracy loss + subgroup AUC loss) − .05·‖ΔW‖²/‖W‖²``, losses beyond `MARGINS`.
        ``"rates"``: FPED and FNED at the frozen threshold, with the same two utility losses.
        ``"fped"``: FPED at the frozen threshold and nothing else. An edit that calls nothing toxic
        earns its maximum; it is here to show that, not to be used.
        ``"fidelity"``: with logits ``z`` before and ``z′`` after,
        ``− (E(z′−z)² + 5·E(block mean of z′−z)² + 5·E Var_t z′) / Var z − 40·E_k Σ_y (E_ky s(z′)
        − E_ky s(z))² − 60·E_t Σ_y (E_ty (s(z′) − block mean of s(z′)))²``; the first mean and
        ``Var z`` are over comments, the next over blocks. Mean and variance of a block are those
        of its texts with an identity term, plus those of its texts with other words. ``E_ky`` is
        over texts with a term of one kind of context and label, ``E_ty`` over those with one term
        and label, ``s`` a step at the threshold that is `SOFTNESS` wide: error rates stay, and
        those of terms come together. Smooth.
      weights: of parts, in place of `WEIGHTS`.

    Raises:
      ValueError: unknown kind, or unknown part in ``weights``.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown reward {kind!r}; choose one of {', '.join(KINDS)}")
    if unknown := set(weights or {}) - set(KINDS[kind]):
        raise ValueError(
            f"the reward {kind!r} has no part {', '.join(sorted(unknown))}; its parts are "
            + ", ".join(KINDS[kind])
        )
    number = int(jnp.sum(jnp.asarray(sets["comments"]) > 0))
    chosen = {name: (WEIGHTS | dict(weights or {}))[name] for name in KINDS[kind]}
    return DebiasingReward(
        minimum=jnp.float32(-10.0),
        weights={name: jnp.float32(weight) for name, weight in chosen.items()},
        baseline=_baseline(jnp.asarray(outputs)[:, 0], jax.tree.map(jnp.asarray, targets), number),
        number=number,
        parts=KINDS[kind],
        kinds=int(np.asarray(targets.kind).max()) + 1,
    )


@partial(jax.jit, static_argnames="number")
def _baseline(scores: Array, targets: Any, number: int) -> Baseline:
    plain, label = scores[:number], targets.label[:number]
    threshold = equal_error_threshold(plain, label)
    called = (plain >= threshold).astype(label.dtype)
    aucs = group_aucs(scores[number:], targets.label[number:], targets.groups[number:])
    return Baseline(
        auc=auc(plain, label),
        accuracy=jnp.mean(called == label),
        subgroup=power_mean(aucs.subgroup),
        threshold=threshold,
        variance=jnp.var(plain),
    )


def _loss(before: Array, after: Array, name: str) -> Array:
    """Minus what was lost beyond the margin."""
    return -jnp.maximum(before - MARGINS[name] - after, 0.0)
