import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from modeledit_jax.lifelong.methods.subset_policy import (
    Subset,
    SubsetPolicy,
    dense_mask,
    fixed_mask,
    random_mask,
    selected_count,
    straight_through,
    top_k_mask,
)

_LOGITS = jnp.array([0.5, -1.0, 2.0, 0.1])
_COUNTS = jnp.array([0.3, -0.5, 1.0, 0.0])
_M = len(_LOGITS)


def _ordered(k):
    """Every ordered subset of k modules, as full permutations whose tail has no meaning."""
    heads = list(itertools.permutations(range(_M), k))
    tails = [[i for i in range(_M) if i not in head] for head in heads]
    orders = jnp.array([[*h, *t] for h, t in zip(heads, tails, strict=True)], jnp.int32)
    return Subset(orders, jnp.full(len(heads), k, jnp.int32))


def _brute_force(logits, head):
    """Probability of drawing the modules of ``head`` in turn."""
    weights, probability = np.exp(np.asarray(logits, np.float64)), 1.0
    for i, module in enumerate(head):
        left = [m for m in range(_M) if m not in head[:i]]
        probability *= weights[module] / weights[left].sum()
    return probability


@pytest.mark.parametrize("k", [2, 4])
def test_log_probabilities_are_those_of_all_ordered_subsets(k):
    policy, subsets = SubsetPolicy(_LOGITS, k=k), _ordered(k)
    log_probs = np.asarray(jax.jit(jax.vmap(policy.log_prob))(subsets))
    heads = np.asarray(subsets.order)[:, :k].tolist()
    expected = [_brute_force(_LOGITS, head) for head in heads]
    np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-5)
    entropies = jax.jit(jax.vmap(policy.entropy))(subsets)
    exact = -(np.exp(log_probs) * log_probs).sum()
    np.testing.assert_allclose((np.exp(log_probs) * entropies).sum(), exact, rtol=1e-5)


def test_the_tail_of_an_order_has_no_meaning():
    policy = SubsetPolicy(_LOGITS, k=2)
    a, b = (Subset(jnp.array(o), jnp.int32(2)) for o in ([2, 0, 1, 3], [2, 0, 3, 1]))
    np.testing.assert_allclose(policy.log_prob(a), policy.log_prob(b), rtol=1e-6)
    np.testing.assert_allclose(policy.entropy(a), policy.entropy(b), rtol=1e-6)
    np.testing.assert_array_equal(a.mask(), b.mask())


def test_a_learned_count_is_part_of_the_action():
    policy = SubsetPolicy(_LOGITS, _COUNTS)
    log_prob, entropy = jax.jit(jax.vmap(policy.log_prob)), jax.jit(jax.vmap(policy.entropy))
    probabilities = [np.exp(log_prob(_ordered(k))) for k in (1, 2, 3, 4)]
    counts = jax.nn.softmax(_COUNTS)
    np.testing.assert_allclose([p.sum() for p in probabilities], counts, rtol=1e-5)
    joined = np.concatenate(probabilities)
    estimates = np.concatenate([entropy(_ordered(k)) for k in (1, 2, 3, 4)])
    np.testing.assert_allclose((joined * estimates).sum(), -(joined * np.log(joined)).sum(), 1e-5)


def _sample(policy, number):
    keys = jax.random.split(jax.random.key(0), number)
    return jax.jit(jax.vmap(policy.sample))(keys)


def test_samples_have_the_probabilities_they_claim():
    policy, subsets = SubsetPolicy(_LOGITS, k=2), _ordered(2)
    drawn = _sample(policy, 4_000)
    code = np.asarray(drawn.order)[:, :2] @ [_M, 1]
    codes = np.asarray(subsets.order)[:, :2] @ [_M, 1]
    observed = [(code == c).sum() for c in codes]
    expected = np.exp(jax.vmap(policy.log_prob)(subsets)).astype(np.float64)
    assert stats.chisquare(observed, expected / expected.sum() * 4_000).pvalue > 1e-3


def test_sampled_counts_have_the_probabilities_they_claim():
    drawn = _sample(SubsetPolicy(_LOGITS, _COUNTS), 4_000)
    masks = np.asarray(jax.vmap(Subset.mask)(drawn))
    np.testing.assert_array_equal(masks.sum(-1), drawn.count)
    observed = np.bincount(drawn.count, minlength=_M + 1)[1:]
    expected = np.asarray(jax.nn.softmax(_COUNTS), np.float64)
    assert stats.chisquare(observed, expected / expected.sum() * 4_000).pvalue > 1e-3


def test_the_mode_has_the_largest_logits():
    np.testing.assert_array_equal(SubsetPolicy(_LOGITS, k=2).mode().mask(), [1, 0, 1, 0])
    mode = SubsetPolicy(_LOGITS, _COUNTS).mode()
    assert mode.count == 3
    np.testing.assert_array_equal(mode.mask(), [1, 0, 1, 1])


def test_score_function_gradient_is_that_of_the_expected_reward():
    reward = jnp.array([1.0, 0.0, -2.0, 3.0])
    subsets = _ordered(2)
    rewards = jax.vmap(Subset.mask)(subsets) @ reward

    def expected(logits):
        return (jnp.exp(jax.vmap(SubsetPolicy(logits, k=2).log_prob)(subsets)) * rewards).sum()

    def surrogate(logits):
        log_probs = jax.vmap(SubsetPolicy(logits, k=2).log_prob)(subsets)
        return (jax.lax.stop_gradient(jnp.exp(log_probs)) * log_probs * (rewards - 7.0)).sum()

    exact, score = jax.jit(lambda z: (jax.grad(expected)(z), jax.grad(surrogate)(z)))(_LOGITS)
    np.testing.assert_allclose(score, exact, rtol=1e-4, atol=1e-5)


def test_straight_through_is_a_mask_with_the_gradient_of_its_logits():
    for scale in (1.0, 1e6):  # such scores the released router has
        logits = scale * _LOGITS
        mask = straight_through(logits, 2)
        np.testing.assert_array_equal(mask, [1, 0, 1, 0])
        weights = jnp.arange(4.0)
        gradient = jax.grad(lambda z: (straight_through(z, 2) * weights).sum())(logits)  # noqa: B023
        np.testing.assert_array_equal(gradient, weights)


def test_a_baseline_without_the_mask_changes_nothing_straight_through():
    effect = jnp.array([0.3, -0.2, 0.5, 0.1])

    def loss(logits, baseline):
        return (straight_through(logits, 2) * effect).sum() ** 2 - baseline * (effect.sum() ** 2)

    gradients = [jax.grad(loss)(_LOGITS, baseline) for baseline in (0.0, 1.0)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("k", [1, 4])
def test_masks_have_exactly_k_ones(k):
    keys = jax.random.split(jax.random.key(1), 50)
    random = jax.jit(jax.vmap(lambda key: random_mask(key, 6, k)))(keys)
    sampled = jax.jit(jax.vmap(lambda key: SubsetPolicy(jnp.zeros(6), k=k).sample(key).mask()))(
        keys
    )
    for masks in (random, sampled, top_k_mask(jnp.zeros(6), k)[None]):
        assert set(np.unique(masks)) <= {0.0, 1.0}
        np.testing.assert_array_equal(np.asarray(masks).sum(-1), k)


def test_random_masks_choose_every_module_equally_often():
    keys = jax.random.split(jax.random.key(2), 2000)
    masks = jax.jit(jax.vmap(lambda key: random_mask(key, 6, 2)))(keys)
    np.testing.assert_allclose(np.asarray(masks).mean(0), 2 / 6, atol=0.04)


def test_masks_that_do_not_look():
    np.testing.assert_array_equal(dense_mask(3), [1, 1, 1])
    np.testing.assert_array_equal(fixed_mask([2, 0], 4), [1, 0, 1, 0])
    for wrong in ([0, 0], [4], [-1]):
        with pytest.raises(ValueError, match="different indices"):
            fixed_mask(wrong, 4)


def test_the_count_is_a_fraction_of_the_modules():
    assert [selected_count(f, 12) for f in (0.5, 1.0, 0.01, 1 / 3)] == [6, 12, 1, 4]
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="fraction"):
            selected_count(wrong, 12)
