"""Runs the methods of an experiment on its tasks: searches side by side, other editors in turn."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.common.checks import check_distinct
from experiments.common.memory import announcer
from experiments.common.options import (
    ActionOptions,
    MethodOptions,
    SearchOptions,
    memory_budget,
    open_mesh,
    run_folder,
)
from experiments.common.user_code import errors_of
from modeledit_jax.editors.editor import Cost, Editor, EditResult
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.edits.parametrization import (
    LowRank,
    Parametrization,
    PerColumn,
    PerRow,
    PerWeight,
)
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.evaluation.accuracy import accuracies
from modeledit_jax.presets.preset import Role, Style, load_preset
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.plan_evaluation import Measure, PlanEvaluator
from modeledit_jax.run.scalars import ScalarWriter
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.tasks.outputs import edit_metrics
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Leaves, Params


@dataclass(frozen=True)
class Result:
    """One method on all ``B`` tasks.

    Edits also have the edited leaves, and searches their progress at ``K`` updates.
    """

    method: str
    outputs: Sequence[Mapping[str, np.ndarray]]  # of each task: {role: logits [N, C]}
    costs: Sequence[Cost]
    leaves: Sequence[Leaves] | None = None
    evaluations: np.ndarray | None = None  # [K] reward evaluations spent
    score: np.ndarray | None = None  # [B, K] mean score of the candidates
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)  # {name: [B, K]} on test
    learned: bool = False  # by reinforcement learning: what reports show in detail
    factors: Mapping[str, Any] = field(default_factory=dict)  # see `Row`
    networks: Sequence[Params] = ()  # whole, of references, which have no leaves

    def params(self, tasks: Sequence[Task]) -> list[Params]:
        """The whole network of each task."""
        if self.leaves is None:
            return list(self.networks)
        pairs = zip(tasks, self.leaves, strict=True)
        return [set_leaves(task.subject.params, leaves) for task, leaves in pairs]

    def edit_metrics(self, tasks: Sequence[Task], index: int) -> dict[str, float]:
        """Size and rank of the edit of one of the tasks, over all leaves that it changed; of
        references nothing."""
        if self.leaves is None:
            return {}
        edited = self.leaves[index]
        return edit_metrics(get_leaves(tasks[index].subject.params, list(edited)), edited)


@dataclass(frozen=True)
class Method:
    """An editor by the name of its preset, which also says what it is and how it is drawn."""

    name: str
    editor: Editor
    role: Role = "edit"
    style: Style | None = None


@dataclass(frozen=True)
class Evaluation:
    """How results are evaluated.

    Attributes:
      outputs: ``(task, params) -> {role: logits}`` of a whole network.
      roles: whose outputs the results hold.
      measure: what the progress of a search reports, on ``select`` as it runs and on ``test``
        after.
    """

    outputs: Callable[[Any, Params], Mapping[str, np.ndarray]]
    roles: Sequence[str]
    measure: Measure = accuracies


def make_parametrization(config: ActionOptions) -> Parametrization:
    """Returns the parametrization named on the command line."""
    kinds: dict[str, Parametrization] = {
        "low-rank": LowRank(config.rank),
        "per-weight": PerWeight(),
        "per-row": PerRow(),
        "per-column": PerColumn(),
    }
    return kinds[config.parametrization]


def make_methods(config: MethodOptions, family: str, **context: Any) -> list[Method]:
    """The methods named on the command line.

    Args:
      config: options.
      family: of presets.
      **context: what the editors may need to know beside the options (`Preset.build`).

    Raises:
      ValueError, FileNotFoundError: an unknown method, settings that its class refuses, or a search
        whose budget does not pay for one update or that does not play episodes of several edits.
    """
    context |= method_context(config)
    methods = []
    for name in config.methods:
        preset = load_preset(name, family)
        editor = preset.build(**context)
        _check_editor(preset.name, editor)
        if isinstance(editor, SearchEditor):
            with errors_of(preset.name, editor):
                check_search(config, preset.name, editor)
        methods.append(Method(preset.name, editor, preset.role, preset.style))
    check_distinct("--methods", [method.name for method in methods])
    return methods


def _check_editor(name: str, editor: Any) -> None:
    """Raises ValueError unless a method is called as editors are."""
    fits = isinstance(editor, Editor)
    if fits:
        try:
            inspect.signature(editor.edit).bind("task", "key")
        except TypeError:
            fits = False
    if not fits:
        raise ValueError(
            f"preset {name!r}: the class {type(editor).__name__} has no edit(task, key): name a "
            "class that edits one network for a task"
        )


def check_methods(config: MethodOptions, family: str) -> list[SearchEditor]:
    """Raises as `make_methods`, before any data is read or network trained; returns the searches.

    Raises:
      ValueError: besides, an option such as ``--precision`` that no method looks at.
    """
    # What only the data tell is not looked at when a method is built.
    methods = make_methods(config, family, module=nn.Module(), training=TrainingConfig())
    return check_options_read(config, [method.editor for method in methods])


def check_search(config: MethodOptions, name: str, search: SearchEditor) -> None:
    """Raises ValueError for a search that would not run, which shows only after all training."""
    _ = search.updates
    if config.horizon > 1 and not isinstance(search, PPO):
        raise ValueError(
            f"--horizon {config.horizon}: {name} edits in one step; only PPO plays longer "
            "episodes: name its presets in --methods"
        )


def check_options_read(config: MethodOptions, editors: Sequence[Editor]) -> list[SearchEditor]:
    """Returns the searches among editors; ValueError if an option is set that none looks at."""
    searches = [editor for editor in editors if isinstance(editor, SearchEditor)]
    if config.observation is not None and not any(isinstance(s, PPO) for s in searches):
        raise ValueError(
            f"--observation {config.observation} is about what PPO sees: name one of its presets "
            "in --methods, or leave it out"
        )
    if config.precision != "float32" and not searches:
        raise ValueError(
            f"--precision {config.precision} is about how searches score candidates: name one in "
            "--methods, or leave it out"
        )
    if config.sites_chosen is not None and not searches:
        raise ValueError(
            f"--sites-chosen {config.sites_chosen} is about edits of searches: name one in "
            "--methods, or leave it out"
        )
    return searches


def method_context(config: ActionOptions) -> dict[str, Any]:
    """What options say of methods whose presets leave it open."""
    context = {
        "budget": config.budget,
        "parametrization": make_parametrization(config),
        "rank": config.rank,
    }
    if isinstance(config, MethodOptions):
        names = ("horizon", "observation", "precision", "sites_chosen", "sites_drawn")
        context |= {name: getattr(config, name) for name in names}
    return context


def the_result(name: str, build: Callable[[], Result]) -> Result:
    """Runs a method; its result is what is kept of it."""
    return build()


def run_methods(
    config: SearchOptions,
    methods: Sequence[Method],
    tasks: Sequence[Task],
    seeds: Sequence[int],
    evaluation: Evaluation,
    keep: Callable[[str, Callable[[], Result]], Any] = the_result,
) -> tuple[list[Any], list[str]]:
    """Runs every method on all tasks.

    Args:
      config: options.
      methods: in the order of the report.
      tasks: ``B``.
      seeds: of each task's network.
      evaluation: see there.
      keep: what is kept of a method, from its name and a function that runs it.

    Returns:
      Results, or what is kept of them, and a line for every method that does not fit the tasks.
    """
    results: list[Any] = []
    notes: list[str] = []
    for method in methods:
        if isinstance(method.editor, SearchEditor):
            search = partial(_searched, config, method, method.editor, tasks, evaluation)
            with errors_of(method.name, method.editor):
                results.append(keep(method.name, search))
            continue
        try:
            edits = partial(_edited, config, method, tasks, seeds, evaluation)
            with errors_of(method.name, method.editor):
                results.append(keep(method.name, edits))
        except ValueError as error:
            notes.append(f"{method.name} was left out: {error}")
            print(notes[-1], file=sys.stderr)
    if methods and not results:
        raise ValueError("no method fits: " + "; ".join(notes))
    return results, notes


def _searched(
    config: SearchOptions,
    method: Method,
    search: SearchEditor,
    tasks: Sequence[Task],
    evaluation: Evaluation,
) -> Result:
    """A search on all tasks, and its progress on roles it has not seen."""
    env = search.make_world(tasks[0])
    evaluator = PlanEvaluator(env, tasks, evaluation.measure)
    with SearchProgress(method.name, config, evaluator) as report:
        found = edit_many(
            search,
            tasks,
            jax.random.key(config.seed),
            run_folder(config) / "checkpoints" / method.name,
            mesh=open_mesh(config),
            memory=memory_budget(config),
            report=report,
            announce=announcer(method.name),
        )
    plans = np.stack([result.trace.plans for result in found])
    leaves = [get_leaves(one.params, task.site) for one, task in zip(found, tasks, strict=True)]
    return Result(
        method.name,
        [
            {role: evaluator.outputs(index, edited, role) for role in evaluation.roles}
            for index, edited in enumerate(leaves)
        ],
        [result.cost for result in found],
        leaves=leaves,
        evaluations=np.arange(1, plans.shape[1] + 1) * search.evaluations_per_update,
        score=np.stack([np.asarray(result.trace.metrics["score"]) for result in found]),
        curves=evaluator.curves(plans, "test"),
        learned=isinstance(search, PPO),
    )


def _edited(
    config: SearchOptions,
    method: Method,
    tasks: Sequence[Task],
    seeds: Sequence[int],
    evaluation: Evaluation,
) -> Result:
    """Another editor on all tasks, each with a key of its own."""
    folder = run_folder(config) / "edits" / method.name
    with tqdm(desc=method.name, total=len(tasks), leave=False) as bar:

        def report(done: int, total: int, record: Mapping[str, np.ndarray]) -> None:
            bar.update(done - bar.n)

        found = edit_many(method.editor, tasks, method_keys(seeds), folder, report=report)
    return evaluated(method.name, found, tasks, evaluation)


def method_keys(seeds: Sequence[int]) -> Key:
    """Keys ``[B]`` of an editor that is no search, from the seeds of the tasks' networks."""
    keys = [
        jax.random.fold_in(jax.random.key(1_000 + seed), index) for index, seed in enumerate(seeds)
    ]
    return jnp.stack(keys)


def evaluated(
    name: str, found: Sequence[EditResult], tasks: Sequence[Task], evaluation: Evaluation
) -> Result:
    """The result of edits that were made one by one."""
    return Result(
        name,
        [evaluation.outputs(task, one.params) for task, one in zip(tasks, found, strict=True)],
        [one.cost for one in found],
        leaves=[_edited_leaves(task, one.params) for one, task in zip(found, tasks, strict=True)],
    )


def _edited_leaves(task: Task, params: Params) -> Leaves:
    """The leaves of the site, and whatever else of the network an editor has changed."""
    before, after = (get_leaves(tree, leaf_paths(tree)) for tree in (task.subject.params, params))
    alike = [p for p in after if p in before and np.shape(before[p]) == np.shape(after[p])]
    changed = [p for p in alike if p in task.site or not np.array_equal(before[p], after[p])]
    return {path: after[path] for path in changed}


class SearchProgress:
    """Progress bar and TensorBoard scalars of one search."""

    def __init__(self, name: str, config: SearchOptions, evaluator: PlanEvaluator):
        self._name, self._evaluator = name, evaluator
        self._bar = tqdm(desc=name, unit="update")
        self._scalars = ScalarWriter(
            run_folder(config) / "tensorboard" if config.tensorboard else None
        )

    def __enter__(self) -> "SearchProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._scalars.close()

    def __call__(self, done: int, total: int, record: Mapping[str, np.ndarray]) -> None:
        """Shows the reward of the last update and how the present edit does on ``select``."""
        self._bar.total = total
        self._bar.n = done
        if not record:  # some tasks at a time: there are no numbers of all yet
            self._bar.refresh()
            return
        found = self._evaluator.curves(record["plans"][-1][:, None], "select")
        values = {"score": float(record["score"][-1].mean())}
        values |= {name: float(value.mean()) for name, value in found.items()}
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        for name, value in values.items():
            self._scalars.write(f"{self._name}/{name}", value, done)
