"""Edits scored by what they add to a layer, against the edited kernel multiplied as it is."""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.parametrization import LowRank, PerColumn, PerRow, PerWeight
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.envs.task_pool import make_pool
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.subjects.image_classifiers import CNN
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.tasks.reward import SetOutputs
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(3), (9, 6, 5, 2))
REWARD = unlearning_reward("soft", edit_size=0.1)


@lru_cache
def task(site="fc2/kernel", hidden=(12, 10)):
    return tiny.task(0, base=tiny.subject(3, hidden), site=site, reward=REWARD)


@lru_cache
def patches_task():
    """A convolution on unfolded patches, a dense kernel that is used at several positions."""
    module = CNN(3, channels=(3, 4), hidden=(5, 4))
    base, params = task(), jax.jit(module.init)(KEY, IMAGES)["params"]
    targets = jnp.arange(9, dtype=jnp.int32) % 3
    sets = {"retain": (targets > 0).astype(jnp.float32), "forget": targets == 0}
    weights = {name: np.asarray(weight, np.float32) for name, weight in sets.items()}
    role = replace(base.roles["reward"], x=np.asarray(IMAGES), targets=targets, weights=weights)
    subject = Subject(params, flax_apply(module))
    roles = dict.fromkeys(base.roles, role)
    return replace(base, subject=subject, site=("conv2/kernel",), roles=roles, head_bias=None)


def scored(env, paths):
    """The world with other layers scored by what is added to them."""
    env = copy.copy(env)
    env._low_rank, env._default_params = replace(env._low_rank, paths=tuple(paths)), None
    return env


def plan(env, seed, scale=0.7):
    return scale * jax.random.normal(jax.random.key(seed), (env.horizon, env.num_actions))


@partial(jax.jit, static_argnums=0)
def play(env, params, plan):
    _, state = env.reset_env(KEY, params)

    def step(state, action):
        observation, state, reward, _, info = env.step_env(KEY, state, action, params)
        return state, (observation, reward, info, state.leaves)

    return jax.lax.scan(step, state, plan)[1]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


TWO = ("fc1/kernel", "fc2/kernel", "fc2/bias")


@pytest.mark.parametrize(
    ("make", "parametrization", "horizon", "paths"),
    [
        slow(task, LowRank(2), 1, ("fc2/kernel",)),
        (task, LowRank(2), 3, ("fc2/kernel",)),
        slow(task, PerRow(), 1, ("fc2/kernel",)),
        slow(task, PerColumn(), 2, ("fc2/kernel",)),
        (partial(task, TWO), LowRank(1), 2, ("fc1/kernel",)),
        slow(partial(task, TWO), PerColumn(), 1, ("fc1/kernel",)),
        slow(patches_task, LowRank(2), 1, ("conv2/kernel",)),
        slow(patches_task, PerRow(), 2, ("conv2/kernel",)),
    ],
)
def test_it_equals_the_edited_kernel(make, parametrization, horizon, paths):
    world = ShiftWorld(make(), parametrization=parametrization, horizon=horizon)
    assert world.split.entries == paths
    low, direct = scored(world, paths), scored(world, ())
    assert set(low.default_params.products) == set(paths) and not direct.default_params.products
    for seed in range(2):
        found = play(low, low.default_params, plan(world, seed))
        expected = play(direct, direct.default_params, plan(world, seed))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), found, expected
        )
        for path, leaf in expected[-1].items():  # the edited leaves are exact
            np.testing.assert_array_equal(found[-1][path], leaf)
        assert np.abs(expected[1]).min() > 1e-4  # every edit changes the score


@pytest.mark.slow
def test_candidates_and_tasks_side_by_side_equal_one_by_one():
    world = ShiftWorld(task(), parametrization=LowRank(1), horizon=2)
    params, plans = world.default_params, jnp.stack([plan(world, seed) for seed in range(3)])
    assert world._low_rank.paths == ("fc2/kernel",)
    tasks = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    two = jax.vmap(lambda params: jax.vmap(partial(play, world, params))(plans)[1])(tasks)
    for index in range(3):
        alone = play(world, params, plans[index])[1]
        for rewards in two:
            np.testing.assert_allclose(rewards[index], alone, rtol=1e-5, atol=1e-6)


def test_the_products_are_what_is_read():
    """Rewards follow the cached products: nothing multiplies the kernel behind their back."""
    world = ShiftWorld(task(), parametrization=PerColumn())
    params = world.default_params
    other = params.replace(products=jax.tree.map(lambda z: z + 3.0, params.products))
    assert np.any(play(world, params, plan(world, 0))[1] != play(world, other, plan(world, 0))[1])


@dataclass(frozen=True)
class Own(LowRank):
    """Says of its matrix something else than its factors do."""

    def matrix(self, action, shape):
        return 2.0 * super().matrix(action, shape)


@pytest.mark.parametrize(
    ("world", "chosen"),
    [
        (lambda: ShiftWorld(task(hidden=(128, 32))), ("fc2/kernel",)),
        (lambda: ShiftWorld(task(hidden=(128, 32)), horizon=3), ("fc2/kernel",)),
        (lambda: ShiftWorld(task(hidden=(128, 32)), horizon=4), ()),  # no thinner any more
        (lambda: ShiftWorld(task()), ()),
        (lambda: ShiftWorld(task(), parametrization=LowRank(1)), ("fc2/kernel",)),
        (lambda: ShiftWorld(task(), parametrization=Own(1)), ()),
        (lambda: ShiftWorld(task(), parametrization=PerWeight()), ()),
        (lambda: MaskWorld(task(), parametrization=LowRank(1)), ()),
        (lambda: ShiftWorld(task("fc2/bias"), parametrization=PerColumn()), ()),
        (lambda: ShiftWorld(task(TWO), parametrization=PerRow()), ("fc1/kernel",)),
        (
            lambda: ShiftWorld(task(), parametrization=PerRow()).with_transition_gradients(),
            (),
        ),
    ],
)
def test_layers_are_chosen_where_it_is_exact_and_cheaper(world, chosen):
    assert world()._low_rank.paths == chosen


def test_kernels_of_less_than_float32_are_multiplied():
    """An edited kernel is rounded to its dtype, what is added to it would not be."""
    base = tiny.subject(3, (12, 10))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), base.params)
    apply = lambda params, x: base.apply(params, x.astype(jnp.bfloat16))  # noqa: E731
    subject = Subject(half, apply)
    env = ShiftWorld(tiny.task(0, base=subject), parametrization=LowRank(1))
    assert env._low_rank.paths == () and get_leaves(half, ("fc2/kernel",))["fc2/kernel"].ndim == 2


@pytest.mark.parametrize("kind", [ShiftWorld, MaskWorld])
@pytest.mark.parametrize("horizon", [1, slow(2)])
def test_a_step_beyond_the_end_changes_nothing(kind, horizon):
    world = kind(task(), parametrization=LowRank(1), horizon=horizon)
    params, step = world.default_params, jax.jit(world.step_env)
    _, state = world.reset_env(KEY, params)
    for action in plan(world, 0):
        _, state, *_ = step(KEY, state, action, params)
    for action in plan(world, 1):
        _, after, reward, terminated, info = step(KEY, state, action, params)
        assert reward == 0.0 and terminated and info["invalid_reward"] == 0.0
        assert info["score"] == state.score == after.score != params.score
        np.testing.assert_array_equal(after.leaves["fc2/kernel"], state.leaves["fc2/kernel"])


@pytest.mark.slow
def test_drawn_examples_take_their_products_along():
    world = ShiftWorld(task(), parametrization=PerRow())
    pool = make_pool(world, [task(), task()])
    drawn = jax.tree.map(lambda leaf: leaf[0], pool.draw(world, KEY, 2, examples=25))
    assert [leaf.shape for leaf in drawn.products.values()] == [(1, 10, 25)]
    found = play(world, drawn, plan(world, 0))[1]
    expected = play(scored(world, ()), drawn, plan(world, 0))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_outputs_that_a_reward_replaces_are_judged_anew():
    """What the sets share is of the outputs that the world gave, and of no others."""

    def reward(sets, edit):
        turned = {k: s.replace(outputs=-s.outputs) for k, s in sets.items()}
        bare = {k: SetOutputs(-s.outputs, *_rest(s)) for k, s in sets.items()}
        parts = {
            "shared": turned["retain"].probability() + turned["forget"].accuracy(),
            "bare": bare["retain"].probability() + bare["forget"].accuracy(),
            "plain": sets["retain"].probability() + sets["forget"].accuracy(),
        }
        return parts["plain"], parts

    base = tiny.subject(3, (12, 10))
    env = ShiftWorld(tiny.task(0, base=base, reward=reward), parametrization=PerRow())
    parts = env.default_params.parts
    np.testing.assert_allclose(parts["shared"], parts["bare"], rtol=1e-6)
    assert abs(parts["plain"] - parts["shared"]) > 1e-2


def _rest(one):
    return one.original, one.targets, one.weights
