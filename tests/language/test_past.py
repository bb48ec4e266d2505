"""Passes that go on after positions that were run before, against passes over everything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import apply
from modeledit_jax.language.past import captures, past_of
from tests.language.tiny_models import CONFIGS, LLAMA, random_params, random_tokens

BEGIN = np.array([0, 3, 5])
WIDTH, LAYER = 6, 1


def both(config, tokens, attention):
    """Logits of the whole pass and of one from `BEGIN` on, with the same hook at `BEGIN`."""
    params, rows = random_params(config), jnp.arange(3)
    names = (f"layers/{LAYER - 1}", *captures(config, LAYER))
    _, seen = apply(config, params, tokens, attention, capture=names)
    change = jax.random.normal(jax.random.key(0), (3, config.width))
    name = f"layers/{LAYER}/mlp/down"
    tap = jnp.zeros((*tokens.shape, config.width)).at[rows, BEGIN].set(change)
    whole, _ = apply(config, params, tokens, attention, {name: Hook(tap=tap)})
    places = BEGIN[:, None] + np.arange(WIDTH)
    hidden = seen[f"layers/{LAYER - 1}"][rows[:, None], places]
    past = past_of(config, params, seen, attention, jnp.asarray(BEGIN))
    tap = jnp.zeros((3, WIDTH, config.width)).at[:, 0].set(change)
    found, _ = apply(
        config,
        params,
        tokens[rows[:, None], places],
        attention[rows[:, None], places],
        {name: Hook(tap=tap)},
        start=(LAYER, hidden),
        past=past,
    )
    return whole[rows[:, None], places], found, attention[rows[:, None], places]


@pytest.mark.parametrize(
    ("name", "scanned"),
    [
        ("gemma2", False),  # sliding windows, norms after each part
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in ("llama", "gpt2")),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in CONFIGS),
    ],
)
def test_what_follows_is_that_of_the_whole_pass(name, scanned):
    config = dataclasses.replace(CONFIGS[name], scan_layers=scanned)
    tokens, attention = random_tokens()
    whole, found, real = jax.jit(both, static_argnums=0)(config, tokens, attention)
    assert np.asarray(real).sum() > 10 and not np.asarray(real).all()  # some rows end before
    np.testing.assert_allclose(found[real], whole[real], rtol=1e-4, atol=1e-5)


def test_what_goes_on_has_to_be_given():
    tokens, attention = random_tokens()
    params = random_params(LLAMA)
    _, seen = apply(LLAMA, params, tokens, attention, capture=captures(LLAMA, 3))
    past = past_of(LLAMA, params, seen, attention, jnp.asarray(BEGIN))
    with pytest.raises(ValueError, match="give start as well"):
        apply(LLAMA, params, tokens, attention, past=past)
