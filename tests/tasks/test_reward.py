import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from modeledit_jax.tasks.reward import (
    EditedWeights,
    FunctionReward,
    PerExample,
    Reward,
    SetOutputs,
    WeightedSum,
    as_reward,
)

N, C = 30, 4


@pytest.fixture(scope="module")
def retain():
    rng = np.random.default_rng(0)
    outputs, original = rng.normal(size=(2, N, C)).astype(np.float32)
    targets = rng.integers(C, size=N).astype(np.int32)
    weights = rng.integers(0, 3, size=N).astype(np.float32)
    return SetOutputs(*map(jnp.asarray, (outputs, original, targets, weights)))


EDIT = EditedWeights(
    leaves={"a": jnp.array([3.0, 5.0]), "b": jnp.ones((2, 2))},
    original={"a": jnp.array([3.0, 1.0]), "b": jnp.array([[1.0, 1.0], [1.0, 4.0]])},
)


def test_means_of_a_set_are_weighted(retain):
    outputs, targets, weights = map(np.asarray, (retain.outputs, retain.targets, retain.weights))
    log_p = scipy.special.log_softmax(outputs.astype(np.float64), axis=-1)[np.arange(N), targets]
    hits = outputs.argmax(-1) == targets
    expected = [np.average(v, weights=weights) for v in (hits, np.exp(log_p), -log_p)]
    actual = [retain.accuracy(), retain.probability(), retain.cross_entropy()]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    of_class_1 = scipy.special.softmax(outputs.astype(np.float64), axis=-1)[:, 1]
    own = retain.mean(jax.nn.softmax(retain.outputs)[:, 1])
    np.testing.assert_allclose(own, np.average(of_class_1, weights=weights), rtol=1e-5)


def test_what_sets_share_is_of_their_outputs_and_targets(retain):
    """Means taken from it are those without it; none is taken of other outputs or targets."""
    shared = PerExample.of(retain.outputs, retain.targets)
    known = retain.replace(per_example=shared)
    for name in ("accuracy", "probability", "cross_entropy"):
        np.testing.assert_allclose(getattr(known, name)(), getattr(retain, name)(), rtol=1e-6)
    others = {"outputs": retain.original, "targets": (retain.targets + 1) % C}
    for field, value in others.items():
        changed, expected = known.replace(**{field: value}), retain.replace(**{field: value})
        assert changed.accuracy() == expected.accuracy() != known.accuracy()
        np.testing.assert_allclose(changed.probability(), expected.probability(), rtol=1e-6)
        assert abs(changed.probability() - known.probability()) > 1e-3
    fewer = known.replace(weights=jnp.asarray(np.arange(N) < 5, jnp.float32))
    assert fewer.accuracy() == np.mean(np.argmax(retain.outputs, -1)[:5] == retain.targets[:5])


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (jnp.zeros((N, C)), jnp.zeros(N)),  # numbers, not classes
        (jnp.zeros((N, C)), {"tokens": jnp.zeros(N, jnp.int32)}),
        (jnp.zeros((N, 2, C)), jnp.zeros(N, jnp.int32)),
        (jnp.zeros((N, C)), jnp.zeros((N, 2), jnp.int32)),
        (jnp.zeros(N), jnp.zeros(N, jnp.int32)),
    ],
)
def test_sets_share_nothing_where_outputs_are_no_logits_of_labels(outputs, targets):
    assert PerExample.of(outputs, targets) is None


def test_size_of_an_edit_is_relative_over_all_leaves():
    # ‖Δ‖² = 4² + 3², ‖W‖² = 3² + 1² + 1 + 1 + 1 + 4².
    assert float(EDIT.size()) == pytest.approx((25 / 29) ** 0.5)


def _weighted_sum(weights):
    return WeightedSum(
        minimum=jnp.float32(-3.0),
        weights=weights,
        parts=(
            ("accuracy", lambda sets, edit: sets["retain"].accuracy()),
            ("size", lambda sets, edit: -edit.size()),
        ),
    )


def test_weighted_sum_adds_its_parts_and_returns_them_unweighted(retain):
    reward = _weighted_sum({"accuracy": 2.0, "size": 0.5})
    score, parts = reward({"retain": retain}, EDIT)
    assert set(parts) == {"accuracy", "size"}
    np.testing.assert_allclose(parts["accuracy"], retain.accuracy())
    np.testing.assert_allclose(parts["size"], -EDIT.size())
    np.testing.assert_allclose(score, 2.0 * retain.accuracy() - 0.5 * EDIT.size(), rtol=1e-6)


@pytest.mark.slow
def test_rewards_of_different_weights_stack_under_vmap(retain):
    reward = _weighted_sum({"accuracy": jnp.array([1.0, 0.0]), "size": jnp.array([0.0, 3.0])})
    reward = reward.replace(minimum=jnp.zeros(2))
    scores, _ = jax.vmap(lambda reward: reward({"retain": retain}, EDIT))(reward)
    np.testing.assert_allclose(scores, [retain.accuracy(), -3.0 * EDIT.size()], rtol=1e-6)


def test_a_function_becomes_a_reward(retain):
    reward = as_reward(lambda sets, edit: sets["retain"].accuracy(), minimum=-2.0)
    assert isinstance(reward, FunctionReward) and float(reward.minimum) == -2.0
    score, parts = reward({"retain": retain}, EDIT)
    assert parts == {} and score.shape == () and score.dtype == jnp.float32
    np.testing.assert_allclose(score, retain.accuracy())


def test_a_function_may_return_parts_of_any_numeric_type(retain):
    reward = as_reward(lambda sets, edit: (1, {"count": 3, "double": np.float64(0.5)}))
    score, parts = jax.jit(lambda sets: reward(sets, EDIT))({"retain": retain})
    assert (float(score), float(parts["count"]), float(parts["double"])) == (1.0, 3.0, 0.5)
    assert {value.dtype for value in (score, *parts.values())} == {jnp.dtype("float32")}


def test_a_reward_stays_as_it_is():
    reward = _weighted_sum({})
    assert as_reward(reward) is reward


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda sets, edit: sets["retain"].weights, "score"),
        (lambda sets, edit: (0.0, {"own": jnp.zeros((N, 1))}), "own"),
    ],
)
def test_a_reward_that_is_no_scalar_is_refused(retain, function, name):
    with pytest.raises(ValueError, match=rf"returned '{name}' of shape \({N},.*return scalars"):
        as_reward(function)({"retain": retain}, EDIT)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("high", "returned 'score' as 'high', of type str; return a number"),
        (None, "returned 'score' as None, of type NoneType"),
        ((1.0, {"own": None}), "returned 'own' as None"),
        ((1.0, 2.0), "returned 2.0 beside the score; return a score, or a score and a dictionary"),
        ((1.0, 2.0, 3.0), "returned 'score' of shape (3,)"),
        ({"score": 1.0}, "returned 'score' as {'score': 1.0}, of type dict"),
    ],
)
def test_what_is_no_number_is_named(retain, result, message):
    with pytest.raises(ValueError) as info:
        as_reward(lambda sets, edit: result)({"retain": retain}, EDIT)
    assert message in str(info.value) and "\n" not in str(info.value)


def test_the_base_class_scores_nothing(retain):
    with pytest.raises(TypeError, match="use WeightedSum or as_reward"):
        Reward(minimum=jnp.float32(0.0))({"retain": retain}, EDIT)
