"""Networks that were made to forget a class against retrained ones, as distributions of margins.

All networks of a class, edited or retrained, are trained on the same examples from other seeds, so
that those of all seeds are draws of one distribution (`evaluation.retrained_distributions`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.common.methods import Result
from modeledit_jax.evaluation.accuracy import margins
from modeledit_jax.evaluation.retrained_distributions import klom, likelihood_ratio_auc
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.task import Task

Margins = Float[np.ndarray, "b n"]
"""Of every task's network on the examples of test."""

BINS = 5
"""Of histograms of a handful of networks."""
FEWEST = 3  # networks that a spread needs

_margins = jax.jit(margins)
_klom = jax.jit(klom, static_argnames="bins")
_likelihood_ratio_auc = jax.jit(likelihood_ratio_auc)


def task_margins(tasks: Sequence[Task], result: Result) -> Margins:
    """The margins of a method's networks on the examples of test."""
    each = [
        _margins(jnp.asarray(outputs["test"]), jnp.asarray(task.roles["test"].label))
        for task, outputs in zip(tasks, result.outputs, strict=True)
    ]
    return np.stack(jax.device_get(each))


def distances(
    tasks: Sequence[Task], unlearned: Margins, retrained: Sequence[Margins]
) -> dict[str, dict[str, float]]:
    """KLOM and the AUC of U-LiRA on the test sets, of all networks of each request.

    Args:
      tasks: ``B``; those of one name are one request to different networks.
      unlearned: margins of the networks that are judged.
      retrained: of every replicate of retraining.

    Returns:
      By the name of the task ``klom_<set>_test`` and ``likelihood_ratio_auc_<set>_test``, which is
      NaN with fewer than three networks of a kind.
    """
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(task.name for task in tasks):
        places = [index for index, task in enumerate(tasks) if task.name == name]
        own = jnp.asarray(unlearned[places])
        others = jnp.asarray(np.concatenate([each[places] for each in retrained]))
        found[name] = {}
        for subset, weights in tasks[places[0]].roles["test"].weights.items():
            data = own, others, jnp.asarray(weights)
            found[name][f"klom_{subset}_test"] = float(_klom(*data, bins=BINS))
            enough = min(len(own), len(others)) >= FEWEST
            auc = float(_likelihood_ratio_auc(*data)) if enough else math.nan
            found[name][f"likelihood_ratio_auc_{subset}_test"] = auc
    return found


def with_distances(rows: Sequence[Row], found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """The rows of one method; those of its first network have the distances of all its networks."""
    first = min(row.seed for row in rows)
    return [
        replace(row, metrics={**row.metrics, **found[row.task]}) if row.seed == first else row
        for row in rows
    ]
