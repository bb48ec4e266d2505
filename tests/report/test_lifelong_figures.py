"""Figures of a sequence of edits: what is drawn, and that it can be read."""

import numpy as np
import pytest

from modeledit_jax.report.lifelong_figures import (
    edit_trajectories,
    retention_curve,
    selection_heatmap,
)
from modeledit_jax.report.style import method_style
from tests.report.figure_checks import assert_legend_within, assert_png, legend_texts

EDITS = np.array([20, 40, 60])


def test_a_panel_per_metric_with_a_line_per_editor(tmp_path, rng):
    curves = {
        metric: {editor: rng.uniform(size=(3, 3)) for editor in ("rledit", "hiedit")}
        for metric in ("efficacy", "generalization", "retention")
    }
    figure = edit_trajectories(curves, EDITS, tmp_path / "a.png")
    assert_png(tmp_path / "a.png", figure)
    assert legend_texts(figure) == ["rledit", "hiedit"]
    assert_legend_within(figure)
    panels = figure.axes
    assert [axes.get_visible() for axes in panels] == [True, True, True, False]
    for axes, (metric, own) in zip(panels, curves.items(), strict=False):
        assert axes.get_title() == metric
        for line, (editor, runs) in zip(axes.lines, own.items(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), EDITS)
            np.testing.assert_allclose(line.get_ydata(), runs.mean(0))  # of three, none is cut
            assert line.get_color() == method_style(editor).color
        assert len(axes.collections) == 2  # bands
    assert "bootstrap" in figure.get_suptitle()


def test_one_seed_has_no_band(tmp_path):
    figure = edit_trajectories({"efficacy": {"mend": np.ones((1, 3))}}, EDITS, tmp_path / "a.png")
    assert not figure.axes[0].collections
    assert "bootstrap" not in figure.get_suptitle()
    with pytest.raises(ValueError, match="no metric"):
        edit_trajectories({}, EDITS, tmp_path / "b.png")


def test_retention_against_age(tmp_path, rng):
    runs, ages = rng.uniform(size=(1, 4)), np.array([30.0, 20.0, 10.0, 0.0])
    figure = retention_curve({"ft-l": runs, "rledit": runs / 2}, ages, tmp_path / "a.png")
    assert_png(tmp_path / "a.png", figure)
    first, second = figure.axes[0].lines
    np.testing.assert_array_equal(first.get_xdata(), ages)
    np.testing.assert_array_equal(second.get_ydata(), runs[0] / 2)
    assert legend_texts(figure) == ["ft-l", "rledit"]


def test_modules_from_top_to_bottom(tmp_path, rng):
    masks = {"hiedit": rng.uniform(size=(3, 2)), "random-k": rng.uniform(size=(3, 2))}
    modules = ("layers/1/mlp/up", "layers/1/mlp/down")
    figure = selection_heatmap(masks, modules, EDITS, tmp_path / "a.png")
    assert_png(tmp_path / "a.png", figure)
    panel = figure.axes[0]
    np.testing.assert_array_equal(panel.images[0].get_array(), masks["hiedit"].T)
    assert [label.get_text() for label in panel.get_yticklabels()] == list(modules)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["20", "40", "60"]
    with pytest.raises(ValueError, match=r"\[points, modules\] = \(3, 3\)"):
        selection_heatmap(masks, (*modules, "head"), EDITS, tmp_path / "b.png")
