"""A policy as an editor: what it touches, costs, and writes to disk. The policies are untrained."""

from dataclasses import replace
from functools import lru_cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from modeledit_jax.agents.equivariant import EquivariantPolicy
from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.policy import learned
from modeledit_jax.editors.policy.learned import LearnedEditor, load_editor
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.tasks.unlearning import forget_in_turn
from tests import tiny

KEY = jax.random.key(0)
KINDS = {"ShiftWorld-v0": "low-rank", "MaskWorld-v0": "per-weight"}


@lru_cache
def _editor(world="ShiftWorld-v0", sets=2):
    """A policy whose parameters are drawn; it reads tasks with so many evaluation sets."""
    network = EquivariantPolicy(KINDS[world], rank=2, hidden=5, rounds=1, start_scale=0.25)
    layer = {
        "inputs": jnp.zeros((3, 3 * sets)),
        "outputs": jnp.zeros((2, 6 * sets)),
        "weights": jnp.zeros((3, 2)),
        "gradient": jnp.zeros((3, 2)),
    }
    seen = {"layers": (layer,), "context": jnp.zeros(2 * sets + 2)}
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32),
        jax.eval_shape(network.init, KEY, seen),
    )
    return LearnedEditor(network, params, world)


def _changed(before, after):
    """Paths of leaves that are not the same bits."""
    pairs = zip(leaf_paths(before), jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return {path for path, a, b in pairs if np.asarray(a).tobytes() != np.asarray(b).tobytes()}


_worlds = {}


def _make_world(network, world, task, make=learned.make_world):
    """Keeps the task with its world, so that no other task gets its identity."""
    key = (network, world, id(task))
    if key not in _worlds:
        _worlds[key] = (make(network, world, task), task)
    return _worlds[key][0]


@pytest.fixture(autouse=True)
def _worlds_are_made_once(monkeypatch):
    """Compiling one takes seconds; editors of these tests share those of equal tasks."""
    monkeypatch.setattr(learned, "make_world", _make_world)


@lru_cache
def _task():
    return tiny.task(0)


@lru_cache
def _edited(world):
    return _editor(world).edit(_task(), KEY)


@pytest.mark.parametrize("world", KINDS)
def test_the_edit_is_the_action_of_the_policy(world):
    """Mask or shift by hand, of what the policy says of the unedited network."""
    editor, task, result = _editor(world), _task(), _edited(world)
    assert isinstance(editor, Editor)
    assert _changed(task.subject.params, result.params) == {"fc2/kernel"}
    assert (result.cost.reward_evaluations, result.cost.gradient_steps) == (0, 0)
    assert result.cost.seconds > 0 and result.trace is None

    env = editor.make_world(task)
    policy = jax.jit(editor.network.apply)(editor.params, env.default_params.neurons)
    action, original = np.asarray(policy.mean), np.asarray(task.leaves["fc2/kernel"])
    if world == "MaskWorld-v0":
        expected = original * (1 + np.tanh(action.reshape(5, 4)))
    else:
        left, right = action[:10].reshape(5, 2), action[10:].reshape(4, 2)
        expected = original + original.std() * left @ right.T / np.sqrt(2)
    np.testing.assert_allclose(result.params["fc2"]["kernel"], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - original).max() > 0.01


def test_no_reward_of_an_edit_is_computed_without_a_budget(monkeypatch):
    calls, env = [], _editor().make_world(_task())
    plain = type(env).evaluate

    def evaluate(*arguments):
        jax.debug.callback(lambda: calls.append(1))
        return plain(*arguments)

    monkeypatch.setattr(type(env), "evaluate", evaluate)
    learned._planned.clear_cache()  # traced anew, with the counter
    result = _editor().edit(_task(), KEY)
    jax.effects_barrier()
    assert not calls and not _changed(result.params, _edited("ShiftWorld-v0").params)


@pytest.mark.slow
def test_the_same_policy_edits_layers_of_another_width_and_two_at_once():
    editor = _editor()
    wide = tiny.task(1, base=tiny.subject(4, (7, 3)), site=("fc2/kernel", "head/kernel"))
    result = editor.edit(wide, KEY)
    assert _changed(wide.subject.params, result.params) == {"fc2/kernel", "head/kernel"}


def test_requests_in_turn_are_edited_in_as_many_steps():
    editor = _editor()
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
    with pytest.raises(ValueError, match="several requests is edited without a budget"):
        editor.edit(task, KEY, budget=100)


@pytest.mark.parametrize(
    "world", ["ShiftWorld-v0", pytest.param("MaskWorld-v0", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_a_search_begins_at_the_action_of_the_policy(world, monkeypatch):
    """Hardly any spread and hardly any step: the search cannot have left its start."""
    plain = learned.adaptation_config
    narrow = lambda *a: replace(plain(*a), initial_std=1e-6, learning_rate=0.0)  # noqa: E731
    monkeypatch.setattr(learned, "adaptation_config", narrow)
    editor, task = _editor(world), _task()
    start = _edited(world).params["fc2"]["kernel"]
    result = editor.edit(task, KEY, budget=25)
    np.testing.assert_allclose(result.params["fc2"]["kernel"], start, rtol=1e-3, atol=1e-4)
    assert _changed(task.subject.params, result.params) == {"fc2/kernel"}
    assert 0 < result.cost.reward_evaluations <= 25


@pytest.mark.slow
def test_a_budget_improves_on_the_policy():
    editor, task = _editor(), _task()
    env = editor.make_world(task)
    evaluate = jax.jit(env.evaluate)

    def score(params):
        return float(evaluate({"fc2/kernel": params["fc2"]["kernel"]}, env.default_params)[0])

    at_once, searched = (editor.edit(task, KEY, budget=n) for n in (0, 1000))
    assert 900 < searched.cost.reward_evaluations <= 1000
    assert score(searched.params) > score(at_once.params) + 0.05


@pytest.mark.parametrize("world", KINDS)
def test_a_policy_on_disk_edits_to_the_last_bit(world, tmp_path):
    editor = _editor(world)
    path = tmp_path / "new" / "policy.safetensors"
    editor.save(path)
    loaded = load_editor(str(path))
    assert loaded.network == editor.network and loaded.world == world
    chex.assert_trees_all_equal(loaded.params, editor.params)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not _changed(_edited(world).params, loaded.edit(_task(), KEY).params)


def test_files_that_hold_no_policy_are_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no policy at .*train one, or give the path"):
        load_editor(path)
    _editor().save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 200, whole[:-4]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"policy\.safetensors is damaged: copy or train it"):
            load_editor(path)
    save_file({"w": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match="holds tensors but no policy"):
        load_editor(path)


def test_a_policy_of_other_evaluation_sets_is_refused():
    with pytest.raises(ValueError, match=r"reads 9 features of inputs, the task shows 6: .* other"):
        _editor(sets=3).edit(_task(), KEY)


def test_a_site_that_is_no_dense_kernel_is_refused():
    with pytest.raises(ValueError, match="does not use fc2/bias once, as x @ W"):
        _editor().edit(tiny.task(0, site="fc2/bias"), KEY)
