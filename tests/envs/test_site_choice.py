"""Worlds and searches that choose leaves before they edit them."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, PerRow
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.envs.check import check_env
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
PATHS = ("fc1/kernel", "fc2/kernel", "head/kernel")


@lru_cache
def task():
    base = tiny.subject(3, (12, 10))
    return tiny.task(0, base=base, site=PATHS, reward=unlearning_reward("soft", edit_size=0.1))


@lru_cache
def world(kind=ShiftWorld, number=1, horizon=2):
    return kind(task(), parametrization=LowRank(1), horizon=horizon, sites_chosen=number)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ShiftWorld, MaskWorld])
def test_it_keeps_every_contract(kind):
    check_env(world(kind), key=KEY, num_steps=5, episode_length=2)


def _plan(env, chosen):
    """Actions of an episode that edits these leaves, by index, one in every step."""
    rest = 0.5 * jax.random.normal(KEY, (len(chosen), env.num_actions - 3))
    return jnp.concatenate([jax.nn.one_hot(jnp.asarray(chosen), 3) - 0.3, rest], axis=1)


@partial(jax.jit, static_argnums=0)
def _play(env, params, plan):
    _, state = env.reset_env(KEY, params)

    def step(state, action):
        _, state, reward, _, info = env.step_env(KEY, state, action, params)
        return state, (reward, info["part_utility"], state.leaves)

    return jax.lax.scan(step, state, plan)[1]


def _utility(leaves):
    """Of the whole network, in NumPy past its outputs."""
    sets = task().roles["reward"]
    outputs = task().subject.apply(set_leaves(task().subject.params, leaves), jnp.asarray(sets.x))
    own = np.asarray(jax.nn.softmax(outputs))[np.arange(len(sets.x)), sets.targets]
    return np.average(own, weights=sets.weights["retain"])


@pytest.mark.parametrize("kind", [ShiftWorld, pytest.param(MaskWorld, marks=pytest.mark.slow)])
@pytest.mark.parametrize("chosen", [(0, 0), (0, 2), (2, 1)])
def test_every_step_chooses_again_and_is_scored_as_the_whole_network_is(kind, chosen):
    """Where the first layer is chosen or not, its product is scored by what an edit adds to it."""
    env = world(kind)
    assert env._low_rank.paths == (("fc1/kernel",) if kind is ShiftWorld else ())
    plan = _plan(env, chosen)
    _, utility, leaves = _play(env, env.default_params, plan)
    before = task().leaves
    for step, index in enumerate(chosen):
        after = {path: leaf[step] for path, leaf in leaves.items()}
        changed = [bool(np.any(after[path] != before[path])) for path in PATHS]
        assert changed == [place == index for place in range(3)]
        np.testing.assert_allclose(utility[step], _utility(after), rtol=1e-4)
        before = after
    for path, leaf in env.apply_plan(plan, env.default_params.original).items():
        np.testing.assert_array_equal(leaf, before[path])


def test_worlds_of_another_choice_are_other_worlds():
    one, same = world(), ShiftWorld(task(), parametrization=LowRank(1), horizon=2, sites_chosen=1)
    assert one.static == same.static and hash(one.static) == hash(same.static)
    for options in ({"sites_chosen": 2}, {}, {"sites_chosen": 1, "sites_drawn": True}):
        other = ShiftWorld(task(), parametrization=LowRank(1), horizon=2, **options)
        assert other.static != one.static


def test_a_world_refuses_what_leaves_no_choice():
    with pytest.raises(ValueError, match="sites_chosen=1: the site is one leaf"):
        ShiftWorld(tiny.task(0), sites_chosen=1)
    with pytest.raises(ValueError, match="choose 1 to 2 of the site's 3 leaves"):
        ShiftWorld(task(), sites_chosen=3)


def _head_pays(sets, edit):
    """Pays for a head of larger weights, whatever the other layers do."""
    return jnp.mean(edit.leaves["head/kernel"] - edit.original["head/kernel"]) + 0.0 * edit.size()


SEARCHES = [
    PPO(budget=400, parametrization=PerRow()),
    SNES(budget=400, parametrization=PerRow()),
    OpenES(budget=400, parametrization=PerRow()),
    RandomSearch(budget=400, parametrization=PerRow()),
]


def _changed(result, of):
    after = get_leaves(result.params, PATHS)
    return tuple(bool(np.any(after[path] != of.leaves[path])) for path in PATHS)


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
def test_a_search_learns_which_leaf_pays(search):
    """The last of three equally likely leaves, which ties would never choose."""
    paid = tiny.task(0, site=PATHS, reward=_head_pays)
    for key in jax.random.split(KEY, 3):
        result = search.replace(sites_chosen=1).edit(paid, key)
        assert _changed(result, paid) == (False, False, True)
        before, after = (tree["head"]["kernel"] for tree in (paid.subject.params, result.params))
        assert np.mean(after - before) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
def test_leaves_that_are_drawn_are_kept_for_the_task_whatever_pays(search, tmp_path):
    """Any edit pays, that of the head most: still each task edits the leaf that it drew alone."""

    def any_pays(sets, edit):
        gains = [jnp.mean(edit.leaves[p] - edit.original[p]) for p in PATHS]
        return gains[0] + gains[1] + 3.0 * gains[2]

    tasks = [tiny.task(0, site=PATHS, reward=any_pays)] * 8
    drawn = search.replace(sites_chosen=1, sites_drawn=True)
    results = edit_many(drawn, tasks, jax.random.split(KEY, 8), tmp_path / "run")
    env = drawn.make_world(tasks[0])
    found = set()
    for result in results:
        plans = jnp.asarray(result.trace.plans)[:, 0]
        chosen = {tuple(np.asarray(env.edit.choice.chosen(p[:3])).tolist()) for p in plans}
        assert chosen == {_changed(result, tasks[0])}
        found |= chosen
    assert len(found) == 3
    again = edit_many(drawn, tasks, jax.random.split(KEY, 8), tmp_path / "run")
    for one, other in zip(results, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
