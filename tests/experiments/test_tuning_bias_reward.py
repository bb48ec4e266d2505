"""The weights of the reward on real comments: what is measured on select, and what is chosen."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.tuning.bias_reward.__main__ import command
from experiments.tuning.bias_reward.config import WeightsConfig
from experiments.tuning.bias_reward.measures import changes as changes_of
from experiments.tuning.bias_reward.measures import (
    largest_shift,
    score,
    select_values,
)
from modeledit_jax.tasks.debiasing import CommentTargets, DebiasingTask
from modeledit_jax.tasks.task import EvaluationSets
from tests.experiments.command_line import error_of
from tests.tiny_comments import task as tiny_task

CHANGE = {
    "auc": -0.001, "accuracy": 0.002, "windows_fpr": 0.01, "windows_fnr": -0.015,
    "slots_fpr": 0.005, "dispersion_shown": -0.6, "dispersion_unseen": -0.4, "fped_shown": -0.5,
    "fped_unseen": -0.1,
}  # fmt: skip


def nested_task() -> tuple[DebiasingTask, np.ndarray]:
    """Four comments, then contexts with three terms each, of which the reward has not shown two."""
    label = np.array([0, 1, 0, 1] + [0] * 6 + [1] * 3 + [0] * 3)
    groups = np.zeros((16, 4), np.float32)
    groups[np.arange(4, 16), np.tile([0, 2, 3], 4)] = 1.0
    kind = np.array([0] * 13 + [1] * 3)
    blocks = np.arange(4, 16, dtype=np.int32).reshape(4, 3)
    weights = {
        "comments": (np.arange(16) < 4).astype(np.float32),
        "counterfactuals": (np.arange(16) >= 4).astype(np.float32),
    }
    sets = EvaluationSets(np.zeros((16, 1)), CommentTargets(label, groups, blocks, kind), weights)
    scores = [-2, 2, -1, 1, -1, 1, 3, -1, -1, 1, 2, -3, 1, -5, -4, 6]
    own = replace(tiny_task(), roles={"select": sets}, held_out=(False, True, True, True))
    return own, np.array(scores, np.float32)[:, None]


def test_values_on_select_by_hand():
    """The threshold is between −1 and 1; one term of three is shown, its variance within is 0."""
    task, scores = nested_task()
    values = select_values(task, scores)
    assert values["auc"] == values["accuracy"] == 1.0
    variance = np.var([-2, 2, -1, 1])
    assert values["windows_fpr"] == pytest.approx(3 / 6)
    assert values["windows_fnr"] == pytest.approx(1 / 3)
    assert values["slots_fpr"] == pytest.approx(1 / 3) and np.isnan(values["slots_fnr"])
    assert values["dispersion_shown"] == 0.0
    within = [np.var([1, 3]), np.var([-1, 1]), np.var([-3, 1])]
    assert values["dispersion_unseen"] == pytest.approx(np.mean(within) / variance)
    # False positives on windows: of term 0 none, of 2 and 3 in one and two of two contexts. FPED is
    # the mean distance from the rate over all terms.
    assert values["fped_unseen"] == pytest.approx(np.mean([abs(0.5 - 0.5), abs(1.0 - 0.5)]))
    assert values["fped_shown"] == pytest.approx(0.5)


def test_changes_are_of_means_over_tasks():
    before = [{"auc": 0.9, "fped_shown": 0.2, "slots_fnr": np.nan}] * 2
    after = [{"auc": a, "fped_shown": f, "slots_fnr": np.nan} for a, f in ((0.8, 0.1), (0.9, 0.2))]
    found = changes_of(before, after)
    assert found == {"auc": pytest.approx(-0.05), "fped_shown": pytest.approx(-0.25)}


def test_the_score_is_the_mean_fall_where_the_margins_hold():
    assert largest_shift(CHANGE) == ("windows_fnr", -0.015)
    assert score(CHANGE) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "change, expected",
    [({"slots_fpr": -0.03}, -0.5), ({"accuracy": -0.02}, -1.0), ({"auc": -0.0055}, -0.1)],
)
def test_beyond_a_margin_the_score_says_how_far(change, expected):
    assert score(CHANGE | change) == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pairing": 3.0}, "--pairing is one weight: give those to try with --try-pairing"),
        ({"reward": "fairness"}, "--reward fairness: the weights tried are those of fidelity"),
        ({"methods": ("clp",)}, "--methods clp is no search: this command tunes searches and"),
        ({"dataset": "synthetic"}, "--dataset"),
        ({"try_pairing": (-1.0,)}, "--try-pairing"),
    ],
)
def test_mistakes_are_one_line(changes, message, capsys, tmp_path):
    config = replace(WeightsConfig(run_dir=tmp_path / "run"), **changes)
    assert message in error_of(command.main, config, capsys)
    assert not (tmp_path / "run").exists()
