"""Variants side by side."""

import numpy as np
import pytest
from scipy import stats

from modeledit_jax.report.interval_plot import interval_plot

RUNS = {"rledit": np.array([1.0, 2.0, 6.0]), "no memory": np.array([np.nan] * 3)}


def test_marks_are_means_and_t_intervals(tmp_path):
    figure = interval_plot({"overall": RUNS}, tmp_path / "plot.png", title="Memory")
    assert (tmp_path / "plot.png").stat().st_size > 1_000
    (axes,) = figure.axes
    runs, interval, mean = axes.lines  # nothing of the variant without values
    np.testing.assert_array_equal(runs.get_xdata(), RUNS["rledit"])
    np.testing.assert_allclose(mean.get_xdata(), [3.0])
    expected = stats.t.interval(0.95, 2, 3.0, stats.sem(RUNS["rledit"]))
    np.testing.assert_allclose(interval.get_xdata(), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(RUNS)


def test_one_seed_has_no_interval(tmp_path):
    one = {name: values[:1] for name, values in RUNS.items()}
    figure = interval_plot({"a": one, "b": one}, tmp_path / "plot.png", title="One")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert "interval" not in figure.get_suptitle()


@pytest.mark.parametrize("values", [{}, {"a": {}}, {"a": RUNS, "b": {"rledit": np.ones(3)}}])
def test_metrics_need_the_same_variants(tmp_path, values):
    with pytest.raises(ValueError, match="same variants"):
        interval_plot(values, tmp_path / "plot.png", title="")
