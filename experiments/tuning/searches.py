"""Trials of methods, which all tuning of editors shares, and the presets they end in."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.common.checks import check_distinct
from experiments.common.methods import check_options_read, check_search, method_context
from experiments.common.options import MethodOptions, RunOptions, run_folder
from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.presets.preset import Preset, load_preset
from modeledit_jax.presets.writing import tuned_preset
from modeledit_jax.run.digested_json import cached_json
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.plan_evaluation import Measure, PlanEvaluator
from modeledit_jax.tasks.network import NonFiniteError
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Params

Settings = Mapping[str, float]
Curves = Mapping[str, np.ndarray]


DIVERGED = -100.0
"""Score of a setting under which an edit has weights or outputs that are not finite; below all."""


def presets_of(config: MethodOptions, family: str) -> dict[str, Preset]:
    """The presets named on the command line."""
    found = [load_preset(name, family) for name in config.methods]
    check_distinct("--methods", [preset.name for preset in found])
    return {preset.name: preset for preset in found}


def searches(
    config: MethodOptions, family: str, others: tuple[type, ...] = ()
) -> dict[str, Preset]:
    """The same, where searches alone are tuned, or some classes beside them.

    Args:
      config: options.
      family: of presets.
      others: classes that are tuned as well, beside searches.

    Raises:
      ValueError: one is no search and none of these.
    """
    found = presets_of(config, family)
    kinds = (SearchEditor, *others)
    if unknown := [name for name, one in found.items() if not issubclass(one.kind, kinds)]:
        named = " and ".join(("searches", *(kind.__name__ for kind in others)))
        raise ValueError(f"--methods {unknown[0]} is no search: this command tunes {named} alone")
    return found


Grid = TypeVar("Grid")


def grid_of(grids: Mapping[str, Grid], search: str) -> Grid:
    """The grid of a class of searches.

    Raises:
      ValueError: there is none.
    """
    if search not in grids:
        raise ValueError(
            f"there is no grid of settings for {search}: this command tunes {', '.join(grids)}"
        )
    return grids[search]


def run_trials(
    config: MethodOptions,
    tasks: Sequence[Task],
    presets: Mapping[str, Preset],
    grids: Mapping[str, Sequence[Settings]],
    measure: Measure,
    score: Callable[[Curves, Curves], float],
) -> dict[str, list[dict[str, Any]]]:
    """Runs all trials of all methods.

    Args:
      config: options.
      tasks: edited side by side.
      presets: of the methods, by name.
      grids: the settings to try, by name.
      measure: what is known of an edit on ``select``.
      score: ``({name: [B, K]}, the same of no edit [B, 1]) -> score``, higher is better.

    Returns:
      By name, the settings with their ``score``, best first.
    """
    keys = jax.random.split(jax.random.key(config.seed), len(tasks))
    found: dict[str, list[dict[str, Any]]] = {}
    for name, preset in presets.items():
        done = []
        for number, trial in enumerate(tqdm(grids[name], desc=name)):
            path = run_folder(config) / "trials" / f"{name}-{number}.json"
            editor = _with_settings(config, preset, trial)
            build = partial(_score, editor, tasks, keys, measure, score)
            done.append({**trial, "score": cached_json(path, build)})
        found[name] = sorted(done, key=lambda trial: -trial["score"])
    return found


def check_trials(
    config: MethodOptions,
    presets: Mapping[str, Preset],
    grids: Mapping[str, Sequence[Settings]],
) -> list[SearchEditor]:
    """The searches of all trials, before any data is read or network trained.

    Raises:
      ValueError: as `check_methods`; settings of a trial count, not those of the preset.
    """
    editors = []
    for name, preset in presets.items():
        for trial in grids[name]:
            editor = _with_settings(config, preset, trial)
            if isinstance(editor, SearchEditor):
                check_search(config, name, editor)
            editors.append(editor)
    return check_options_read(config, editors)


def files_of(config: MethodOptions, family: str) -> dict[str, str]:
    """The files of the user's methods among those named on the command line, by name."""
    return {load_preset(n, family).name: n for n in config.methods if n.endswith(".toml")}


def _with_settings(config: MethodOptions, preset: Preset, trial: Settings) -> Editor:
    """The editor of one trial; numbers of a search are arrays, so that trials compile once."""
    editor = preset.build(**method_context(config))
    if not isinstance(editor, SearchEditor):
        return replace(editor, **trial)
    numbers: dict[str, Any] = {
        n: v if n == "population" else jnp.float32(v) for n, v in trial.items()
    }
    return replace(editor, **numbers)


def _score(
    editor: Editor,
    tasks: Sequence[Task],
    keys: Key,
    measure: Measure,
    score: Callable[[Curves, Curves], float],
) -> float:
    if not isinstance(editor, SearchEditor):
        try:
            edited = [result.params for result in edit_many(editor, tasks, keys)]
        except NonFiniteError:
            return DIVERGED
        base = [task.subject.params for task in tasks]
        return score(*(_on_select(tasks, params, measure) for params in (edited, base)))
    env = editor.make_world(tasks[0])
    evaluator = PlanEvaluator(env, tasks, measure)
    nothing = np.zeros((len(tasks), 1, env.horizon, env.edit.action_size), np.float32)
    plans = np.stack([result.trace.plans for result in edit_many(editor, tasks, keys)])
    return score(evaluator.curves(plans, "select"), evaluator.curves(nothing, "select"))


def _on_select(tasks: Sequence[Task], params: Sequence[Params], measure: Measure) -> Curves:
    """What is known of one network for each task, as curves of one point."""
    found = []
    for task, own in zip(tasks, params, strict=True):
        outputs = jnp.asarray(role_outputs(task, own, ("select",))["select"])
        sets = task.roles["select"]
        targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
        found.append(measure(outputs, targets, weights))
    return jax.tree.map(lambda *each: np.stack(each)[:, None], *jax.device_get(found))


def write_tuning(
    config: RunOptions,
    family: str,
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    files: Mapping[str, str] = MappingProxyType({}),
    pretrained: bool = False,
) -> Path:
    """Writes ``tuning.json`` and, in ``presets/``, the methods with their best settings.

    Args:
      config: options.
      family: of presets.
      found: settings and ``score`` of all trials by method, best first.
      files: of methods of the user, by name; the others are presets of the family.
      pretrained: see `tuned_preset`.
    """
    folder = run_folder(config)
    text = json.dumps({"config": as_json(config), "trials": found}, indent=2)
    atomic_write_text(folder / "tuning.json", text + "\n")
    for name, done in found.items():
        best = {key: value for key, value in done[0].items() if key != "score"}
        print(name, *(f"{key}={value}" for key, value in best.items()))
        tuned = f"experiments.tuning: best of {len(done)} trials, score {done[0]['score']:.4g}"
        preset = tuned_preset(files.get(name, name), family, best, tuned, pretrained)
        atomic_write_text(folder / "presets" / f"{name}.toml", preset)
    return folder / "tuning.json"
