"""Edits under every combination of weights, judged on ``select`` of nested folds."""

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.bias_mitigation.config import FIDELITY_WEIGHTS, family_of
from experiments.bias_mitigation.real import RealSetup, debias, prepare_real
from experiments.bias_mitigation.run import training_key
from experiments.common.methods import check_options_read, method_context
from experiments.common.options import run_folder
from experiments.tuning.bias_reward.config import WeightsConfig
from experiments.tuning.bias_reward.measures import (
    Values,
    changes,
    largest_shift,
    score,
    select_values,
)
from experiments.tuning.searches import searches
from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.reward_gradient import RewardGradient
from modeledit_jax.report.markdown import number, table_lines
from modeledit_jax.run.digested_json import cached_json
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.types import Params

SEEN = ("dispersion_shown", "dispersion_unseen", "fped_shown", "fped_unseen")
HEADER = (
    *("method", *FIDELITY_WEIGHTS),
    *("dispersion, windows", "terms not in the reward", "FPED, windows", "terms not in the reward"),
    *("largest shift of a rate, points", "of", "balanced accuracy, points", "AUC", "score"),
)


def run(config: WeightsConfig) -> Path:
    """Tries all weights and writes ``tuning.json`` and ``report.md``; a finished trial is kept."""
    family = family_of(config)
    presets = searches(config, family, (RewardGradient,))
    editors = {name: found.build(**method_context(config)) for name, found in presets.items()}
    setup = prepare_real(
        config, check_options_read(config, list(editors.values())), training_key, nested=True
    )
    tried = itertools.product(config.try_pairing, config.try_term_rates, config.try_block_mean)
    grid = [dict(zip(FIDELITY_WEIGHTS, weights, strict=True)) for weights in tried]
    trials = [(name, weights) for name in editors for weights in grid]
    found = []
    for name, weights in tqdm(trials, desc="weights"):
        file = "-".join([name, *map(str, weights.values())])
        path = run_folder(config) / "trials" / f"{file}.json"
        build = partial(_changes, config, setup, editors[name], weights)
        change = cached_json(path, build)
        found.append({"method": name, **weights, "change": change, "score": score(change)})
    found.sort(key=lambda trial: -trial["score"])
    text = json.dumps({"config": as_json(config), "trials": found}, indent=2)
    atomic_write_text(run_folder(config) / "tuning.json", text + "\n")
    atomic_write_text(run_folder(config) / "report.md", _report(found))
    return run_folder(config) / "report.md"


def _changes(
    config: WeightsConfig, setup: RealSetup, editor: Editor, weights: dict[str, float]
) -> dict[str, float]:
    own = config.weighted(weights)
    tasks = [
        debias(own, task.subject, fold.data, fold.number)
        for fold in setup.folds
        for task in fold.tasks
    ]
    keys = jax.random.split(jax.random.key(config.seed), len(tasks))
    edited = [result.params for result in edit_many(editor, tasks, keys)]
    before, after = (
        [_values(task, params) for task, params in zip(tasks, each, strict=True)]
        for each in ([task.subject.params for task in tasks], edited)
    )
    return changes(before, after)


def _values(task: DebiasingTask, params: Params) -> Values:
    return select_values(task, np.asarray(role_outputs(task, params, ("select",))["select"]))


def _report(found: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for trial in found:
        change, (rate, shift) = trial["change"], largest_shift(trial["change"])
        rows.append(
            [
                trial["method"],
                *(f"{trial[name]:g}" for name in FIDELITY_WEIGHTS),
                *(f"{number(change[name], 0, percent=True, signed=True)} %" for name in SEEN),
                number(shift, 1, percent=True, signed=True),
                rate.replace("_", " ").replace("fpr", "FPR").replace("fnr", "FNR"),
                number(change["accuracy"], 2, percent=True, signed=True),
                number(change["auc"], 4, signed=True),
                number(trial["score"], 3, signed=True),
            ]
        )
    lines = [
        "# Weights of the reward, judged on select",
        "",
        *table_lines(HEADER, rows),
        "",
        "Changes by the edit, means over networks and folds. Best score first: the mean fall of "
        "the four where the margins of the gates hold, otherwise below zero.",
    ]
    return "\n".join(lines) + "\n"
