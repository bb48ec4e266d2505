import numpy as np
import pytest

from modeledit_jax.report.fairness_figures import dumbbell, score_distributions
from tests.report.figure_checks import (
    assert_legend_within,
    assert_png,
    dots,
    legend_texts,
    segments,
)


def row_names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


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
    label[:20] = -1  # unlabeled rows are left out
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
