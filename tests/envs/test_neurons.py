"""What is seen of a network against plain NumPy in float64; units and order of neurons."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.neurons import BOUND, observe_neurons
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.evaluation.accuracy import margins
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
SITE = ("fc2/kernel", "head/kernel")
SETS = 2


@lru_cache
def _env():
    return ShiftWorld(tiny.task(0, site=SITE), observation="neurons", horizon=4)


@jax.jit
def _observe(state, params):
    return _env().observe(KEY, state, None, params)


def _reference(h, leaf, original, margin, slopes, label_sets):
    """The rows of one layer, by name, each ``[S, D]`` or ``[S, H]``.

    ``h [N, Q, D]`` is what the layer reads, ``slopes [N, H]`` the margin's gradient by its outputs.
    """
    unit = original.std()
    z = h @ leaf
    typical = z.reshape(-1, z.shape[-1]).std(axis=0).mean()
    confidence = np.abs(margin).mean()
    p = 1 / (1 + np.exp(-margin))
    own = [weights > 0 for weights in label_sets]
    shares = [np.where(rows, p, 0.0) / p[rows].sum() for rows in own]

    def mean(values):
        return np.stack([np.average(values, axis=0, weights=share) for share in shares])

    def spread(values):
        every = mean(values.mean(axis=1))
        return np.sqrt(mean((values**2).mean(axis=1)) - every**2)

    moments = [np.einsum("nqd,nqe->de", h[rows], h[rows]) for rows in own]
    moments = [m / (rows.sum() * h.shape[1]) for m, rows in zip(moments, own, strict=True)]
    moment = sum(moments) / len(own)
    moment = moment + 0.01 * np.trace(moment) / len(moment) * np.eye(len(moment))
    mu = mean(h.mean(axis=1))
    away = np.stack([np.linalg.solve(moment, m) for m in mu])
    direction = away / np.sum(away * mu, axis=1, keepdims=True)
    scale = np.sqrt(mean((h**2).mean(axis=1)).mean())
    slope = mean(slopes) * typical / confidence
    soft = mean(slopes * (p * (1 - p))[:, None])
    lead = np.maximum(mean(margin[:, None] / confidence)[:, 0], 0)
    return {
        "mean input": mu / scale,
        "spread of input": spread(h) / scale,
        "direction": direction * typical / unit,
        "mean output": mean(z.mean(axis=1)) / typical,
        "spread of output": spread(z) / typical,
        "slope": slope,
        "soft slope": soft / np.sqrt((soft**2).mean(axis=1, keepdims=True)),
        "influence": mean((slopes != 0).astype(float)),
        "Newton step": -lead[:, None] * slope / (slope**2).sum(axis=1, keepdims=True),
    }


def _compare(layer, expected):
    found = [*np.split(layer["inputs"].T, 3), *np.split(layer["outputs"].T, 6)]
    for (name, rows), values in zip(expected.items(), found, strict=True):
        assert np.abs(rows).max() < BOUND
        np.testing.assert_allclose(values, rows, rtol=1e-3, atol=1e-4, err_msg=name)


def _numpy_margin(outputs, label):
    """Leads of the true class, and their gradients by the outputs."""
    lead, gradient = [], []
    for row, own in zip(outputs, label, strict=True):
        others = np.delete(row, own)
        lead.append(row[own] - scipy.special.logsumexp(others))
        gradient.append(np.insert(-scipy.special.softmax(others), own, 1.0))
    return np.array(lead), np.array(gradient)


@settings(deadline=None, max_examples=15)
@given(
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    classes=st.integers(2, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_margins_are_log_odds_of_the_true_class(scale, classes, seed):
    rng = np.random.default_rng(seed)
    outputs = (scale * rng.normal(size=(5, classes))).astype(np.float32)
    label = rng.integers(classes, size=5).astype(np.int32)
    found = margins(jnp.asarray(outputs), jnp.asarray(label))
    np.testing.assert_allclose(found, _numpy_margin(outputs, label)[0], rtol=1e-4, atol=1e-4)
    p = scipy.special.softmax(outputs.astype(float), axis=1)[np.arange(5), label]
    np.testing.assert_allclose(scipy.special.expit(np.asarray(found)), p, rtol=1e-3, atol=1e-6)


def test_margins_of_one_logit_are_the_logit_with_the_sign_of_the_class():
    logit, label = jnp.array([[2.0], [-0.5], [3.0], [-7.0]]), jnp.array([1, 1, 0, 0])
    np.testing.assert_array_equal(margins(logit, label), [2.0, -0.5, -3.0, 7.0])
    two = jnp.concatenate([jnp.zeros_like(logit), logit], axis=1)
    np.testing.assert_allclose(margins(two, label), margins(logit, label), rtol=1e-6)


def _shown(params, reward=None, classes=0):
    """What is observed of `tiny`'s network with other parameters."""
    subject = replace(tiny.subject(), params=params)
    return _env().params(tiny.task(classes, site=SITE, base=subject, reward=reward)).neurons


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, (1, 2)])
def test_rows_of_both_layers_equal_numpy(classes):
    task = tiny.task(classes, site=SITE)
    seen = _env().params(task).neurons
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), task.subject.params)
    sets = task.roles["reward"]
    first = np.maximum(sets.x @ p["fc1"]["kernel"] + p["fc1"]["bias"], 0)
    z = first @ p["fc2"]["kernel"] + p["fc2"]["bias"]
    second = np.maximum(z, 0)
    outputs = second @ p["head"]["kernel"] + p["head"]["bias"]
    margin, by_outputs = _numpy_margin(outputs, sets.targets)
    by_hidden = (by_outputs @ p["head"]["kernel"].T) * (z > 0)
    label_sets = [sets.weights["forget"], sets.weights["retain"]]
    layers = (("fc2", first, by_hidden), ("head", second, by_outputs))
    for found, (name, h, slopes) in zip(seen["layers"], layers, strict=True):
        leaf = p[name]["kernel"]
        _compare(found, _reference(h[:, None], leaf, leaf, margin, slopes, label_sets))
        np.testing.assert_allclose(found["weights"], leaf / leaf.std(), rtol=1e-4, atol=1e-5)

    own = [weights > 0 for weights in label_sets]
    confidence = np.abs(margin).mean()
    p = scipy.special.expit(margin)
    context = [np.average(margin[rows], weights=p[rows]) / confidence for rows in own]
    context += [np.average(p[rows], weights=p[rows]) for rows in own]
    np.testing.assert_allclose(seen["context"], context, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "reward",
    [
        pytest.param(None, marks=pytest.mark.slow),
        unlearning_reward("soft", utility=3.0, forgetting=0.5),
    ],
)
def test_the_gradient_is_that_of_the_reward_by_the_weights(reward):
    """By the leaves of the whole network, at an edited network in the middle of an episode."""
    env, task = _env(), tiny.task(0, site=SITE, reward=reward)
    params = env.params(task)
    sets = task.roles["reward"]
    rng = np.random.default_rng(5)
    leaves = {
        path: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32)
        for path, leaf in task.leaves.items()
    }
    leaves = jax.tree.map(jnp.asarray, leaves)

    @jax.jit
    def score(leaves):
        outputs = task.subject.apply(set_leaves(task.subject.params, leaves), jnp.asarray(sets.x))
        own = jax.nn.softmax(outputs)[jnp.arange(len(sets.x)), sets.targets]
        utility, lost = (jnp.average(own, weights=sets.weights[n]) for n in ("retain", "forget"))
        return utility - lost if reward is None else 3.0 * utility - 0.5 * lost

    gradient = jax.grad(score)(leaves)
    _, state = env.reset_env(KEY, params)
    state = state.replace(leaves=leaves, time=jnp.int32(3))
    seen = _observe(state, params)
    for path, layer in zip(SITE, seen["layers"], strict=True):
        expected = gradient[path] / np.sqrt(np.mean(np.asarray(gradient[path]) ** 2))
        np.testing.assert_allclose(layer["gradient"], expected, rtol=1e-3, atol=1e-4)
        units = leaves[path] / np.asarray(task.leaves[path]).std()
        np.testing.assert_allclose(layer["weights"], units, rtol=1e-4, atol=1e-5)


def test_the_direction_answers_one_on_its_set_and_least_on_all():
    env, task = _env(), tiny.task(0, site=SITE)
    layer = env.params(task).neurons["layers"][0]
    sets, p = task.roles["reward"], task.subject.params
    h = np.maximum(sets.x @ np.asarray(p["fc1"]["kernel"]) + np.asarray(p["fc1"]["bias"]), 0)
    directions = np.split(np.asarray(layer["inputs"], np.float64).T, 3)[2]
    leaf = np.asarray(p["fc2"]["kernel"])
    directions *= leaf.std() / (h @ leaf).std(axis=0).mean()  # in the units of the layer
    rng = np.random.default_rng(0)
    outputs = np.asarray(task.subject.apply(p, jnp.asarray(sets.x)), np.float64)
    certainty = scipy.special.expit(_numpy_margin(outputs, sets.targets)[0])
    own = [sets.weights[name] > 0 for name in ("forget", "retain")]

    def size(direction):
        answers = [((h[rows] @ direction) ** 2).mean() for rows in own]
        ridge = 0.01 * np.mean([(h[rows] ** 2).mean() for rows in own]) * (direction**2).sum()
        return np.mean(answers) + ridge

    for rows, direction in zip(own, directions, strict=True):
        mean = np.average(h[rows], axis=0, weights=certainty[rows])
        np.testing.assert_allclose(mean @ direction, 1.0, rtol=1e-3)
        for _ in range(20):
            other = direction + 0.1 * rng.normal(size=len(direction))
            assert size(direction) < size(other / (mean @ other))


def test_what_is_forgotten_already_is_no_longer_looked_at():
    """A set of two classes, one of which is never answered rightly, looks like the other alone."""
    params = jax.tree.map(jnp.copy, tiny.subject().params)
    params["head"]["bias"] = params["head"]["bias"].at[1].add(-60.0)
    one, both = (_shown(params, classes=classes) for classes in (0, (0, 1)))
    forget = lambda rows: np.split(np.asarray(rows).T, len(rows.T) // SETS)  # noqa: E731
    for a, b in zip(one["layers"], both["layers"], strict=True):
        for name, skipped in (("inputs", [2]), ("outputs", [])):  # directions avoid all examples
            for index, (x, y) in enumerate(zip(forget(a[name]), forget(b[name]), strict=True)):
                if index not in skipped:
                    np.testing.assert_allclose(x[0], y[0], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(one["context"][0], both["context"][0], rtol=0.02)


def test_positions_and_a_single_logit():
    """A layer at three positions of every example, whose outputs feed one logit."""
    rng = np.random.default_rng(1)
    n, q, d, width = 20, 3, 4, 5
    h = rng.normal(size=(n, q, d)) + 0.5
    original, bias = rng.normal(size=(d, width)), rng.normal(size=width)
    leaf = original + 0.2 * rng.normal(size=(d, width))
    head = rng.normal(size=(width, 1))
    label = rng.integers(2, size=n).astype(np.int32)
    label_sets = {"b": np.arange(n) % 3 == 0, "a": np.arange(n) % 3 > 0}
    f32 = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731

    def tapped(taps):
        z = f32(h) @ f32(leaf) + f32(bias) + taps["w"][:, None]
        return jax.nn.relu(z).mean(1) @ f32(head), {"w": f32(h)}

    seen = jax.jit(partial(observe_neurons, tapped, jnp.mean))(
        {"w": f32(leaf)},
        {"w": f32(original)},
        jnp.asarray(label),
        {name: f32(rows) for name, rows in label_sets.items()},
    )
    on = h @ leaf + bias > 0
    sign = np.where(label == 1, 1.0, -1.0)
    margin = sign * (np.maximum(h @ leaf + bias, 0).mean(axis=1) @ head)[:, 0]
    slopes = sign[:, None] * on.mean(axis=1) * head[:, 0]
    own = [label_sets["a"], label_sets["b"]]  # in the order of their names
    _compare(seen["layers"][0], _reference(h, leaf, original, margin, slopes, own))
    assert seen["layers"][0]["gradient"].shape == (d, width)


def _transformed(params, before, after, upstream, own):
    """The same function with neurons in another order and in other units."""
    p, before, after = jax.tree.map(np.asarray, params), list(before), list(after)
    changed = {
        "fc1": {
            "kernel": upstream * p["fc1"]["kernel"][:, before],
            "bias": upstream * p["fc1"]["bias"][before],
        },
        "fc2": {
            "kernel": own / upstream * p["fc2"]["kernel"][before][:, after],
            "bias": own * p["fc2"]["bias"][after],
        },
        "head": {"kernel": p["head"]["kernel"][after] / own, "bias": p["head"]["bias"]},
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), changed)


def _score(params):
    """By the whole network, to see that it is still the same function."""
    sets = tiny.task(0).roles["reward"]
    own = jax.nn.softmax(tiny.subject().apply(params, jnp.asarray(sets.x)))
    own = np.asarray(own)[np.arange(len(sets.x)), sets.targets]
    kept, lost = (np.average(own, weights=sets.weights[n]) for n in ("retain", "forget"))
    return kept + 1 - lost


SCALE = st.sampled_from([0.02, 0.5, 1.0, 3.0, 100.0])


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.permutations(range(5)), st.permutations(range(4)), SCALE, SCALE)
def test_units_do_not_matter_and_rows_follow_the_neurons(before, after, upstream, own):
    params = tiny.subject().params
    changed = _transformed(params, before, after, upstream, own)
    plain, seen = _shown(params), _shown(changed)
    np.testing.assert_allclose(seen["context"], plain["context"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(_env().default_params.score, _score(changed), rtol=1e-3)
    sides = ((before, after), (after, range(tiny.CLASSES)))
    for one, other, (rows, columns) in zip(plain["layers"], seen["layers"], sides, strict=True):
        rows, columns = np.array(rows), np.array(columns)
        expected = {
            "inputs": one["inputs"][rows],
            "outputs": one["outputs"][columns],
            "gradient": one["gradient"][rows][:, columns],
            "weights": one["weights"][rows][:, columns],
        }
        for name, value in expected.items():
            np.testing.assert_allclose(other[name], value, rtol=2e-3, atol=2e-3, err_msg=name)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), entry=st.sampled_from([0.0, 1e3, 1e38, np.inf, np.nan]))
def test_a_network_edited_to_pieces_can_be_looked_at(seed, entry):
    env = _env()
    params = env.default_params
    _, state = env.reset_env(KEY, params)
    rng = np.random.default_rng(seed)
    broken = {
        path: jnp.where(rng.random(leaf.shape) < 0.5, np.float32(entry), -leaf)
        for path, leaf in state.leaves.items()
    }
    for leaves in (broken, {path: jnp.full_like(leaf, entry) for path, leaf in broken.items()}):
        seen = _observe(state.replace(leaves=leaves), params)
        for leaf in jax.tree.leaves(seen):
            assert np.all(np.isfinite(leaf)) and np.abs(leaf).max() <= BOUND


def test_dead_layers_and_empty_sets_are_finite():
    """Before any edit: neurons that never fire, a layer of equal weights, a set of nobody."""
    silent = {"kernel": jnp.zeros((6, 5)), "bias": -jnp.ones(5)}
    dead = {**tiny.subject().params, "fc1": silent}
    equal = set_leaves(tiny.subject().params, {"fc2/kernel": jnp.full((5, 4), 0.5, jnp.float32)})
    for params in (dead, equal):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(_shown(params)))
    params = _env().default_params
    _, state = _env().reset_env(KEY, params)
    nobody = params.replace(weights={**params.weights, "forget": jnp.zeros(tiny.SIZES["reward"])})
    seen = _observe(state, nobody)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(seen))
