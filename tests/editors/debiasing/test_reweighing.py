"""Weights and additions against counts; retraining with them removes what terms tell."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modeledit_jax.editors.debiasing.reweighing import (
    RetrainWith,
    additions,
    dixon_weights,
    group_of,
    one_sided,
    reweighing_weights,
)
from modeledit_jax.editors.editor import Editor
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.subjects.training import TrainingConfig
from tests import tiny
from tests.editors import biased

KEY = jax.random.key(0)


def _drawn(seed, size, terms=3):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, size).astype(np.int32)
    return label, (rng.random((size, terms)) < 0.3).astype(np.float32)


def test_reweighing_by_hand():
    label = np.array([1, 1, 1, 0, 0, 1, 0, 0], np.int32)
    groups = np.array([[1], [1], [1], [1], [0], [0], [0], [0]], np.float32)
    # n = 8, four of each group and label: 4·4/(8·3) and 4·4/(8·1).
    expected = [2 / 3, 2 / 3, 2 / 3, 2, 2 / 3, 2, 2 / 3, 2 / 3]
    np.testing.assert_allclose(reweighing_weights(label, groups), expected, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(40, 80))
def test_reweighing_makes_groups_and_label_independent(seed, size):
    label, groups = _drawn(seed, size)
    weights = reweighing_weights(label, groups).astype(float)
    group, single = group_of(groups), one_sided(label, groups)
    assert np.all(np.isfinite(weights)) and np.all(weights > 0)
    for g in np.unique(group):
        own = group == g
        if len(set(label[own])) == 1:
            assert set(np.flatnonzero(own)) <= set(single)
        else:
            share = np.average(label[own], weights=weights[own])
            np.testing.assert_allclose(share, label.mean(), atol=1e-6)
            np.testing.assert_allclose(weights[own].sum(), own.sum(), rtol=1e-5)
            assert not set(np.flatnonzero(own)) & set(single)
    if not len(single):
        np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(float, 4, elements=st.integers(0, 200)),
    hnp.arrays(float, 4, elements=st.integers(0, 200)),
    st.floats(0.05, 0.95),
)
def test_additions_give_a_term_the_overall_share(toxic, harmless, share):
    lacking = additions(toxic, harmless, share)
    for t, n, a in zip(toxic, harmless, lacking, strict=True):
        if n >= share * (t + n):
            assert a == pytest.approx(0.0, abs=1e-9)
        else:
            assert (n + a) / (t + n + a) == pytest.approx(share)


def test_additions_need_toxic_comments():
    with pytest.raises(ValueError, match="give some toxic ones"):
        additions(np.array([1.0]), np.array([1.0]), 1.0)


@pytest.mark.parametrize("stratified", [False, True])
def test_dixon_weights_give_every_term_the_overall_share(stratified):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 600).astype(np.int32)
    term = np.where(rng.random(600) < 0.3 + 0.4 * label, 0, 1)
    groups = np.eye(3, dtype=np.float32)[np.where(rng.random(600) < 0.5, term, 2)][:, :2]
    strata = rng.integers(0, 2, 600) if stratified else None
    weights = dixon_weights(label, groups, strata)
    share = np.mean(label == 0)
    assert np.all(weights[label == 1] == 1) and np.all(weights[groups.sum(axis=1) == 0] == 1)
    for stratum in (0, 1) if stratified else (None,):
        own = np.ones(600, bool) if stratum is None else strata == stratum
        first, second = (own & (groups[:, t] == 1) for t in (0, 1))
        harmless = np.average(label[first] == 0, weights=weights[first])
        np.testing.assert_allclose(harmless, share, rtol=1e-5)
        assert np.all(weights[second] == 1)  # harmless enough as it is: Dixon only adds


def test_a_term_without_harmless_comments_keeps_its_weights():
    label, groups = np.array([1, 1, 0, 0], np.int32), np.eye(4, dtype=np.float32)[:, :2]
    np.testing.assert_array_equal(dixon_weights(label, groups), 1.0)


def _recorder(module, examples, config, key, weights):
    return {"weights": weights, "x": examples.x, "y": examples.y}


def test_retraining_hands_over_examples_and_weights():
    subject = Subject(biased.subject_params(), lambda params, x: jnp.zeros((len(x), 1)))
    task = replace(biased.task(), subject=subject)  # its network takes whatever it is given
    train = biased.data().roles["train"]

    def weights(rule):
        editor = RetrainWith(biased.MODULE, weights=rule, train=_recorder)
        found = editor.edit(task, KEY).params
        np.testing.assert_array_equal(found["x"], train.tokens)
        np.testing.assert_array_equal(found["y"], train.label)
        return found["weights"]

    label, groups = train.label, train.groups
    np.testing.assert_array_equal(weights(None), 1.0)
    np.testing.assert_array_equal(weights("reweighing"), reweighing_weights(label, groups))
    np.testing.assert_array_equal(weights("dixon"), dixon_weights(label, groups))
    np.testing.assert_array_equal(weights(lambda label, groups: 2.0 * label), 2.0 * label)
    assert len({tuple(np.unique(weights(rule))) for rule in (None, "reweighing", "dixon")}) == 3


def test_bad_input_names_the_cure():
    with pytest.raises(ValueError, match="unknown weights 'equal'; choose one of reweighing"):
        RetrainWith(biased.MODULE, weights="equal").edit(biased.task(), KEY)
    with pytest.raises(ValueError, match="has no comments with identity terms"):
        RetrainWith(biased.MODULE).edit(tiny.task(), KEY)


@pytest.mark.slow
def test_balanced_data_remove_the_bias_and_another_seed_does_not():
    task, before = biased.task(), biased.dispersion(biased.subject_params())
    runs = {
        rule: RetrainWith(biased.MODULE, biased.CONFIG, rule).edit(task, jax.random.key(5))
        for rule in (None, "reweighing", dixon_weights)
    }
    dispersion = {rule: biased.dispersion(run.params) for rule, run in runs.items()}
    assert dispersion[None] > 0.6 * before
    assert dispersion["reweighing"] < 0.25 * before
    assert dispersion[dixon_weights] < 0.8 * before  # treats two of the four terms
    run = runs[None]
    assert run.cost.gradient_steps == 12 * (1200 // 64) and run.cost.reward_evaluations == 0
    assert isinstance(RetrainWith(biased.MODULE), Editor)


def test_further_comments_are_trained_on():
    """As many steps as the examples take, and what is added is learned."""
    task = biased.task()
    sizes = biased.SIZES["train"]
    editor = RetrainWith(biased.MODULE, TrainingConfig(epochs=2, batch_size=20))
    for added, number in (
        (None, 0),
        ("sentences", 60),
        ("counterfactuals", task.roles["reward"].targets.blocks.size),
    ):
        own = replace(editor, added=added)
        x, label, groups = own._examples(task)
        assert len(x) == len(label) == len(groups) == sizes + number
        assert own.edit(task, KEY).cost.gradient_steps == 2 * (len(x) // 20)
    x, label, _ = replace(editor, added="counterfactuals")._examples(task)
    blocks = task.roles["reward"].targets.blocks
    np.testing.assert_array_equal(x[sizes:], task.roles["reward"].x[blocks.reshape(-1)])
    np.testing.assert_array_equal(label[sizes:], task.roles["reward"].label[blocks.reshape(-1)])
    with pytest.raises(
        ValueError, match="no comments 'more' to add; there are counterfactuals, sen"
    ):
        replace(editor, added="more").edit(task, KEY)
