"""Many tasks in one call: what each alone would give, in chunks, stopped and continued."""

import json
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.editor import Cost, EditResult
from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.unlearning.closed_form import RidgeEditor
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.editors.unlearning.references import LogitMask, Original
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.edits.site import get_leaves, leaf_paths
from modeledit_jax.envs.task_pool import make_pool
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.run.checkpoint import load_tree
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.search_run import Searches, run_search
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(3)
SEARCH = OpenES(population=6, budget=30)
POPULATION, UPDATES = 4, 9
SNES_OF_NINE = SNES(population=POPULATION, budget=39, parametrization=PerRow())


@pytest.fixture(scope="module")
def tasks():
    return [tiny.task(0), tiny.task(2, base=tiny.subject(1))]


OTHER_WORK = "holds work of other settings or on another task: choose another folder, or delete"
OTHER_TASKS = {
    "network": tiny.task(0, base=tiny.subject(7)),
    "data": tiny.task(0, seed=9, base=tiny.subject(0)),
    "reward": tiny.task(0, reward=unlearning_reward("soft", utility=2.0)),
}


def folded(count, key=KEY):
    """The key of every task, if only one was given."""
    return [jax.random.fold_in(key, index) for index in range(count)]


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


class Reports(list):
    """Remembers what was reported and interrupts when so much is done."""

    def __init__(self, interrupt_at=None):
        self.interrupt_at = interrupt_at

    def __call__(self, done, total, record):
        self.append((done, total, record))
        if done == self.interrupt_at:
            raise KeyboardInterrupt

    @property
    def done(self):
        return [done for done, *_ in self]


class Counted:
    """Mix-in of editors that count their calls."""

    calls = 0

    def edit(self, task, key):
        type(self).calls += 1
        return super().edit(task, key)


@dataclass(frozen=True)
class CountedRidge(Counted, RidgeEditor):
    """Counts its calls."""


@pytest.fixture
def ridge():
    CountedRidge.calls = 0
    return CountedRidge()


class TestSideBySide:
    @pytest.mark.slow
    def test_each_task_is_edited_as_if_alone(self, tasks):
        results = edit_many(SEARCH, tasks, KEY)
        assert len(results) == 2
        for key, task, result in zip(folded(2), tasks, results, strict=True):
            alone = SEARCH.edit(task, key)
            assert result.cost.reward_evaluations == alone.cost.reward_evaluations == 30
            assert result.cost.gradient_steps == alone.cost.gradient_steps == 5
            assert_close((result.trace, result.params), (alone.trace, alone.params))
        assert np.abs(results[0].trace.plans - results[1].trace.plans).max() > 0.1

    def test_one_key_for_each_task_may_be_given(self, tasks):
        given = edit_many(SEARCH, tasks, jnp.stack(folded(2)), report=Reports())
        for one, other in zip(given, edit_many(SEARCH, tasks, KEY), strict=True):
            assert_equal((one.trace, one.params), (other.trace, other.params))

    @pytest.mark.slow
    def test_only_the_site_changes_and_reports_come_after_every_chunk(self, tasks):
        reports = Reports()
        search = replace(SEARCH, budget=6 * 12)
        results = edit_many(search, tasks, KEY, report=reports)
        assert [entry[:2] for entry in reports] == [(10, 12), (12, 12)]
        plans = np.concatenate([record["plans"] for *_, record in reports])
        scores = np.concatenate([record["score"] for *_, record in reports])
        for index, (task, result) in enumerate(zip(tasks, results, strict=True)):
            np.testing.assert_array_equal(result.trace.plans, plans[:, index])
            np.testing.assert_array_equal(result.trace.metrics["score"], scores[:, index])
            paths = leaf_paths(task.subject.params)
            before, after = get_leaves(task.subject.params, paths), get_leaves(result.params, paths)
            for path in paths:
                same = np.array_equal(before[path], after[path])
                assert same == (path not in task.site), path

    @pytest.mark.slow
    def test_searches_that_differ_in_arrays_alone_run_side_by_side(self, tasks):
        size = SEARCH.make_world(tasks[0]).num_actions
        starts = [jnp.zeros(size), jnp.full(size, 0.5)]
        searches = [replace(SEARCH, start=start, std=jnp.float32(0.2)) for start in starts]
        reports = Reports()
        results = edit_many(searches, tasks, KEY, report=reports)
        assert reports.done == [5] and "plans" in reports[0][2]
        for key, search, task, result in zip(folded(2), searches, tasks, results, strict=True):
            assert_close(result.trace, search.edit(task, key).trace)

    @pytest.mark.slow
    @pytest.mark.parametrize("change", [{"std": 0.31}, {"population": 4}, {"world": "mask"}])
    def test_searches_that_differ_in_more_run_in_turn(self, tasks, change):
        searches = [SEARCH, replace(SEARCH, **change)]
        reports = Reports()
        results = edit_many(searches, tasks, KEY, report=reports)
        assert list(reports) == [(1, 2, {}), (2, 2, {})]
        for key, search, task, result in zip(folded(2), searches, tasks, results, strict=True):
            alone = search.edit(task, key)
            assert_equal((result.trace, result.params), (alone.trace, alone.params))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "other",
        [
            tiny.task(0, base=tiny.subject(1, (7, 4))),
            tiny.task(0, reward=lambda sets, edit: sets["retain"].accuracy()),
            tiny.task(0, site=("fc2/kernel", "fc2/bias")),
        ],
        ids=["other-width", "other-reward", "other-site"],
    )
    def test_tasks_that_do_not_stack_are_edited_in_turn(self, other):
        tasks, reports = [tiny.task(0), other], Reports()
        results = edit_many(SEARCH, tasks, KEY, report=reports)
        assert reports.done == [1, 2] and not reports[0][2]
        for key, task, result in zip(folded(2), tasks, results, strict=True):
            assert_equal(result.params, SEARCH.edit(task, key).params)

    def test_a_budget_below_one_update_is_refused(self, tasks):
        with pytest.raises(ValueError, match="does not pay for one update of OpenES"):
            edit_many(replace(SEARCH, budget=SEARCH.population - 1), tasks, KEY)


class TestInTurn:
    def test_every_editor_gets_the_key_of_its_task(self, tasks):
        editor = NegGradPlus(steps=5)
        for key, task, result in zip(folded(2), tasks, edit_many(editor, tasks, KEY), strict=True):
            alone = editor.edit(task, key)
            assert_equal(result.params, alone.params)
            assert result.cost.gradient_steps == 5

    def test_one_editor_for_each_task(self, tasks):
        results = edit_many([Original(), LogitMask()], tasks, KEY)
        assert results[0].params is tasks[0].subject.params
        bias = results[1].params["head"]["bias"]
        assert bias[2] == -1e4 and np.all(np.abs(bias[:2]) < 10)

    def test_what_is_in_the_folder_is_not_made_again(self, tasks, ridge, tmp_path):
        first = edit_many(ridge, tasks, KEY, tmp_path / "run")
        again = edit_many(CountedRidge(), tasks, KEY, str(tmp_path / "run"))
        assert CountedRidge.calls == 2
        for task, one, other in zip(tasks, first, again, strict=True):
            assert_equal(one.params, other.params)
            assert one.cost == other.cost and other.trace is None
            # What was not edited is the network's own, not a copy.
            assert other.params["fc1"]["kernel"] is task.subject.params["fc1"]["kernel"]

    def test_an_interrupted_run_goes_on_after_what_is_done(self, tasks, ridge, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            edit_many(ridge, tasks, KEY, tmp_path, report=Reports(interrupt_at=1))
        assert CountedRidge.calls == 1
        reports = Reports()
        found = edit_many(ridge, tasks, KEY, tmp_path, report=reports)
        assert CountedRidge.calls == 2 and reports.done == [1, 2]
        for one, other in zip(found, edit_many(RidgeEditor(), tasks, KEY), strict=True):
            assert_equal(one.params, other.params)

    def test_only_leaves_that_changed_are_kept(self, tasks, tmp_path):
        edit_many([RidgeEditor(), Original()], tasks, KEY, tmp_path)
        names = [f"{index}-{task.name}" for index, task in enumerate(tasks)]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        kept = [json.loads((tmp_path / name / "edit.json").read_text())["value"] for name in names]
        assert [one["changed"] for one in kept] == [["fc2/kernel"], []]
        assert list(load_tree(tmp_path / names[0] / "leaves")) == ["fc2/kernel"]
        assert not (tmp_path / names[1] / "leaves").exists()

    @pytest.mark.parametrize(
        ("editor", "key"),
        [(RidgeEditor(ridge=0.1), KEY), (RidgeEditor(), jax.random.key(4)), (Original(), KEY)],
        ids=["setting", "key", "editor"],
    )
    def test_a_folder_of_other_settings_is_refused(self, tasks, tmp_path, editor, key):
        edit_many(RidgeEditor(), tasks, KEY, tmp_path)
        with pytest.raises(ValueError, match=OTHER_WORK):
            edit_many(editor, tasks, key, tmp_path)

    @pytest.mark.parametrize("other", OTHER_TASKS)
    def test_a_folder_of_other_tasks_is_refused(self, tasks, tmp_path, other):
        """They may have the same names."""
        edit_many(RidgeEditor(), tasks, KEY, tmp_path)
        assert OTHER_TASKS[other].name == tasks[0].name
        with pytest.raises(ValueError, match=OTHER_WORK):
            edit_many(RidgeEditor(), [OTHER_TASKS[other], tasks[1]], KEY, tmp_path)

    def test_an_editor_with_a_function_is_known_again_in_another_process(self, tasks, tmp_path):
        """Its address in memory, which no two processes share, is no setting."""
        edit_many(_Calls(lambda leaf: 2 * leaf), tasks, KEY, tmp_path)
        found = edit_many(_Calls(lambda leaf: 3 * leaf), tasks, KEY, tmp_path)
        doubled = 2 * tasks[0].leaves["fc2/kernel"]
        np.testing.assert_array_equal(found[0].params["fc2"]["kernel"], doubled)


@dataclass(frozen=True)
class _Calls:
    function: object

    def edit(self, task, key):
        params = dict(task.subject.params)
        params["fc2"] = {**params["fc2"], "kernel": self.function(params["fc2"]["kernel"])}
        return EditResult(params, Cost())


def test_what_does_not_fit_together_is_named(tasks):
    with pytest.raises(ValueError, match="nothing to edit: give at least one task"):
        edit_many(SEARCH, [], KEY)
    with pytest.raises(ValueError, match="1 editors for 2 tasks: give one, or one for each"):
        edit_many([SEARCH], tasks, KEY)
    with pytest.raises(ValueError, match=r"keys of shape \(3,\) for 2 tasks: give one for each"):
        edit_many(SEARCH, tasks, jax.random.split(KEY, 3))


# Searches in chunks.

TASKS = [tiny.task(0), tiny.task(2, base=tiny.subject(1))]
ENV = ShiftWorld(TASKS[0], parametrization=PerRow())
POOL = make_pool(ENV, TASKS)
KEYS = jax.random.split(jax.random.key(0), 2)
run = partial(run_search, Searches.of(SNES_OF_NINE, 2), ENV, POOL, KEYS, chunk=3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder, reports and result of a search in one go."""
    folder, reports = tmp_path_factory.mktemp("whole"), Reports()
    return folder, reports, run(folder=folder, report=reports)


def assert_same_run(folder, found, uninterrupted):
    assert_equal(found.trace, uninterrupted[2].trace)
    assert found.cost.reward_evaluations == uninterrupted[2].cost.reward_evaluations
    states = [load_tree(at / str(UPDATES))["state"] for at in (folder, uninterrupted[0])]
    assert "mean" in states[0] and "key" in states[0]
    assert_equal(*states)


class TestRunSearch:
    def test_reports_after_every_chunk_and_a_trace_of_all(self, uninterrupted):
        _, reports, found = uninterrupted
        assert reports.done == [3, 6, 9] and {total for _, total, _ in reports} == {UPDATES}
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *[own for *_, own in reports])
        by_task = {name: values.swapaxes(0, 1) for name, values in joined.items()}
        assert_equal(by_task, {"plans": found.trace.plans, **found.trace.metrics})
        assert found.trace.plans.shape == (2, UPDATES, 1, ENV.num_actions)
        assert found.trace.metrics["score"].shape == (2, UPDATES)
        assert np.unique(found.trace.metrics["score"]).size == 2 * UPDATES
        assert found.cost.reward_evaluations == POPULATION * UPDATES
        assert found.cost.gradient_steps == UPDATES and found.cost.seconds > 0

    def test_other_chunks_and_no_folder_give_the_same_bits(self, uninterrupted):
        reports = Reports()
        found = run(chunk=5, report=reports)
        assert reports.done == [5, 9]
        assert_equal(found.trace, uninterrupted[2].trace)

    @pytest.mark.parametrize(
        ("save_every", "interrupts", "resumed"),
        [
            (0.0, (6, 9), [9]),
            (60.0, (6,), [3, 6, 9]),  # no checkpoint was due
        ],
    )
    def test_an_interrupted_search_is_continued_with_the_same_bits(
        self, tmp_path, uninterrupted, save_every, interrupts, resumed
    ):
        for at in interrupts:
            with pytest.raises(KeyboardInterrupt):
                run(folder=tmp_path, report=Reports(at), save_every=save_every)
        reports = Reports()
        found = run(folder=tmp_path, report=reports, save_every=save_every)
        assert reports.done == resumed
        assert_same_run(tmp_path, found, uninterrupted)

    def test_a_completed_search_is_not_run_again(self, uninterrupted):
        folder, _, first = uninterrupted
        reports = Reports()
        again = run(folder=folder, report=reports)
        assert not reports
        assert_same_run(folder, again, uninterrupted)
        # the time of the search, not of this call
        assert again.cost.seconds >= 0.5 * first.cost.seconds

    @pytest.mark.parametrize(
        "search",
        [
            replace(SNES_OF_NINE, population=2),
            replace(SNES_OF_NINE, budget=39 + POPULATION),
            RandomSearch(population=POPULATION, budget=39, parametrization=PerRow()),
        ],
        ids=["population", "budget", "search"],
    )
    def test_another_configuration_does_not_resume(self, uninterrupted, search):
        with pytest.raises(ValueError, match="of another configuration; choose another --run-dir"):
            run_search(Searches.of(search, 2), ENV, POOL, KEYS, folder=uninterrupted[0])

    def test_a_budget_below_one_update_is_refused(self):
        searches = Searches.of(replace(SNES_OF_NINE, budget=3), 2)
        with pytest.raises(ValueError, match="does not pay for one update"):
            run_search(searches, ENV, POOL, KEYS)

    def test_a_reward_that_is_no_number_stops_the_search_and_is_not_saved(self, tmp_path):
        def reward(sets, edit):
            return jnp.where(edit.size() == 0, 0.0, jnp.nan)

        task = tiny.task(0, reward=reward)
        env = ShiftWorld(task, parametrization=PerRow())
        reports, searches = Reports(), Searches.of(replace(SNES_OF_NINE, budget=200), 1)
        with pytest.raises(ValueError, match="not finite"):
            run_search(
                searches, env, make_pool(env, [task]), KEYS[:1], folder=tmp_path, report=reports
            )
        assert not reports and not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_edit_many_continues_an_interrupted_search_with_the_same_bits(
        self, tmp_path, monkeypatch
    ):
        often = partial(run_search, save_every=0.0)
        monkeypatch.setattr("modeledit_jax.run.edit_many.run_search", often)
        search = replace(SNES_OF_NINE, budget=25 * POPULATION)
        whole = edit_many(search, TASKS, KEY)
        with pytest.raises(KeyboardInterrupt):
            edit_many(search, TASKS, KEY, tmp_path / "run", report=Reports(interrupt_at=20))
        reports = Reports()
        found = edit_many(search, TASKS, KEY, tmp_path / "run", report=reports)
        assert reports.done == [20, 25]  # the report of ten came with its checkpoint
        for one, other in zip(found, whole, strict=True):
            assert_equal((one.params, one.trace), (other.params, other.trace))

    def test_edit_many_refuses_a_search_of_other_settings(self, tmp_path):
        """Also where they do not show in the shapes of what is saved."""
        search = replace(SNES_OF_NINE, budget=10 * POPULATION)
        edit_many(search, TASKS, KEY, tmp_path)
        for other in (replace(search, std=0.4), replace(search, std=jnp.float32(0.3))):
            with pytest.raises(ValueError, match=OTHER_WORK):
                edit_many(other, TASKS, KEY, tmp_path)
        for name, other in OTHER_TASKS.items():
            with pytest.raises(ValueError, match=OTHER_WORK):
                edit_many(search, [other, TASKS[1]], KEY, tmp_path), name
        with pytest.raises(ValueError, match=OTHER_WORK):
            edit_many(search, TASKS, jax.random.key(9), tmp_path)

    def test_a_folder_in_which_nothing_was_saved_can_be_used_again(self, tmp_path):
        """The first reward was a mistake; the corrected one needs no other folder."""

        def reward(sets, edit):
            return jnp.where(edit.size() == 0, 0.0, jnp.nan)

        search = replace(SNES_OF_NINE, budget=2 * POPULATION)
        with pytest.raises(ValueError, match="not finite"):
            edit_many(search, [tiny.task(0, reward=reward)], KEY, tmp_path)
        assert not list(tmp_path.iterdir())
        assert edit_many(search, [tiny.task(0)], KEY, tmp_path)
