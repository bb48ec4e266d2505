import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from modeledit_jax.run.fairness_figures import (
    NOT_EDITS,
    dumbbell,
    pareto_front,
    score_distributions,
    utility_fairness_plane,
)
from modeledit_jax.run.figures import editor_style

SEARCHES = [f"{search}-{operator}" for search in ("ppo", "openes", "snes", "random-search")
            for operator in ("shift", "mask")]  # fmt: skip
SIMPLE = ["clp", "mindiff", "leace", "inlp", "neuron-ablation", "random-edit", "last-layer-refit"]
EDITORS = [*SEARCHES, *SIMPLE, *NOT_EDITS]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def assert_png(path, figure):
    """A readable PNG of the figure's size, with nothing left beside it."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, figure.get_size_inches() * 150, atol=1)
        assert max(image.size) < 4000 and len(np.unique(np.asarray(image.convert("L")))) > 20
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def row_names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def dots(axes):
    """Offsets of every scatter, in the order drawn."""
    return [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]


def segments(axes):
    """``[rows, 2, 2]`` of every call of ``hlines``."""
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    return [np.asarray(c.get_segments()) for c in lines]


def assert_legend_within(figure):
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    page = figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


def test_styles_of_the_bias_editors_are_distinct():
    styles = [editor_style(editor) for editor in ("original", *EDITORS)]
    assert len({style.colour for style in styles}) == len(styles)
    assert len({style[:2] for style in styles}) == len(styles)
    for editor in ("other-seed", "tfidf", "fair-oracle", "biased-oracle"):
        colour = editor_style(editor).colour
        assert colour[1:3] == colour[3:5] == colour[5:7]  # grey


def test_dumbbell(tmp_path):
    terms = ["tosk", "mirrak", "sulvan", "lumar"]
    before, after = np.array([0.1, 0.9, 0.5, np.nan]), np.array([0.2, 0.3, 0.25, 0.4])
    missed = np.array([0.4, 0.0, 0.1, 0.2])
    rates = {
        "false positive rate": (before, after, 0.3, 0.2),
        "false negative rate": (missed, missed / 2, 0.15, 0.1),
    }
    path = tmp_path / "dumbbell.png"
    figure = dumbbell(terms, rates, [False, True, False, True], path, title="a title")
    assert_png(path, figure)
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == tuple(rates)
    assert figure.get_suptitle() == "a title"
    # By falling rate before the edit in the first panel; the undefined one last.
    assert row_names(left) == ["mirrak *", "sulvan", "tosk", "lumar *"]
    weights = [tick.get_fontweight() for tick in left.get_yticklabels()]
    assert weights == ["bold", "normal", "normal", "bold"]
    bottom, top = left.get_ylim()
    assert bottom > 3 and top < 0  # row 0 is on top

    order = [1, 2, 0, 3]
    np.testing.assert_allclose(dots(left)[0], [[0.9, 0], [0.5, 1], [0.1, 2]])
    np.testing.assert_allclose(dots(left)[1], [[after[i], row] for row, i in enumerate(order)])
    (bars,) = segments(left)
    np.testing.assert_allclose(bars[:, :, 0], [[0.9, 0.3], [0.5, 0.25], [0.1, 0.2]])
    np.testing.assert_allclose(dots(right)[0], [[missed[i], row] for row, i in enumerate(order)])
    assert len(segments(right)[0]) == 4
    for axes, (_, _, *overall) in zip((left, right), rates.values(), strict=True):
        assert [line.get_xdata()[0] for line in axes.lines] == overall
        low, high = axes.get_xlim()
        assert low < 0 and high > 0.9  # one scale, so that lengths compare
    assert [(t.get_text(), t.get_position()[1]) for t in left.texts] == [("undefined", 3)]
    assert not right.texts
    assert legend_texts(figure) == [
        "before", "after", "overall, before", "overall, after",
        "* held out: not seen by the edit", "undefined: no comments of that kind",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [4, 50])
def test_dumbbell_grows_with_the_terms(tmp_path, rng, count):
    terms = [f"term {i}" for i in range(count)]
    rates = {"rate": (rng.uniform(size=count), rng.uniform(size=count), 0.5, 0.5)}
    path = tmp_path / "dumbbell.png"
    figure = dumbbell(terms, rates, np.zeros(count, bool), path)
    assert_png(path, figure)
    assert_legend_within(figure)
    assert legend_texts(figure) == ["before", "after", "overall, before", "overall, after"]
    (axes,) = figure.axes
    assert len(row_names(axes)) == count
    pixels = axes.transData.transform([[0, 0], [0, 1]])[:, 1] / figure.dpi
    assert 0.15 < pixels[0] - pixels[1] < 0.6  # inches a row
    before = dots(axes)[0][:, 0]
    assert (np.diff(before) <= 0).all()


def test_dumbbell_of_rates_that_are_all_undefined(tmp_path):
    none = np.full(2, np.nan)
    figure = dumbbell(["a", "b"], {"rate": (none, none, 0.0, np.nan)}, [False] * 2, tmp_path / "n")
    (axes,) = figure.axes
    assert row_names(axes) == ["a", "b"]  # the order given
    assert [text.get_text() for text in axes.texts] == ["undefined"] * 2
    assert np.isfinite(axes.get_xlim()).all()


def test_dumbbell_names_what_does_not_fit(tmp_path):
    path, two, three = tmp_path / "x.png", np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match=r"^FPR has shape \(3,\); pass one value for each of 2"):
        dumbbell(["a", "b"], {"FPR": (two, three, 0.0, 0.0)}, [True, False], path)
    with pytest.raises(ValueError, match=r"^held_out has shape \(1,\)"):
        dumbbell(["a", "b"], {"FPR": (two, two, 0.0, 0.0)}, [True], path)
    with pytest.raises(ValueError, match="needs terms and rates, got 0 and 1"):
        dumbbell([], {"FPR": (two, two, 0.0, 0.0)}, [], path)
    assert not path.exists()


def comments(rng, terms, rows=400):
    """Scores before and after, label and groups; the first terms are scored higher before."""
    groups = np.eye(terms, dtype=np.float32)[rng.integers(terms, size=rows)]
    label = rng.integers(2, size=rows).astype(np.int32)
    content = 3.0 * label + rng.normal(size=rows)
    bias = groups @ np.linspace(3, 0, terms)
    return {"before": content + bias, "after": content + 0.2 * bias}, label, groups


def test_score_distributions(tmp_path, rng):
    terms = ["lumar", "sulvan", "tosk"]
    scores, label, groups = comments(rng, 3)
    label[:20] = -1  # unlabelled rows are left out
    groups[-1] = 0  # a comment without a term counts among all comments
    path = tmp_path / "scores.png"
    limits = {"before": 1.5, "after": 0.5}
    figure = score_distributions(
        scores, label, groups[:, ::-1], terms, path, thresholds=limits, held_out=[True, False, True]
    )
    assert_png(path, figure)
    assert [axes.get_title() for axes in figure.axes] == ["non-toxic comments", "toxic comments"]
    # Reversed columns: the last term has the highest scores and comes first.
    assert row_names(figure.axes[0]) == ["tosk *", "sulvan", "lumar *", "all comments"]
    for toxic, axes in enumerate(figure.axes):
        chosen = [(groups[:, i] > 0) & (label == toxic) for i in range(3)] + [label == toxic]
        whiskers_before, box_before, whiskers_after, box_after = segments(axes)
        medians = dots(axes)
        for model, whiskers, box, dot in (
            ("before", whiskers_before, box_before, medians[0]),
            ("after", whiskers_after, box_after, medians[1]),
        ):
            expected = np.array([np.percentile(scores[model][c], (5, 25, 50, 75, 95))
                                 for c in chosen])  # fmt: skip
            np.testing.assert_allclose(whiskers[:, :, 0], expected[:, [0, 4]])
            np.testing.assert_allclose(box[:, :, 0], expected[:, [1, 3]])
            np.testing.assert_allclose(dot[:, 0], expected[:, 2])
        assert (medians[0][:, 1] < medians[1][:, 1]).all()  # before above after
        assert np.abs(medians[1][:, 1] - np.arange(4)).max() < 0.5
        assert [line.get_xdata()[0] for line in axes.lines[1:]] == [1.5, 0.5]
        low, high = axes.get_xlim()
        assert low < whiskers_before.min(axis=0)[0, 0] and high > whiskers_before[..., 0].max()
    assert legend_texts(figure) == [
        "before", "after", "threshold, before", "threshold, after",
        "* held out: not seen by the edit",
    ]  # fmt: skip


def test_score_distributions_of_a_term_without_toxic_comments(tmp_path, rng):
    terms = [f"term {i}" for i in range(33)]
    scores, label, groups = comments(rng, 33, 3300)
    label[groups[:, 0] > 0] = 0
    path = tmp_path / "scores.png"
    figure = score_distributions(scores, label, groups, terms, path)
    assert_png(path, figure)
    assert_legend_within(figure)
    left, right = figure.axes
    assert row_names(left)[0] == "term 0" and not left.texts
    assert [(t.get_text(), t.get_position()[1]) for t in right.texts] == [("undefined", 0)]
    assert [len(offsets) for offsets in dots(right)] == [33, 33]  # 32 terms and all comments
    assert legend_texts(figure) == ["before", "after", "undefined: no comments of that kind"]


def test_score_distributions_name_what_does_not_fit(tmp_path, rng):
    path = tmp_path / "x.png"
    scores, label, groups = comments(rng, 2, 10)
    with pytest.raises(ValueError, match=r"groups have shape \(10, 2\); pass .* each of 3 terms"):
        score_distributions(scores, label, groups, ["a", "b", "c"], path)
    with pytest.raises(ValueError, match="9 scores of 'after' for 10 comments"):
        score_distributions(
            scores | {"after": scores["after"][:9]}, label, groups, ["a", "b"], path
        )
    with pytest.raises(ValueError, match=r"thresholds of \['edited'\] without their scores"):
        score_distributions(scores, label, groups, ["a", "b"], path, thresholds={"edited": 0.0})
    with pytest.raises(ValueError, match="need models, terms and comments, got 0, 2 and 10"):
        score_distributions({}, label, groups, ["a", "b"], path)
    scores["before"][:2] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 scores of 'before' are not finite"):
        score_distributions(scores, label, groups, ["a", "b"], path)
    assert not path.exists()


def test_utility_fairness_plane(tmp_path):
    points = {
        "ppo-shift": (np.array([0.1, 0.14]), np.array([0.92, 0.918])),  # mean 0.12, 0.919
        "clp": (np.array([0.2, 0.2]), np.array([0.90, 0.91])),  # beaten by ppo-shift
        "leace": (np.array([0.05]), np.array([0.85])),
        "reweighing": (np.array([0.01, 0.02]), np.array([0.93, 0.93])),  # best, but no edit
    }
    path = tmp_path / "plane.png"
    figure = utility_fairness_plane(points, path, original=(0.3, 0.922), margin=0.005)
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
        editor_style(editor).colour for editor in points
    ]
    # Two whiskers of each editor with several runs, between its extremes; then the front.
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
        *(f"{i}  {editor}" for i, editor in enumerate(points, start=1)),
        "original (no edit)", "Pareto front of the means",
        "as fair, and within\n0.005 of the original",
    ]  # fmt: skip


@pytest.mark.parametrize("spread", [0.0, 0.002, 0.1])
def test_numbers_of_twenty_editors_cover_no_mean_and_no_other_number(tmp_path, rng, spread):
    points = {editor: (0.2 + spread * rng.normal(size=3), 0.9 + spread * rng.normal(size=3))
              for editor in EDITORS}  # fmt: skip
    points["far"] = np.array([0.5]), np.array([0.6])  # squeezes the others
    path = tmp_path / "plane.png"
    figure = utility_fairness_plane(points, path, original=(0.3, 0.91))
    assert_png(path, figure)
    assert_legend_within(figure)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(1, 23)]
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
    with pytest.raises(ValueError, match="no editors to draw"):
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
