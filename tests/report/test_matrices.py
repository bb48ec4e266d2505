import numpy as np
import pytest

from modeledit_jax.report.matrices import confusion_before_after, edit_heatmap
from tests.report.figure_checks import assert_png


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
