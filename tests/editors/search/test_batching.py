"""How many candidates are evaluated at a time."""

from copy import copy
from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.editors.search import batching
from modeledit_jax.editors.search.batching import candidates_at_once
from modeledit_jax.editors.search.evolution import evaluate_population
from modeledit_jax.envs.worlds import ShiftWorld
from tests import tiny


@lru_cache
def world():
    return ShiftWorld(tiny.task())  # 40 reward examples, a 5 × 4 layer


@settings(deadline=None, max_examples=25)
@given(total=st.integers(1, 5000), largest=st.integers(1, 4000))
def test_batches_are_within_the_limit_few_and_even(total, largest):
    env = world()
    limit = max(largest // (40 * 4), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "_LARGEST", {"cpu": largest})
        at_once = candidates_at_once(env, env.default_params, total)
    assert 1 <= at_once <= min(limit, total)
    batches = -(-total // at_once)
    assert batches == -(-total // limit)  # no more batches than the limit enforces
    assert batches * (at_once - 1) < total  # and none could be smaller


def test_recorded_layer_takes_32_at_a_time_on_cpu_and_more_elsewhere(monkeypatch):
    env = copy(world())
    shapes = (("fc1/bias", (7,)), ("fc2/kernel", (128, 32)))
    env.edit = replace(env.edit, shapes=shapes)
    params = env.default_params.replace(original_outputs=np.zeros((1024, 10), np.float32))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert candidates_at_once(env, params, 4096) == 32 == 32768 // 1024
    assert candidates_at_once(env, params, 20) == 20
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert candidates_at_once(env, params, 4096) == 4096


@pytest.mark.slow
@pytest.mark.parametrize("total", [12, 13])
def test_batches_do_not_change_the_rewards(monkeypatch, total):
    """Nor their last bit, but for a last batch of one, which some CPUs multiply in another way."""
    env = world()
    actions = jax.random.normal(jax.random.key(0), (total, env.edit.action_size))
    whole, metrics = evaluate_population(env, env.default_params, actions, total)
    monkeypatch.setattr(batching, "_LARGEST", {"cpu": 3 * 40 * 4})
    assert candidates_at_once(env, env.default_params, total) == 3
    parts, other = evaluate_population(env, env.default_params, actions)
    np.testing.assert_array_equal(whole[:12], parts[:12])
    assert metrics.keys() == other.keys()
    for one, two in ((whole, parts), *((metrics[name], other[name]) for name in metrics)):
        np.testing.assert_allclose(one, two, rtol=1e-6)
