"""Methods against a floor of chance."""

import math

import numpy as np
import pytest

from modeledit_jax.evaluation.statistics import Interval
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.floor_plot import Panel, floor_plot

SCORES = {"mine": Interval(0.5, 0.2, 0.7), "other": Interval(0.0, 0.0, 0.1)}


def test_points_intervals_and_floor_are_where_they_should(tmp_path):
    panels = [Panel("gap", SCORES, (-0.1, 0.3)), Panel("1 − score", SCORES, (0.0, 0.2), "log")]
    styles = {"mine": Style("#123456", "o", "-")}
    names = ["other", "mine"]
    figure = floor_plot(names, panels, tmp_path / "plot.png", title="T", styles=styles)
    assert (tmp_path / "plot.png").stat().st_size > 1_000
    linear, logarithmic = figure.axes
    assert [label.get_text() for label in linear.get_yticklabels()] == names
    assert linear.patches[0].get_extents().width > 0
    low, high = linear.patches[0].get_x(), linear.patches[0].get_width()
    np.testing.assert_allclose([low, high], [-0.1, 0.4])
    mine = [line for line in linear.lines if line.get_color() == "#123456"]
    np.testing.assert_allclose(mine[0].get_xdata(), [0.2, 0.7])
    np.testing.assert_allclose([line.get_ydata()[0] for line in mine], [1, 1])
    np.testing.assert_allclose(mine[1].get_xdata(), [0.5])
    assert logarithmic.get_xscale() == "log"
    assert logarithmic.lines[1].get_xdata()[0] == 1e-4  # what stands for 0


def test_what_has_no_interval_is_a_point_and_what_has_no_value_is_left_out(tmp_path):
    found = {"one": Interval(0.5, math.nan, math.nan), "none": Interval(math.nan, math.nan, 0.0)}
    panels = [Panel("gap", found, (0.0, 0.1))]
    figure = floor_plot(["one", "none", "absent"], panels, tmp_path / "plot.png", title="T")
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[0.5]]


@pytest.mark.parametrize(("names", "panels"), [([], [Panel("a", {}, (0.0, 1.0))]), (["mine"], [])])
def test_nothing_to_draw(tmp_path, names, panels):
    with pytest.raises(ValueError, match="nothing to draw"):
        floor_plot(names, panels, tmp_path / "plot.png", title="T")
