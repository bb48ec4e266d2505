import numpy as np
import pytest
from matplotlib.colors import to_hex

from modeledit_jax.evaluation.statistics import interquartile_mean
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.style import dotted, method_style
from tests.report.figure_checks import assert_png, legend_texts


def test_learning_curves(tmp_path, rng):
    curves = {"ppo-shift": rng.uniform(size=(8, 5)), "openes-mask": rng.uniform(size=(6, 4))}
    spent = {"ppo-shift": np.geomspace(20, 2000, 5), "openes-mask": np.arange(1, 5) * 50}
    path = tmp_path / "curves.png"
    figure = learning_curves(curves, spent, "Tug-of-War", path, target=0.99)
    assert_png(path, figure)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "reward evaluations" and axes.get_ylabel() == "Tug-of-War"
    assert axes.get_xscale() == "log"
    target, *lines = axes.lines
    assert set(target.get_ydata()) == {0.99}
    bands = axes.collections
    assert len(lines) == len(bands) == 2
    for line, band, (method, runs) in zip(lines, bands, curves.items(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), spent[method])
        np.testing.assert_allclose(line.get_ydata(), interquartile_mean(runs, axis=0))
        assert to_hex(line.get_color()).upper() == method_style(method).color
        outline = band.get_paths()[0].vertices
        assert runs.min() <= outline[:, 1].min() < line.get_ydata().min()
        assert line.get_ydata().max() < outline[:, 1].max() <= runs.max()
    assert legend_texts(figure) == ["target", "ppo-shift", "openes-mask"]


def test_learning_curves_of_one_run_on_linear_axes(tmp_path):
    runs = {"rledit": np.array([[2.0, 1.0]])}
    path = tmp_path / "one.png"
    figure = learning_curves(
        runs, {"rledit": np.array([0, 10])}, "loss (nats)", path, log_x=False, percent=False
    )
    assert_png(path, figure)
    (axes,) = figure.axes
    assert axes.get_xscale() == "linear"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, 1.0])
    assert "%" not in axes.yaxis.get_major_formatter()(1.0)


def test_learning_curves_name_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"evaluations of \['ppo-mask'\] are absent"):
        learning_curves({"ppo-mask": np.zeros((2, 2))}, {}, "y", tmp_path / "x.png")


def test_names_that_are_no_methods_bring_their_styles(tmp_path):
    runs = {"ppo-shift": np.zeros((2, 2)), "ppo-shift, from the mean edit": np.ones((2, 2))}
    spent = dict.fromkeys(runs, np.array([1, 2]))
    style = dotted(method_style("ppo-shift"))
    styles = {"ppo-shift, from the mean edit": style}
    figure = learning_curves(runs, spent, "score", tmp_path / "x.png", styles=styles)
    plain, elsewhere = figure.axes[0].lines
    assert (plain.get_linestyle(), elsewhere.get_linestyle()) == ("-", ":")
    assert plain.get_color() == elsewhere.get_color() == style.color
