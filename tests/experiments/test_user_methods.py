"""Methods, tasks and parametrizations of a user's, written outside the repository.

A method is one Python file and one TOML beside it; a task and a parametrization need no TOML.
"""

import sys

import jax
import numpy as np
import pytest

import modeledit_jax as me
from experiments.unlearning.__main__ import command
from modeledit_jax.presets.preset import load_preset
from modeledit_jax.report.summary import read_summary
from modeledit_jax.run.checkpoint import load_params
from tests import tiny

SEARCH = '''
"""A search: keeps what is better than the best so far."""

import jax
import jax.numpy as jnp
from modeledit_jax import struct

from modeledit_jax.editors.search.evolution import evaluate_population
from modeledit_jax.editors.search.search import SearchEditor


@struct.dataclass
class HillClimb(SearchEditor):
    population: int = struct.field(pytree_node=False, default=4)
    std: float = 0.5

    @property
    def evaluations_per_update(self):
        return self.population

    @property
    def gradient_steps_per_update(self):
        return 0

    def init(self, env, params, key):
        return {"best": jnp.zeros(env.num_actions), "reward": jnp.float32(0), "key": key}

    def update(self, env, params, state):
        key, noise_key = jax.random.split(state["key"])
        noise = jax.random.normal(noise_key, (self.population, env.num_actions))
        actions = state["best"] + self.std * noise
        rewards, metrics = evaluate_population(env, params, actions)
        better = rewards.max() > state["reward"]
        best = jnp.where(better, actions[rewards.argmax()], state["best"])
        reward = jnp.maximum(rewards.max(), state["reward"])
        return {"best": best, "reward": reward, "key": key}, metrics

    def plan(self, env, params, state):
        return state["best"][None]
'''
SEARCH_TOML = """
class = "hill_climb:HillClimb"

[settings]
std = 0.3
population = 5

[style]
color = "#123456"
marker = "h"
line = "-"
"""

EDITOR = '''
"""An unlearning editor: sets the smallest weights to zero."""

from dataclasses import dataclass

import jax.numpy as jnp

import modeledit_jax as me


@dataclass(frozen=True)
class Prune:
    share: float = 0.1

    def edit(self, task, key):
        leaves = {
            path: weights * (abs(weights) > jnp.quantile(abs(weights), self.share))
            for path, weights in task.leaves.items()
        }
        return me.EditResult(me.set_leaves(task.subject.params, leaves), me.Cost())
'''
EDITOR_TOML = """
class = "prune:Prune"
settings = {share = 0.25}
"""

TASK = '''
"""A task: the network's confidence has to fall where its inputs are small, and nowhere else."""

import numpy as np

from modeledit_jax.tasks.reward import as_reward
from modeledit_jax.tasks.task import EvaluationSets, Task, find_site


def reward(sets, edit):
    doubt, calm = 1 - sets["small"].probability(), sets["large"].accuracy()
    return doubt + calm, {"doubt": doubt, "calm": calm}


def doubtful(subject, splits):
    def sets(examples):
        norm = np.linalg.norm(examples.x.reshape(len(examples), -1), axis=1)
        small = (norm < np.median(norm)).astype(np.float32)
        return EvaluationSets(examples.x, examples.y, {"small": small, "large": 1 - small})

    roles = {role: sets(getattr(splits, role)) for role in ("train", "reward", "select", "test")}
    return Task("doubt", subject, roles, as_reward(reward), find_site(subject, "fc2/kernel"))
'''

PARAMETRIZATION = '''
"""A parametrization: one action entry for the whole of a leaf's every second column."""

from dataclasses import dataclass

import jax.numpy as jnp


@dataclass(frozen=True)
class Stripes:
    every: int = 2

    def size(self, shape):
        return -(-shape[-1] // self.every)

    def matrix(self, action, shape):
        columns = jnp.zeros(shape[-1]).at[:: self.every].set(action)
        return jnp.broadcast_to(columns, shape)

    def start(self, key, shape):
        return jnp.zeros(self.size(shape))
'''

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder of a user's."""
    folder = tmp_path_factory.mktemp("mine")
    files = {
        "hill_climb.py": SEARCH, "my_search.toml": SEARCH_TOML, "prune.py": EDITOR,
        "my_editor.toml": EDITOR_TOML, "my_task.py": TASK, "stripes.py": PARAMETRIZATION,
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    before = list(sys.path)
    sys.path.insert(0, str(folder))  # as it is where a user starts Python
    yield folder
    sys.path[:] = before
    for name in ("hill_climb", "prune", "my_task", "stripes"):
        sys.modules.pop(name, None)


def test_a_search_of_ones_own(mine):
    search = load_preset(mine / "my_search.toml").build(budget=40, parametrization=me.PerRow())
    assert (search.std, search.population, search.updates) == (0.3, 5, 8)
    tasks = [tiny.task(c, base=tiny.subject(c)) for c in (0, 1)]
    together, records = me.edit_many(search, tasks, KEY), []
    me.edit_many(search, tasks, KEY, report=lambda *one: records.append(one))
    assert records[-1][2]["plans"].shape == (8, 2, 1, 5)  # side by side
    for index, (task, result) in enumerate(zip(tasks, together, strict=True)):
        alone = search.edit(task, jax.random.fold_in(KEY, index))
        np.testing.assert_allclose(result.trace.plans, alone.trace.plans, atol=1e-5)
        assert alone.cost.reward_evaluations == 40
        assert np.any(alone.params["fc2"]["kernel"] != task.leaves["fc2/kernel"])
        best = np.maximum.accumulate(np.asarray(alone.trace.metrics["best_score"]))
        assert best[-1] > best[0]


def test_an_editor_of_ones_own(mine):
    task = tiny.task(0)
    result = me.preset(mine / "my_editor.toml").edit(task, KEY)
    kernel = np.asarray(task.leaves["fc2/kernel"])
    gone = abs(kernel) <= np.quantile(abs(kernel), 0.25)
    np.testing.assert_array_equal(result.params["fc2"]["kernel"], np.where(gone, 0, kernel))
    assert gone.sum() == 5 and me.preset(mine / "my_editor.toml", share=0.5).share == 0.5


def test_a_task_of_ones_own(mine):
    from my_task import doubtful

    task = doubtful(tiny.subject(), tiny.splits())
    before = float(me.make("shift", task)[1].score)
    result = me.SNES(budget=120, parametrization=me.PerRow()).edit(task, KEY)
    env = me.ShiftWorld(task, parametrization=me.PerRow())
    after, parts, _ = env.evaluate(me.get_leaves(result.params, task.site), env.default_params)
    assert float(after) > before + 0.01 and parts.keys() == {"doubt", "calm"}


def test_a_parametrization_of_ones_own(mine):
    from stripes import Stripes

    task = tiny.task(0)
    for editor in (
        me.SNES(budget=40, parametrization=Stripes()),
        me.preset("unlearning/snes-shift", budget=40, parametrization={"class": "stripes:Stripes"}),
    ):
        result = editor.edit(task, KEY)
        assert result.trace.plans.shape == (40 // editor.population, 1, 2)
        change = np.asarray(result.params["fc2"]["kernel"] - task.leaves["fc2/kernel"])
        assert np.all(change[:, 1::2] == 0) and np.all(change[:, ::2] != 0)
        np.testing.assert_allclose(change, np.broadcast_to(change[:1], change.shape), atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_experiment_runs_methods_of_ones_own_to_its_report(mine, tmp_path, capsys):
    paths = [str(mine / "my_search.toml"), str(mine / "my_editor.toml")]
    options = ["--seeds", "1", "--epochs", "2", "--retrains", "1", "--budget", "60"]
    folders = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    methods = ["--methods", *paths, "ridge", "neggrad-plus"]
    with pytest.raises(SystemExit) as done:
        command([*options, *folders, *methods])
    assert done.value.code == 0 and str(tmp_path / "run" / "report.md") in capsys.readouterr().out
    rows = {row.method: row for row in read_summary(tmp_path / "run").rows}
    edits = ("my-search", "my-editor", "ridge", "neggrad-plus")
    assert set(rows) == {"original", "logit-mask", "retrain", *edits}
    assert rows["my-search"].cost.reward_evaluations == 60
    assert rows["neggrad-plus"].cost.gradient_steps == 2000
    report = (tmp_path / "run" / "report.md").read_text()
    for name in edits:
        assert name in report and rows[name].metrics["edit_size"] > 0
    assert (tmp_path / "run" / "figures" / "learning_curves.png").is_file()
    (saved,) = (tmp_path / "run" / "edits" / "my-editor").iterdir()
    assert (saved / "edit.json").is_file()
    params = load_params(tmp_path / "run" / "weights" / "my-search" / "forget-7-seed-0")
    assert np.asarray(params["fc2"]["kernel"]).shape == (128, 32)
