"""Rows and figures of the bias-mitigation experiment, from made-up results."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.bias_mitigation import rows as rows_module
from experiments.bias_mitigation.figures import REFERENCE_STYLES, write_figures
from experiments.bias_mitigation.rows import make_rows
from experiments.common.methods import Result
from modeledit_jax.editors.editor import Cost
from modeledit_jax.presets.preset import load_preset, preset_names
from modeledit_jax.report.style import method_style
from modeledit_jax.report.table import Row, select

FAMILY = "bias_mitigation"
SHOWN = [*preset_names(FAMILY), *REFERENCE_STYLES]


def test_styles_of_all_methods_of_a_figure_are_distinct():
    styles = [method_style(name, REFERENCE_STYLES) for name in SHOWN]
    assert len({style.color for style in styles}) == len(styles)
    assert len({(style.color, style.marker) for style in styles}) == len(styles)
    for name in ("other-seed", *REFERENCE_STYLES):
        color = method_style(name, REFERENCE_STYLES).color
        assert color[1:3] == color[3:5] == color[5:7]  # gray


def test_classifiers_trained_anew_are_references():
    roles = {name: load_preset(name, FAMILY).role for name in preset_names(FAMILY)}
    references = {name for name, role in roles.items() if role == "reference"}
    assert references == {"original", "dixon-rebalancing", "reweighing", "other-seed"}


@pytest.fixture
def metrics(monkeypatch):
    """Metrics in place of those of a classifier: its "outputs" are the metrics."""
    monkeypatch.setattr(rows_module, "debiasing_metrics", lambda task, outputs, _: dict(outputs))


def test_a_network_is_mended_once_all_three_conditions_hold(metrics):
    before = {"fped": 0.4, "fned": 0.1, "accuracy": 0.9}
    original = Result("original", [before], [Cost()])
    curves = {
        "fped": [[0.3, 0.2, 0.1, 0.1, 0.1]],  # halved from the second point on
        "fned": [[0.1, 0.2, 0.1, 0.1, 0.1]],  # higher at the second
        "accuracy": [[0.9, 0.9, 0.85, 0.9, 0.9]],  # too low at the third
    }
    search = Result(
        "ppo-shift",
        [before],
        [Cost(50)],
        evaluations=np.array([10, 20, 30, 40, 50]),
        score=np.zeros((1, 5)),
        curves={name: np.array(values) for name, values in curves.items()},
    )
    tasks = [SimpleNamespace(name="debias")]
    unedited, row = make_rows(tasks, [3], [original, search], original)
    assert unedited.curves == {} and "evaluations_to_target" not in unedited.metrics
    assert row.metrics["evaluations_to_target"] == 40
    assert list(row.curves) == ["reward_evaluations", "score", "fped", "fned", "accuracy"]


def test_results_of_one_method_differ_by_factors(metrics):
    before = {"fped": 0.4, "fned": 0.1, "accuracy": 0.9}
    original = Result("original", [before], [Cost()])
    policies = [
        Result("policy-shift", [before], [Cost()], factors={"budget": budget}) for budget in (0, 10)
    ]
    table = make_rows([SimpleNamespace(name="debias")], [0], [original, *policies], original)
    assert len(select(table, method="policy-shift", budget=10)) == 1


def test_what_is_no_edit_is_off_the_front(tmp_path, monkeypatch):
    drawn = {}

    def draw(points, path, **options):
        drawn.update(options, points=points)

    monkeypatch.setattr("experiments.bias_mitigation.figures.utility_fairness_plane", draw)
    names = ("original", "ppo-shift", "reweighing", "tfidf", "threshold-optimizer")
    table = [
        Row(name, "debias", 0, {"fped": 0.2, "fned": 0.1, "auc": 0.9}, Cost()) for name in names
    ]
    write_figures(tmp_path, table, references=["reweighing"])
    assert list(drawn["points"]) == ["ppo-shift", "reweighing", "tfidf"]  # decisions have no AUC
    assert drawn["off_front"] == {"reweighing", *REFERENCE_STYLES}
    assert drawn["original"] == (pytest.approx(0.3), 0.9)
