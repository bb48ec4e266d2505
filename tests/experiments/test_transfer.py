"""The transfer experiment: its options, its arithmetic, and a tiny run of every part."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.transfer.__main__ import command
from experiments.transfer.adaptation import Course, evaluations_to_target
from experiments.transfer.config import Config, Shape, read_classes, read_shape
from experiments.transfer.figures import _settings, adaptation_score, sequence_curves
from experiments.transfer.networks import Networks, draw_pairs
from experiments.transfer.report import Results, report_text
from experiments.transfer.sequence import _course
from experiments.transfer.zero_shot import forget_retain_metrics
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import load_editor
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import Row
from modeledit_jax.subjects.image_classifiers import CNN, MLP


def test_shapes_are_read():
    assert read_shape("mlp-128x32") == Shape("mlp", (128, 32))
    assert read_shape("cnn-64x32x16") == Shape("cnn", (64, 32, 16))
    assert read_shape("mlp-8x4-gelu-20ep") == Shape("mlp", (8, 4), "gelu", 20)
    assert read_shape("mlp-8x4-3ep") == Shape("mlp", (8, 4), epochs=3)
    assert read_classes("4,7") == [4, 7]


@pytest.mark.parametrize(
    "shape", ["mlp", "mlp-128", "rnn-128x32", "mlp-128xa", "", "mlp-8x4-0ep", "mlp-8x4-sine"]
)
def test_a_shape_that_is_none_is_named(shape):
    with pytest.raises(ValueError, match="mlp-128x32"):
        read_shape(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "--updates"),
        ({"training_networks": 0}, "--training-networks"),
        ({"budgets": (0,)}, "--budgets"),
        ({"pairs": -1}, "--pairs"),
        ({"held_out": "four"}, "--held-out"),
        ({"other_networks": ("tree-3x3",)}, "tree-3x3"),
        ({"seeds": 0}, "--seeds"),
    ],
)
def test_mistakes_are_found_before_work_starts(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        command.resolve(Config(run_dir=tmp_path, **options))


def test_a_class_that_the_data_lack_is_named():
    with pytest.raises(ValueError, match="0 to 9"):
        _ = Networks(Config(held_out="4,10")).held_out
    assert Networks(Config(held_out="all")).held_out == list(range(10))
    assert Networks(Config()).seen(4) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not set(Networks(Config()).training_seeds) & set(Networks(Config()).new_seeds)


def test_shapes_say_what_is_built_and_how_it_is_trained():
    store = Networks(Config())
    plain, other = store.family("mlp-16x8"), store.family("cnn-16x8-tanh-2ep")
    assert plain.recipe.module == MLP(10, (16, 8)) and plain.recipe.training.epochs == 60
    assert other.recipe.module == CNN(10, hidden=(16, 8), activation="tanh")
    assert other.recipe.training == replace(plain.recipe.training, epochs=2)


def test_pairs_differ():
    pairs = draw_pairs(0, [1, 4, 7, 9], 4)
    assert len(set(pairs)) == 4 and all(a < b for a, b in pairs)
    assert {c for pair in pairs for c in pair} <= {1, 4, 7, 9}
    assert pairs != draw_pairs(1, [1, 4, 7, 9], 4)
    assert len(draw_pairs(0, [1, 4, 7], 50)) == 3 and draw_pairs(0, [1, 4], 0) == []


def test_numbers_of_a_row():
    row = forget_retain_metrics({"forget": 0.1, "retain": 0.9}, {"forget": 0.97, "retain": 0.96})
    assert row["forget_accuracy_test"] == 0.1
    assert row["retain_drop_test"] == pytest.approx(0.06)


def test_the_target_is_met_where_both_conditions_hold():
    curves = {
        "forget": np.array([[0.5, 0.01, 0.0], [0.0, 0.0, 0.0], [0.3, 0.2, 0.02]]),
        "retain": np.array([[0.9, 0.9, 0.9], [0.7, 0.8, 0.9], [0.9, 0.9, 0.9]]),
    }
    base = {"forget": np.ones(3), "retain": np.array([0.905, 0.91, 0.9])}
    needed = evaluations_to_target(curves, base, np.array([10, 20, 30]))
    np.testing.assert_array_equal(needed, [20, 30, np.nan])


def test_the_course_of_requests_looks_at_all_asked_so_far():
    class Family:
        class splits:  # noqa: N801
            class test:  # noqa: N801
                y = np.array([0, 0, 1, 1, 2, 2])

    before = np.array([1, 1, 1, 1, 1, 0], bool)
    first = np.array([0, 0, 1, 1, 1, 0], bool)
    second = np.array([1, 0, 0, 0, 1, 1], bool)  # class 0 comes back by half
    found = _course([before, first, second], (0, 1), Family)
    assert found[0] == {"worst_forgotten_test": 0.0, "rest_drop_test": 0.0}
    assert found[1] == {"worst_forgotten_test": 0.5, "rest_drop_test": -0.5}


def rows(editor, metrics):
    return [
        Row(editor, f"forget-{c}", seed, dict(metrics), Cost()) for seed in (0, 1) for c in (4, 7)
    ]


def findings():
    good = {"forget_accuracy_test": 0.0, "retain_accuracy_test": 0.95, "retain_drop_test": 0.01}
    slow = good | {"evaluations_to_target": 40.0}
    curves = {"forget": np.full((4, 2), 0.2), "retain": np.full((4, 2), 0.86)}
    found = Results(Config(seeds=2, budgets=(10,), run_dir=None))
    found.zero_shot = rows("policy-shift-new-network-new-class", good)
    found.instant = {"shift": rows("policy-shift", good)}
    names = ("policy-shift-plus-10", "ppo-shift")
    found.courses = {
        "shift": {name: Course(rows(name, slow), np.array([10, 40]), curves) for name in names}
    }
    return found


def test_scores_multiply_what_is_forgotten_with_what_is_kept():
    own = findings()
    score = adaptation_score(own.courses["shift"]["ppo-shift"], own.instant["shift"])
    np.testing.assert_allclose(score, 0.8 * 0.9, rtol=1e-6)


def test_the_report_says_what_was_needed(tmp_path):
    own = findings()
    own.config = replace(own.config, run_dir=tmp_path)
    text = report_text(own)
    assert "| policy-shift | 4 of 4 | 0 | 0 |" in text
    assert "| ppo-shift | 4 of 4 | 40 | 40 |" in text
    assert "equivalence within ±0.5 points" in text


def test_dots_of_the_figure_are_edits_by_policies_for_new_classes():
    names = (
        "original-new-network",
        "ridge-new-network",
        "policy-shift-new-network-seen-class",
        "policy-shift-new-network-new-class",
        "policy-mask-new-network-new-class",
        "policy-shift-digits",
    )
    found = _settings([row for name in names for row in rows(name, {})])
    assert set(found) == {("shift", "new-network"), ("mask", "new-network"), ("shift", "digits")}
    assert all(len(own) == 4 for own in found.values())


def test_steps_of_a_sequence_become_one_curve():
    metric = "worst_forgotten_test"
    steps = [
        Row(f"policy-after-{step}", "order", seed, {metric: step / 10 + seed}, Cost())
        for step in (1, 2, 3)
        for seed in (0, 1)
    ]
    curve = sequence_curves(steps, metric)["policy"]
    np.testing.assert_allclose(curve, [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_part_runs_and_resumes(tmp_path):
    config = Config(
        run_dir=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        worlds=("shift",),
        held_out="4",
        other_networks=("mlp-64x16",),
        other_data=("digits",),
        training_networks=3,
        seeds=2,
        updates=100,
        sequence_updates=2,
        budgets=(10,),
        search_budget=40,
    )
    assert command.main(config) == 0
    summary = read_summary(tmp_path / "run")
    found = {row.method for row in summary.rows}
    assert {
        "zero-shot-policy-shift-new-network-new-class",
        "zero-shot-policy-shift-mlp-64x16-new-class",
        "zero-shot-ridge-new-network",
        "zero-shot-neggrad-plus-new-network",
        "zero-shot-policy-shift-new-network-pairs",
        "adaptation-policy-shift-plus-10",
        "adaptation-openes-shift-from-mean-edit",
        "sequence-policy-shift-in-turn-after-9",
        "cost-training-shift",
    } <= found
    new = [r for r in summary.rows if r.editor == "zero-shot-policy-shift-new-network-new-class"]
    assert np.mean([row.metrics["forget_accuracy_test"] for row in new]) < 0.2
    assert np.mean([row.metrics["retain_drop_test"] for row in new]) < 0.05
    policy = tmp_path / "run" / "policies" / "shift-without-4.safetensors"
    before = policy.read_bytes()
    assert load_editor(policy).world == "ShiftWorld-v0"
    assert (tmp_path / "run" / "figures" / "adaptation_shift.png").stat().st_size > 10_000
    (tmp_path / "run" / "summary.json").unlink()
    assert command.main(replace(config, resume=True)) == 0
    assert policy.read_bytes() == before  # found, not trained anew
