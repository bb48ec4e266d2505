"""Tasks spread over devices: the edits of one device, whoever goes on with a run."""

from functools import cache

import jax
import numpy as np
import pytest

import modeledit_jax.run.search_run as run_module
from modeledit_jax.editors.search.evolution import OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.unlearning.closed_form import RidgeEditor
from modeledit_jax.envs.task_pool import make_pool
from modeledit_jax.mesh import make_mesh
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.search_run import Searches, run_search
from tests import tiny
from tests.run.test_edit_many import SNES_OF_NINE, Reports

KEY = jax.random.key(3)
COUNT = 5
SEARCHES = {
    "snes": SNES_OF_NINE,
    "openes": OpenES(population=6, budget=70),
    "random-search": RandomSearch(population=6, budget=30),
    "ppo": PPO(budget=90),
    "ppo-mask": PPO("mask", 48, horizon=2),
}


@cache
def tasks(count=COUNT):
    return [tiny.task(index % 3, base=tiny.subject(index)) for index in range(count)]


@cache
def alone(name, count=COUNT):
    """On one device, without a mesh."""
    return values(edit_many(SEARCHES[name], tasks(count), KEY, report=Reports()))


def values(results):
    return [(result.trace, result.params) for result in results]


def spread(name, sizes, count=COUNT, **options):
    options = {"report": Reports()} | options
    return values(edit_many(SEARCHES[name], tasks(count), KEY, mesh=make_mesh(sizes), **options))


def assert_equal(found, expected):
    """The same edits bit for bit, and mean scores but for the rounding of a sum."""
    one, other = (jax.tree_util.tree_leaves_with_path(tree) for tree in (found, expected))
    for (path, leaf), (_, same) in zip(one, other, strict=True):
        if "score" in str(path):
            np.testing.assert_allclose(leaf, same, rtol=1e-6)
        else:
            np.testing.assert_array_equal(leaf, same, str(path))


def assert_close(found, expected):
    """XLA compiles another program for another number of tasks, and rounds PPO otherwise."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), found, expected
    )


def searched(name, sizes, folder=None, report=None):
    """In chunks of four updates, each of which is saved."""
    search = SEARCHES[name]
    env = search.make_world(tasks()[0])
    return run_search(
        Searches.of(search, COUNT),
        env,
        make_pool(env, tasks()),
        jax.random.split(KEY, COUNT),
        folder=folder,
        chunk=4,
        save_every=0.0,
        mesh=None if sizes is None else make_mesh(sizes),
        report=report,
    ).trace


def stopped_and_continued(name, begin, then, folder):
    """Stopped in its second chunk on some devices, with one saved; gone on with on others."""
    with pytest.raises(KeyboardInterrupt):
        searched(name, begin, folder, Reports(interrupt_at=8))
    reports = Reports()
    found = searched(name, then, folder, reports)
    assert reports.done[0] == 8
    return found


@pytest.mark.slow
def test_one_device_goes_on_with_a_run_of_four(tmp_path):
    """Five tasks, which four do not divide: the last device has copies that are dropped."""
    found = stopped_and_continued("snes", {"tasks": 4}, None, tmp_path)
    assert_equal(found, searched("snes", None))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snes", "openes", "random-search"])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_searches_without_gradients_have_the_bits_of_one_device(name, devices):
    assert_equal(spread(name, {"tasks": devices}), alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "ppo-mask"])
def test_ppo_on_several_devices_edits_as_on_one(name):
    assert_close(spread(name, {"tasks": 4}), alone(name))


@pytest.mark.slow
def test_nothing_is_sent_between_devices_that_have_tasks_of_their_own(monkeypatch):
    """The compiled program has no collective operation; with candidates shared out it has one."""
    programs = []
    real = run_module._advance

    def compiled(*arguments):
        programs.append(real.lower(*arguments).compile().as_text())
        return real(*arguments)

    monkeypatch.setattr(run_module, "_advance", compiled)
    for sizes in ({"tasks": 4}, {"tasks": 2, "population": 2}):
        searched("ppo", sizes)
    assert "num_partitions=4" in programs[0]
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert not any(kind in programs[0] for kind in kinds)
    assert "all-gather" in programs[-1]


@pytest.mark.slow
def test_ppo_on_a_mesh_is_resumed_with_the_same_bits(tmp_path):
    mesh = {"tasks": 4}
    assert_equal(stopped_and_continued("ppo", mesh, mesh, tmp_path), searched("ppo", mesh))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snes", "openes", "ppo"])
@pytest.mark.parametrize("sizes", [{"population": 3}, {"tasks": 2, "population": 4}], ids=str)
def test_candidates_on_several_devices_give_the_edits_of_one(name, sizes):
    assert_close(spread(name, sizes), alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openes", "ppo"])
@pytest.mark.parametrize("then", [None, {"tasks": 4}, {"tasks": 2, "population": 4}], ids=str)
def test_a_run_on_eight_devices_goes_on_on_others(name, then, tmp_path):
    found = stopped_and_continued(name, {"tasks": 8}, then, tmp_path)
    exact = name == "openes" and "population" not in (then or {})
    (assert_equal if exact else assert_close)(found, searched(name, None))


@pytest.mark.slow
def test_eight_devices_go_on_with_a_run_of_one(tmp_path):
    found = stopped_and_continued("openes", None, {"tasks": 8}, tmp_path)
    assert_equal(found, searched("openes", None))


def test_editors_that_do_not_search_take_a_mesh_too():
    mesh = make_mesh({"tasks": 2})
    found, expected = (
        edit_many(RidgeEditor(), tasks(2), KEY, mesh=on, report=Reports()) for on in (mesh, None)
    )
    assert_equal([result.params for result in found], [result.params for result in expected])
