"""Training on a text with a rule; a resumed run; the loss against NumPy and the update by hand."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import IGNORED, pad_batch
from modeledit_jax.language.model import apply, tiny_llama
from modeledit_jax.language.training import (
    LanguageTrainingConfig,
    init_state,
    next_token_loss,
    train_chunk,
)
from modeledit_jax.run.checkpoint import Checkpoints

VOCAB = 11
MODEL = tiny_llama(VOCAB, width=16, num_layers=2, num_heads=2, mlp_width=16, context=16)
TRAINING = LanguageTrainingConfig(steps=60, batch_size=16, learning_rate=2e-2, warmup_steps=6)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    """Rows that count upwards from anywhere, by one, modulo the vocabulary."""
    starts = jnp.arange(64)[:, None]
    rows = np.asarray((starts + jnp.arange(9)) % VOCAB).tolist()
    return pad_batch([row[:1] for row in rows], [row[1:] for row in rows], length=8)


def train(data, *chunks):
    state, losses = init_state(MODEL, TRAINING, KEY), []
    for n_steps in chunks:
        state, values = train_chunk(state, data, n_steps)
        losses.append(values)
    return state, np.concatenate(losses)


def equal(a, b):
    chex.assert_trees_all_equal(arrays(a), arrays(b))


def arrays(state):
    return jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))


@pytest.mark.slow
def test_a_rule_is_learned(data):
    state, losses = train(data, 30, 30)
    assert abs(losses[0] - np.log(VOCAB)) < 0.2  # knows nothing yet
    assert losses[-1] < 0.05
    assert int(state.step) == 60
    logits, _ = apply(MODEL, state.params, data.tokens)
    assert np.mean(logits.argmax(-1) == data.labels) > 0.99


@pytest.mark.slow
def test_resumed_from_a_checkpoint_gives_the_same_bits(data, tmp_path):
    uninterrupted, losses = train(data, 30, 30)
    half, _ = train(data, 30)
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(30, half)
    del half

    checkpoints = Checkpoints(tmp_path / "run")
    step, restored = checkpoints.restore(init_state(MODEL, TRAINING, jax.random.key(9)))
    assert step == int(restored.step) == 30
    resumed, rest = train_chunk(restored, data, 30)
    equal(resumed, uninterrupted)
    np.testing.assert_array_equal(rest, losses[30:])


@pytest.mark.slow
def test_scanned_layers_and_remat_train_alike(data):
    _, plain = train(data, 30)
    model = dataclasses.replace(MODEL, scan_layers=True, remat=True)
    _, other = train_chunk(init_state(model, TRAINING, KEY), data, 30)
    np.testing.assert_allclose(other[:10], plain[:10], atol=1e-3)


def test_the_loss_is_the_mean_over_scored_positions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, VOCAB)).astype(np.float32)
    labels = np.array([[4, IGNORED, 1], [IGNORED, IGNORED, 7]])
    shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(shifted[0, 0, 4] + shifted[0, 2, 1] + shifted[1, 2, 7]) / 3
    value = next_token_loss(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    nothing = next_token_loss(jnp.asarray(logits), jnp.full((2, 3), IGNORED))
    assert float(nothing) == 0.0


@pytest.mark.slow
def test_prompts_with_answers_train_too():
    batch = pad_batch([[1, 2], [3]] * 32, [[4], [5, 6]] * 32, length=8)
    state, losses = train_chunk(init_state(MODEL, TRAINING, KEY), batch, 30)
    assert losses[-1] < 0.1 and int(state.step) == 30


@pytest.mark.slow
def test_given_parameters_are_trained_further_and_kept(data):
    first, _ = train(data, 30)
    state = init_state(MODEL, TRAINING, KEY, first.params)
    state, losses = train_chunk(state, data, 30)
    assert losses[0] < 1.5  # of log(11) = 2.4
    assert np.isfinite(first.params["tokens"]["embedding"]).all()  # not used up


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_kernels_alone_decay_and_the_step_follows_the_schedule(data, optimizer):
    unscored = data.replace(labels=jnp.full_like(data.labels, IGNORED))
    before = init_state(MODEL, dataclasses.replace(TRAINING, optimizer=optimizer), KEY)
    kept = jax.tree.map(np.array, before.params)
    after, _ = train_chunk(before, unscored, 30)  # no gradient: what moves, moves by decay
    warm = np.arange(6) / 6
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(24) / 54)) / 2
    steps = TRAINING.learning_rate * np.concatenate([warm, cosine])
    factor = np.prod(1 - steps * TRAINING.weight_decay)
    down, same = kept["layers"]["0"]["mlp"]["down"]["kernel"], kept["tokens"]["embedding"]
    np.testing.assert_allclose(
        after.params["layers"]["0"]["mlp"]["down"]["kernel"], factor * down, rtol=1e-5
    )
    np.testing.assert_array_equal(after.params["tokens"]["embedding"], same)


@pytest.mark.slow
@pytest.mark.parametrize("scan_layers", [False, True])
def test_muon_moves_every_layer_alike_in_all_directions(data, scan_layers):
    """The first step is nearly orthogonal but for directions hardly any gradient points in."""
    model = dataclasses.replace(MODEL, scan_layers=scan_layers)
    training = dataclasses.replace(TRAINING, optimizer="muon", warmup_steps=0, weight_decay=0.0)
    state = init_state(model, training, KEY)

    def gates(params):
        layers = params["layers"] if scan_layers else params["layers"]["0"]
        return np.array(layers["mlp"]["gate"]["kernel"])

    before = gates(state.params)
    state, _ = train_chunk(state, data, 1)
    moved = (gates(state.params) - before).reshape(-1, *before.shape[-2:])
    size = 0.2 * np.sqrt(max(before.shape[-2:])) * TRAINING.learning_rate
    for own in moved:
        singular = np.linalg.svd(own, compute_uv=False) / size
        assert np.median(singular) > 0.5 and singular[0] < 1.4


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="lower warmup_steps"):
        LanguageTrainingConfig(steps=10)


def test_a_token_that_the_network_does_not_embed_is_refused(data):
    state = init_state(MODEL, TRAINING, KEY)
    small = dataclasses.replace(state.model, vocab_size=VOCAB - 1)
    with pytest.raises(
        ValueError, match=f"data holds the token {VOCAB - 1}, and the network embeds"
    ):
        train_chunk(state.replace(model=small), data, 1)
