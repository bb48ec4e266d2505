"""The reward against hand-made scores, and what it must not pay for."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from modeledit_jax.envs.worlds import make
from modeledit_jax.evaluation.fairness import equal_error_threshold
from modeledit_jax.tasks.debiasing import CommentTargets, members
from modeledit_jax.tasks.debiasing_reward import (
    KINDS,
    MARGINS,
    SOFTNESS,
    WEIGHTS,
    debiasing_reward,
)
from modeledit_jax.tasks.reward import EditedWeights, SetOutputs
from tests import tiny_comments

LEAVES = {"w": jnp.array([3.0, 4.0])}


def _scores(task):
    sets = task.roles["reward"]
    return np.asarray(task.subject.apply(task.subject.params, jnp.asarray(sets.x)))[:, 0]


@cache
def _compiled(kind, weights=()):
    """Score and parts of outputs and edited leaves, as one program, and the names of the parts."""
    sets = tiny_comments.task().roles["reward"]
    before = jnp.asarray(_scores(tiny_comments.task()))[:, None]
    reward = debiasing_reward(before, sets.targets, sets.weights, kind, dict(weights) or None)

    names = []  # in their order, which a compiled program does not keep

    @jax.jit
    def judged(outputs, leaves):
        targets = jax.tree.map(jnp.asarray, sets.targets)
        seen = {
            n: SetOutputs(outputs, before, targets, jnp.asarray(w)) for n, w in sets.weights.items()
        }
        score, parts = reward(seen, EditedWeights(leaves, LEAVES))
        names[:] = parts
        return score, list(parts.values())

    return judged, names


def _judge(scores, kind="fairness", leaves=LEAVES, weights=()):
    """Score and parts of a classifier that gives these scores, counted from the task's own."""
    outputs = jnp.asarray(np.float32(scores)[:, None])
    judged, names = _compiled(kind, weights)
    score, values = judged(outputs, leaves)
    parts = dict(zip(names, values, strict=True))
    return float(score), {name: float(value) for name, value in parts.items()}


@pytest.fixture(scope="module")
def task():
    return tiny_comments.task()


def _power_mean(values):
    return np.mean(np.asarray(values) ** -5.0) ** -0.2


def test_parts_equal_scikit_learn_and_numpy(task):
    scores, sets = _scores(task), task.roles["reward"]
    noise = np.random.default_rng(0).normal(scale=2.0, size=len(scores)).astype(np.float32)
    after = scores + noise
    _, parts = _judge(after)
    plain, rest = members(sets, "comments"), members(sets, "counterfactuals")
    label, groups = sets.label, sets.targets.groups
    lost = roc_auc_score(label[plain], scores[plain]) - roc_auc_score(label[plain], after[plain])
    np.testing.assert_allclose(parts["auc_loss"], -max(lost - MARGINS["auc"], 0), atol=1e-5)
    bpsn, bnsp = [], []
    for term in np.flatnonzero(groups[rest].any(axis=0)):
        own = groups[rest, term] > 0
        for cells, values in (
            ((own & (label[rest] == 0)) | (~own & (label[rest] == 1)), bpsn),
            ((own & (label[rest] == 1)) | (~own & (label[rest] == 0)), bnsp),
        ):
            values.append(roc_auc_score(label[rest][cells], after[rest][cells]))
    np.testing.assert_allclose(parts["bpsn"], _power_mean(bpsn) - 1, atol=1e-5)
    np.testing.assert_allclose(parts["bnsp"], _power_mean(bnsp) - 1, atol=1e-5)
    blocks = after[sets.targets.blocks]
    expected = -blocks.var(axis=1).mean() / blocks.var()
    np.testing.assert_allclose(parts["dispersion"], expected, rtol=1e-4)


def test_the_score_is_the_weighted_sum_of_its_parts(task):
    noise = np.random.default_rng(1).normal(size=len(task.roles["reward"].x)).astype(np.float32)
    for kind in KINDS:
        score, parts = _judge(_scores(task) + noise, kind)
        assert tuple(parts) == KINDS[kind] and max(parts.values()) <= 0
        expected = sum(WEIGHTS[name] * value for name, value in parts.items())
        np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_the_unedited_classifier_loses_nothing(task):
    _, parts = _judge(_scores(task))
    losses = ("auc_loss", "accuracy_loss", "subgroup_loss", "edit_size")
    assert [parts[name] for name in losses] == [0, 0, 0, 0]


def test_edit_size_is_the_squared_relative_norm(task):
    _, parts = _judge(_scores(task), leaves={"w": jnp.array([3.0, 6.0])})
    np.testing.assert_allclose(parts["edit_size"], -((2 / 5) ** 2), rtol=1e-5)


def test_weights_can_be_chosen(task):
    score, parts = _judge(_scores(task), "fped", weights=(("fped", 7.0),))
    np.testing.assert_allclose(score, 7.0 * parts["fped"], rtol=1e-6)
    with pytest.raises(ValueError, match="the reward 'fped' has no part bpsn; its parts are fped"):
        _judge(_scores(task), "fped", weights=(("bpsn", 1.0),))


def test_a_shift_of_all_scores_earns_nothing(task):
    """The default reward sees no threshold but that of accuracy, which a shift can only lower."""
    before, _ = _judge(_scores(task))
    for shift in (-3.0, -0.5, 0.5, 3.0):
        after, _ = _judge(_scores(task) + shift)
        assert after <= before + 1e-5


def test_calling_nothing_toxic_is_what_fped_alone_pays_for(task):
    """The documented collapse: the best of all edits for `fped`, the worst for `fairness`."""
    collapsed = np.full_like(_scores(task), -100.0)
    assert _judge(collapsed, "fped")[0] == 0.0 > _judge(_scores(task), "fped")[0]
    assert _judge(collapsed)[0] < _judge(_scores(task))[0] - 1.0
    assert _judge(collapsed, "rates")[0] < _judge(_scores(task), "rates")[0]


def test_a_perfectly_fair_classifier_earns_more(task):
    """Scores averaged within blocks do not know the term."""
    sets = task.roles["reward"]
    fair = _scores(task).copy()
    fair[sets.targets.blocks] = fair[sets.targets.blocks].mean(axis=1, keepdims=True)
    score, parts = _judge(fair)
    assert score > _judge(_scores(task))[0] and abs(parts["dispersion"]) < 1e-9


@pytest.mark.slow
def test_the_reward_in_a_world_is_never_invalid(task):
    """A mask of zero makes all scores equal, infinite weights make them NaN: both are defined."""
    env, params = make("MaskWorld-v0", task)
    for leaves, expected in (
        ({path: jnp.zeros_like(leaf) for path, leaf in params.original.items()}, None),
        ({path: jnp.full_like(leaf, jnp.inf) for path, leaf in params.original.items()}, -10.0),
    ):
        score, parts, invalid = jax.jit(env.evaluate)(leaves, params)
        assert not bool(invalid) and bool(jnp.isfinite(score))
        assert all(bool(jnp.isfinite(part)) for part in parts.values())
        if expected is not None:
            assert float(score) == expected


def test_the_default_weights_are_those_of_the_formula(task):
    """As the docstring of `debiasing_reward` and docs/bias_mitigation.md have it."""
    noise = np.random.default_rng(1).normal(size=len(_scores(task))).astype(np.float32)
    score, parts = _judge(_scores(task) + noise, "fidelity")
    written = {"distillation": 1, "block_mean": 5, "pairing": 5, "rate_shift": 40, "term_rates": 60}
    total = sum(weight * float(parts[name]) for name, weight in written.items())
    np.testing.assert_allclose(score, total, rtol=1e-4)


def test_fidelity_by_hand(task):
    """Its parts against NumPy, in units of the variance of the unedited scores."""
    before, sets = _scores(task), task.roles["reward"]
    noise = np.random.default_rng(1).normal(size=len(before)).astype(np.float32)
    after = before + noise
    score, parts = _judge(after, "fidelity", weights=(("pairing", 7.0),))
    plain, blocks = members(sets, "comments"), np.asarray(sets.targets.blocks)
    unit = before[plain].var()
    expected = {
        "distillation": -(noise[plain] ** 2).mean() / unit,
        "block_mean": -(noise[blocks].mean(axis=1) ** 2).mean() / unit,
        "pairing": -after[blocks].var(axis=1).mean() / unit,
        "rate_shift": 0.0,
    }
    label = np.asarray(sets.targets.label)
    cut = float(equal_error_threshold(jnp.asarray(before[plain]), jnp.asarray(label[plain])))
    called_before, called = (
        1 / (1 + np.exp(-(z - cut) / (SOFTNESS * np.sqrt(unit)))) for z in (before, after)
    )
    named = np.asarray(sets.targets.groups).any(axis=1) & (
        np.asarray(sets.weights["comments"]) == 0
    )
    for toxic in (0, 1):
        rows = named & (label == toxic)
        expected["rate_shift"] -= (called - called_before)[rows].mean() ** 2
    groups, differences = np.asarray(sets.targets.groups), {0: {}, 1: {}}
    for block in blocks:  # every text of a block has a term here
        for row in block:
            term = int(groups[row].argmax())
            differences[label[row]].setdefault(term, []).append(called[row] - called[block].mean())
    expected["term_rates"] = -sum(
        np.mean([np.mean(values) ** 2 for values in of_label.values()])
        for of_label in differences.values()
    )
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-3, atol=1e-6)
    weighting = WEIGHTS | {"pairing": 7.0}
    total = sum(weighting[name] * value for name, value in expected.items())
    np.testing.assert_allclose(score, total, rtol=1e-3)


def _parts(before, after, targets):
    """Parts of fidelity where the first two texts are comments."""
    weights = {"comments": (jnp.arange(len(before)) < 2) * 1.0}
    weights["counterfactuals"] = 1.0 - weights["comments"]
    reward = debiasing_reward(before, targets, weights, "fidelity")
    sets = {n: SetOutputs(after, before, targets, w) for n, w in weights.items()}
    judge = jax.jit(lambda reward, sets: reward(sets, EditedWeights(LEAVES, LEAVES))[1])
    return {name: float(value) for name, value in judge(reward, sets).items()}


def test_texts_with_a_term_and_with_other_words_have_levels_of_their_own():
    """One block of two texts with a term and two with other words; Var z = 1 over the comments."""
    before = jnp.array([[0.0], [2.0], [1.0], [3.0], [-1.0], [0.0]])
    label, kind = jnp.array([0, 1, 0, 0, 0, 0]), jnp.zeros(6, jnp.int32)
    groups = jnp.array([[0], [0], [1], [1], [0], [0]], jnp.float32)
    targets = CommentTargets(label, groups, jnp.array([[2, 3, 4, 5]]), kind)

    def parts(after):
        found = _parts(before, jnp.array([after]).T, targets)
        return [found[name] for name in ("distillation", "block_mean", "pairing")]

    assert parts([0.0, 2, 2, 2, -0.5, -0.5]) == [0, 0, 0]  # equal within, both levels kept
    assert parts([0.0, 2, 1, 3, -1, 0]) == [0, 0, -1.25]  # not edited: variances 1 and 1/4
    # All are brought to one level: that of terms is kept, that of other words rises by 2.5.
    assert parts([0.0, 2, 2, 2, 2, 2]) == [0, -6.25, 0]
    assert parts([0.5, 2.5, 1, 1, -0.5, -0.5]) == [-0.25, -1, 0]


def test_error_rates_are_held_on_every_kind_of_context():
    """Calls of one kind rise as those of another fall: nothing together, but a shift of each."""
    before = jnp.array([[-1.0], [1.0], [9.0], [9.0], [-9.0], [-9.0]])
    after = jnp.array([[-1.0], [1.0], [-9.0], [9.0], [9.0], [-9.0]])
    label, groups = jnp.array([0, 1, 0, 0, 0, 0]), jnp.ones((6, 1), jnp.float32)
    blocks = jnp.array([[2, 3], [4, 5]])

    def shift(kind):
        kinds = jnp.array([0, 0, *kind], jnp.int32)
        return _parts(before, after, CommentTargets(label, groups, blocks, kinds))["rate_shift"]

    # Of either kind one of two texts crosses the threshold: (1/4 + 1/4) / 2 kinds.
    assert shift([0, 0, 1, 1]) == pytest.approx(-0.25, abs=1e-6)
    assert shift([0, 0, 0, 0]) == pytest.approx(0.0, abs=1e-6)


def test_rates_of_terms_are_compared_within_their_contexts():
    """Two terms in two contexts, another word in both; a third term stands in the second alone."""
    #        comments    first: A    B  word   second: A  B  C  word
    scores = [-1.0, 1.0, 9.0, -9.0, 9.0, 9.0, 9.0, 9.0, -9.0]
    label = jnp.array([0, 1] + 7 * [0])
    terms = [None, None, 0, 1, None, 0, 1, 2, None]
    groups = jnp.array([[float(term == i) for i in range(3)] for term in terms])
    blocks = jnp.array([[2, 3, 4, 4], [5, 6, 7, 8]])

    def rates(scores, label=label):
        targets = CommentTargets(label, groups, blocks, jnp.zeros(9, jnp.int32))
        return _parts(scores_before, jnp.array([scores]).T, targets)["term_rates"]

    scores_before = jnp.array([scores]).T
    # A is called 1/2 more often than its contexts' terms in the first, as often in the second.
    assert rates(scores) == pytest.approx(-(0.25**2 + 0.25**2) / 3, abs=1e-6)
    assert rates([-1.0, 1.0, 9, 9, -9, -9, -9, -9, 9]) == pytest.approx(0.0, abs=1e-6)
    # Of a label each: 1/2 and 1/2 in one, nothing in the other.
    mixed = label.at[jnp.array([2, 3, 4])].set(1)
    assert rates(scores, mixed) == pytest.approx(-(0.5**2 + 0.5**2) / 2, abs=1e-6)


def test_fidelity_does_not_pay_for_a_shift_of_all_texts_about_people(task):
    """What the AUC parts allow: the same step down for every counterfactual, and no comment."""
    before, sets = _scores(task), task.roles["reward"]
    shifted = before - 1.0 * np.asarray(sets.weights["counterfactuals"], np.float32)
    assert _judge(shifted, "fidelity")[0] < _judge(before, "fidelity")[0] - 0.01
    assert _judge(shifted)[0] == pytest.approx(_judge(before)[0], abs=1e-3)
