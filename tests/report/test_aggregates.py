import math

import numpy as np
import pytest
import scipy.stats

from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.report.aggregates import aggregate, paired, score_matrix
from modeledit_jax.report.table import Row
from tests.report.rows import COST, rows_of


def test_aggregate_is_the_iqm_with_stratified_bootstrap():
    scores = np.random.default_rng(0).uniform(size=(3, 4))
    rows = rows_of("ppo-shift", scores) + rows_of("openes-shift", scores + 1)
    rng = np.random.default_rng(1)
    first, second = aggregate([rows[i] for i in rng.permutation(12)] + rows[12:])
    assert (first.method, first.metric, first.n) == ("ppo-shift", "tow", 12)
    assert first.iqm == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None))
    # The order of rows may permute tasks, which changes the resampling but not its law.
    expected = stratified_bootstrap(scores)
    np.testing.assert_allclose([first.ci_low, first.ci_high], expected[1:], atol=0.01)
    assert second.method == "openes-shift"
    np.testing.assert_allclose(
        [second.iqm, second.ci_low, second.ci_high], stratified_bootstrap(scores + 1)
    )


def test_aggregate_of_a_single_seed_has_no_interval():
    (item,) = aggregate(rows_of("original", [[0.1, 0.2, 0.3, 0.4]]))
    assert item.iqm == pytest.approx(0.25) and item.n == 4
    assert math.isnan(item.ci_low) and math.isnan(item.ci_high)


def test_aggregate_does_not_hide_a_failed_run():
    (item,) = aggregate(rows_of("ppo-shift", [[0.1, 0.2], [0.1, np.nan]]))
    assert item.n == 4
    assert all(math.isnan(value) for value in (item.iqm, item.ci_low, item.ci_high))


def test_aggregate_takes_each_metric_over_the_rows_that_have_it():
    rows = rows_of("ppo-shift", [[0.5], [0.7]]) + rows_of("ppo-shift", [[3.0]], metric="auc")
    tow, auc = aggregate(rows)
    assert (tow.metric, tow.n, tow.iqm) == ("tow", 2, pytest.approx(0.6))
    assert (auc.metric, auc.n, auc.iqm) == ("auc", 1, 3.0)


def test_aggregate_refuses_double_and_missing_rows():
    rows = rows_of("ppo-shift", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two rows for one"):
        aggregate([*rows, rows[0]])
    with pytest.raises(ValueError, match=r"lacks \(task, seed\) \[\('forget-1', 0\)\]"):
        aggregate([row for row in rows if (row.task, row.seed) != ("forget-1", 0)])


def test_aggregates_are_of_a_method_with_its_factors():
    rows = rows_of("ppo-shift", [[0.1], [0.2]], budget=10, start="scratch")
    rows += rows_of("ppo-shift", [[0.5], [0.6]], budget=20, start="scratch")
    first, second = aggregate(rows)
    assert first.factors == {"budget": 10, "start": "scratch"} and second.factors["budget"] == 20
    assert (first.iqm, second.iqm) == (pytest.approx(0.15), pytest.approx(0.55))


def test_strata_tell_tasks_apart():
    scores = np.random.default_rng(0).uniform(size=(2, 4))
    rows = [
        Row("policy", f"forget-{task}", seed, {"tow": scores[seed, 2 * held + task]}, COST,
            {"held_out": held})
        for seed in (0, 1) for held in (0, 1) for task in (0, 1)
    ]  # fmt: skip
    (item,) = aggregate(rows, strata=["held_out"])
    assert item.n == 8 and item.factors == {}
    assert (item.iqm, item.ci_low, item.ci_high) == stratified_bootstrap(scores)
    np.testing.assert_array_equal(score_matrix(rows, "tow", ["held_out"]), scores)
    with pytest.raises(ValueError, match="two rows for one"):
        score_matrix(rows, "tow")


def test_pairs_are_of_one_seed_and_task():
    one = np.array([[0.5, 0.75], [1.0, 0.25]])
    first, second = rows_of("ppo-shift", one, budget=10), rows_of("snes-shift", one / 2)
    found = paired(first, second[::-1], "tow")  # whatever their order
    np.testing.assert_array_equal(found, one / 2)
    with pytest.raises(ValueError, match=r"cannot be paired: \(1, \('forget-1',\)\) has one"):
        paired(first, second[:-1], "tow")
