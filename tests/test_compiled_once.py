"""The first edit of a shape compiles; the next ones compile nothing, whatever their numbers.

Counted are programs that JAX lowers: each is one that it did not find among those it has, also
where the persistent cache spares it the compilation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.debiasing.ablation import NeuronAblation
from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.unlearning.closed_form import ProjectionEditor, RidgeEditor
from modeledit_jax.editors.unlearning.distillation import SCRUB, BadTeacher
from modeledit_jax.editors.unlearning.fine_tuning import ExactUnlearning
from modeledit_jax.editors.unlearning.fisher import SSD, FisherForgetting
from modeledit_jax.editors.unlearning.influence import Influence
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.editors.unlearning.relabeling import BoundaryShrink, SalUn
from modeledit_jax.editors.unlearning.unsir import UNSIR
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny
from tests.editors.policies import untrained

_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_programs: list[str] = []
_listening = False


def _count(event: str, duration: float, **details: object) -> None:
    if event == _LOWERED:
        _programs.append(str(details.get("fun_name")))


@contextmanager
def lowered() -> Iterator[list[str]]:
    """The names of the programs that are lowered inside."""
    global _listening
    if not _listening:  # a listener cannot be taken away again
        jax.monitoring.register_event_duration_secs_listener(_count)
        _listening = True
    begin, found = len(_programs), []
    yield found
    found.extend(_programs[begin:])


@lru_cache
def task(index):
    """Another network, other data, another class and another weight of the reward."""
    reward = unlearning_reward("soft", utility=1.0 + index)
    base = tiny.subject(index, (9, 6))  # a shape that no other test has
    return tiny.task(index % tiny.CLASSES, seed=index, base=base, reward=reward)


def test_the_counter_counts():
    def double(x):
        return 2 * x

    with lowered() as found:
        jax.jit(double)(np.float32(1.0))
        jax.jit(double)(np.float32(2.0))
    assert found == ["jit(double)"]
    with lowered() as found:
        jax.jit(lambda x: 3 * x)(np.float32(1.0))
    assert len(found) == 1


EDITORS = {
    "ppo": PPO(budget=60),
    "ppo-mask-two-steps": PPO("mask", 60, PerRow(), horizon=2),
    "snes": SNES(budget=60),
    "openes": OpenES(budget=60),
    "random-search": RandomSearch(budget=60),
    "learned": untrained(),
    "learned-mask": untrained("mask"),
    "learned-and-adapted": replace(untrained(), adaptation=100),
    "neuron-ablation": NeuronAblation(3),
    "neggrad-plus": NegGradPlus(steps=5),
    "ridge": RidgeEditor(),
    "projection": ProjectionEditor(),
    "exact-unlearning": ExactUnlearning(steps=5),
    "salun": SalUn(steps=5),
    "boundary-shrink": BoundaryShrink(steps=5),
    "scrub-r": SCRUB(steps=5, cycle=2, ascents=1, rewind=True),
    "bad-teacher": BadTeacher(steps=5),
    "unsir": UNSIR(steps=5),
    "ssd": SSD(selection=1.0),
    "fisher": FisherForgetting(),
    "influence": Influence(),
}
SLOW = (
    "ppo-mask-two-steps",
    "learned-mask",
    "learned",
    "learned-and-adapted",
    "snes",
    "openes",
    "random-search",
    "neggrad-plus",
    "projection",
    *("exact-unlearning", "salun", "boundary-shrink", "scrub-r", "bad-teacher", "unsir", "ssd"),
    *("fisher", "influence"),
)


def _marked(names, slow):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in slow else []) for n in names]


@pytest.mark.parametrize("name", _marked(EDITORS, SLOW))
def test_ten_edits_compile_one_set_of_programs(name):
    editor, results = EDITORS[name], []
    with lowered() as first:
        results.append(editor.edit(task(0), jax.random.key(0)))
    assert first or name == "projection"  # whose programs are those of ridge
    for index in range(1, 10):
        with lowered() as found:
            results.append(editor.edit(task(index), jax.random.key(index)))
        assert not found, f"edit {index} compiles again"
    kernels = [np.asarray(result.params["fc2"]["kernel"]) for result in results]
    for index, kernel in enumerate(kernels):
        # Of its own network, and not the edit of another one.
        assert np.any(kernel != task(index).leaves["fc2/kernel"]) or name == "neuron-ablation"
        assert all(np.any(kernel != other) for other in kernels[:index])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    _marked(
        ["ppo", "snes", "openes", "random-search", "neuron-ablation", "ridge", "learned"],
        slow=("ppo", "openes", "random-search"),
    ),
)
def test_edit_many_called_twice_compiles_nothing_again(name):
    editor = EDITORS[name]
    if hasattr(editor, "population") and editor.population:  # two chunks, the last one shorter
        editor = replace(editor, budget=13 * editor.evaluations_per_update)
    with lowered() as first:
        before = edit_many(editor, [task(index) for index in range(3)], jax.random.key(0))
    with lowered() as found:
        after = edit_many(editor, [task(index) for index in range(3, 6)], jax.random.key(1))
    assert not found, "another three tasks compile again"
    assert first.count("jit(_advance)") <= 1  # all chunks of a search are one program
    for one, other in zip(before, after, strict=True):
        assert np.any(one.params["fc2"]["kernel"] != other.params["fc2"]["kernel"])


def test_searches_that_differ_in_arrays_share_their_programs():
    """A start, or numbers that are swept, are handed over and not compiled in."""
    size = SNES().make_world(task(0)).num_actions
    searches = [
        SNES(budget=60, start=jnp.full(size, 0.1 * index), std=jnp.float32(0.1 + index))
        for index in range(3)
    ]
    searches[0].edit(task(0), jax.random.key(0))
    with lowered() as found:
        for index, search in enumerate(searches):
            search.edit(task(index), jax.random.key(0))
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["weights", "time", "neurons"])
def test_worlds_and_the_evaluation_of_plans_compile_once(observation):
    def play(index):
        env = ShiftWorld(task(index), parametrization=PerRow(), observation=observation)
        params = env.default_params
        key, action = jax.random.key(0), np.full(env.num_actions, 0.3, np.float32)
        _, state = env.reset(key, params)
        *_, info = env.step(key, state, action, params)
        evaluator = PlanEvaluator(env, [task(index)])
        curves = evaluator.curves(action[None, None, None], "test")
        leaves = evaluator.edited(0, action[None])
        return float(info["score"]), curves, evaluator.outputs(0, leaves, "select")

    with lowered() as first:
        scores = [play(0)[0]]
    assert first
    with lowered() as found:
        scores += [play(index)[0] for index in range(1, 4)]
    assert not found and len(set(scores)) == 4
