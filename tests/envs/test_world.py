from functools import lru_cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import GymnaxToGymWrapper, LegacyStepAPIWrapper, LogWrapper
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.data.images.splits import Splits
from modeledit_jax.edits.parametrization import LowRank, PerRow, PerWeight
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.check import (
    check_autoreset,
    check_env,
    check_episode_end,
    check_single_trace,
    check_spaces,
    check_state_types,
    check_step_values,
    play,
)
from modeledit_jax.envs.judgement import judged, requested
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.tasks.unlearning import (
    forget_classes,
    forget_in_turn,
    unlearning_reward,
)
from tests import tiny

KEY = jax.random.key(0)


def _plan(env, seed, scale=0.5):
    return scale * jax.random.normal(jax.random.key(seed), (env.horizon, env.num_actions))


@partial(jax.jit, static_argnums=0)
def _play(env, params, plan):
    """Steps through an episode; the transitions without the automatic reset."""
    _, state = env.reset_env(KEY, params)

    def step(state, action):
        observation, state, reward, terminated, info = env.step_env(KEY, state, action, params)
        return state, (observation, reward, terminated, info, state.leaves)

    return jax.lax.scan(step, state, plan)[1]


@pytest.mark.parametrize(
    "world", ["shift", pytest.param("mask", marks=pytest.mark.slow)], indirect=True
)
def test_it_keeps_every_contract(world):
    check_env(world, key=jax.random.key(1), num_steps=7, episode_length=3)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_rewards_of_an_episode_sum_to_the_final_improvement(world, seed, scale):
    params = world.default_params
    _, rewards, terminated, info, _ = _play(world, params, _plan(world, seed, scale))
    improvement = info["score"][-1] - params.score
    np.testing.assert_allclose(rewards.sum(), improvement, atol=1e-5)
    np.testing.assert_array_equal(terminated, [False, False, True])


def test_no_edit_no_reward(world):
    params = world.default_params
    _, rewards, _, info, leaves = _play(world, params, jnp.zeros((3, world.num_actions)))
    np.testing.assert_allclose(rewards, 0.0, atol=1e-6)
    np.testing.assert_allclose(info["score"], params.score, atol=1e-6)
    for path, original in params.original.items():
        np.testing.assert_array_equal(leaves[path], np.stack([original] * 3))


def test_the_state_holds_the_edited_leaves_and_no_other(world):
    _, state = world.reset(KEY)
    assert set(state.leaves) == {"fc2/kernel"}
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 5 * 4 + 2 + 3  # time, score, parts


def test_the_score_is_that_of_the_whole_network(world):
    """Judged through `set_leaves` and the subject's own apply, without the cached features."""
    task = tiny.task(0, reward=unlearning_reward("soft", edit_size=0.1))
    sets = task.roles["reward"]
    plan = _plan(world, 3)
    *_, info, _ = _play(world, world.default_params, plan)
    leaves = world.apply_plan(plan, world.default_params.original)
    params = set_leaves(task.subject.params, leaves)
    outputs = task.subject.apply(params, jnp.asarray(sets.x))
    own = np.asarray(jax.nn.softmax(outputs))[np.arange(len(sets.x)), sets.targets]
    np.testing.assert_allclose(
        info["part_utility"][-1], np.average(own, weights=sets.weights["retain"]), rtol=1e-4
    )
    np.testing.assert_allclose(
        info["part_forgetting"][-1], 1 - np.average(own, weights=sets.weights["forget"]), rtol=1e-4
    )


def test_apply_plan_gives_the_leaves_of_the_episode(world):
    plan = _plan(world, 4)
    *_, leaves = _play(world, world.default_params, plan)
    planned = world.apply_plan(plan, world.default_params.original)
    np.testing.assert_allclose(planned["fc2/kernel"], leaves["fc2/kernel"][-1], rtol=1e-6)


def test_features_of_many_examples_are_those_of_one_batch():
    x = tiny.blobs(4100, 9)  # more than the 4,096 of a batch
    task = forget_classes(tiny.subject(), Splits(x, x, x, x, num_classes=tiny.CLASSES), 1)
    env = ShiftWorld(task)
    outputs = env.outputs(env.default_params.original, env.default_params.features)
    expected = task.subject.apply(task.subject.params, jnp.asarray(x.x))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(env.default_params.original_outputs, expected, rtol=1e-4, atol=1e-5)


def test_it_holds_no_data_of_another_role():
    """All roles but the one for rewards are filled with numbers that could not come by chance."""
    splits = tiny.splits()
    marks = {"train": 1001.5, "select": 1002.5, "test": 1003.5}
    marked = {
        role: getattr(splits, role).replace(x=np.full_like(getattr(splits, role).x, mark))
        for role, mark in marks.items()
    }
    task = forget_classes(tiny.subject(), splits.replace(**marked), 0)
    env = ShiftWorld(task)
    _, state = env.reset(KEY)
    leaves = jax.tree.leaves((env.default_params, state))
    assert len(leaves) > 10
    other_sizes = {tiny.SIZES[role] for role in marks}
    for leaf in leaves:
        assert not np.isin(np.asarray(leaf), list(marks.values())).any()
        assert not other_sizes & set(leaf.shape)
    # Nor does anything it computes depend on them.
    plain = ShiftWorld(tiny.task(0))
    chex.assert_trees_all_equal(env.default_params, plain.default_params)


@pytest.mark.parametrize("kind", [MaskWorld, ShiftWorld])
def test_observations_stay_finite_where_weights_overflow(kind):
    env = kind(tiny.task(), horizon=3, parametrization=PerWeight())
    params, bound = env.default_params, env.observation_bound
    for entry in (1e3, 1e38, jnp.inf, jnp.nan):
        observation, rewards, *_ = _play(env, params, jnp.full((3, 20), entry))
        assert bool(jnp.all(jnp.isfinite(observation))) and bool(jnp.all(jnp.isfinite(rewards)))
        assert float(jnp.abs(observation).max()) <= bound
    _, state = env.reset_env(KEY, params)
    broken = jnp.full((5, 4), 3e38).at[0].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf, -3e38]))
    shown = env.observe(KEY, state.replace(leaves={"fc2/kernel": broken}), None, params)
    np.testing.assert_array_equal(shown[:4], [0, bound, -bound, -bound])
    np.testing.assert_array_equal(shown[4:20], bound)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 100.0]))
def test_the_bound_does_not_touch_useful_edits(shiftworld, seed, scale):
    params = shiftworld.default_params
    original = np.asarray(params.original["fc2/kernel"])
    leaf = original + np.float32(scale) * np.random.default_rng(seed).normal(size=original.shape)
    _, state = shiftworld.reset_env(KEY, params)
    state = state.replace(leaves={"fc2/kernel": jnp.asarray(leaf, jnp.float32)})
    shown = shiftworld.observe(KEY, state, None, params)[:20]
    expected = (leaf - original.mean()) / original.std()
    np.testing.assert_allclose(shown, expected.ravel(), rtol=1e-4, atol=1e-5)


def test_time_observation_shows_the_time_alone():
    env = ShiftWorld(tiny.task(), horizon=4, observation="time", parametrization=PerRow())
    observation, state = env.reset(KEY)
    assert observation.shape == env.observation_space().shape == (1,)
    for step in range(3):
        action = jnp.ones(env.num_actions)
        observation, state, *_ = env.step(KEY, state, action)
        np.testing.assert_allclose(observation, [(step + 1) / 4])


@pytest.mark.slow
def test_a_random_agent_runs_in_parallel(world):
    params = world.default_params

    @jax.jit
    def rollout(key):
        def step(carry, key):
            action_key, step_key = jax.random.split(key)
            actions = jax.vmap(world.action_space(params).sample)(jax.random.split(action_key, 8))
            observation, carry, reward, terminated, _, info = jax.vmap(world.step, (0, 0, 0, None))(
                jax.random.split(step_key, 8), carry, actions, params
            )
            return carry, (observation, reward, terminated, info)

        _, state = jax.vmap(world.reset, (0, None))(jax.random.split(key, 8), params)
        return jax.lax.scan(step, state, jax.random.split(key, 9))[1]

    observation, reward, terminated, info = rollout(KEY)
    assert observation.shape == (9, 8, 5 * 4 + 3 + 1)
    assert bool(jnp.all(jnp.isfinite(observation))) and bool(jnp.all(jnp.isfinite(reward)))
    np.testing.assert_array_equal(terminated[:, 0], [False, False, True] * 3)
    assert not np.any(info["invalid_reward"])


def test_wrappers_of_gymnax_run(shiftworld):
    action = jnp.full(shiftworld.num_actions, 0.3)
    logged = LogWrapper(shiftworld)
    _, state = logged.reset(KEY, None)
    for _ in range(3):
        _, state, *_, info = logged.step(KEY, state, action, None)
    improvement = info["score"] - shiftworld.default_params.score
    np.testing.assert_allclose(info["returned_episode_returns"], improvement, atol=1e-5)
    assert int(info["returned_episode_lengths"]) == 3

    gym = GymnaxToGymWrapper(shiftworld, seed=0)
    observation, _ = gym.reset()
    assert gym.observation_space.shape == observation.shape
    *_, terminated, truncated, _ = gym.step(np.asarray(action))
    assert not terminated and not truncated

    legacy = LegacyStepAPIWrapper(shiftworld)
    _, state = legacy.reset(KEY, None)
    assert len(legacy.step(KEY, state, action, None)) == 5


def test_a_broken_network_scores_the_minimum_and_is_no_fault_of_the_reward():
    reward = unlearning_reward("soft").replace(minimum=jnp.float32(-7.0))
    env = ShiftWorld(tiny.task(reward=reward), horizon=2, parametrization=PerWeight())
    params = env.default_params
    for entry in (1e38, jnp.inf, jnp.nan):
        plan = jnp.full((2, env.num_actions), entry)
        _, rewards, _, info, _ = _play(env, params, plan)
        np.testing.assert_array_equal(info["score"], -7.0)
        np.testing.assert_array_equal(info["invalid_reward"], 0.0)
        np.testing.assert_allclose(rewards, [-7.0 - params.score, 0.0], rtol=1e-6)
        parts = [info[name] for name in info if name.startswith("part_")]
        assert len(parts) == 2 and bool(jnp.all(jnp.isfinite(jnp.stack(parts))))


@pytest.mark.parametrize("place", ["score", "part"])
def test_a_reward_function_that_fails_after_an_edit_is_flagged(place):
    def reward(sets, edit):
        value = jnp.log(0.1 - edit.size())  # NaN once the edit is large
        return (value, {}) if place == "score" else (0.0, {"own": value})

    env = ShiftWorld(tiny.task(reward=reward), parametrization=PerWeight())
    params = env.default_params
    for scale, invalid in ((0.0, 0.0), (1.0, 1.0)):
        plan = jnp.full((1, env.num_actions), scale)
        _, rewards, _, info, _ = _play(env, params, plan)
        np.testing.assert_array_equal(info["invalid_reward"], invalid)
        assert bool(jnp.all(jnp.isfinite(rewards)))
    np.testing.assert_array_equal(info["score"], -1.0)


def test_a_reward_function_that_fails_on_the_unedited_network_is_refused():
    task = tiny.task(reward=lambda sets, edit: sets["retain"].accuracy() / edit.size() * 0.0)
    with pytest.raises(ValueError, match="not finite for the unedited network"):
        _ = ShiftWorld(task).default_params


def test_a_reward_may_read_the_outputs_of_the_unedited_network():
    def reward(sets, edit):
        return -jnp.abs(sets["retain"].outputs - sets["retain"].original).mean()

    env = ShiftWorld(tiny.task(reward=reward), parametrization=PerWeight())
    assert float(env.default_params.score) == 0.0
    _, rewards, *_ = _play(env, env.default_params, jnp.ones((1, env.num_actions)))
    assert float(rewards[0]) < -0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "at least one edit, got horizon=0"),
        ({"parametrization": LowRank(2), "horizon": -3}, "at least one edit"),
        ({"observation": "all"}, "observation must be one of weights, time, neurons, got 'all'"),
        ({"precision": "half"}, "precision must be one of float32, tf32, bfloat16, got 'half'"),
    ],
)
def test_bad_options_are_refused(options, message, unchecked_annotations):
    with pytest.raises(ValueError, match=message):
        ShiftWorld(tiny.task(), **options)


def test_params_of_another_site_are_refused(world):
    with pytest.raises(ValueError, match=r"the task edits .*fc1/kernel.* the environment .*fc2"):
        world.params(tiny.task(site="fc1/kernel"))


def _final_score(env, plan, params):
    _, state = env.reset_env(KEY, params)
    for action in plan:
        _, state, *_ = env.step_env(KEY, state, action, params)
    return state.score


@pytest.mark.slow
def test_transition_gradients_agree_with_finite_differences(world):
    env, params = world.with_transition_gradients(), world.default_params
    plan = _plan(world, 6, 0.4)
    score = jax.jit(lambda plan: _final_score(env, plan, params))
    gradient = jax.jit(jax.grad(score))(plan)
    assert bool(jnp.all(jnp.linalg.norm(gradient, axis=1) > 1e-3))  # of every edit
    for seed in range(3):
        direction = jax.random.normal(jax.random.key(seed), plan.shape)
        direction = direction / jnp.linalg.norm(direction)
        slope = (score(plan + 1e-2 * direction) - score(plan - 1e-2 * direction)) / 2e-2
        np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=0.02, atol=5e-4)


def test_transitions_are_detached_unless_gradients_are_asked_for(world):
    plan = _plan(world, 6, 0.4)
    gradient = jax.grad(lambda plan: _final_score(world, plan, world.default_params))(plan)
    assert not np.any(gradient)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MaskWorld, ShiftWorld])
def test_half_precision_networks_stay_half_precision(kind):
    env = kind(tiny.task(base=tiny.subject(0, (5, 4), "bfloat16")), horizon=3)
    params = env.default_params
    check_state_types(env, params, KEY)
    observation, rewards, _, info, leaves = _play(env, params, _plan(env, 0))
    assert leaves["fc2/kernel"].dtype == jnp.bfloat16
    assert observation.dtype == rewards.dtype == jnp.float32
    np.testing.assert_allclose(rewards.sum(), info["score"][-1] - params.score, atol=1e-5)


@lru_cache
def _in_turn(observation="neurons"):
    """Two classes are forgotten one after the other."""
    reward = unlearning_reward("soft", edit_size=0.1)
    task = forget_in_turn(tiny.subject(), tiny.splits(), (2, 0), reward=reward)
    return ShiftWorld(
        task, horizon=task.requests, parametrization=LowRank(2), observation=observation
    )


@lru_cache
def _one_step():
    return MaskWorld(tiny.task(0), parametrization=PerWeight(), observation="neurons")


@pytest.mark.slow
@pytest.mark.parametrize(("make", "length"), [(_one_step, 1), (_in_turn, 2)])
def test_episodes_seen_by_neurons_keep_the_contracts(make, length):
    env, params = make(), make().default_params
    check_state_types(env, params, KEY)
    transitions, traces = play(env, params, KEY, length + 1)
    check_single_trace(traces)
    check_step_values(transitions[0])
    check_spaces(env, params, transitions)
    check_episode_end(transitions, length, length)
    check_autoreset(env, params, transitions)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "length"), [(_one_step, 1), (_in_turn, 2)])
def test_worlds_seen_by_neurons_keep_every_contract(make, length):
    check_env(make(), key=KEY, num_steps=length + 1, episode_length=length, tolerance=1e-4)


def test_every_step_is_paid_for_its_own_request():
    """The score before an edit is that of its request, not of the one before."""
    env = _in_turn()
    params, plan = env.default_params, _plan(env, 1)
    _, rewards, terminated, info, leaves = _play(env, params, plan)
    np.testing.assert_array_equal(terminated, [False, True])
    task = forget_in_turn(tiny.subject(), tiny.splits(), (2, 0))
    sets = task.roles["reward"]
    before = params.original
    for step in range(2):
        after = {path: leaf[step] for path, leaf in leaves.items()}
        scores = [_soft_score(task, own, sets, step) for own in (before, after)]
        for own, score in zip((before, after), scores, strict=True):
            np.testing.assert_allclose(_evaluate(own, params, step), score, rtol=1e-4)
        np.testing.assert_allclose(rewards[step], scores[1] - scores[0], atol=1e-4)
        np.testing.assert_allclose(info["score"][step], scores[1], rtol=1e-4)
        before = after
    assert abs(float(rewards.sum()) - float(info["score"][-1] - params.score)) > 0.01


@jax.jit
def _evaluate(leaves, params, step):
    return _in_turn().evaluate(leaves, params, step)[0]


def _soft_score(task, leaves, sets, step):
    """The reward of one step by the whole network, in NumPy past the outputs."""
    outputs = task.subject.apply(set_leaves(task.subject.params, leaves), jnp.asarray(sets.x))
    own = np.asarray(jax.nn.softmax(outputs))[np.arange(len(sets.x)), sets.targets]
    kept, lost = (np.average(own, weights=sets.weights[n][step]) for n in ("retain", "forget"))
    (path,) = leaves
    moved, original = np.asarray(leaves[path]), np.asarray(task.leaves[path])
    size = np.linalg.norm(moved - original) / np.linalg.norm(original)
    return kept + 1 - lost - 0.1 * size


def test_what_is_seen_follows_the_request():
    """Right after an edit the next request is shown, for which the next edit will be paid."""
    env = _in_turn()
    params, plan = env.default_params, _plan(env, 2)
    first, state = env.reset_env(KEY, params)
    after, edited, *_ = jax.jit(env.step_env)(KEY, state, plan[0], params)
    scores = [float(_evaluate(edited.leaves, params, step)) for step in range(3)]
    np.testing.assert_allclose(edited.score, scores[1], rtol=1e-5)
    assert abs(scores[1] - scores[0]) > 0.01 and scores[2] == scores[1]
    sets = {name: np.asarray(weight) for name, weight in params.weights.items()}
    for step in range(4):
        for name, weight in requested(params.weights, step).items():
            np.testing.assert_array_equal(weight, sets[name][min(step, 1)])
    # The context leads with the margin of each set, where it is still right, by its mean size.
    for observation, leaves, step in ((first, params.original, 0), (after, edited.leaves, 1)):
        logits = np.asarray(env.outputs(leaves, params.features), np.float64)
        label = tiny.splits().reward.y
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own = p[np.arange(len(label)), label]
        margin = np.log(own / (1 - own))
        means = [np.average(margin, weights=own * sets[n][step]) for n in ("forget", "retain")]
        expected = np.array(means) / np.abs(margin).mean()
        np.testing.assert_allclose(observation["context"][:2], expected, rtol=1e-3, atol=1e-4)


def test_a_request_that_never_changes_is_a_plain_task():
    """``[T, N]`` with equal rows is ``[N]``: same rewards, scores and flat observations."""
    env, plain = _in_turn("weights"), tiny.task(2, reward=unlearning_reward("soft", edit_size=0.1))
    params = env.params(plain)
    twice = params.replace(weights={n: jnp.stack([w, w]) for n, w in params.weights.items()})
    plan = _plan(env, 3)
    one, other = _play(env, params, plan), _play(env, twice, plan)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)
    _, rewards, _, info, _ = one
    np.testing.assert_allclose(rewards.sum(), info["score"][-1] - params.score, atol=1e-5)


@pytest.mark.slow
def test_a_site_that_is_no_dense_kernel_cannot_be_seen_by_neurons():
    with pytest.raises(ValueError, match="does not use fc2/bias once, as x @ W"):
        _ = ShiftWorld(tiny.task(site="fc2/bias"), observation="neurons").default_params


def test_episodes_longer_than_the_horizon_are_refused():
    """Outside of a trace; inside, where nothing can be refused, they end at the horizon."""
    env = ShiftWorld(tiny.task(), horizon=2, observation="time")
    params = env.default_params.replace(max_steps_in_episode=jnp.int32(3))
    with pytest.raises(ValueError, match=r"max_steps_in_episode=3: .* episodes of 2 at most"):
        env.reset(KEY, params)
    shorter = env.default_params.replace(max_steps_in_episode=jnp.int32(1))
    assert env.reset(KEY, shorter)[0] == 0.0

    @jax.jit
    def play(params):
        _, state = env.reset(KEY, params)
        steps = []
        for _ in range(3):
            action = jnp.ones(env.num_actions)
            observation, state, reward, ended, _ = env.step_env(KEY, state, action, params)
            steps.append((observation[0], reward, ended))
        return jax.tree.map(lambda *x: jnp.stack(x), *steps)

    seen, rewards, ended = play(params)
    np.testing.assert_array_equal(seen, [0.5, 1.0, 1.5])
    np.testing.assert_array_equal(ended, [False, True, True])
    assert rewards[1] != 0.0 == rewards[2]
    jax.tree.map(np.testing.assert_array_equal, play(params), play(env.default_params))
    np.testing.assert_array_equal(play(shorter)[2], [True, True, True])


LEAST = jnp.float32(-3.0)


@pytest.mark.parametrize("broken", [jnp.nan, -jnp.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_one_output_that_is_not_finite_breaks_a_network(broken, place):
    whole, scores = jnp.ones((2, 3)), (jnp.float32(2.0), {"a": jnp.float32(1.0)})
    score, parts, blamed = judged(whole.at[place].set(broken), *scores, LEAST)
    assert (float(score), float(parts["a"]), bool(blamed)) == (-3.0, 0.0, False)
    score, parts, blamed = judged(whole, *scores, LEAST)
    assert (float(score), float(parts["a"]), bool(blamed)) == (2.0, 1.0, False)
