import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from modeledit_jax.evaluation import ranking
from modeledit_jax.evaluation.auc import auc as plain_auc
from modeledit_jax.evaluation.auc import average_equality_gaps as equality_gaps
from modeledit_jax.evaluation.auc import group_aucs as eager_group_aucs

auc, group_aucs = jax.jit(plain_auc), jax.jit(eager_group_aucs)
average_equality_gaps = jax.jit(equality_gaps)

T = 5
CELLS = ("overall", "subgroup", "bpsn", "bnsp")


def sample(n, seed, ties=None, terms=T, rate=0.3):
    """Scores, labels and overlapping groups; ``ties`` is the number of distinct scores."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    if ties is not None:
        scores = np.round(scores * ties / 6) * 6 / ties  # zeros come with both signs
    groups = (rng.random((n, terms)) < rate).astype(np.float32)
    return scores.astype(np.float32), rng.integers(0, 2, n).astype(np.int32), groups


def reference_auc(scores, label, keep, weights=None):
    """scikit-learn's AUC of the kept examples, NaN without both labels."""
    if len(np.unique(label[keep])) < 2:
        return np.nan
    weights = None if weights is None else weights[keep]
    return roc_auc_score(label[keep], scores[keep].astype(np.float64), sample_weight=weights)


def reference(scores, label, groups, weights=None):
    """All AUCs, every one computed on its own subset of examples."""
    counted = np.isin(label, (0, 1)) if weights is None else np.isin(label, (0, 1)) & (weights > 0)

    def cells(cell):
        return [reference_auc(scores, label, counted & cell(g > 0), weights) for g in groups.T]

    return {
        "overall": reference_auc(scores, label, counted, weights),
        "subgroup": cells(lambda inside: inside),
        "bpsn": cells(lambda inside: inside == (label == 0)),
        "bnsp": cells(lambda inside: inside == (label == 1)),
    }


def assert_aucs(actual, expected, atol=1e-6):
    for name in CELLS:
        np.testing.assert_allclose(
            getattr(actual, name), expected[name], rtol=0, atol=atol, err_msg=name
        )


def arrays(*values):
    return [jnp.asarray(value) for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 64, 200])
@pytest.mark.parametrize("ties", [None, 12])
def test_all_cells_match_scikit_learn(n, ties):
    data = sample(n, seed=n, ties=ties)
    assert_aucs(group_aucs(*arrays(*data)), reference(*data))


def test_negative_zero_ties_with_zero():
    scores = np.array([-0.0, 0.0, 0.0, -0.0, 1.0], np.float32)
    label = np.array([1, 0, 1, 0, 1], np.int32)
    # Four ties and two wins of six pairs.
    np.testing.assert_allclose(auc(*arrays(scores, label)), 4 / 6, atol=1e-7)
    np.testing.assert_allclose(auc(*arrays(-scores, label)), 2 / 6, atol=1e-7)


def test_order_of_extreme_scores():
    tiny = np.finfo(np.float32).smallest_subnormal
    huge = np.finfo(np.float32).max
    ascending = np.array([-huge, -1, -1e-30, -tiny, 0, tiny, 1e-30, 1, 2, huge], np.float32)
    shuffled = np.random.default_rng(0).permutation(len(ascending))
    result = jax.jit(ranking.rank)(jnp.asarray(ascending[shuffled]), jnp.ones(len(ascending), bool))
    np.testing.assert_array_equal(shuffled[result.order[: len(ascending)]], range(len(ascending)))
    np.testing.assert_array_equal(result.first[: len(ascending)], range(len(ascending)))


def test_a_constant_score_gives_one_half():
    _, label, groups = sample(200, seed=3)
    result = group_aucs(*arrays(np.full(200, -2.5, np.float32), label, groups))
    for name in CELLS:
        np.testing.assert_allclose(getattr(result, name), 0.5, atol=1e-7)


def test_empty_cells_are_nan_and_leave_the_others_alone():
    scores, label, groups = sample(200, seed=4)
    groups[:, 0] = 0  # nobody
    groups[:, 1] = 1  # everybody: no background
    groups[label == 1, 2] = 0  # a group without positives
    result = group_aucs(*arrays(scores, label, groups))
    assert_aucs(result, reference(scores, label, groups))
    np.testing.assert_array_equal(np.isnan(result.subgroup), [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(np.isnan(result.bpsn), [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(result.bnsp), [1, 1, 1, 0, 0])
    gaps = average_equality_gaps(*arrays(scores, label, groups))
    np.testing.assert_array_equal(np.isnan(gaps.positive), [1, 1, 1, 0, 0])
    one_class = group_aucs(*arrays(scores, np.zeros_like(label), groups))
    assert all(np.isnan(getattr(one_class, name)).all() for name in CELLS)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_non_finite_score_that_counts_makes_everything_nan(bad):
    scores, label, groups = sample(200, seed=5)
    scores[7] = bad
    for result in (group_aucs, average_equality_gaps):
        leaves = jax.tree.leaves(result(*arrays(scores, label, groups)))
        assert all(np.isnan(leaf).all() for leaf in leaves)
    keep = np.arange(200) != 7
    expected = reference(scores[keep], label[keep], groups[keep])
    padding = jnp.asarray(keep.astype(np.float32))
    assert_aucs(group_aucs(*arrays(scores, label, groups), padding), expected)
    label[7] = -1  # without a label it does not count either
    assert_aucs(group_aucs(*arrays(scores, label, groups)), expected)


@pytest.mark.parametrize("ties", [None, 8])
def test_weights_match_scikit_learn(ties):
    scores, label, groups = sample(200, seed=6, ties=ties)
    weights = np.random.default_rng(6).choice([0.0, 0.3, 1.0, 2.5], 200).astype(np.float32)
    expected = reference(scores, label, groups, weights)
    assert_aucs(group_aucs(*arrays(scores, label, groups, weights)), expected)
    np.testing.assert_allclose(auc(*arrays(scores, label, weights)), expected["overall"], atol=1e-6)


@pytest.mark.parametrize("kept", [3, 15_000])
def test_a_tiny_background_or_group_is_exact(kept):
    # All minus the group leaves 3 of 15,003 examples: a float32 difference of shares would be off.
    n = 15_003
    scores, label, _ = sample(n, seed=7)
    groups = (np.arange(n)[:, None] < n - kept).astype(np.float32)
    label[:3], label[-3:] = (0, 1, 1), (1, 0, 1)
    assert_aucs(group_aucs(*arrays(scores, label, groups)), reference(scores, label, groups), 3e-7)


@pytest.mark.slow
def test_77_thousand_examples_match_scikit_learn():
    scores, label, groups = sample(77_000, seed=8, terms=2)
    scores = np.round(scores + 0.4 * label, 3).astype(np.float32)
    assert_aucs(group_aucs(*arrays(scores, label, groups)), reference(scores, label, groups), 3e-7)


@pytest.mark.parametrize("ties", [None, 10])
def test_equality_gaps_match_all_pairs(ties):
    scores, label, groups = sample(200, seed=9, ties=ties)
    gaps = average_equality_gaps(*arrays(scores, label, groups))
    for value, actual in ((1, gaps.positive), (0, gaps.negative)):
        for t in range(T):
            own = scores[(label == value) & (groups[:, t] == 1)][:, None].astype(np.float64)
            rest = scores[(label == value) & (groups[:, t] == 0)][None]
            expected = np.mean((own > rest) + 0.5 * (own == rest)) - 0.5
            np.testing.assert_allclose(actual[t], expected, atol=1e-6)


def test_a_group_that_is_scored_higher_has_a_positive_gap():
    rows = np.arange(12)
    scores, label, groups = arrays(
        np.float32(2 - (rows >= 6)), rows % 2, np.float32(rows < 6)[:, None]
    )
    gaps = average_equality_gaps(scores, label, groups)
    assert float(gaps.positive[0]) == float(gaps.negative[0]) == 0.5
    # Such a group suffers false positives: its negatives lie above the background's positives.
    result = group_aucs(scores, label, groups)
    assert float(result.bpsn[0]) == 0 and float(result.bnsp[0]) == 1


SCORES = st.lists(st.integers(-20, 20), min_size=12, max_size=12)
LABELS = st.lists(st.integers(0, 1), min_size=12, max_size=12)


@settings(deadline=None, max_examples=25)
@given(SCORES, LABELS, st.integers(0, 2**12 - 1))
def test_properties(scores, label, members):
    scores, label = np.float32(scores), np.int32(label)
    groups = np.float32([[members >> i & 1] for i in range(12)])

    def aucs(scores, label):
        return jax.device_get(group_aucs(*arrays(scores, label, groups)))

    result = aucs(scores, label)
    for monotone in (scores + 7.25, np.exp(scores / 4), 3 * scores):
        chex.assert_trees_all_equal(aucs(monotone, label), result)
    swapped = aucs(scores, 1 - label)
    np.testing.assert_allclose(swapped.overall, 1 - result.overall, atol=1e-6)
    np.testing.assert_allclose(swapped.subgroup, 1 - result.subgroup, atol=1e-6)
    # With the labels swapped, the subgroup's negatives are its positives.
    np.testing.assert_allclose(swapped.bpsn, 1 - result.bnsp, atol=1e-6)
    np.testing.assert_allclose(auc(*arrays(-scores, label)), 1 - result.overall, atol=1e-6)


@pytest.mark.slow
def test_batches_and_jit_agree_with_single_calls():
    _, label, groups = sample(200, seed=10)
    scores = np.round(np.random.default_rng(10).normal(size=(5, 200)), 1).astype(np.float32)
    scores[3, 4] = np.nan
    scores, label, groups = arrays(scores, label, groups)
    single = jax.tree.map(lambda *x: np.stack(x), *[group_aucs(z, label, groups) for z in scores])

    @jax.jit
    def batch(z):
        def one(row):
            return eager_group_aucs(row, label, groups)

        return jax.vmap(one)(z), jax.lax.map(one, z, batch_size=2)

    for result in batch(scores):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result, single)
    eager = eager_group_aucs(scores[0], label, groups)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-6), eager, single)


@pytest.mark.parametrize("n", [1, 64, 4097, 70_000])
def test_argsort_is_numpys(n):
    # 70,000 places take 17 bits, so that the 32 bits of a key are sorted in three passes.
    keys = np.random.default_rng(n).integers(0, 2**32, n, dtype=np.uint32)
    keys[n // 2 :] = keys[: n - n // 2]
    order = jax.jit(ranking._argsort)(jnp.asarray(keys))
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))
