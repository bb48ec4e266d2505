"""A policy as an editor: what it touches, costs, and writes to disk. The policies are untrained."""

from dataclasses import replace
from functools import lru_cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from modeledit_jax import struct
from modeledit_jax.editors.editor import Editor, EditResult
from modeledit_jax.editors.policy import learned
from modeledit_jax.editors.policy.learned import SavedPolicy, load_editor
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, PerWeight
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.tasks.unlearning import forget_in_turn
from tests import tiny
from tests.editors.policies import untrained

KEY = jax.random.key(0)
WORLDS = ("shift", "mask")


def _changed(before, after):
    """Paths of leaves that are not the same bits."""
    pairs = zip(leaf_paths(before), jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return {path for path, a, b in pairs if np.asarray(a).tobytes() != np.asarray(b).tobytes()}


@lru_cache
def _task():
    return tiny.task(0)


@lru_cache
def _edited(world):
    return untrained(world).edit(_task(), KEY)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_the_edit_is_the_action_of_the_policy(world):
    """Mask or shift by hand, of what the policy says of the unedited network."""
    editor, task, result = untrained(world), _task(), _edited(world)
    assert isinstance(editor, Editor)
    assert _changed(task.subject.params, result.params) == {"fc2/kernel"}
    assert (result.cost.reward_evaluations, result.cost.gradient_steps) == (0, 0)
    assert result.cost.seconds > 0 and result.trace is None

    env = editor.make_world(task)
    policy = jax.jit(editor.network.apply)(editor.params, env.default_params.neurons)
    action, original = np.asarray(policy.mean), np.asarray(task.leaves["fc2/kernel"])
    if world == "mask":
        expected = original * (1 + np.tanh(action.reshape(5, 4)))
    else:
        left, right = action[:10].reshape(5, 2), action[10:].reshape(4, 2)
        expected = original + original.std() * left @ right.T / np.sqrt(2)
    np.testing.assert_allclose(result.params["fc2"]["kernel"], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - original).max() > 0.01


@pytest.mark.slow
def test_no_reward_of_an_edit_is_computed_without_an_adaptation(monkeypatch):
    calls, env = [], untrained().make_world(_task())
    _ = env.default_params  # the unedited network has a score
    plain = type(env).evaluate

    def evaluate(*arguments):
        jax.debug.callback(lambda: calls.append(1))
        return plain(*arguments)

    monkeypatch.setattr(type(env), "evaluate", evaluate)
    learned._planned.clear_cache()  # traced anew, with the counter
    planned = learned.planned(untrained(), env, env.default_params)
    jax.effects_barrier()
    assert not calls
    result = untrained().edit(_task(), KEY)
    np.testing.assert_array_equal(result.params["fc2"]["kernel"], planned[1]["fc2/kernel"])
    assert not _changed(result.params, _edited("shift").params)


@pytest.mark.slow
def test_the_same_policy_edits_layers_of_another_width_and_two_at_once():
    editor = untrained()
    wide = tiny.task(1, base=tiny.subject(4, (7, 3)), site=("fc2/kernel", "head/kernel"))
    result = editor.edit(wide, KEY)
    assert _changed(wide.subject.params, result.params) == {"fc2/kernel", "head/kernel"}


@pytest.mark.slow
def test_requests_in_turn_are_edited_in_as_many_steps():
    editor = untrained()
    task = forget_in_turn(tiny.subject(), tiny.splits(), (2, 0))
    env = editor.make_world(task)
    assert env.horizon == 2
    plan = jax.jit(editor.plan, static_argnums=0)(env, env.default_params)
    assert plan.shape == (2, env.num_actions) and np.abs(plan[1] - plan[0]).max() > 1e-3
    result = editor.edit(task, KEY)
    leaves = env.apply_plan(plan, env.default_params.original)
    np.testing.assert_allclose(
        result.params["fc2"]["kernel"], leaves["fc2/kernel"], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="several requests is edited without adaptation: leave"):
        replace(editor, adaptation=100).edit(task, KEY)


@pytest.mark.parametrize("world", ["shift", pytest.param("mask", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_search_begins_at_the_action_of_the_policy(world, monkeypatch):
    """Hardly any spread and hardly any step: the search cannot have left its start."""

    @struct.dataclass
    class NarrowPPO(PPO):
        @property
        def hyperparameters(self):
            return replace(super().hyperparameters, initial_std=1e-6, learning_rate=0.0)

    monkeypatch.setattr(learned, "PPO", NarrowPPO)
    editor, task = replace(untrained(world), adaptation=25), _task()
    start = _edited(world).params["fc2"]["kernel"]
    result = editor.edit(task, KEY)
    np.testing.assert_allclose(result.params["fc2"]["kernel"], start, rtol=1e-3, atol=1e-4)
    assert _changed(task.subject.params, result.params) == {"fc2/kernel"}
    assert 0 < result.cost.reward_evaluations <= 25


@pytest.mark.parametrize(
    ("world", "parametrization"), [("shift", LowRank(2)), ("mask", PerWeight())]
)
def test_the_adaptation_searches_where_the_policy_acts(world, parametrization):
    editor, start = untrained(world), jnp.arange(3.0)
    search = editor.adaptation_search(100, start)
    assert (search.world, search.budget) == (world, 100) and search.start is start
    assert search.parametrization == parametrization and search.observation == "time"
    assert search.hyperparameters.initial_std == 0.1 and search.horizon == 1


@pytest.mark.slow
def test_an_adaptation_improves_on_the_policy():
    editor, task = untrained(), _task()
    env = editor.make_world(task)
    evaluate = jax.jit(env.evaluate)

    def score(params):
        return float(evaluate({"fc2/kernel": params["fc2"]["kernel"]}, env.default_params)[0])

    at_once, searched = (replace(editor, adaptation=n).edit(task, KEY) for n in (0, 1000))
    assert 900 < searched.cost.reward_evaluations <= 1000
    assert score(searched.params) > score(at_once.params) + 0.05


@pytest.mark.parametrize(
    "world", [pytest.param(w, marks=[pytest.mark.slow] if w == "mask" else []) for w in WORLDS]
)
def test_a_policy_on_disk_edits_to_the_last_bit(world, tmp_path):
    editor = untrained(world)
    path = tmp_path / "new" / "policy.safetensors"
    editor.save(path)
    loaded = load_editor(str(path))
    assert loaded.network == editor.network and loaded.world == world
    chex.assert_trees_all_equal(loaded.params, editor.params)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not _changed(_edited(world).params, loaded.edit(_task(), KEY).params)
    named = SavedPolicy(str(path))
    assert isinstance(named, Editor) and named.adaptation == 0
    assert not _changed(_edited(world).params, named.edit(_task(), KEY).params)
    with pytest.raises(FileNotFoundError, match="no policy at nowhere: train one"):
        SavedPolicy("nowhere")  # before networks are trained


def test_a_policy_saved_again_under_its_name_is_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "policy.safetensors"
    seen = []

    def edit(self, task, key):
        seen.append(self.world)
        return EditResult(task.subject.params)

    monkeypatch.setattr(learned.LearnedEditor, "edit", edit)
    for world in ("shift", "shift", "mask"):
        untrained(world).save(path)
        SavedPolicy(str(path)).edit(_task(), KEY)
    assert seen == ["shift", "shift", "mask"]


def test_files_that_hold_no_policy_are_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no policy at .*train one, or give the path"):
        load_editor(path)
    untrained().save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 200, whole[:-4]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"policy\.safetensors is damaged: copy or train it"):
            load_editor(path)
    save_file({"w": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match="holds tensors but no policy"):
        load_editor(path)


def test_a_policy_of_an_earlier_version_is_refused():
    """Which has seen the sizes of layers as well."""
    with pytest.raises(ValueError, match=r"reads 6 numbers .* shows 4: an earlier version"):
        untrained(more=2).edit(_task(), KEY)


def test_a_policy_of_other_evaluation_sets_is_refused():
    with pytest.raises(ValueError, match=r"reads 9 features of inputs, the task shows 6: .* other"):
        untrained(sets=3).edit(_task(), KEY)


@pytest.mark.slow
def test_a_site_that_is_no_dense_kernel_is_refused():
    with pytest.raises(ValueError, match="does not use fc2/bias once, as x @ W"):
        untrained().edit(tiny.task(0, site="fc2/bias"), KEY)
