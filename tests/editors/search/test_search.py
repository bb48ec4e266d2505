"""What all searches share: cost, budget, tasks side by side, rewards without a value."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.search.search import (
    Search,
    SearchEditor,
    from_static_form,
    run_updates,
    static_form,
)
from modeledit_jax.edits.parametrization import LowRank, PerRow, PerWeight
from modeledit_jax.envs.stacking import stack_params
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from tests import tiny
from tests.editors import bowl

KEY = jax.random.key(0)
PPO_OF_FOUR = PPO(
    config=PPOConfig(num_envs=4, num_steps=1, num_epochs=2, num_minibatches=2, hidden_sizes=(3,))
)
SEARCHES = (PPO_OF_FOUR, SNES(population=4), OpenES(population=4), RandomSearch(population=4))
IDS = ("ppo", "snes", "openes", "random-search")


def _bits(state):
    """The state with its PRNG keys as numbers."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES[:2], ids=IDS[:2])
def test_chunks_give_the_bits_of_one_run(search):
    env = bowl.world()
    params = env.default_params
    run = jax.jit(partial(run_updates, search, env), static_argnums=2)
    start = jax.jit(partial(search.init, env))(params, KEY)
    state, whole = run(params, start, 4)
    half, first = run(params, start, 2)
    end, second = run(params, half, 2)
    jax.tree.map(np.testing.assert_array_equal, _bits(end), _bits(state))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), first, second)
    jax.tree.map(np.testing.assert_array_equal, joined, whole)
    assert whole.plans.shape == (4, 1, bowl.SIZE)
    assert np.unique(np.asarray(whole.metrics["score"])).size == 4
    assert not np.any(whole.metrics["invalid_reward"])


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES[:2], ids=IDS[:2])
def test_tasks_side_by_side_are_tasks_one_by_one(search):
    tasks = [tiny.task(0), tiny.task((0, 1), base=tiny.subject(5))]
    env = ShiftWorld(tasks[0], parametrization=LowRank(1))
    params = [env.params(task) for task in tasks]
    keys = jax.random.split(KEY, 2)

    @jax.jit
    def run(params, key):
        return run_updates(search, env, params, search.init(env, params, key), 3)[1]

    together = jax.jit(jax.vmap(run))(stack_params(params), keys)
    for index in range(2):
        alone = run(params[index], keys[index])
        np.testing.assert_allclose(together.plans[index], alone.plans, atol=1e-4)
        score = together.metrics["score"][index]
        np.testing.assert_allclose(score, alone.metrics["score"], atol=1e-4)
    assert np.unique(np.asarray(together.metrics["score"])).size == 6


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_cost_is_what_was_spent(search):
    assert isinstance(search, Search) and isinstance(search, Editor)
    calls = []

    def reward(sets, edit):
        score = sets["retain"].probability()
        jax.debug.callback(lambda _: calls.append(1), score)
        return score

    task = tiny.task(0, reward=reward)
    search = replace(search, budget=11, parametrization=PerRow())
    result = search.edit(task, KEY)
    jax.effects_barrier()
    assert len(calls) - 1 == result.cost.reward_evaluations == 8  # one for the unedited network
    steps = {"PPO": 2 * 2 * 2, "RandomSearch": 0}.get(type(search).__name__, 2)
    assert result.cost.gradient_steps == steps
    assert result.cost.seconds > 0 == search.cost.seconds
    assert search.cost == replace(result.cost, seconds=0.0)
    env = ShiftWorld(task, parametrization=PerRow())
    assert result.trace.plans.shape == (2, 1, env.num_actions)

    edited = env.apply_plan(result.trace.plans[-1], env.default_params.original)
    np.testing.assert_array_equal(result.params["fc2"]["kernel"], edited["fc2/kernel"])
    assert np.any(result.params["fc2"]["kernel"] != task.subject.params["fc2"]["kernel"])
    for layer, name in (("fc1", "kernel"), ("fc2", "bias"), ("head", "kernel"), ("head", "bias")):
        assert result.params[layer][name] is task.subject.params[layer][name]


@pytest.mark.parametrize("budget", [0, 3])
def test_a_budget_below_one_update_is_refused(budget):
    message = f"budget of {budget} reward evaluations does not pay for one update of SNES.* takes 4"
    search = replace(SEARCHES[1], budget=budget)
    with pytest.raises(ValueError, match=message):
        search.edit(tiny.task(), KEY)
    assert replace(search, budget=4).updates == 1 and replace(search, budget=11).updates == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "value"), [(PPO_OF_FOUR, jnp.nan), (SEARCHES[1], jnp.inf)], ids=IDS[:2]
)
def test_a_reward_that_is_no_number_during_the_search_is_refused(search, value):
    def reward(sets, edit):
        # Fine for the unedited network and small edits, not so later.
        return jnp.where(edit.size() < 1.5, sets["retain"].accuracy(), value)

    search = replace(search, budget=12, parametrization=PerRow())
    large = replace(search, std=3.0) if isinstance(search, SNES) else search
    with pytest.raises(ValueError, match="reward function returned a value that is not finite"):
        large.edit(tiny.task(0, reward=reward), KEY)


@pytest.mark.parametrize(("name", "kind"), [("mask", MaskWorld), ("shift", ShiftWorld)])
def test_the_world_is_the_one_its_fields_name(name, kind):
    search = PPO(name, 100, PerWeight(), 2, "time")
    found = search.make_world(tiny.task())
    expected = kind(tiny.task(), parametrization=PerWeight(), horizon=2, observation="time")
    assert type(found) is kind and found.static == expected.static
    assert (found.horizon, found.observation) == (2, "time")
    assert found.num_actions == bowl.SIZE


@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_a_search_taken_apart_and_put_together_is_the_same(search):
    """Plain numbers are compiled in, arrays are handed over; both find their places again."""
    swept = replace(search, std=jnp.float32(0.25), budget=77)
    form, arrays = static_form(swept)
    assert hash(form) == hash(static_form(replace(swept, std=jnp.float32(0.5)))[0])
    assert form == static_form(replace(swept, std=jnp.float32(0.5)))[0]
    for other in (
        replace(swept, std=0.25),
        replace(swept, budget=78),
        replace(swept, world="mask"),
    ):
        assert form != static_form(other)[0]
    found = from_static_form(form, arrays)
    assert type(found) is type(search) and found.budget == 77 and found.std == 0.25
    assert static_form(found)[0] == form
    plain = from_static_form(*static_form(search))
    assert plain == search


def test_the_least_that_a_search_of_ones_own_needs():
    """Until its three functions and two counts are there, a subclass says what it lacks."""
    search = SearchEditor()
    for missing in ("evaluations_per_update", "gradient_steps_per_update"):
        with pytest.raises(NotImplementedError):
            getattr(search, missing)
    for call in (search.init, search.update, search.plan):
        with pytest.raises(NotImplementedError):
            call(bowl.world(), bowl.world().default_params, KEY)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (SNES, {"std": -0.1}, r"std must be above 0, got -0\.1"),
        (
            SNES,
            {"std_learning_rate": float("inf")},
            "std_learning_rate must be at least 0, got inf",
        ),
        (OpenES, {"std": 0}, "std must be above 0, got 0"),
        (OpenES, {"learning_rate": float("nan")}, "learning_rate must be at least 0, got nan"),
        (RandomSearch, {"std": float("nan")}, "std must be above 0, got nan"),
        (PPO, {"std": -1}, "std must be above 0, got -1"),
        (PPO, {"learning_rate": -0.5}, r"learning_rate must be at least 0, got -0\.5"),
        (PPO, {"population": 0}, "PPO needs a population of at least 2: 0"),
        (PPO, {"population": -20}, "PPO needs a population of at least 2: -20"),
    ],
)
def test_numbers_that_make_no_search_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
    assert kind(std=jnp.float32(-1.0)).std == -1.0  # arrays are swept, and may be traced


@pytest.mark.parametrize("settings", [{"population": 0}, {"population": -4}, {"batch_size": 0}])
def test_a_search_that_evaluates_nothing_is_refused(settings):
    with pytest.raises(ValueError, match=r"RandomSearch evaluates .*: give positive numbers"):
        RandomSearch(budget=40, **settings).edit(tiny.task(0), jax.random.key(0))
