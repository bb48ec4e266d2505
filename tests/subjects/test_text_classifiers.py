from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.comments.comments import PAD
from modeledit_jax.data.comments.synthetic import identity_corpus
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.edits.split_apply import split_apply
from modeledit_jax.subjects.subject import flax_apply
from modeledit_jax.subjects.text_classifiers import (
    TRAINING,
    BagOfEmbeddings,
    TextCNN,
    make_text_classifier,
)
from modeledit_jax.subjects.training import TrainingConfig, train_classifier
from modeledit_jax.types import Examples

TOKENS = np.array(
    [[3, 4, 5, 6, 7, 8], [9, 3, 3, 0, 0, 0], [2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.int32
)


X = jnp.asarray(TOKENS)


def _init(module):
    """Parameters of order one and no zeros, or a mistake in a bias would go unseen."""
    params = jax.jit(module.init)(jax.random.key(0), X)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + rng.normal(scale=0.3, size=leaf.shape).astype("f"), params
    )


def _dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def _head(params, x):
    for name in ("fc1", "fc2"):
        x = np.maximum(_dense(params[name], x), 0.0)
    return _dense(params["head"], x)


def test_bag_of_embeddings_equals_numpy():
    module = BagOfEmbeddings(10, features=5, hidden=(7, 6))
    params = _init(module)
    table = np.asarray(params["embedding"]["embedding"], np.float64)
    means = [table[row[row != PAD]].mean(axis=0) for row in TOKENS[:3]] + [np.zeros(5)]
    np.testing.assert_allclose(
        flax_apply(module)(params, X), _head(params, np.stack(means)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 5])
def test_text_cnn_equals_windows_one_by_one(width):
    module = TextCNN(10, features=4, channels=3, width=width, hidden=(7, 6))
    params = _init(module)
    table = np.asarray(params["embedding"]["embedding"], np.float64)
    pooled = np.zeros((len(TOKENS), 3))
    for row, tokens in enumerate(TOKENS):
        words = [table[token] for token in tokens if token != PAD]
        for place in range(len(words)):
            start = place - (width - 1) // 2
            window = [
                words[i] if 0 <= i < len(words) else np.zeros(4)
                for i in range(start, start + width)
            ]
            value = _dense(params["conv1"], np.concatenate(window))
            pooled[row] = np.maximum(pooled[row], value)
    np.testing.assert_allclose(
        flax_apply(module)(params, X), _head(params, pooled), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boe", "cnn"])
def test_padding_has_no_influence(name):
    module = make_text_classifier(name, 10)
    params = _init(module)
    longer = jnp.pad(X, ((0, 0), (0, 9)))
    np.testing.assert_allclose(
        flax_apply(module)(params, longer), flax_apply(module)(params, X), rtol=1e-5, atol=1e-6
    )
    moved = params | {"embedding": {"embedding": params["embedding"]["embedding"].at[PAD].add(9)}}
    np.testing.assert_array_equal(flax_apply(module)(moved, X), flax_apply(module)(params, X))


@pytest.mark.slow
def test_order_matters_to_the_convolution_alone():
    backwards = X[:1, ::-1]
    for name, same in (("boe", True), ("cnn", False)):
        module = make_text_classifier(name, 10)
        params = _init(module)
        forth, back = (flax_apply(module)(params, x) for x in (X[:1], backwards))
        assert np.allclose(forth, back, rtol=1e-5) == same


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boe", "cnn"])
def test_the_second_layer_is_the_papers_and_can_be_split_off(name):
    module = make_text_classifier(name, 10)
    params, apply = _init(module), flax_apply(module)
    assert params["fc2"]["kernel"].shape == (128, 32) and params["head"]["kernel"].shape == (32, 1)
    split = split_apply(apply, params, X, ["fc2/kernel"])
    features = split.prefix(params, X)
    assert [part.shape for part in features.per_example] == [(4, 1, 128)]
    np.testing.assert_allclose(
        split.suffix(get_leaves(params, ["fc2/kernel"]), features),
        apply(params, X),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(("name", "kind"), [("boe", BagOfEmbeddings), ("cnn", TextCNN)])
def test_make_text_classifier(name, kind):
    module = make_text_classifier(name, 11)
    assert isinstance(module, kind) and module.vocab_size == 11 and name in TRAINING


def test_unknown_text_classifier_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown subject 'lstm'; choose one of boe, cnn"):
        make_text_classifier("lstm", 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boe", "cnn"])
def test_training_finds_the_cues_and_the_shortcut(name):
    """Near the best accuracy there is (.86), and it is the identities that go with toxicity."""
    data = identity_corpus(train=6_000, test=2_000)
    train, test = data.roles["train"], data.roles["test"]
    module = make_text_classifier(name, len(data.vocabulary))
    examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
    params = jax.jit(train_classifier, static_argnums=(0, 2))(
        module, examples, replace(TRAINING[name], epochs=8), jax.random.key(0)
    )
    logits = np.asarray(flax_apply(module)(params, jnp.asarray(test.tokens)))[:, 0]
    assert ((logits > 0) == test.label).mean() > 0.82
    innocent = test.label == 0
    high, low = (
        logits[innocent & (test.groups[:, columns].sum(axis=1) > 0)].mean()
        for columns in (slice(0, 4), slice(12, 16))
    )
    assert high > low + 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boe", "cnn"])
def test_pretrained_vectors_are_taken_as_they_are_and_not_trained(name):
    vectors = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    module = make_text_classifier(name, 10, vectors)
    config = TrainingConfig(epochs=3, batch_size=2, learning_rate=0.05, weight_decay=0.5)
    examples = Examples(X, jnp.array([0, 1, 0, 1]))
    key = jax.random.key(0)
    before = module.init(jax.random.split(key)[0], X)["params"]
    after = train_classifier(module, examples, config, key)
    np.testing.assert_array_equal(after["embedding"]["embedding"], vectors)
    assert float(jnp.abs(after["fc1"]["kernel"] - before["fc1"]["kernel"]).max()) > 0.01


def test_vectors_that_are_equal_make_equal_modules():
    """Modules are static under jit and keys of caches: equality goes by content."""
    vectors = np.ones((10, 6), np.float32)
    first, again = (make_text_classifier("boe", 10, vectors.copy()) for _ in range(2))
    other = make_text_classifier("boe", 10, 2 * vectors)
    assert first == again and hash(first) == hash(again) and repr(first) == repr(again)
    assert first != other and repr(first) != repr(other)
    with pytest.raises(ValueError, match="10 word vectors for 11 token ids"):
        make_text_classifier("boe", 11, vectors)


@pytest.mark.slow
def test_learned_embeddings_do_not_decay():
    """A word that never occurs keeps its vector, whatever the weight decay."""
    module = make_text_classifier("boe", 12)
    config = TrainingConfig(epochs=2, batch_size=4, weight_decay=0.9)
    key = jax.random.key(3)
    start = module.init(jax.random.split(key)[0], X)["params"]["embedding"]["embedding"]
    examples = Examples(X, jnp.array([0, 1, 0, 1]))
    trained = train_classifier(module, examples, config, key)["embedding"]["embedding"]
    np.testing.assert_array_equal(trained[11], start[11])
    assert float(jnp.abs(trained[3] - start[3]).max()) > 0
