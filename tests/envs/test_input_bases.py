"""Coordinates of a layer's inputs: against NumPy, and against the network written in them."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, PerWeight
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.envs.input_bases import RIDGE
from modeledit_jax.envs.task_pool import make_pool
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

SITE, HIDDEN = "fc2/kernel", (12, 10)
KEY = jax.random.key(0)


@lru_cache
def task(seed=3, classes=0):
    reward = unlearning_reward("soft", edit_size=0.1)
    return tiny.task(classes, base=tiny.subject(seed, HIDDEN), site=SITE, reward=reward)


@lru_cache
def world(rank=2, horizon=1, coordinates="inputs"):
    parametrization = LowRank(rank)
    return ShiftWorld(
        task(), parametrization=parametrization, horizon=horizon, coordinates=coordinates
    )


def square_root(given):
    """``C^½`` of the inputs of the edited layer on the reward's examples, with its ridge."""
    first = {
        name: np.asarray(leaf, np.float64) for name, leaf in given.subject.params["fc1"].items()
    }
    h = np.maximum(given.roles["reward"].x @ first["kernel"] + first["bias"], 0)
    moments = h.T @ h / len(h)
    sizes, directions = np.linalg.eigh(moments + RIDGE * np.trace(moments) / 12 * np.eye(12))
    return (directions * np.sqrt(sizes)) @ directions.T


def written_in_inputs(given):
    """The same task of a network whose kernel is ``C^½ W``, which it multiplies by ``C^{-½}``."""
    root = square_root(given)
    inverse = jnp.asarray(np.linalg.inv(root), jnp.float32)

    def with_kernel(params, matrix):
        kernel = jnp.matmul(matrix, params["fc2"]["kernel"], precision="highest")
        return set_leaves(params, {SITE: kernel})

    apply = given.subject.apply
    params = with_kernel(given.subject.params, jnp.asarray(root, jnp.float32))
    subject = Subject(params, lambda params, x: apply(with_kernel(params, inverse), x))
    return replace(given, subject=subject), inverse


def test_the_basis_is_the_inverse_root_of_the_second_moments():
    root = square_root(task())
    kernel = np.asarray(task().leaves[SITE], np.float64)
    expected = np.std(root @ kernel) / np.std(kernel) * np.linalg.inv(root)
    found = world().default_params.bases[SITE]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_candidates_in_bfloat16_have_the_same_coordinates():
    """Moments are of inputs in bfloat16 then, but the basis is of float32."""
    coarse = ShiftWorld(
        task(), parametrization=LowRank(2), coordinates="inputs", precision="bfloat16"
    )
    bases = [np.asarray(env.default_params.bases[SITE]) for env in (coarse, world())]
    assert bases[0].dtype == np.float32
    np.testing.assert_allclose(*bases, atol=0.05 * np.abs(bases[1]).max())


@pytest.mark.parametrize("parametrization", [LowRank(2), PerWeight()], ids=["low-rank", "dense"])
def test_an_action_does_what_it_does_to_the_network_written_in_these_coordinates(parametrization):
    written, inverse = written_in_inputs(task())
    env = ShiftWorld(task(), parametrization=parametrization, horizon=2, coordinates="inputs")
    other = ShiftWorld(written, parametrization=parametrization, horizon=2)
    plan = 0.5 * jax.random.normal(KEY, (2, env.num_actions))
    params = env.default_params
    leaves = env.apply_plan(plan, params.original, params.bases)[SITE]
    expected = inverse @ other.apply_plan(plan, other.default_params.original)[SITE]
    np.testing.assert_allclose(leaves, expected, atol=2e-4 * float(jnp.abs(expected).max()))


def test_a_step_scores_the_network_of_the_plan():
    """With the factors where they are cheaper, as here, and the whole network as reference."""
    env = world(rank=1, horizon=2)
    assert env._low_rank.paths == (SITE,)
    params = env.default_params
    plan = 0.5 * jax.random.normal(KEY, (2, env.num_actions))
    _, state = env.reset_env(KEY, params)
    for action in plan:
        _, state, _, _, info = env.step_env(KEY, state, action, params)
    leaves = env.apply_plan(plan, params.original, params.bases)
    np.testing.assert_allclose(state.leaves[SITE], leaves[SITE], rtol=1e-5, atol=1e-6)
    whole = set_leaves(task().subject.params, leaves)
    features = env.features(Subject(whole, task().subject.apply), task().roles["reward"])
    score = env.evaluate(get_leaves(whole, task().site), params.replace(features=features))[0]
    np.testing.assert_allclose(info["score"], score, rtol=1e-4)


def test_no_action_is_no_edit():
    params = world().default_params
    nothing = jnp.zeros((1, world().num_actions))
    leaves = world().apply_plan(nothing, params.original, params.bases)
    np.testing.assert_array_equal(leaves[SITE], params.original[SITE])


def test_tasks_side_by_side_have_bases_of_their_own():
    tasks = [task(), task(4, (1, 2)), task(3, 1)]
    pool = make_pool(world(), tasks)
    for index, each in enumerate(tasks):
        expected = world().params(each).bases[SITE]
        np.testing.assert_array_equal(pool.task(index).bases[SITE], expected)
        np.testing.assert_array_equal(world().task_bases(each)[SITE], expected)
    assert not np.allclose(pool.task(0).bases[SITE], pool.task(1).bases[SITE])


@pytest.mark.slow
def test_an_edit_side_by_side_is_that_of_one_task_alone():
    tasks = [task(), task(4, (1, 2))]
    ppo = PPO(budget=60, population=10, coordinates="inputs", parametrization=LowRank(2))
    keys = jax.random.split(KEY, 2)
    together = edit_many(ppo, tasks, keys, report=lambda *_: None)
    evaluator = PlanEvaluator(ppo.make_world(tasks[0]), tasks)
    for index, (each, key, found) in enumerate(zip(tasks, keys, together, strict=True)):
        alone = ppo.edit(each, key)
        kernel = get_leaves(found.params, each.site)[SITE]
        np.testing.assert_allclose(
            kernel, get_leaves(alone.params, each.site)[SITE], rtol=1e-4, atol=1e-5
        )
        planned = evaluator.edited(index, found.trace.plans[-1])[SITE]
        np.testing.assert_allclose(planned, kernel, rtol=1e-5, atol=1e-6)
        assert not np.allclose(kernel, each.leaves[SITE])


def test_worlds_of_other_coordinates_differ():
    assert world() != world(coordinates="weights")
    assert world() == ShiftWorld(task(), parametrization=LowRank(2), coordinates="inputs")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(MaskWorld, coordinates="inputs"), "edits that are added to the weights"),
        (partial(ShiftWorld, coordinates="outputs"), "coordinates must be one of weights, inputs"),
    ],
)
def test_what_has_no_such_coordinates_is_refused(build, message, unchecked_annotations):
    with pytest.raises(ValueError, match=message):
        build(task())


def test_a_bias_is_refused():
    biased = tiny.task(0, base=tiny.subject(3, HIDDEN), site="fc2/bias")
    with pytest.raises(ValueError, match="fc2/bias"):
        _ = ShiftWorld(biased, coordinates="inputs").default_params
