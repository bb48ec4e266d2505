"""Variants of RLEdit, the answers they give, and the figures of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import Method, make_method
from experiments.lifelong_editing.run import Progress
from experiments.lifelong_editing.setup import Setup, check_modules, prepare
from experiments.lifelong_editing.stream_run import Outcome, edit, evaluated, learn
from experiments.rledit_ablation.config import QuestionConfig
from modeledit_jax.evaluation.statistics import mean_interval
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.scoring import HEADLINE
from modeledit_jax.report.interval_plot import interval_plot
from modeledit_jax.report.markdown import table_lines
from modeledit_jax.report.summary import atomic_write_text
from modeledit_jax.run.folder import as_json

SHOWN = ("overall", *HEADLINE)
TITLES = {
    "updates": "Is training longer than the released single step worth it?",
    "size": "The L2 term, with a gradient and without (released)",
    "memory": "Batches that a change is judged by",
    "past": "Weight of past batches in the objective",
    "accumulator": "Edited weights kept in float32 or bfloat16",
}


@dataclass(frozen=True)
class Variant:
    """Attributes: method; the dtype of the kernels, None for the model's own; whose training it
    takes, None for one of its own."""

    method: Method
    dtype: Any = None
    trained_as: str | None = None


Answers = dict[str, dict[str, list[Outcome]]]
"""Outcomes of all seeds, by question and variant."""


def run(config: QuestionConfig) -> Path:
    """Runs all variants on all seeds and writes what came out."""
    check_modules(config)
    answers: Answers = {question: {} for question in config.questions}
    with Progress(config.seeds) as bars:
        for seed in range(config.seed, config.seed + config.seeds):
            setup = prepare(config, seed, bars.reporter)
            _ask(setup, answers, bars)
            bars.one_done()
    write_answers(config, answers)
    return run_folder(config) / "questions.md"


def variants(setup: Setup) -> dict[str, dict[str, Variant]]:
    """All variants, by question and name; ``rledit`` is in every question."""
    rledit = make_method("rledit", setup.config, setup.model, (setup.edits, setup.training))
    training = rledit.training
    assert training is not None
    objective = training.objective

    def trained(**changes: Any) -> Variant:
        return Variant(Method(rledit.editor, replace(training, **changes)))

    def judged_by(**changes: Any) -> Variant:
        return trained(objective=replace(objective, **changes))

    lengths = dict.fromkeys(max(1, training.updates // parts) for parts in (10, 3))
    questions: dict[str, dict[str, Variant]] = {
        "updates": {
            "untrained": Variant(Method(rledit.editor)),
            "1 of a whole trajectory": trained(updates=1, update_every=None, clip="sum"),
            **{f"{count}": trained(updates=count) for count in lengths},
        },
        "size": {
            "no gradient": judged_by(size_gradient=False),
            **{"1": judged_by(size=1.0)},
        },
        "memory": {f"{k}": judged_by(memory=k) for k in (1, 2)},
        "past": {
            "1": judged_by(past=1.0),
            "released weights": judged_by(past=1.0, decay=0.95, locality=0.6, reference="previous"),
        },
        "accumulator": {"bfloat16": Variant(rledit, jnp.bfloat16, "rledit")},
    }
    for name in ("ft-m", "ultraedit"):
        other = make_method(name, setup.config, setup.model, (setup.edits, setup.training))
        questions["accumulator"] |= {
            name: Variant(other),
            f"{name} bfloat16": Variant(other, jnp.bfloat16),
        }
    return {
        question: {own_name(question, training): Variant(rledit, None, "rledit")} | own
        for question, own in questions.items()
    }


def own_name(question: str, training: MetaTraining) -> str:
    """What ``rledit`` is called among the variants of a question: its own value there."""
    values = {
        "updates": training.updates,
        "size": f"{training.objective.size:g}",
        "memory": training.objective.memory,
        "past": f"{training.objective.past:g}",
    }
    return f"rledit ({values[question]})" if question in values else "rledit"


def _ask(setup: Setup, answers: Answers, bars: Progress) -> None:
    found = variants(setup)
    for question, outcomes in answers.items():
        for name, variant in found[question].items():
            outcome = _outcome(setup, question, name, variant, bars)
            outcomes.setdefault(name, []).append(outcome)


def _outcome(setup: Setup, question: str, name: str, variant: Variant, bars: Progress) -> Outcome:
    """One variant on one seed; ``rledit`` is trained and edited once for all questions."""
    folder = "".join(c if c.isalnum() else "-" for c in f"{question} {name}")
    if variant.trained_as and variant.dtype is None:
        folder = variant.trained_as
    method = variant.method
    taught = variant.trained_as or folder
    state, seconds = learn(setup, taught, method, bars.reporter(f"{question}, {name}: training"))
    shown = bars.reporter(f"{question}, {name}: editing")
    editing = edit(setup, folder, method, state, shown, variant.dtype)
    return evaluated(setup, name, method, editing, seconds)


def write_answers(config: QuestionConfig, answers: Answers) -> None:
    """The tables, the numbers, and a figure for every question."""
    where = run_folder(config)
    lines = ["# What RLEdit's parts are worth", ""]
    numbers: dict[str, Any] = {"config": as_json(config), "values": {}}
    for question, outcomes in answers.items():
        values = {
            metric: {
                name: np.array([100 * own.metrics[metric] for own in runs])
                for name, runs in outcomes.items()
            }
            for metric in SHOWN
        }
        figure = where / "figures" / f"{question}.png"
        interval_plot(values, figure, title=TITLES[question])
        lines += [f"## {TITLES[question]}", "", *_table(values), "", f"![](figures/{figure.name})"]
        lines += [""]
        numbers["values"][question] = {
            metric: {name: runs.tolist() for name, runs in own.items()}
            for metric, own in values.items()
        }
    atomic_write_text(where / "questions.md", "\n".join(lines))
    atomic_write_text(where / "questions.json", json.dumps(numbers, indent=1))
    print("\n".join(lines))


def _table(values: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    header = ["variant", *(f"{metric} %" for metric in values)]
    names = next(iter(values.values()))
    rows = [[name, *(_cell(own[name]) for own in values.values())] for name in names]
    return table_lines(header, rows)


def _cell(runs: np.ndarray) -> str:
    if not np.isfinite(runs).all():
        return "–"
    mean, low, high = mean_interval(runs)
    return f"{mean:.1f}" if len(runs) == 1 else f"{mean:.1f} [{low:.1f}, {high:.1f}]"
