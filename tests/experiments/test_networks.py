"""Networks of an experiment: trained ahead side by side, or one by one, they are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import networks
from experiments.common.networks import CachedTraining
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.types import Examples

KEYS = [jax.random.key(seed) for seed in range(3)]
NAMES = [{"seed": seed} for seed in range(3)]


@pytest.fixture
def kept(tmp_path, rng):
    x = rng.normal(size=(40, 5)).astype(np.float32)
    examples = Examples(jnp.asarray(x), jnp.asarray(rng.integers(0, 3, 40)))
    recipe = TrainingConfig(epochs=2, batch_size=8)
    return CachedTraining(MLP(3, (6,)), recipe, examples, tmp_path, "made here")


@pytest.mark.slow
def test_an_accelerator_trains_side_by_side_what_is_missing(kept, monkeypatch, rng):
    weights = [jnp.asarray(rng.integers(0, 2, 40), jnp.float32) for _ in KEYS]
    one = kept.network(KEYS[0], weights[0], **NAMES[0])  # is there already
    monkeypatch.setattr(networks, "at_once_here", lambda: None)
    trained = []
    build = networks.train_classifiers
    monkeypatch.setattr(
        networks, "train_classifiers", lambda *a, **k: trained.append(len(a[3])) or build(*a, **k)
    )
    kept.train_ahead(None, KEYS, NAMES, weights)
    assert trained == [2]
    kept.train_ahead(None, KEYS, NAMES, weights)
    found = [kept.network(*given, **n) for *given, n in zip(KEYS, weights, NAMES, strict=True)]
    assert trained == [2]  # all are read
    jax.tree.map(np.testing.assert_array_equal, found[0], one)
    for key, weight, params in zip(KEYS[1:], weights[1:], found[1:], strict=True):
        alone = build(kept.module, kept.train, kept.training, key[None], weight[None])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-5), params, alone
        )


def test_a_cpu_trains_nothing_ahead(kept):
    kept.train_ahead(None, KEYS, NAMES)
    assert not kept.folder.exists()
