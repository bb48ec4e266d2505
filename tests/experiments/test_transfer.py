"""The transfer experiment: its options, its arithmetic, and a tiny run of every part."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.transfer.__main__ import command
from experiments.transfer.adaptation import evaluations_to_target
from experiments.transfer.batch import forget_retain_metrics
from experiments.transfer.config import Config, Shape, read_classes, read_shape
from experiments.transfer.figures import (
    adaptation_figure,
    adaptation_score,
    sequence_curves,
    zero_shot_groups,
)
from experiments.transfer.networks import Networks, draw_pairs
from experiments.transfer.report import report_text
from experiments.transfer.sequence import after_each_request
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import load_editor
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import Row, group_by, select
from modeledit_jax.subjects.image_classifiers import CNN, MLP, ResNet
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.tasks.deep_reward import DeepReward


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
        ({"budgets": (10, 10)}, "--budgets names 10 twice"),
        ({"other_data": ("mnist", "mnist")}, "--other-data names mnist twice"),
        ({"other_data": ("digits",)}, "--other-data digits is --dataset itself"),
        ({"training_data": ("digits",)}, "--training-data digits is --dataset itself"),
        ({"prototype_penalty": 1.0}, "--prototype-penalty .* leave sequence out of --parts"),
        ({"held_out": "4,4"}, "--held-out names 4 twice"),
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


def test_policies_are_trained_on_every_shape_of_every_data_set():
    config = Config(networks=("mlp-16x8", "mlp-8x4-tanh"), training_data=("textures",))
    families = Networks(config).training_families
    assert [family.name for family in families] == [
        "mlp-16x8", "mlp-8x4-tanh", "textures-mlp-16x8", "textures-mlp-8x4-tanh"
    ]  # fmt: skip
    assert [len(family.splits.test) for family in families] == [359, 359, 5_000, 5_000]


def test_a_prototype_penalty_is_in_the_reward_of_every_task():
    family = Networks(Config(prototype_penalty=0.5)).family("mlp-16x8")
    x = jnp.asarray(family.splits.reward.x[:1])
    module = family.recipe.module
    subject = Subject(module.init(jax.random.key(0), x)["params"], flax_apply(module))
    for task in family.tasks([subject], [3, 7]):
        assert isinstance(task.reward, DeepReward)
        assert {n: float(w) for n, w in task.reward.weights.items()} == {"prototypes": 0.5}
    (plain,) = replace(family, prototype_penalty=0.0).tasks([subject], [3])
    assert not isinstance(plain.reward, DeepReward)


def test_shapes_say_what_is_built_and_how_it_is_trained():
    networks = Networks(Config())
    plain, other = networks.family("mlp-16x8"), networks.family("cnn-16x8-tanh-2ep")
    assert plain.recipe.module == MLP(10, (16, 8)) and plain.recipe.training.epochs == 60
    assert other.recipe.module == CNN(10, hidden=(16, 8), activation="tanh")
    assert networks.family("resnet-16x8").recipe.module == ResNet(10, hidden=(16, 8))
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
        "forget": np.array([[0.5, 0.01, 0.0], [0.0, 0.0, 0.0], [0.3, 0.2, 0.02]], np.float32),
        "retain": np.array([[0.9, 0.9, 0.9], [0.7, 0.8, 0.9], [0.9, 0.9, 0.9]], np.float32),
    }
    original = [{"forget": 1.0, "retain": retain} for retain in (0.905, 0.91, 0.9)]
    needed = evaluations_to_target(curves, original, np.array([10, 20, 30]))
    np.testing.assert_array_equal(needed[[0, 2]], [20, np.nan])


def test_after_each_request_all_asked_so_far_count():
    label = np.array([0, 0, 1, 1, 2, 2])
    before = np.array([1, 1, 1, 1, 1, 0], bool)
    first = np.array([0, 0, 1, 1, 1, 0], bool)
    second = np.array([1, 0, 0, 0, 1, 1], bool)  # class 0 comes back by half
    found = after_each_request([before, first, second], (0, 1), label)
    assert found[0] == {"worst_forgotten_test": 0.0, "rest_drop_test": 0.0}
    assert found[1] == {"worst_forgotten_test": 0.5, "rest_drop_test": -0.5}


CONFIG = Config(seeds=2, worlds=("shift",), budgets=(10,))
GOOD = {"forget_accuracy_test": 0.0, "retain_accuracy_test": 0.95, "retain_drop_test": 0.01}


def rows(method, part, metrics=GOOD, curves=None, **factors):
    factors = CONFIG.factors(part, **factors)
    return [
        Row(method, f"forget-{c}", seed, dict(metrics), Cost(), factors, curves or {})
        for seed in (0, 1)
        for c in (4, 7)
    ]


def adaptation():
    slow, at_once = (GOOD | {"evaluations_to_target": needed} for needed in (40.0, 0.0))
    curves = {
        "reward_evaluations": np.array([10, 40]),
        "forget_accuracy_test": np.full(2, 0.2),
        "retain_accuracy_test": np.full(2, 0.86),
    }
    return [
        *rows("policy-shift", "adaptation", at_once, start="policy", budget=0),
        *rows("policy-shift", "adaptation", slow, curves, start="policy", budget=10),
        *rows("ppo-shift", "adaptation", slow, curves, start="scratch", budget=2000),
        *rows("ppo-shift", "adaptation", slow, curves, start="mean-edit", budget=2000),
    ]


def test_scores_multiply_what_is_forgotten_with_what_is_kept():
    score = adaptation_score(select(adaptation(), method="ppo-shift"))
    assert score.shape == (8, 2)
    np.testing.assert_allclose(score, 0.8 * 0.9, rtol=1e-6)


def test_searches_that_start_elsewhere_are_dotted(tmp_path):
    figure = adaptation_figure(adaptation(), CONFIG, "shift", tmp_path / "a.png")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"policy-shift", "ppo-shift", "ppo-shift, from the mean edit"}
    assert lines["ppo-shift, from the mean edit"].get_linestyle() == ":"
    assert lines["ppo-shift"].get_color() == lines["ppo-shift, from the mean edit"].get_color()


def test_the_report_says_what_was_needed(tmp_path):
    config = replace(CONFIG, run_dir=tmp_path)
    new = rows("policy-shift", "zero-shot", seen_network=False, seen_class=False, classes=1)
    text = report_text(config, new + adaptation())
    assert "| policy-shift | policy | 0 | 4/4 | 0 | 0 |" in text
    assert "| ppo-shift | scratch | 2,000 | 4/4 | 40 | 40 |" in text
    assert "`policy-shift` with 10 evaluations against `ppo-shift` with 2,000" in text
    assert "equivalence within ±0.5 points" in text


def test_dots_of_the_figure_are_edits_by_policies_for_new_classes():
    new = {"seen_network": False, "classes": 1}
    found = zero_shot_groups(
        [
            *rows("original", "zero-shot", **new),
            *rows("ridge", "zero-shot", **new),
            *rows("policy-shift", "zero-shot", **new, seen_class=True, held_out=4),
            *rows("policy-shift", "zero-shot", **new, seen_class=False, held_out=4),
            *rows("policy-mask", "zero-shot", **new, seen_class=False, held_out=4),
            *rows("policy-shift", "zero-shot", **new, seen_class=False, network="mlp-64x16"),
            *rows("policy-shift", "zero-shot", seen_network=True, seen_class=False, classes=1),
            *rows("policy-shift", "zero-shot", **new, data="fashion_mnist"),
            *rows("policy-shift", "zero-shot", seen_network=False, classes=2),
        ],
        replace(CONFIG, worlds=("shift", "mask")),
    )
    kinds = ("new network", "mlp-64x16", "seen network", "fashion_mnist", "new network, pairs")
    assert list(found) == [*(("shift", kind) for kind in kinds), ("mask", "new network")]
    assert all(len(edits) == 4 for edits in found.values())


def test_steps_of_a_sequence_become_one_curve():
    metric = "worst_forgotten_test"
    steps = [
        Row("policy-shift", "order", seed, {metric: step / 10 + seed}, Cost(),
            {"in_turn": in_turn, "after": step})
        for in_turn in (False, True)
        for step in (1, 2, 3)
        for seed in (0, 1)
    ]  # fmt: skip
    curves = sequence_curves(steps, metric)
    assert list(curves) == [("policy-shift", False), ("policy-shift", True)]
    np.testing.assert_allclose(curves["policy-shift", True], [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]])


def clothes(name, *, data_dir, cache_dir):
    """Noise in place of a published data set, as `builders.read_arrays` returns it."""
    rng = np.random.default_rng(0)
    sizes = {"": 400, "_test": 100}
    images = {f"x{k}": rng.integers(0, 256, (n, 28, 28, 1), np.uint8) for k, n in sizes.items()}
    return images | {f"y{k}": (np.arange(n) % 10).astype(np.uint8) for k, n in sizes.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_part_runs_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("modeledit_jax.data.images.builders.read_arrays", clothes)
    config = Config(
        run_dir=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        worlds=("shift",),
        held_out="4",
        other_networks=("mlp-64x16",),
        other_data=("fashion_mnist",),
        training_networks=3,
        seeds=2,
        updates=100,
        sequence_updates=2,
        budgets=(10,),
        search_budget=40,
    )
    assert command.main(config) == 0
    summary = read_summary(tmp_path / "run")
    zero_shot = select(summary.rows, part="zero-shot")
    assert set(
        group_by(zero_shot, "method", "network", "seen_network", "seen_class", "classes")
    ) >= {
        ("policy-shift", "mlp-128x32", False, False, 1),
        ("policy-shift", "mlp-64x16", False, True, 1),
        ("ridge", "mlp-128x32", False, None, 1),
        ("neggrad-plus", "mlp-128x32", False, None, 1),
        ("policy-shift", "mlp-128x32", False, None, 2),
    }
    assert {row.method for row in select(zero_shot, data="fashion_mnist")} == {
        "policy-shift", "original"
    }  # fmt: skip
    assert set(group_by(select(summary.rows, part="adaptation"), "method", "start", "budget")) >= {
        ("policy-shift", "policy", 10),
        ("openes-shift", "mean-edit", 40),
    }
    assert len(select(summary.rows, part="sequence", in_turn=True, after=9)) == 2 * 5
    assert select(summary.rows, method="policy-shift", phase="training")
    new = select(zero_shot, method="policy-shift", network="mlp-128x32", seen_network=False,
                 seen_class=False)  # fmt: skip
    assert np.mean([row.metrics["forget_accuracy_test"] for row in new]) < 0.2
    assert np.mean([row.metrics["retain_drop_test"] for row in new]) < 0.05
    policy = tmp_path / "run" / "policies" / "shift-without-4.safetensors"
    before = policy.read_bytes()
    assert load_editor(policy).world == "shift"
    assert (tmp_path / "run" / "figures" / "adaptation_shift.png").stat().st_size > 10_000
    (tmp_path / "run" / "summary.json").unlink()
    assert command.main(replace(config, resume=True)) == 0
    assert policy.read_bytes() == before  # found, not trained anew
