"""LEACE and INLP against their definitions, and the fold against the hook it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.linear_model import LinearRegression

from modeledit_jax.editors.debiasing.erasure import (
    INLP,
    LEACE,
    concept_of,
    dense_layer,
    fitting_data,
    fold,
    inlp_projection,
    layer_inputs,
    leace_projection,
)
from modeledit_jax.editors.editor import Editor
from tests import tiny
from tests.editors import biased

KEY = jax.random.key(0)


def _features(n=300, d=6, k=2, seed=0):
    """Correlated features, of which ``k`` columns of a concept can be read."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    h = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + z @ rng.normal(size=(k, d)) + 3.0
    return h, z, rng.uniform(0.1, 2.0, n)


def _cov(a, b, weights):
    share = weights / weights.sum()
    return ((a - share @ a).T * share) @ (b - share @ b)


@pytest.mark.parametrize("k", [1, 3])
def test_leace_equals_the_formula_of_the_paper(k):
    h, z, weights = _features(k=k)
    found = leace_projection(h, z, weights)
    W = np.linalg.inv(np.real(sqrtm(_cov(h, h, weights))))
    M = W @ _cov(h, z, weights)
    onto = M @ np.linalg.pinv(M)
    np.testing.assert_allclose(found.matrix, np.eye(6) - np.linalg.inv(W) @ onto @ W, atol=1e-8)
    np.testing.assert_allclose(found.mean, np.average(h, axis=0, weights=weights))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 2))
def test_leace_erases_changes_nothing_twice_and_survives_dead_units(seed, k, dead):
    h, z, weights = _features(k=k, seed=seed)
    h = np.concatenate([h, np.full((len(h), dead), 0.5), h[:, :dead]], axis=1)  # dead, copied
    found = leace_projection(h, 1e-3 * z, weights, svd_tol=0.0)
    after = found(h)
    scale = h.std() * np.abs(z).max()
    np.testing.assert_allclose(_cov(after, z, weights), 0.0, atol=1e-9 * scale)
    np.testing.assert_allclose(found.matrix @ found.matrix, found.matrix, atol=1e-7)
    np.testing.assert_allclose(np.average(after, axis=0, weights=weights), found.mean, rtol=1e-9)
    before = np.trace(_cov(h, h, weights))
    assert np.trace(_cov(after, after, weights)) <= before * (1 + 1e-9)


def test_leace_moves_features_less_than_any_other_affine_erasure():
    h, z, weights = _features()
    ours = leace_projection(h, z, weights)
    cost = np.average(((ours(h) - h) ** 2).sum(axis=1), weights=weights)
    rng = np.random.default_rng(1)
    share = weights / weights.sum()
    gone = np.linalg.svd(_cov(h, z, weights))[0][:, 2:]  # what is orthogonal to the covariance
    for _ in range(20):
        # ours plus any map of the erased features that keeps the covariance with z at zero
        other = ours.matrix + 0.05 * rng.normal(size=(6, 4)) @ gone.T
        moved = (h - share @ h) @ (other - np.eye(6)).T
        np.testing.assert_allclose(_cov(h @ other.T, z, weights), 0.0, atol=1e-9)
        assert np.average((moved**2).sum(axis=1), weights=weights) > cost


def test_a_concept_that_is_mere_noise_is_left_alone():
    rng = np.random.default_rng(0)
    h, noise = rng.normal(size=(100_000, 3)), rng.normal(size=(100_000, 1))
    np.testing.assert_array_equal(leace_projection(h, noise, svd_tol=0.05).matrix, np.eye(3))
    np.testing.assert_array_equal(leace_projection(h, np.ones((100_000, 1))).matrix, np.eye(3))


def test_one_round_of_inlp_removes_the_direction_of_a_linear_regression():
    h, z, weights = _features(k=1)
    found = inlp_projection(h, z, 1, weights, ridge=0.0)
    w = LinearRegression().fit(h, z, sample_weight=weights).coef_[0]
    expected = np.eye(6) - np.outer(w, w) / (w @ w)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-8)


def test_rounds_of_inlp_remove_one_direction_each_until_nothing_is_left():
    h, z, weights = _features(k=1)
    unexplained = []
    for number in range(1, 8):
        matrix = inlp_projection(h, z, number, weights, ridge=1e-6).matrix
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
        np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-8)
        assert round(np.trace(matrix)) == max(6 - number, 0)
        if number < 6:
            fit = LinearRegression().fit(h @ matrix, z, sample_weight=weights)
            unexplained.append(1 - fit.score(h @ matrix, z, sample_weight=weights))
    assert np.all(np.diff(unexplained) > -1e-9) and unexplained[-1] > unexplained[0]


@pytest.mark.parametrize("erase", [leace_projection, inlp_projection])
def test_fold_equals_the_hook(erase):
    h, z, weights = _features(d=9)
    projection = erase(h, z, weights=weights)
    rng = np.random.default_rng(3)
    W, b = (rng.normal(size=size).astype(np.float32) for size in ((9, 4), (4,)))
    kernel, bias = fold(jnp.asarray(W), jnp.asarray(b), projection)
    x = rng.normal(size=(50, 9))
    np.testing.assert_allclose(x @ kernel + bias, projection(x) @ W + b, atol=1e-5)
    assert kernel.dtype == bias.dtype == np.float32


def test_bad_data_names_the_cure():
    h, z, weights = _features(n=20)
    for bad, message in (
        ((h * np.nan, z), "not finite"),
        ((h, z, 0 * weights), "at least one above 0"),
        ((h, z, -weights), "not negative"),
    ):
        with pytest.raises(ValueError, match=message):
            leace_projection(*bad)
    with pytest.raises(ValueError, match="at least 1"):
        inlp_projection(h, z, 0)


def test_log_odds_of_the_terms_come_from_training_counts():
    train = biased.data().roles["train"]
    groups = np.concatenate([np.eye(4), np.zeros((1, 4)), [[1.0, 0, 1, 0]]])
    found = concept_of(biased.task(), groups, "log-odds")[:, 0]
    overall = np.log((train.label.sum() + 1) / ((1 - train.label).sum() + 1))
    expected = []
    for term in range(4):
        label = train.label[train.groups[:, term] == 1]
        expected.append(np.log((label.sum() + 1) / ((1 - label).sum() + 1)) - overall)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-12)
    assert found[4] == 0.0 and found[0] > 1.0 and found[3] < -0.5
    np.testing.assert_allclose(found[5], found[0] + found[2])
    np.testing.assert_array_equal(concept_of(biased.task(), groups, "one-hot"), groups)
    with pytest.raises(ValueError, match="unknown concept 'sum'; choose one of"):
        concept_of(biased.task(), groups, "sum")


def test_the_data_of_the_fit_are_layer_inputs_with_concept_and_label_uncorrelated():
    task = biased.task()
    h, z, weights = fitting_data(task, "log-odds")
    params, x = biased.subject_params(), np.asarray(task.roles["reward"].x)
    means = np.asarray(params["embedding"]["embedding"])[x].mean(axis=1)  # nothing is padded
    hidden = np.maximum(means @ np.asarray(params["fc1"]["kernel"]) + params["fc1"]["bias"], 0)
    np.testing.assert_allclose(h, hidden, atol=1e-5)
    y = task.roles["reward"].label[:, None].astype(float)
    assert abs(_cov(z, y, weights)[0, 0]) < 1e-7
    assert abs(_cov(z[:400], y[:400], np.ones(400))[0, 0]) > 0.05  # as the comments come


@pytest.mark.parametrize("editor", [LEACE(), LEACE("one-hot"), INLP(2, ridge=1.0)])
def test_the_edit_is_the_hook_and_changes_kernel_and_bias_alone(editor):
    task = biased.task()
    result = editor.edit(task, KEY)
    assert isinstance(editor, Editor)
    assert biased.changed(result.params) == {"fc2/kernel", "fc2/bias"}
    assert result.cost.reward_evaluations == result.cost.gradient_steps == 0
    params = biased.subject_params()
    x = jnp.asarray(task.roles["test"].x)
    h = result.trace(layer_inputs(task.subject, "fc2/kernel", x))
    for name in ("fc2", "head"):
        h = np.asarray(h) @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        h = np.maximum(h, 0) if name == "fc2" else h
    np.testing.assert_allclose(task.subject.apply(result.params, x), h, atol=1e-4)


def test_leace_mitigates_bias():
    result = LEACE().edit(biased.task(), KEY)
    assert biased.dispersion(result.params) < 0.5 * biased.dispersion(biased.subject_params())
    assert biased.accuracy(result.params) > 0.68  # cues alone: 0.74 at most


@pytest.mark.parametrize("site", ["fc2/kernel", ("fc2/kernel", "fc2/bias"), "fc2/*"])
def test_layer_of_a_site(site):
    assert dense_layer(biased.task(site)) == ("fc2/kernel", "fc2/bias")


def test_sites_that_are_no_dense_layer_name_the_cure():
    for site in (("fc1/kernel", "fc2/kernel"), "fc2/bias"):
        with pytest.raises(ValueError, match=r"has [02] matrices: choose a site such as"):
            LEACE().edit(biased.task(site), KEY)
    with pytest.raises(ValueError, match="has no leaf 'embedding/bias'"):
        LEACE().edit(biased.task("embedding/embedding"), KEY)
    x = jnp.asarray(biased.task().roles["test"].x)
    with pytest.raises(ValueError, match=r"not one \[N, 11\] matrix: choose the kernel of a dense"):
        layer_inputs(biased.task().subject, "embedding/embedding", x)
    with pytest.raises(ValueError, match="has no comments with identity terms"):
        LEACE().edit(tiny.task(), KEY)
