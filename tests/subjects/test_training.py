"""Training on the digits that scikit-learn carries, and on a few Gaussian clouds."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import split_images
from modeledit_jax.mesh import make_mesh
from modeledit_jax.subjects.image_classifiers import CNN, MLP
from modeledit_jax.subjects.subject import flax_apply
from modeledit_jax.subjects.training import (
    TrainingConfig,
    check_training_examples,
    class_weights,
    cross_entropy,
    train_classifier,
    train_classifiers,
    train_spread,
    train_subjects,
)
from modeledit_jax.types import Examples
from tests import tiny

MODULE = MLP(tiny.CLASSES, (8,))
CONFIG = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-2)
KEYS = jax.random.split(jax.random.key(0), 3)
train_one = jax.jit(train_classifier, static_argnums=(0, 2))


@pytest.fixture(scope="module")
def clouds():
    return jax.tree.map(jnp.asarray, tiny.blobs(50, 0))


@pytest.fixture(scope="module")
def digits():
    return jax.tree.map(jnp.asarray, split_images(load_images("digits")))


@pytest.mark.slow
def test_seeds_side_by_side_equal_one_by_one(clouds):
    weights = jnp.stack([jnp.ones(50), (clouds.y != 1) * 1.0, (clouds.y != 2) * 1.0])
    together = train_classifiers(MODULE, clouds, CONFIG, KEYS, weights)
    in_pairs = train_classifiers(MODULE, clouds, CONFIG, KEYS, weights, at_once=2)
    for index in range(3):
        alone = train_one(MODULE, clouds, CONFIG, KEYS[index], weights[index])
        for several in (together, in_pairs):
            jax.tree.map(
                lambda one, many, i=index: np.testing.assert_allclose(
                    many[i], one, rtol=1e-3, atol=1e-4
                ),
                alone,
                several,
            )


@pytest.mark.slow
def test_same_key_same_bits_and_other_key_other_network(clouds):
    ones = jnp.ones((3, 50))
    first, again = (train_classifiers(MODULE, clouds, CONFIG, KEYS, ones) for _ in range(2))
    chex.assert_trees_all_equal(first, again)
    assert np.all(np.asarray(first["fc1"]["kernel"][0] != first["fc1"]["kernel"][1]))
    default = train_classifiers(MODULE, clouds, CONFIG, KEYS)  # weights are ones
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), first, default)


@pytest.mark.slow
def test_one_full_batch_step_is_adamw_on_the_weighted_mean_loss(clouds):
    """One step of one batch: the order of the examples does not matter."""
    weights = jnp.linspace(0.0, 2.0, 50)
    config = TrainingConfig(epochs=1, batch_size=50, learning_rate=1e-2, weight_decay=0.1)
    key = jax.random.key(7)
    trained = train_one(MODULE, clouds, config, key, weights)

    start = jax.jit(MODULE.init)(jax.random.split(key)[0], clouds.x[:1])["params"]

    def loss(params):
        logits = MODULE.apply({"params": params}, clouds.x)
        own = -jax.nn.log_softmax(logits)[jnp.arange(50), clouds.y]
        return jnp.average(own, weights=weights)

    optimizer = optax.adamw(1e-2, weight_decay=0.1)  # the schedule starts at its peak
    updates, _ = optimizer.update(jax.grad(loss)(start), optimizer.init(start), start)
    expected = optax.apply_updates(start, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), trained, expected
    )


def test_one_logit_is_two_of_which_one_is_zero():
    logit = np.array([-60.0, -2.0, 0.0, 0.3, 60.0], np.float32)
    two = jnp.stack([jnp.zeros(5), logit], axis=1)
    for y in (jnp.zeros(5, jnp.int32), jnp.ones(5, jnp.int32)):
        losses = cross_entropy(jnp.asarray(logit[:, None]), y)
        by_hand = np.logaddexp(0.0, np.where(y == 1, -logit, logit).astype(np.float64))
        np.testing.assert_allclose(losses, by_hand, rtol=1e-6)
        np.testing.assert_allclose(losses, cross_entropy(two, y), rtol=1e-6, atol=1e-7)


def test_the_loss_of_one_logit_is_float32_in_a_network_of_half_precision():
    losses = cross_entropy(jnp.full((2, 1), 6.0, jnp.bfloat16), jnp.array([1, 0]))
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, np.logaddexp(0.0, [-6.0, 6.0]), rtol=1e-6)


@pytest.mark.slow
def test_a_network_of_one_logit_learns(clouds):
    """The class that lies apart from the others, and with weights, its absence."""
    two = Examples(clouds.x, (clouds.y == 1).astype(jnp.int32))
    config = TrainingConfig(epochs=20, batch_size=16, learning_rate=3e-2)
    weights = jnp.stack([jnp.ones(50), (two.y == 0) * 1.0])
    params = train_classifiers(MLP(1, (8,)), two, config, KEYS[:2], weights)
    whole, without = (
        MLP(1, (8,)).apply({"params": jax.tree.map(lambda leaf, i=i: leaf[i], params)}, two.x)
        for i in range(2)
    )
    assert np.mean((whole[:, 0] > 0) == two.y) > 0.95
    assert np.all(without < 0)


def test_examples_of_weight_zero_have_no_influence(clouds):
    weights = (jnp.arange(50) >= 10) * 1.0
    spoilt = Examples(clouds.x.at[:10].add(100.0), clouds.y.at[:10].set(0))
    clean, other = (train_one(MODULE, data, CONFIG, KEYS[0], weights) for data in (clouds, spoilt))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), clean, other)


def test_batches_without_weight_keep_the_network_finite(clouds):
    trained = train_one(MODULE, clouds, CONFIG, KEYS[0], jnp.zeros(50))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(trained))


def test_a_batch_larger_than_the_data_is_the_data(clouds):
    large, exact = (
        train_one(MODULE, clouds, TrainingConfig(epochs=2, batch_size=size), KEYS[0])
        for size in (1000, 50)
    )
    chex.assert_trees_all_equal(large, exact)


def _predictions(module, params, x):
    return np.asarray(flax_apply(module)(params, x)).argmax(-1)


@pytest.mark.slow
def test_digits_are_learned_and_a_class_of_weight_zero_is_never_predicted(digits):
    module, config = MLP(10), TrainingConfig(epochs=15, batch_size=64, learning_rate=5e-3)
    weights = jnp.stack([jnp.ones(len(digits.train)), (digits.train.y != 7) * 1.0])
    params = train_classifiers(module, digits.train, config, KEYS[:2], weights)
    whole, without = (jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(2))
    y = np.asarray(digits.test.y)
    assert (_predictions(module, whole, digits.test.x) == y).mean() > 0.94

    predicted = _predictions(module, without, digits.test.x)
    assert not np.any(predicted == 7)
    assert (predicted == y)[y != 7].mean() > 0.94


@pytest.mark.slow
def test_cnn_learns_digits(digits):
    module, config = CNN(10), TrainingConfig(epochs=30, batch_size=64, learning_rate=3e-3)
    params = train_classifiers(module, digits.train, config, KEYS[:1], at_once=1)
    predicted = _predictions(module, jax.tree.map(lambda leaf: leaf[0], params), digits.test.x)
    assert (predicted == np.asarray(digits.test.y)).mean() > 0.95


@pytest.mark.slow
def test_subjects_are_the_classifiers_one_by_one(clouds):
    subjects = train_subjects(MODULE, clouds, CONFIG, KEYS)
    stacked = train_classifiers(MODULE, clouds, CONFIG, KEYS)
    for index, subject in enumerate(subjects):
        params = jax.tree.map(lambda leaf, i=index: leaf[i], stacked)
        chex.assert_trees_all_equal(subject.params, params)
        logits = MODULE.apply({"params": params}, clouds.x)
        np.testing.assert_array_equal(subject.apply(subject.params, clouds.x), logits)
    assert len(subjects) == 3 and subjects[0].apply is subjects[2].apply


@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (MODULE, lambda x, y: (x, y + 1), "y of the examples holds labels from 1 to 3"),
        (MODULE, lambda x, y: (x, np.eye(3)[y]), r"y of the examples has shape \(60, 3\)"),
        (MODULE, lambda x, y: (x, y.astype(str)), "dtype <U"),
        (MLP(2, (8,)), lambda x, y: (x, y), "from 0 to 2; it must be .N. integers from 0 to 1"),
        (MODULE, lambda x, y: (x.tolist(), y), "Examples whose x is a list"),
        (MODULE, lambda x, y: (np.where(x > 1, np.nan, x), y), "x of the examples .*not finite"),
        (CNN(3), lambda x, y: (x, y), r"CNN does not take examples of shape \(60, 6\)"),
        (CNN(3), lambda x, y: (np.zeros((60, 3, 9, 9)), y), r"moveaxis\(x, 1, -1\)"),
    ],
)
def test_examples_that_a_module_cannot_be_trained_on_are_refused(module, change, message):
    examples = tiny.splits().train
    with pytest.raises(ValueError, match=message) as refused:
        check_training_examples(module, Examples(*change(examples.x, examples.y)))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 8])
def test_networks_on_several_devices_have_the_bits_of_one_by_one(clouds, devices):
    """Three networks, which neither two nor eight devices divide; with and without weights."""
    mesh = make_mesh({"tasks": devices})
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.integers(0, 2, (3, len(clouds))), jnp.float32)
    for given in (None, weights):
        alone = train_classifiers(MODULE, clouds, CONFIG, KEYS, given, at_once=1)
        there = train_spread(MODULE, clouds, CONFIG, KEYS, given, mesh, at_once=1)
        chex.assert_trees_all_equal(there, alone)
    subjects = train_subjects(MODULE, clouds, CONFIG, KEYS, mesh=mesh)
    for subject, one in zip(subjects, train_subjects(MODULE, clouds, CONFIG, KEYS), strict=True):
        chex.assert_trees_all_close(subject.params, one.params, rtol=1e-3, atol=1e-4)


def test_class_weights_by_hand():
    y, weights = jnp.array([0, 0, 0, 1]), jnp.array([1.0, 1.0, 2.0, 1.0])
    found = class_weights(y, weights, 2)
    # 4 of 5 weigh class 0: factors 5/8 and 5/2 make both 2.5, the sum stays 5.
    np.testing.assert_allclose(found, [0.625, 0.625, 0.625, 2.5])
    alone = class_weights(jnp.array([1, 1]), jnp.ones(2), 3)
    np.testing.assert_allclose(alone, 1.0)


def test_balanced_training_equals_the_same_weights():
    rng = np.random.default_rng(0)
    y = (rng.random(60) < 0.2).astype(np.int32)
    examples = Examples(jnp.asarray(rng.normal(size=(60, 3)), jnp.float32), jnp.asarray(y))
    module, key = MLP(num_classes=1, hidden=(4,)), jax.random.key(0)
    weights = class_weights(jnp.asarray(y), jnp.ones(60), 2)
    config = TrainingConfig(epochs=2, batch_size=20)
    by_hand = train_classifier(module, examples, config, key, weights)
    balanced = train_classifier(module, examples, replace(config, balanced=True), key)
    jax.tree.map(np.testing.assert_array_equal, by_hand, balanced)
    plain = train_classifier(module, examples, config, key)
    assert not np.array_equal(plain["head"]["bias"], balanced["head"]["bias"])
