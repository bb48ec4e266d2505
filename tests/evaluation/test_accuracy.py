import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.evaluation import accuracy as module

# One program each: operations one by one would be some thirty for every shape.
accuracy, cross_entropy = jax.jit(module.accuracy), jax.jit(module.cross_entropy)
true_class_probability = jax.jit(module.true_class_probability)
true_class_probabilities = jax.jit(module.true_class_probabilities)
correct, weighted_mean = jax.jit(module.correct), jax.jit(module.weighted_mean)
confusion_matrix = jax.jit(module.confusion_matrix, static_argnums=2)

N, C = 200, 7


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(N, C)).astype(np.float32)
    labels = rng.integers(C, size=N).astype(np.int32)
    weights = rng.uniform(0.1, 3.0, size=N).astype(np.float32)
    return logits, labels, weights


def test_accuracy_matches_scikit_learn(case):
    logits, labels, weights = case
    expected = sklearn.metrics.accuracy_score(labels, logits.argmax(-1), sample_weight=weights)
    np.testing.assert_allclose(accuracy(*map(jnp.asarray, case)), expected, rtol=1e-6)


def test_cross_entropy_matches_scikit_learn(case):
    logits, labels, weights = case
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    expected = sklearn.metrics.log_loss(
        labels, probabilities, sample_weight=weights, labels=range(C)
    )
    np.testing.assert_allclose(cross_entropy(*map(jnp.asarray, case)), expected, rtol=1e-5)


def test_true_class_probability_matches_scipy(case):
    logits, labels, weights = case
    own = scipy.special.softmax(logits.astype(np.float64), axis=-1)[np.arange(N), labels]
    actual = true_class_probability(*map(jnp.asarray, case))
    np.testing.assert_allclose(actual, np.average(own, weights=weights), rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_confusion_matrix_matches_scikit_learn(case, weighted):
    logits, labels, weights = case
    expected = sklearn.metrics.confusion_matrix(
        labels, logits.argmax(-1), labels=range(C), sample_weight=weights if weighted else None
    )
    actual = confusion_matrix(
        jnp.asarray(logits), jnp.asarray(labels), C, jnp.asarray(weights) if weighted else None
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_confusion_matrix_can_have_more_classes_than_logits_but_not_fewer(case):
    logits, labels, _ = map(jnp.asarray, case)
    wide = confusion_matrix(logits, labels, C + 2)
    wide = np.asarray(wide)
    np.testing.assert_array_equal(wide[:C, :C], confusion_matrix(logits, labels, C))
    assert float(wide[C:].sum() + wide[:, C:].sum()) == 0
    with pytest.raises(ValueError, match="num_classes=6 is less than the 7 logits"):
        confusion_matrix(logits, labels, C - 1)


def test_ties_go_to_the_first_class_as_in_numpy():
    ties = [[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.0, -0.0, -1.0]]
    logits = jnp.asarray(np.float32(ties))
    first = np.argmax(np.asarray(logits), axis=-1).astype(np.int32)
    np.testing.assert_array_equal(first, [0, 1, 0, 0])
    ones = jnp.ones(4)
    assert float(accuracy(logits, jnp.asarray(first), ones)) == 1
    assert float(accuracy(logits, jnp.asarray(first + 1), ones)) == 0
    np.testing.assert_array_equal(
        confusion_matrix(logits, jnp.asarray(first), 3), np.diag([3.0, 1.0, 0.0])
    )


@pytest.mark.parametrize("name", ["accuracy", "true_class_probability", "cross_entropy"])
def test_leading_axes_equal_single_calls_under_jit_and_vmap(case, name):
    metric, (_, labels, weights) = getattr(module, name), map(jnp.asarray, case)
    logits = np.random.default_rng(1).normal(size=(2, 3, N, C)).astype(np.float32)

    @jax.jit
    def both(logits):
        mapped = jax.vmap(jax.vmap(metric, (0, None, None)), (0, None, None))
        return metric(logits, labels, weights), mapped(logits, labels, weights)

    together, mapped = map(np.asarray, both(jnp.asarray(logits)))
    assert together.shape == (2, 3) and together.dtype == jnp.float32
    np.testing.assert_allclose(together, mapped, rtol=1e-6)
    alone = metric(jnp.asarray(logits[1, 2]), labels, weights)  # without jit
    np.testing.assert_allclose(together[1, 2], alone, rtol=1e-6)


def test_confusion_matrix_takes_leading_axes(case):
    _, labels, weights = map(jnp.asarray, case)
    logits = np.random.default_rng(2).normal(size=(3, N, C)).astype(np.float32)
    batched = np.asarray(confusion_matrix(jnp.asarray(logits), labels, C, weights))
    assert batched.shape == (3, C, C)
    single = confusion_matrix(jnp.asarray(logits[1]), labels, C, weights)
    np.testing.assert_allclose(batched[1], single, rtol=1e-6)


def test_half_precision_logits_are_read_in_float32(case):
    logits, labels, weights = map(jnp.asarray, case)
    half = logits.astype(jnp.bfloat16)
    loss = cross_entropy(half, labels, weights)
    assert loss.dtype == jnp.float32
    assert float(loss) == float(cross_entropy(half.astype(jnp.float32), labels, weights))


def test_extreme_logits_stay_finite():
    logits = jnp.array([[1e30, -1e30], [-1e30, 1e30]])
    labels, weights = jnp.array([0, 1]), jnp.ones(2)
    assert float(cross_entropy(logits, labels, weights)) == 0
    assert float(true_class_probability(logits, labels, weights)) == 1


def test_padding_has_no_influence_even_if_not_finite(case):
    logits, labels, weights = case
    padded = np.concatenate([logits, np.full((5, C), np.nan, np.float32)])
    padded_labels = np.concatenate([labels, np.zeros(5, np.int32)])
    padded_weights = np.concatenate([weights, np.zeros(5, np.float32)])
    for metric in (accuracy, true_class_probability, cross_entropy):
        np.testing.assert_allclose(
            metric(*map(jnp.asarray, (padded, padded_labels, padded_weights))),
            metric(*map(jnp.asarray, case)),
            rtol=1e-6,
        )


def test_empty_set_has_no_mean():
    assert np.isnan(weighted_mean(jnp.ones(4), jnp.zeros(4)))


def test_counts_beyond_half_precision_are_exact():
    # 4,097 ones would round in a bfloat16 or float16 accumulator.
    values = jnp.ones(4097, jnp.bfloat16)
    assert float(weighted_mean(values, jnp.ones(4097, jnp.bfloat16))) == 1


@settings(deadline=None, max_examples=25)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    scale=st.floats(0.125, 8, width=32),
)
def test_weighted_mean_is_bounded_and_scale_free(values, scale):
    fill = 20 - len(values)  # of no weight, so that all examples are one program
    array = jnp.asarray([*values, *[np.nan] * fill], jnp.float32)
    weights = np.asarray([*range(1, len(values) + 1), *[0] * fill], np.float32)
    mean = float(weighted_mean(array, jnp.asarray(weights)))
    slack = 1e-4 * (1 + max(map(abs, values)))
    assert min(values) - slack <= mean <= max(values) + slack
    assert mean == pytest.approx(
        float(weighted_mean(array, jnp.asarray(np.float32(scale) * weights))), abs=slack
    )
    assert mean == pytest.approx(np.average(values, weights=weights[: len(values)]), abs=slack)


def test_correct_is_argmax_whatever_the_logits():
    """Ties, infinities and NaN, against NumPy's argmax row by row."""
    rng = np.random.default_rng(0)
    logits = rng.choice([-np.inf, -1.0, 0.0, 2.0, np.inf, np.nan], size=(4000, 4)).astype(
        np.float32
    )
    labels = rng.integers(4, size=4000).astype(np.int32)
    found = correct(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_array_equal(found, np.argmax(logits, axis=-1) == labels)


def test_probabilities_of_distant_logits_and_their_gradients_are_finite():
    distant = [[0.0, 200.0], [200.0, 0.0], [3e38, -3e38], [-3e38, 3e38], [1.0, 2.0]]
    logits, labels = jnp.asarray(np.float32(distant)), jnp.zeros(5, jnp.int32)
    found = np.asarray(true_class_probabilities(logits, labels))
    expected = [0.0, 1.0, 1.0, 0.0, 1 / (1 + np.e)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
    gradient = jax.jit(jax.grad(lambda z: true_class_probabilities(z, labels).sum()))(logits)
    gradient = np.asarray(gradient)
    own = found[-1] * (1 - found[-1])
    np.testing.assert_allclose(gradient[-1], [own, -own], rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_a_label_without_a_logit_has_no_probability_and_is_never_correct():
    logits, labels = jnp.array([[1.0, 2.0]] * 3), jnp.array([1, 2, -1])
    found = true_class_probabilities(logits, labels)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    np.testing.assert_array_equal(correct(logits, labels), [True, False, False])


def test_accuracies_of_named_sets_are_those_of_each(rng):
    logits, labels = rng.normal(size=(3, 20, 4)).astype(np.float32), rng.integers(0, 4, 20)
    weights = {"retain": rng.uniform(size=20), "forget": np.arange(20) % 2, "none": np.zeros(20)}
    found = module.accuracies(*jax.tree.map(jnp.asarray, (logits, labels, weights)))
    hits = logits.argmax(-1) == labels
    for name in ("retain", "forget"):
        np.testing.assert_allclose(
            found[name], np.average(hits, axis=-1, weights=weights[name]), rtol=1e-6
        )
    assert np.isnan(found["none"]).all()
