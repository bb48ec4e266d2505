"""A tiny random model and a few batches of facts that it does not know."""

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch, pad_batch
from modeledit_jax.language.model import init_params, tiny_llama
from modeledit_jax.lifelong.model import EditableModel

VOCABULARY = 23


@pytest.fixture(scope="session")
def model() -> EditableModel:
    config = tiny_llama(VOCABULARY, width=16, num_layers=2, num_heads=2, mlp_width=24, context=16)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    params = jax.tree.map(lambda w: 4.0 * w, params)
    return EditableModel.create(config, params, ("layers/*/mlp/up", "layers/1/mlp/down"))


def random_tokens(rng: np.random.Generator, batches: int, size: int) -> TokenBatch:
    """Prompts of 2 to 4 tokens and answers of 1 or 2."""
    rows = [
        pad_batch(
            [rng.integers(0, VOCABULARY, rng.integers(2, 5)).tolist() for _ in range(size)],
            [rng.integers(0, VOCABULARY, rng.integers(1, 3)).tolist() for _ in range(size)],
            length=8,
        )
        for _ in range(batches)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


@pytest.fixture(scope="session")
def stream() -> FactBatch:
    rng = np.random.default_rng(0)
    batches, size = 4, 3
    parts = [random_tokens(rng, batches, size) for _ in range(3)]
    return jax.tree.map(
        jax.numpy.asarray,
        FactBatch(*parts, None, None, None, np.full((batches, size), -1, np.int32)),
    )


@pytest.fixture(scope="session")
def batch(stream: FactBatch) -> FactBatch:
    return jax.tree.map(lambda leaf: leaf[0], stream)


@pytest.fixture(scope="session")
def deep() -> EditableModel:
    """Four layers, of which the middle two are edited."""
    config = tiny_llama(VOCABULARY, width=16, num_layers=4, num_heads=2, mlp_width=24, context=16)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(1))
    params = jax.tree.map(lambda w: 4.0 * w, params)
    return EditableModel.create(config, params, ("layers/1/mlp/down", "layers/2/mlp/down"))


@pytest.fixture(scope="session")
def facts(stream: FactBatch) -> FactBatch:
    """The stream with subjects; the last row of the last batch is filling."""
    places = np.array(stream.subject_last)
    places[:] = [0, 1, 1]
    places[-1, -1] = -1
    edit = stream.edit.replace(
        labels=stream.edit.labels.at[-1, -1].set(-100),
        attention=stream.edit.attention.at[-1, -1].set(False),
    )
    return stream.replace(edit=edit, subject_last=jax.numpy.asarray(places))
