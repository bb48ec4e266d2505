"""A classifier with a language model's layer under it, against the language model itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.text import TextEncoder
from modeledit_jax.data.comments.views import scaling, texts_of, with_features, with_layer
from modeledit_jax.edits.site import leaf_paths, set_leaves
from modeledit_jax.language.text_states import lowest_layers, text_states
from modeledit_jax.subjects.fixed_array import FixedArray
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.state_classifier import KERNEL, StateClassifier
from modeledit_jax.subjects.training import TrainingConfig, train_classifier
from modeledit_jax.types import Examples
from tests.language.tiny_models import GPT2, LLAMA, VOCAB, random_params

LAYER = 2
TEXTS = [f"text {number}" for number in range(12)]
RNG = np.random.default_rng(0)
IDS = [[1, *RNG.integers(0, VOCAB, 2 + number % 5).tolist()] for number in range(12)]


def states_of(config, params):
    """Pooled stream and inputs of all texts."""
    lower = lowest_layers(config, params, LAYER)
    found = {}
    for rows, states in text_states(config, lower, IDS, LAYER):
        found |= {r: (states.pooled[i], states.inputs[i]) for i, r in enumerate(rows.tolist())}
    return tuple(np.stack([found[r][part] for r in range(len(IDS))]) for part in (0, 1))


@pytest.fixture
def data():
    encoder = TextEncoder(("gay",), (0,))
    label = np.arange(12, dtype=np.int32) % 2
    roles = {"train": encoder(TEXTS[:9], label[:9]), "test": encoder(TEXTS[9:], label[9:])}
    found = CommentData("toy", encoder.vocabulary, ("gay",), (False,), roles, {})
    assert texts_of(found) == tuple(TEXTS)
    return found


def down(params):
    return params["layers"][str(LAYER - 1)]["mlp"]["down"]["kernel"]


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_an_edit_is_one_of_the_language_model(config, data):
    params = random_params(config)
    pooled, inputs = states_of(config, params)
    kernel = np.asarray(down(params), np.float32)
    seen, scale = with_layer(data, pooled, inputs, kernel)
    module = StateClassifier(FixedArray(kernel), FixedArray(scale), hidden=(8, 4))
    x = jnp.concatenate([seen.roles[role].tokens for role in ("train", "test")])
    network = module.init(jax.random.key(0), x)["params"]
    assert np.array_equal(network["language_model"]["down"]["kernel"], kernel)

    change = jnp.asarray(0.3 * RNG.normal(size=kernel.shape), jnp.float32)
    found = module.apply({"params": set_leaves(network, {KERNEL: jnp.asarray(kernel + change)})}, x)

    layers = {**params["layers"], str(LAYER - 1): set_leaves(
        params["layers"][str(LAYER - 1)], {"mlp/down/kernel": down(params) + change}
    )}  # fmt: skip
    after, _ = states_of(config, {**params, "layers": layers})
    mean, factor = scaling(data, pooled)
    head = {name: leaf for name, leaf in network.items() if name != "language_model"}
    expected = MLP(num_classes=1, hidden=(8, 4)).apply(
        {"params": head}, jnp.asarray((after - mean) * factor, jnp.float32)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    assert np.abs(found - module.apply({"params": network}, x)).max() > 0.01


def test_training_leaves_the_language_model_alone(data):
    params = random_params(LLAMA)
    pooled, inputs = states_of(LLAMA, params)
    kernel = np.asarray(down(params), np.float32)
    seen, scale = with_layer(data, pooled, inputs, kernel)
    module = StateClassifier(FixedArray(kernel), FixedArray(scale), (8, 4), trains_model=False)
    train = seen.roles["train"]
    examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
    recipe = TrainingConfig(epochs=3, batch_size=3, learning_rate=0.05, weight_decay=0.1)
    found = train_classifier(module, examples, recipe, jax.random.key(1))
    np.testing.assert_array_equal(found["language_model"]["down"]["kernel"], kernel)
    # The classifier is that of the states themselves, from the same start and in the same order.
    plain = with_features(data, pooled).roles["train"].tokens
    head = MLP(num_classes=1, hidden=(8, 4))
    alone = train_classifier(
        head, Examples(jnp.asarray(plain), examples.y), recipe, jax.random.key(1)
    )
    for path in leaf_paths(alone):
        layer, leaf = path.split("/")
        np.testing.assert_allclose(found[layer][leaf], alone[layer][leaf], rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_language_model_where_it_is_edited(data):
    params = random_params(LLAMA)
    pooled, inputs = states_of(LLAMA, params)
    kernel = np.asarray(down(params), np.float32)
    seen, scale = with_layer(data, pooled, inputs, kernel)
    x = jnp.asarray(seen.roles["train"].tokens)
    edited = StateClassifier(FixedArray(kernel), FixedArray(scale), (8, 4))
    network = edited.init(jax.random.key(0), x)["params"]

    def total(module, network):
        return module.apply({"params": network}, x).sum()

    slopes = [
        jax.grad(lambda network, m=module: total(m, network))(network)
        for module in (edited, edited.clone(trains_model=False))
    ]
    reached, cut = (slope["language_model"]["down"]["kernel"] for slope in slopes)
    assert np.abs(reached).max() > 0
    np.testing.assert_array_equal(cut, 0)
    assert edited == StateClassifier(FixedArray(kernel.copy()), FixedArray(scale.copy()), (8, 4))
