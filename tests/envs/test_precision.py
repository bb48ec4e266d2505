"""Scoring in less than float32: how far it is from float32, and what stays as it was."""

import re
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modeledit_jax as me
from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
HIDDEN = (12, 10)


@lru_cache
def task():
    base = tiny.subject(3, HIDDEN)
    return tiny.task(0, base=base, reward=unlearning_reward("soft", edit_size=0.1))


@lru_cache
def world(kind, precision):
    return kind(task(), parametrization=LowRank(1), precision=precision)


@partial(jax.jit, static_argnums=0)
def rewards(env, params, actions):
    """Of one edit each, and the edited leaves."""
    _, state = env.reset_env(KEY, params)

    def one(action):
        _, after, reward, _, info = env.step_env(KEY, state, action, params)
        return reward, info["score"], after.leaves

    return jax.vmap(one)(actions)


def actions(seed, scale=1.0):
    size = world(ShiftWorld, "float32").num_actions
    return scale * jax.random.normal(jax.random.key(seed), (8, size))


def outputs_by_hand(leaves, rounded):
    """Logits of edited networks in NumPy, every factor of a product after the site rounded."""
    params = task().subject.params
    to = lambda x: np.asarray(x, np.float32).astype(rounded).astype(np.float64)  # noqa: E731
    x = np.asarray(task().roles["reward"].x)
    first = np.maximum(x @ np.asarray(params["fc1"]["kernel"]) + params["fc1"]["bias"], 0.0)
    z = to(first) @ to(leaves["fc2/kernel"]) + np.asarray(params["fc2"]["bias"])
    return to(np.maximum(z, 0.0)) @ to(params["head"]["kernel"]) + np.asarray(
        params["head"]["bias"], np.float64
    )


@pytest.mark.parametrize("rounded", ["float32", "bfloat16"])
def test_products_are_of_rounded_factors(rounded):
    """Against NumPy; outputs of float32 are elsewhere, so the comparison tells the two apart."""
    env = world(MaskWorld, rounded)
    leaves = env.edit(task().leaves, task().leaves, actions(0)[0])
    features = env.default_params.features
    found = np.asarray(env._low_rank.split.suffix(leaves, features))
    dtype = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
    errors = {kind: np.abs(found - outputs_by_hand(leaves, dtype[kind])).max() for kind in dtype}
    other = next(kind for kind in dtype if kind != rounded)
    # A factor of the head that lies between two bfloat16 may be rounded to either of them.
    assert errors[rounded] < 0.25 * errors[other] and errors[other] > 2e-3
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", [ShiftWorld, MaskWorld])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.0, 3.0))
def test_rewards_are_near_those_of_float32(kind, seed, scale):
    exact, near = world(kind, "float32"), world(kind, "bfloat16")
    some = actions(seed, scale)
    reward, score, leaves = rewards(exact, exact.default_params, some)
    other, other_score, other_leaves = rewards(near, near.default_params, some)
    # Factors are rounded by 2⁻⁹ at most; the score is a sum of probabilities, 1 steep at most.
    np.testing.assert_allclose(other_score, score, atol=0.02 * (1 + scale))
    np.testing.assert_allclose(other, reward, atol=0.02 * (1 + scale))
    jax.tree.map(np.testing.assert_array_equal, other_leaves, leaves)  # float32, the same bits
    assert other_leaves["fc2/kernel"].dtype == jnp.float32


@pytest.mark.parametrize("kind", [ShiftWorld, MaskWorld])
@pytest.mark.parametrize(
    "precision",
    [*(pytest.param(p, marks=pytest.mark.slow) for p in ("float32", "tf32")), "bfloat16"],
)
def test_no_edit_no_reward(kind, precision):
    env = world(kind, precision)
    assert env._low_rank.paths == (("fc2/kernel",) if kind is ShiftWorld else ())
    reward, _, leaves = rewards(env, env.default_params, jnp.zeros((2, env.num_actions)))
    np.testing.assert_allclose(reward, 0.0, atol=1e-6)
    for leaf in leaves["fc2/kernel"]:
        np.testing.assert_array_equal(leaf, task().leaves["fc2/kernel"])


def test_low_rank_scores_are_those_of_the_edited_kernel_but_for_rounding():
    env = world(ShiftWorld, "bfloat16")
    dense = ShiftWorld(task(), parametrization=LowRank(1), precision="bfloat16")
    dense._low_rank = replace(dense._low_rank, paths=())
    found, expected = (rewards(e, e.default_params, actions(1, 0.5))[0] for e in (env, dense))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(expected).max() > 0.05


def test_tf32_is_float32_on_a_cpu():
    one, other = (world(MaskWorld, precision) for precision in ("float32", "tf32"))
    found = rewards(one, one.default_params, actions(2))
    jax.tree.map(
        np.testing.assert_array_equal, found, rewards(other, other.default_params, actions(2))
    )

    found = {env: text_of(env) for env in (one, other)}
    asked = {env: len(re.findall(r"Precision\.HIGH\b", text)) for env, text in found.items()}
    assert asked[one] == 0 and asked[other] > 0


def text_of(env):
    return str(jax.make_jaxpr(partial(rewards, env))(env.default_params, actions(2)))


@pytest.mark.parametrize("kind", [ShiftWorld, MaskWorld])
def test_float32_rounds_nothing(kind):
    assert re.search("bf16|reduce_precision", text_of(world(kind, "bfloat16")))
    assert not re.search("bf16|reduce_precision", text_of(world(kind, "float32")))


def test_precision_tells_worlds_apart():
    envs = [world(ShiftWorld, precision) for precision in ("float32", "tf32", "bfloat16")]
    assert len({env.static for env in envs}) == 3
    same = ShiftWorld(task(), parametrization=LowRank(1), precision="bfloat16")
    assert same.static == envs[2].static and hash(same.static) == hash(envs[2].static)
    assert envs[0].split == envs[2].split  # the network itself is evaluated in float32


def test_what_is_kept_takes_half_the_room():
    exact, near = (world(ShiftWorld, p).default_params.features for p in ("float32", "bfloat16"))
    for one, other in zip(exact.per_example, near.per_example, strict=True):
        assert other.nbytes * 2 == one.nbytes and other.dtype == jnp.bfloat16
    kinds = {x.shape: x.dtype for x in near.shared}  # biases are added, not multiplied
    assert kinds == {(1, 10): jnp.float32, (1, 3): jnp.float32, (10, 3): jnp.bfloat16}


@pytest.mark.slow
def test_the_edit_is_evaluated_in_float32():
    search = me.OpenES(budget=100, population=10, precision="bfloat16", parametrization=LowRank(1))
    result = search.edit(task(), KEY)
    kernel = result.params["fc2"]["kernel"]
    assert kernel.dtype == jnp.float32
    assert np.any(kernel != kernel.astype(jnp.bfloat16).astype(jnp.float32))
    env = search.make_world(task())
    evaluator = PlanEvaluator(env, [task()])
    found = evaluator.outputs(0, {"fc2/kernel": kernel}, "test")
    whole = task().subject.apply(result.params, jnp.asarray(task().roles["test"].x))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    assert env.default_params.features.per_example[0].dtype == jnp.bfloat16
    assert evaluator.features(0, "reward").per_example[0].dtype == jnp.float32
    (many,) = me.edit_many(search, [task()], KEY)
    assert many.params["fc2"]["kernel"].dtype == jnp.float32
