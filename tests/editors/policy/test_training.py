"""Training on tiny networks of two widths: it helps on a third, and can be resumed."""

from dataclasses import replace
from functools import lru_cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.policy import training as pretraining
from modeledit_jax.editors.policy.learned import LearnedEditor
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.envs.task_pool import make_pool
from modeledit_jax.mesh import make_mesh
from modeledit_jax.run.resumable import run_chunks
from tests import tiny

KEY = jax.random.key(0)
CONFIG = PolicyTraining(
    updates=40, tasks=4, trials=8, examples=None, learning_rate=5e-3, hidden=6, rank=2
)


def _group(width, seeds):
    """To forget either of two classes, in networks of one width."""
    return [tiny.task(c, base=tiny.subject(seed, (width, 4))) for seed in seeds for c in (0, 2)]


@lru_cache
def _trainer(*widths):
    groups = [_group(width, range(4)) for width in widths]
    return PolicyTrainer.of(CONFIG, "shift", groups)


@lru_cache
def _trained(*widths):
    trainer = _trainer(*widths)
    return trainer.advance(trainer.init(KEY), 0, CONFIG.updates)


def _copy(state):
    """The state is donated to the next update: what is to be used twice has to be copied."""
    return jax.tree.map(jnp.copy, state)


def _bits(state):
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        state,
    )


@partial(jax.jit, static_argnums=0)
def _improvement(env, params, tasks):
    """Mean reward of the policy's edits."""
    editor = LearnedEditor(CONFIG.network("shift"), params)

    def one(task):
        leaves = env.apply_plan(editor.plan(env, task), task.original)
        return env.evaluate(leaves, task)[0] - task.score

    return jax.vmap(one)(tasks).mean()


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(5,), pytest.param((5, 3), marks=pytest.mark.slow)])
def test_training_helps_on_networks_it_has_not_seen(widths):
    state, metrics = _trained(*widths)
    trainer = _trainer(*widths)
    new = make_pool(trainer.envs[0], _group(5, (11, 12, 13)))
    tasks = jax.vmap(new.task)(jnp.arange(6))
    before = _improvement(trainer.envs[0], trainer.init(KEY).params, tasks)
    after = _improvement(trainer.envs[0], state.params, tasks)
    assert after > before + 0.1 and after > 0.05
    assert all(values.shape == (CONFIG.updates,) for values in metrics.values())
    assert np.all(np.isfinite(metrics["reward"])) and np.all(metrics["reward_spread"] > 0)
    assert metrics["reward"][-10:].mean() > metrics["reward"][:10].mean() + 0.05
    assert int(state.updates) == CONFIG.updates


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened():
    trainer = _trainer(5)
    start = trainer.init(KEY)
    whole, metrics = trainer.advance(_copy(start), 0, 4)
    half, first = trainer.advance(_copy(start), 0, 2)
    end, second = trainer.advance(half, 2, 2)
    chex.assert_trees_all_equal(_bits(end), _bits(whole))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), first, second)
    chex.assert_trees_all_equal(joined, metrics)
    assert int(end.updates) == 4


@pytest.mark.slow
def test_the_pools_take_turns_wherever_training_goes_on(monkeypatch):
    trainer, used = _trainer(5, 3), []

    def update(config, env, network, mesh, at_once, pool, state):
        (turn,) = [turn for turn, own in enumerate(trainer.pools) if own is pool]
        assert env == trainer.envs[turn].static
        used.append(turn)
        return state, {"reward": jnp.float32(len(used))}

    monkeypatch.setattr(pretraining, "_update", update)
    _, metrics = trainer.advance(trainer.init(KEY), 3, 4)
    assert used == [1, 0, 1, 0]
    np.testing.assert_array_equal(metrics["reward"], [1, 2, 3, 4])


@pytest.mark.slow
def test_the_editor_holds_the_policy_and_its_world():
    trainer, (state, _) = _trainer(5), _trained(5)
    editor = trainer.editor(state)
    assert editor.network == trainer.network and editor.world == "shift"
    assert editor.network.action == "low-rank" and editor.network.rank == 2
    assert editor.params is state.params
    assert PolicyTraining().network("mask").action == "per-weight"


@pytest.mark.parametrize("name", ["updates", "tasks", "trials", "epochs"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PolicyTraining(**{name: 0})


def test_a_trial_alone_is_refused():
    with pytest.raises(ValueError, match="trials at least 2"):
        PolicyTraining(trials=1)


def test_groups_smaller_than_an_update_are_refused():
    with pytest.raises(
        ValueError, match="draws 4 tasks, but a group has 2: make the groups larger"
    ):
        PolicyTrainer.of(CONFIG, "shift", [_group(5, (0, 1)), _group(3, (0,))])


@pytest.mark.parametrize(
    ("options", "message"), [({"examples": 0}, "examples must be"), ({"std": 0.0}, "std > 0")]
)
def test_other_mistakes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PolicyTraining(**options)


def test_what_cannot_be_trained_on_is_named():
    with pytest.raises(ValueError, match="unknown world 'globe'; choose one of shift, mask"):
        PolicyTrainer.of(CONFIG, "globe", [_group(5, (0, 1))])
    with pytest.raises(ValueError, match="at least one group"):
        PolicyTrainer.of(CONFIG, "shift", [])


@pytest.mark.parametrize("horizon", [1, 3])
def test_hyper_parameters_of_ppo(horizon):
    ppo = CONFIG.ppo(horizon)
    assert ppo.num_steps == horizon and ppo.batch_size == 8 * horizon
    # Eight trials in every state, and the action taken in all but the last.
    assert CONFIG.evaluations(horizon) == 40 * 4 * {1: 8, 3: 8 + 1 + 8 + 1 + 8}[horizon]
    assert (ppo.num_epochs, ppo.num_updates, ppo.schedule) == (4, 40, "cosine")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"tasks": 4}, {"tasks": 2, "population": 4}], ids=str)
def test_on_a_mesh_as_on_one_device_up_to_the_order_of_sums(sizes):
    alone, spread = (
        _trainer(5),
        PolicyTrainer.of(CONFIG, "shift", [_group(5, range(4))], make_mesh(sizes)),
    )
    state, expected = alone.advance(alone.init(KEY), 0, 3)
    there, found = spread.advance(spread.init(KEY), 0, 3)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-4)
    assert len(jax.tree.leaves(there.params)[0].sharding.device_set) == np.prod([*sizes.values()])
    chex.assert_trees_all_close(
        spread.editor(there).params, alone.editor(state).params, rtol=1e-3, atol=1e-4
    )
    one = jax.tree.leaves(spread.editor(there).params)[0]
    assert one.sharding.device_set == {jax.devices()[0]}


@pytest.mark.slow
def test_a_training_on_eight_devices_goes_on_on_four_and_on_one(tmp_path):
    """Saved and read again by `run_chunks`, which puts the state back onto the devices."""
    config = replace(CONFIG, tasks=8, updates=6)
    group = [_group(5, range(4))]
    trainers = {
        devices: PolicyTrainer.of(config, "shift", group, mesh)
        for devices, mesh in ((1, None), (4, make_mesh({"tasks": 4})), (8, make_mesh({"tasks": 8})))
    }

    def trained(devices, folder=None, stop=None):
        def report(done, total, record):
            if done == stop:
                raise KeyboardInterrupt

        trainer = trainers[devices]
        state = trainer.init(KEY)
        names = ("reward", "grad_norm")

        def advance(state, done, steps):
            state, metrics = trainer.advance(state, done, steps)
            return state, {name: metrics[name] for name in names}

        return run_chunks(
            state, dict.fromkeys(names, np.zeros(6, np.float32)), advance, chunk=2, folder=folder,
            save_every=0.0, placement=trainer.placement(state), report=report,
        ).record  # fmt: skip

    expected = trained(1)
    for begin, then in ((8, 4), (8, 1), (1, 8)):
        folder = tmp_path / f"{begin}-{then}"
        with pytest.raises(KeyboardInterrupt):
            trained(begin, folder, stop=4)
        chex.assert_trees_all_close(trained(then, folder), expected, rtol=1e-3, atol=1e-4)


def test_devices_that_do_not_divide_the_tasks_of_an_update_are_refused():
    with pytest.raises(ValueError, match="draws 4 tasks, which 3 devices do not divide"):
        PolicyTrainer.of(CONFIG, "shift", [_group(5, range(4))], make_mesh({"tasks": 3}))
