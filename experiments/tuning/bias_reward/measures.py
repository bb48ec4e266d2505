"""What an edit does on ``select`` to terms that its reward shows and to others, and its score."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from modeledit_jax.evaluation.auc import auc
from modeledit_jax.evaluation.context_bootstrap import STATISTICS, BlockScores
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import labeled_scores, threshold
from modeledit_jax.tasks.debiasing_suites import ACCURACY_MARGIN, AUC_MARGIN, RATE_MARGIN

KINDS = ("windows", "slots", "natural", "wikipedia")
"""Of contexts, by their number; the last is there with Dixon's file alone."""
SHOWN, UNSEEN = "shown", "unseen"
"""Terms that the reward shows, and those it does not."""

Values = Mapping[str, float]


def select_values(task: DebiasingTask, scores: np.ndarray) -> dict[str, float]:
    """Metrics of one classifier on ``select`` of nested folds (`load_with_contexts`).

    Args:
      task: whose ``held_out`` terms the reward does not show.
      scores: ``[N, 1]`` logits on the role.

    Returns:
      ``auc`` and balanced ``accuracy`` on comments; ``KIND_fpr`` and ``KIND_fnr`` of every kind of
      context, NaN without a context of the label; of windows ``dispersion_`` and ``fped_`` of
      `SHOWN` and `UNSEEN` terms. Rates are at the classifier's equal error rate on the comments.
    """
    outputs, targets = {"select": scores}, task.roles["select"].targets
    cut = threshold(task, outputs)
    comments, label, _ = labeled_scores(task, outputs, "select", "comments")
    called = comments >= cut
    wrong = [np.mean(called[label == 0]), np.mean(~called[label == 1])]
    found = {
        "auc": float(auc(jnp.asarray(comments), jnp.asarray(label))),
        "accuracy": float(1.0 - np.mean(wrong)),
    }
    blocks = np.asarray(targets.blocks)
    terms = np.asarray(targets.groups)[blocks[0]].argmax(axis=1)
    unseen = np.asarray(task.held_out)[terms]
    kind, toxic = np.asarray(targets.kind)[blocks[:, 0]], np.asarray(targets.label)[blocks[:, 0]]
    logits, variance = np.asarray(scores, np.float64)[blocks, 0], float(np.var(comments))
    for number, name in enumerate(KINDS[: kind.max() + 1]):
        rows = kind == number
        once = [np.ones((1, int((toxic[rows] == value).sum())), int) for value in (0, 1)]
        for which, columns in ((SHOWN, ~unseen), (UNSEEN, unseen)):
            block = BlockScores(logits[rows], toxic[rows], cut, variance, columns)
            values = dict(zip(STATISTICS, block.statistics(once)[0].tolist(), strict=True))
            if name == "windows":
                found |= {f"{bias}_{which}": values[bias] for bias in ("dispersion", "fped")}
        found |= {f"{name}_{rate}": values[rate] for rate in ("fpr", "fnr")}  # of all terms
    return found


def changes(before: Sequence[Values], after: Sequence[Values]) -> dict[str, float]:
    """What edits change in the mean over tasks; relative for ``dispersion`` and ``fped``.

    Rates that no context tells are left out.
    """
    found = {}
    for name in before[0]:
        if not np.isfinite(before[0][name]):
            continue
        old, new = (float(np.mean([own[name] for own in each])) for each in (before, after))
        relative = name.startswith(("dispersion", "fped"))
        found[name] = new / old - 1.0 if relative else new - old
    return found


def largest_shift(change: Values) -> tuple[str, float]:
    """The error rate that is moved most, ``KIND_fpr`` or ``KIND_fnr``, and by how much."""
    rates = {name: value for name, value in change.items() if name.endswith(("fpr", "fnr"))}
    name = max(rates, key=lambda rate: abs(rates[rate]))
    return name, rates[name]


def score(change: Values) -> float:
    """Mean of four relative falls on windows where the margins of the gates hold.

    The falls are of dispersion and FPED, of shown and of unseen terms. Margins are those of the
    report's gates (`tasks.debiasing_suites`), on ``select``: of every error rate, balanced accuracy
    and AUC. Where one is not held the score is below zero, minus the share of the margin by which
    the worst is beyond it.
    """
    shares = (
        abs(largest_shift(change)[1]) / RATE_MARGIN,
        -change["accuracy"] / ACCURACY_MARGIN,
        -change["auc"] / AUC_MARGIN,
    )
    if max(shares) > 1.0:
        return 1.0 - max(shares)
    falls = [-change[f"{kind}_{terms}"] for kind in ("dispersion", "fped")
             for terms in (SHOWN, UNSEEN)]  # fmt: skip
    return float(np.mean(falls))
