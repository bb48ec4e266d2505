"""Lifelong editing as an environment."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import IGNORED
from modeledit_jax.envs.check import check_env
from modeledit_jax.envs.worlds import register_worlds
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from modeledit_jax.lifelong.stream_world import StreamWorld
from tests.lifelong.conftest import model, stream  # noqa: F401  (fixtures)

KEY = jax.random.key(0)
OBJECTIVE = Objective(memory=2)


@pytest.fixture(scope="module")
def env(model, stream):  # noqa: F811
    return StreamWorld(model, stream, OBJECTIVE)


@pytest.mark.slow
def test_it_is_a_gymnax_environment(env):
    check_env(env, key=KEY, num_steps=6, episode_length=4, tolerance=1e-3)


@pytest.mark.slow
def test_an_editor_as_a_policy_is_the_stream(env, model, stream):  # noqa: F811
    """What an editor does in a stream is what its actions do in the world."""
    editor = HypernetworkEditor("ultraedit", rows=env.rows, learning_rate=1e-2)
    own = editor.init(model, KEY)
    expected, _ = edit_stream(editor, model, start_stream(model, own, KEY), stream)

    params = env.default_params
    observation, state = env.reset(KEY, params)
    step = jax.jit(env.step_env)
    for t in range(stream.subject_last.shape[0]):
        batch = jax.tree.map(lambda leaf, t=t: leaf[t], stream)
        rows, own = editor.observe(model, state.kernels, own, batch)
        first = next(iter(rows.keys.values()))
        np.testing.assert_allclose(observation[: first.size], first.ravel(), rtol=1e-4, atol=1e-5)
        changes = editor.propose(model, own.learned.networks, own.statistics, rows)
        before = state.kernels
        observation, state, reward, terminated, _ = step(
            KEY, state, env.action(changes, model), params
        )
        loss = trajectory_loss(model, before, changes, stream, jnp.int32(t), OBJECTIVE)
        np.testing.assert_allclose(reward, -loss, rtol=1e-4)
    assert terminated and (observation == 0).all()
    for name in model.modules:
        np.testing.assert_allclose(state.kernels[name], expected.kernels[name], atol=1e-4)


@pytest.mark.slow
def test_the_reward_has_the_gradient_of_the_loss(env, model, stream):  # noqa: F811
    params = env.default_params
    _, state = env.reset(KEY, params)
    action = 0.3 * jax.random.normal(KEY, (env.num_actions,))
    way = jax.random.normal(jax.random.key(1), action.shape)

    @jax.jit
    def reward(action):
        return env.step_env(KEY, state, action, params)[2]

    slope = jax.grad(reward)(action) @ way
    numeric = (reward(action + 1e-3 * way) - reward(action - 1e-3 * way)) / 2e-3
    np.testing.assert_allclose(slope, numeric, rtol=0.02)


def test_zero_action_is_no_edit(env, model):  # noqa: F811
    params = env.default_params
    _, state = env.reset(KEY, params)
    _, after, _, _, info = jax.jit(env.step_env)(KEY, state, jnp.zeros(env.num_actions), params)
    for name, kernel in model.kernels().items():
        np.testing.assert_array_equal(after.kernels[name], kernel)
    assert info["change_norm"] == 0


def test_gymnax_knows_it_by_name(env, model, stream):  # noqa: F811
    register_worlds()
    other, params = gymnax.make("StreamWorld-v0", model=model, stream=stream, objective=OBJECTIVE)
    assert isinstance(other, StreamWorld) and other.num_actions == env.num_actions
    assert params.max_steps_in_episode == stream.batches


def test_facts_that_need_more_rows_are_refused(env, model, stream):  # noqa: F811
    edit = stream.edit.replace(labels=jnp.where(stream.edit.attention, 1, IGNORED))
    with pytest.raises(ValueError, match=rf"rows={env.rows}: a batch has \d+ answer tokens"):
        env.params(model, stream.replace(edit=edit))
    unknown = stream.replace(rephrase=stream.rephrase.replace(tokens=stream.edit.tokens + 23))
    with pytest.raises(ValueError, match=r"stream\.rephrase holds the token \d+, and the network"):
        env.params(model, unknown)
