import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from modeledit_jax.evaluation.statistics import interquartile_mean
from modeledit_jax.report.figures import (
    confusion_before_after,
    edit_heatmap,
    editor_style,
    forget_retain_plane,
    learning_curves,
)
from tests.report.figure_checks import assert_png, legend_texts

CONTRACT_EDITORS = [
    *("original", "retrain", "retrain-2", "logit-mask"),
    *(f"{search}-{operator}" for search in ("ppo", "openes", "snes", "random-search")
      for operator in ("mask", "shift")),
]  # fmt: skip


def test_every_editor_of_a_figure_has_its_own_fixed_color():
    assert len({editor_style(name).color for name in CONTRACT_EDITORS}) == len(CONTRACT_EDITORS)
    elsewhere = editor_style("ppo-shift-from-mean-edit")
    assert elsewhere.color == editor_style("ppo-shift").color
    assert elsewhere.line == ":" != editor_style("ppo-shift").line
    other = editor_style("never-heard-of")
    assert other == editor_style("never-heard-of")
    assert other.color not in {editor_style(name).color for name in CONTRACT_EDITORS}


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
    for line, band, (editor, runs) in zip(lines, bands, curves.items(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), spent[editor])
        np.testing.assert_allclose(line.get_ydata(), interquartile_mean(runs, axis=0))
        assert to_hex(line.get_color()).upper() == editor_style(editor).color
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


def test_forget_retain_plane(tmp_path):
    points = {
        "ppo-shift": (np.array([0.0, 0.0002]), np.array([0.97, 0.974])),
        "random-search-mask": (np.array([0.2, 0.6]), np.array([0.80, 0.90])),
    }
    path = tmp_path / "plane.png"
    figure = forget_retain_plane(points, path, original=(0.97, 0.972), retrain=(0.0, 0.975))
    assert_png(path, figure)
    plane, close = figure.axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("forget accuracy", "retain accuracy")
    assert close.get_xscale() == "symlog"
    for axes in (plane, close):
        offsets = [np.asarray(c.get_offsets()) for c in axes.collections]
        # Tasks then mean of every editor, then the two references.
        assert [len(o) for o in offsets] == [2, 1, 2, 1, 1, 1]
        np.testing.assert_allclose(offsets[1], [[0.0001, 0.972]])
        np.testing.assert_allclose(offsets[3], [[0.4, 0.85]])
        np.testing.assert_allclose(offsets[4:], [[[0.97, 0.972]], [[0.0, 0.975]]])
    # The whole plane shows every point; the close-up tells 0 from 0.01%.
    (x_low, x_high), (y_low, y_high) = plane.get_xlim(), plane.get_ylim()
    assert x_low < 0 < 1 < x_high and y_low < 0.8 < 0.975 < y_high
    at = close.transData.transform([(0.0, 0.97), (0.0001, 0.97), (0.01, 0.97), (0.1, 0.97)])
    width = close.bbox.width
    assert at[1, 0] - at[0, 0] > 0.01 * width
    assert at[2, 0] - at[1, 0] > 0.2 * width
    low, high = close.get_ylim()
    assert low < 0.972 - 0.01 and high > 0.975
    assert legend_texts(figure)[1:] == [
        "ppo-shift", "random-search-mask", "original (reference)", "retrain (reference)",
    ]  # fmt: skip


def test_edit_heatmap_is_symmetric_about_zero_and_shared(tmp_path, rng):
    delta = {"ppo-shift": rng.normal(size=(16, 8)), "mend": -3.0 * np.ones((4, 6))}
    path = tmp_path / "heat.png"
    figure = edit_heatmap(delta, path)
    assert_png(path, figure)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == list(delta)
    assert bar.get_ylabel() == "change of the weight"
    assert panels[0].get_ylabel() == "input unit" and panels[0].get_xlabel() == "output unit"
    for axes, matrix in zip(panels, delta.values(), strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), matrix)
        assert image.get_clim() == (-3.0, 3.0)


def test_edit_heatmap_survives_no_edit_and_one_outlier(tmp_path):
    figure = edit_heatmap({"none": np.zeros((3, 2))}, tmp_path / "zero.png")
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    spike = np.zeros((100, 10))
    spike[0, 0] = 5.0
    figure = edit_heatmap({"spike": spike}, tmp_path / "spike.png")
    assert figure.axes[0].images[0].get_clim() == (-5.0, 5.0)
    spike[1:, 1:] = 0.1
    figure = edit_heatmap({"spike": spike}, tmp_path / "spike.png")
    assert figure.axes[0].images[0].get_clim() == (-0.1, 0.1)


def test_confusion_before_after(tmp_path):
    before = np.array([[90, 10, 0], [5, 195, 0], [0, 0, 0]])
    after = np.array([[0, 100, 0], [5, 195, 0], [0, 0, 0]])
    path = tmp_path / "confusion.png"
    figure = confusion_before_after(before, after, ["cat", "dog", "elk"], path, forgotten=0)
    assert_png(path, figure)
    left, right, bar = figure.axes
    assert (left.get_title(), right.get_title()) == ("before", "after")
    assert left.get_xlabel() == "predicted class" and left.get_ylabel() == "true class"
    assert bar.get_ylabel() == "share of the true class"
    shares = np.ma.filled(left.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shares, [[0.9, 0.1, 0], [0.025, 0.975, 0], [np.nan] * 3])

    def numbers(axes):
        return {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}

    # Keys are (column, row); the diagonal shows its zeros, a class without examples nothing.
    assert numbers(left) == {(0, 0): "90", (1, 0): "10", (0, 1): "2", (1, 1): "98"}
    assert numbers(right) == {(0, 0): "0", (1, 0): "100", (0, 1): "2", (1, 1): "98"}
    for axes in (left, right):
        names = axes.get_yticklabels()
        assert [name.get_text() for name in names] == ["cat", "dog", "elk"]
        assert [name.get_fontweight() for name in names] == ["bold", "normal", "normal"]
        frames = [(p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches]
        assert frames == [((-0.5, -0.5), 3, 1), ((-0.5, -0.5), 1, 3)]


def test_confusion_of_many_classes_has_no_numbers(tmp_path):
    counts = np.eye(30)
    names = [f"class {i}" for i in range(30)]
    figure = confusion_before_after(counts, counts, names, tmp_path / "many.png")
    assert not figure.axes[0].texts and not figure.axes[0].patches
    with pytest.raises(ValueError, match="29 class names for 30 classes"):
        confusion_before_after(counts, counts, names[:-1], tmp_path / "many.png")


def test_figures_touch_no_global_state(tmp_path, rng):
    before = dict(matplotlib.rcParams)
    edit_heatmap({"a": rng.normal(size=(4, 4))}, tmp_path / "a.png")
    learning_curves({"ft": rng.uniform(size=(3, 3))}, {"ft": np.arange(1, 4)}, "y", tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "b").read_bytes().startswith(b"\x89PNG")
