"""Rows, figures and text of the unlearning experiment, from made-up results on tiny tasks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.common.methods import Method, Result
from experiments.unlearning.config import Config
from experiments.unlearning.figures import _matrix_of_change, write_figures
from experiments.unlearning.report import report_text, write_report
from experiments.unlearning.rows import accuracies_on_test, inner_numbers, make_rows
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.unlearning.references import Original
from modeledit_jax.evaluation.forgetting import tow
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import select
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.tasks.unlearning_metrics import EVALUATED_ROLES, TEST_METRICS
from tests import tiny

TASKS = [tiny.task(0, seed=0), tiny.task(0, seed=1)]
SEEDS = [0, 1]
METHODS = [
    Method("mine", Original(), style=Style("#123456", "o", "-")),
    Method("ridge", Original()),
]


def results():
    outputs = [role_outputs(task, task.subject.params, EVALUATED_ROLES) for task in TASKS]
    noisy = [{role: logits[::-1] for role, logits in each.items()} for each in outputs]
    networks = [task.subject.params for task in TASKS]
    original = Result("original", outputs, [Cost()] * 2, networks=networks)
    _, retain = accuracies_on_test(TASKS, original)
    leaves = [
        {path: leaf + 0.25 * (1 + index) for path, leaf in task.leaves.items()}
        for index, task in enumerate(TASKS)
    ]
    search = Result(
        "mine",
        noisy,
        [Cost(20, 4, 0.5)] * 2,
        leaves=leaves,
        evaluations=np.array([10, 20]),
        score=np.array([[0.1, 0.2], [0.3, 0.4]]),
        curves={
            "forget": np.array([[0.5, 0.0], [0.5, 0.25]], np.float32),
            "retain": np.stack([retain, retain], axis=1).astype(np.float32),
        },
        learned=True,
    )
    ridge = Result("ridge", noisy, [Cost()] * 2, leaves=leaves)
    return [original, replace(original, method="retrain"), search, ridge]


def by_name():
    return {result.method: result for result in results()}


def test_a_search_has_curves_and_says_when_it_met_the_target():
    found = by_name()
    rows = make_rows(TASKS, SEEDS, found)
    assert [(row.method, row.seed) for row in rows[::2]] == [(name, 0) for name in found]
    first, second = select(rows, method="mine")
    assert first.metrics["evaluations_to_target"] == 20
    assert np.isnan(second.metrics["evaluations_to_target"])
    assert first.cost == Cost(20, 4, 0.5) and first.metrics["edit_rank"] == 1
    assert first.curves["reward_evaluations"] == (10, 20)
    assert second.curves["score"] == (0.3, 0.4)
    forget, retain = accuracies_on_test(TASKS, found["retrain"])
    reference = dict(zip(TEST_METRICS, (forget[0], retain[0]), strict=True))
    points = {name: np.array(first.curves[name]) for name in TEST_METRICS}
    expected = tow(points, reference, TEST_METRICS)
    np.testing.assert_allclose(first.curves["tow_test"], expected, rtol=1e-5)


def test_what_is_no_search_has_no_curves_and_no_target():
    rows = make_rows(TASKS, SEEDS, by_name())
    for name in ("original", "retrain", "ridge"):
        for row in select(rows, method=name):
            assert row.curves == {} and "evaluations_to_target" not in row.metrics
    assert "edit_rank" in select(rows, method="ridge")[0].metrics
    assert "edit_rank" not in select(rows, method="original")[0].metrics


def test_figures_of_searches_are_left_out_without_one(tmp_path):
    found = {name: result for name, result in by_name().items() if name != "mine"}
    write_figures(tmp_path, TASKS, found, make_rows(TASKS, SEEDS, found), {})
    assert [path.name for path in tmp_path.iterdir()] == ["forget_retain.png"]


def test_the_change_that_is_shown_is_of_a_leaf_that_was_changed():
    task = tiny.task(0, site=("fc1/kernel", "fc2/kernel"))
    moved = {"fc2/kernel": task.leaves["fc2/kernel"] + 1.0}
    for edited, expected in ((task.leaves | moved, np.ones((5, 4))), (task.leaves, 0.0)):
        found = _matrix_of_change(task.leaves, edited)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_method_is_drawn_as_its_preset_says(tmp_path, monkeypatch):
    drawn = []
    save = "modeledit_jax.report.curves.save"
    monkeypatch.setattr(save, lambda figure, path: drawn.append(figure) or figure)
    config = Config(run_dir=tmp_path)
    write_report(config, TASKS, SEEDS, results(), METHODS, ["notes follow"])
    assert to_hex(drawn[0].axes[0].lines[0].get_color()) == "#123456"
    summary = read_summary(tmp_path)
    assert {row.method for row in summary.rows} == {"original", "retrain", "mine", "ridge"}
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 2 * 2
    assert (tmp_path / "weights" / "mine" / f"{TASKS[1].name}-seed-1").is_dir()
    assert (tmp_path / "report.md").read_text().rstrip().endswith("- notes follow")


@pytest.mark.parametrize("learned", [[], ["mine"]])
def test_the_report_compares_what_was_learned(learned):
    rows = make_rows(TASKS, SEEDS, by_name())
    config = Config(run_dir=Path("nowhere"))
    text = report_text(config, TASKS, rows, learned, ["mine", "ridge", "left-out"], [])
    assert ("## Comparisons" in text) == bool(learned)
    assert ("| mine | ridge |" in text) == bool(learned)
    assert "| mine | 1/2 | not reached | not reached |" in text


@pytest.mark.slow
def test_what_is_left_inside_is_measured_where_it_is_asked_for():
    rows = make_rows(TASKS, SEEDS, by_name(), inside=True)
    retrain = select(rows, method="retrain")[0].metrics
    assert retrain["relearn_index"] in (0.0, 1.0) and retrain["prototype_gap_1_layer_1"] == 0
    text = report_text(Config(run_dir=Path("nowhere")), TASKS, rows, [], ["mine"], [])
    assert "## Inside" in text and "prototype gap 5 layer 2" in text
    without = make_rows(TASKS, SEEDS, by_name())
    assert not any(name.startswith("relearn") for name in without[0].metrics)
    assert set(inner_numbers(TASKS, by_name())) == set(by_name())


def test_a_result_gives_whole_networks():
    found = by_name()
    assert found["original"].params(TASKS)[0] is TASKS[0].subject.params
    edited = found["ridge"].params(TASKS)[1]
    np.testing.assert_array_equal(edited["fc2"]["kernel"], TASKS[1].leaves["fc2/kernel"] + 0.5)
    assert edited["fc1"]["kernel"] is TASKS[1].subject.params["fc1"]["kernel"]
