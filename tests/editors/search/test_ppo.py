"""PPO as a search: its plan is the deterministic episode, and its numbers can be swept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.networks import ActorCritic, GaussianHead
from modeledit_jax.editors.search.ppo import PPO, editing_config
from modeledit_jax.editors.search.search import run_updates
from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.envs.worlds import ShiftWorld
from tests import tiny
from tests.editors import bowl

KEY = jax.random.key(1)
BOWL = bowl.world()
CONFIG = PPOConfig(num_envs=4, num_steps=3, learning_rate=0.05, num_epochs=2, hidden_sizes=(3,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("horizon", "hidden"), [(1, (5,)), (3, None)], ids=["own-network", "default-network"]
)
def test_the_plan_is_the_episode_of_most_probable_actions(horizon, hidden):
    env = ShiftWorld(tiny.task(0), parametrization=LowRank(1), horizon=horizon)
    params = env.default_params
    head = GaussianHead((env.num_actions,))
    network = ActorCritic(head, hidden) if hidden else None
    search = PPO(config=replace(CONFIG, normalize_observations=True), network=network)

    @jax.jit
    def run(params):
        state = search.init(env, params, KEY)
        state, trace = run_updates(search, env, params, state, 3)
        return state, trace.plans[-1]

    state, plan = run(params)
    assert plan.shape == (horizon, env.num_actions)
    network = ActorCritic(head, hidden or CONFIG.hidden_sizes)
    observation, world = env.reset(KEY, params)
    step = jax.jit(env.step)
    for action in plan:
        seen = state.observation_statistics.normalize(observation)
        expected = network.apply(state.params, seen)[0].mode()
        np.testing.assert_allclose(action, expected, atol=1e-5)
        *_, info = last = step(KEY, world, action, params)
        world, observation = last[1], info["final_observation"]
    assert bool(last[3])  # the episode is over
    if horizon > 1:
        assert np.abs(plan[1] - plan[0]).max() > 1e-4  # it looks at what it has done


def test_settings_of_the_search_reach_ppo():
    config = PPO(budget=120, population=12, learning_rate=0.3, std=0.7).hyperparameters
    assert (config.num_envs, config.num_updates) == (12, 10)
    assert (config.action_learning_rate, config.initial_std) == (0.3, 0.7)


def test_the_search_starts_where_the_parametrization_says():
    env = ShiftWorld(tiny.task(0), parametrization=LowRank(2))
    search = PPO(config=replace(CONFIG, initial_std=0.2))
    state = search.init(env, env.default_params, KEY)
    start = env.edit.start(jax.random.split(KEY)[0])
    assert np.std(start) > 0.1
    np.testing.assert_allclose(search.plan(env, env.default_params, state), start[None], atol=1e-6)
    head = state.params["params"]["head"]
    np.testing.assert_allclose(np.exp(head["log_std"]), 0.2, rtol=1e-5)


@pytest.mark.parametrize("horizon", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_search_starts_where_it_is_told_to(horizon):
    env, start = bowl.world(horizon), jnp.asarray(bowl.TARGET)
    search = PPO(config=replace(CONFIG, initial_std=0.2), start=start)
    state = search.init(env, env.default_params, KEY)
    plan = search.plan(env, env.default_params, state)
    np.testing.assert_allclose(plan, np.tile(start, (horizon, 1)), atol=1e-6)
    with pytest.raises(ValueError, match=r"start_action has shape \(3,\), but action_mean"):
        PPO(config=CONFIG, start=jnp.zeros(3)).init(env, env.default_params, KEY)


@pytest.mark.slow
def test_the_default_settings_find_the_bottom_of_a_bowl_and_can_be_swept():
    default = replace(editing_config(1500), hidden_sizes=(3,))

    @jax.jit
    def run(rate, spread):
        config = replace(default, action_learning_rate=rate, initial_std=spread)
        search, params = PPO(config=config), BOWL.default_params
        return run_updates(search, BOWL, params, search.init(BOWL, params, KEY), 150)[1].plans

    rates, spreads = jnp.array([default.action_learning_rate, 0.0]), jnp.array([0.3, 0.6])
    plans = run(rates[0], spreads[0])
    distance = np.linalg.norm(plans[:, 0] - bowl.TARGET, axis=1)
    assert distance[-1] < 0.15 * np.linalg.norm(bowl.TARGET)
    swept = jax.vmap(run)(rates, spreads)
    np.testing.assert_allclose(swept[0, :5], plans[:5], atol=1e-3)
    # Without a rate for the mean, only the network moves it, a little.
    assert np.abs(swept[1, :5]).max() < 1e-2 < np.abs(swept[0, :5]).max()


@pytest.mark.parametrize("world", ["mask", "shift"])
@pytest.mark.parametrize("horizon", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("budget", [100, 1999])
def test_default_schedule_spends_the_budget(budget, horizon, world):
    config = editing_config(budget, horizon, world)
    assert config.num_steps == horizon and config.num_envs >= 2
    assert 0 <= budget - config.num_updates * config.batch_size < config.batch_size
    search = PPO(config=config)
    assert search.evaluations_per_update == config.batch_size
    assert search.gradient_steps_per_update == 1
