import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from modeledit_jax.report.planes import (
    forget_retain_plane,
    pareto_front,
    utility_fairness_plane,
)
from modeledit_jax.report.style import method_style
from tests.report.figure_checks import assert_legend_within, assert_png, dots, legend_texts

SEARCHES = [f"{search}-{operator}" for search in ("ppo", "openes", "snes", "random-search")
            for operator in ("shift", "mask")]  # fmt: skip
SIMPLE = ["clp", "mindiff", "leace", "inlp", "neuron-ablation", "random-edit", "last-layer-refit"]
TRAINED_ANEW = ["dixon-rebalancing", "reweighing", "other-seed"]
METHODS = [*SEARCHES, *SIMPLE, *TRAINED_ANEW]


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
        # Tasks then mean of every method, then the two references.
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


def test_utility_fairness_plane(tmp_path):
    points = {
        "ppo-shift": (np.array([0.1, 0.14]), np.array([0.92, 0.918])),  # mean 0.12, 0.919
        "clp": (np.array([0.2, 0.2]), np.array([0.90, 0.91])),  # beaten by ppo-shift
        "leace": (np.array([0.05]), np.array([0.85])),
        "reweighing": (np.array([0.01, 0.02]), np.array([0.93, 0.93])),  # best, but no edit
    }
    path = tmp_path / "plane.png"
    figure = utility_fairness_plane(
        points, path, original=(0.3, 0.922), margin=0.005, off_front=TRAINED_ANEW
    )
    assert_png(path, figure)
    assert_legend_within(figure)
    (axes,) = figure.axes
    assert "lower is fairer" in axes.get_xlabel() and "higher is better" in axes.get_ylabel()
    offsets = dots(axes)
    assert [len(o) for o in offsets] == [2, 1, 2, 1, 1, 1, 2, 1, 1]  # runs, mean; the original
    np.testing.assert_allclose(offsets[1], [[0.12, 0.919]])
    np.testing.assert_allclose(offsets[-1], [[0.3, 0.922]])
    means = [c for c in axes.collections if str(c.get_label())[0].isdigit()]
    assert [to_hex(c.get_facecolor()[0]).upper() for c in means] == [
        method_style(method).color for method in points
    ]
    # Two whiskers of each method with several runs, between its extremes; then the front.
    *whiskers, front = axes.lines
    assert len(whiskers) == 6
    np.testing.assert_allclose(whiskers[0].get_xdata(), [0.1, 0.14])
    np.testing.assert_allclose(whiskers[0].get_ydata(), [0.919] * 2)
    np.testing.assert_allclose(whiskers[1].get_ydata(), [0.918, 0.92])
    np.testing.assert_allclose(
        np.transpose([front.get_xdata(), front.get_ydata()]),
        [[0.05, 0.85], [0.12, 0.919], [0.3, 0.922]],
    )
    (region,) = axes.patches
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    np.testing.assert_allclose(region.get_bbox().extents, [left, 0.917, 0.3, high])
    pooled = np.concatenate(offsets)
    assert left < pooled[:, 0].min() and pooled[:, 0].max() < right
    assert low < pooled[:, 1].min() and pooled[:, 1].max() < high
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4"]
    assert legend_texts(figure) == [
        *(f"{i}  {method}" for i, method in enumerate(points, start=1)),
        "original (no edit)", "Pareto front of the means",
        "as fair, and within\n0.005 of the original",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.002, 0.1])
def test_numbers_of_twenty_methods_cover_no_mean_and_no_other_number(tmp_path, rng, spread):
    points = {method: (0.2 + spread * rng.normal(size=3), 0.9 + spread * rng.normal(size=3))
              for method in METHODS}  # fmt: skip
    points["far"] = np.array([0.5]), np.array([0.6])  # squeezes the others
    path = tmp_path / "plane.png"
    figure = utility_fairness_plane(points, path, original=(0.3, 0.91))
    assert_png(path, figure)
    assert_legend_within(figure)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(1, len(points) + 1)]
    to_points = 72 / figure.dpi
    at = axes.transData.transform([t.xy for t in axes.texts]) * to_points
    labels = at + [t.get_position() for t in axes.texts]
    gaps = np.linalg.norm(labels[:, None] - labels, axis=-1) + 99 * np.eye(len(labels))
    assert gaps.min() > 10  # digits are 9 points high
    assert np.linalg.norm(labels[:, None] - at, axis=-1).min() > 10
    box = axes.bbox.get_points() * to_points
    assert (labels > box[0]).all() and (labels < box[1]).all()


def test_plane_of_single_runs_claims_no_interval(tmp_path):
    points = {"clp": (np.array([0.1]), np.array([0.9]))}
    figure = utility_fairness_plane(points, tmp_path / "one.png", original=(0.3, 0.92))
    (axes,) = figure.axes
    assert axes.get_title().endswith("one run each") and len(axes.lines) == 1


def test_plane_names_what_does_not_fit(tmp_path):
    path, one, two = tmp_path / "x.png", np.zeros(1), np.zeros(2)
    with pytest.raises(ValueError, match="no methods to draw"):
        utility_fairness_plane({}, path, original=(0.0, 1.0))
    for x, y in ((one, two), (two, np.array([0.0, np.nan])), (one[:0], one[:0])):
        with pytest.raises(ValueError, match=f"^clp: {len(x)} x and {len(y)} y; pass one finite"):
            utility_fairness_plane({"clp": (x, y)}, path, original=(0.0, 1.0))
    assert not path.exists()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_pareto_front_holds_exactly_the_points_nothing_beats(points):
    def beats(p, q):
        return p != q and p[0] <= q[0] and p[1] >= q[1]

    expected = sorted({q for q in points if not any(beats(p, q) for p in points)})
    np.testing.assert_array_equal(pareto_front(np.array(points, float)), expected)
