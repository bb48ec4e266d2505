"""Rows for the tests of tables."""

import numpy as np

from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import Row

COST = Cost(2000, 0, 1.5)


def rows_of(method, scores, metric="tow", cost=COST, **factors):
    """One row per entry of [seeds, tasks] scores."""
    return [
        Row(method, f"forget-{task}", seed, {metric: float(value)}, cost, factors)
        for (seed, task), value in np.ndenumerate(np.asarray(scores))
    ]
