"""The ablation of PPO: what its variants are, and its table."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments.ppo_ablation import run as ablation
from experiments.ppo_ablation.__main__ import command
from experiments.ppo_ablation.config import AblationConfig
from experiments.ppo_ablation.variants import QUESTIONS, Variant, some_examples
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.tasks.network import NonFiniteError
from tests import tiny
from tests.experiments.command_line import error_of


@pytest.fixture
def config(tmp_path):
    return AblationConfig(
        worlds=("shift",),
        forget_class="7",
        seeds=1,
        budget=40,
        epochs=2,
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "run",
    )


def test_every_variant_differs_in_one_way_and_has_a_file_of_its_own(config):
    every = ablation.chosen_variants(config)
    assert len(every) == 1 + sum(map(len, QUESTIONS.values()))
    default, *others = every.values()
    assert default == Variant()
    for variant in others:
        assert set(variant.ppo) <= PPOConfig.__dataclass_fields__.keys()
        assert set(variant.search) <= PPO.__dataclass_fields__.keys()
        changed = (variant.ppo, variant.search, variant.reward, variant.share < 1)
        assert sum(map(bool, changed)) == 1
        ablation.variant_search(config, "shift", variant)
    assert len({ablation.file_name(name) for name in every}) == len(every)


def test_some_examples_keep_every_class():
    sets = tiny.task(0).roles["reward"]
    few = some_examples(sets, 0.25, 3)
    label, chosen = np.asarray(sets.label), np.asarray(few.label)
    for index in np.unique(label):
        assert (chosen == index).sum() == max(round(0.25 * (label == index).sum()), 1)
    rows = [np.flatnonzero((np.asarray(sets.x) == x).all(axis=-1))[0] for x in np.asarray(few.x)]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(label[rows], chosen)
    for name, weight in sets.weights.items():
        np.testing.assert_array_equal(np.asarray(weight)[rows], few.weights[name])
    again, other = (some_examples(sets, 0.25, seed).x for seed in (3, 4))
    np.testing.assert_array_equal(again, few.x)
    assert not np.array_equal(other, few.x)


def test_a_variant_changes_the_task_that_is_searched():
    task = tiny.task(0)
    assert Variant().task(task, 0) is task
    dear = Variant(reward={"forgetting": 4.0}).task(task, 0)
    assert float(dear.reward.weights["forgetting"]) == 4.0 and dear.roles is task.roles
    few = Variant(share=0.5).task(task, 0)
    assert len(few.roles["reward"].x) < len(task.roles["reward"].x)
    assert few.roles["test"] is task.roles["test"]


def test_results_of_a_variant_are_counted_on_test():
    tasks = [tiny.task(0), tiny.task(1)]
    evaluator = PlanEvaluator(ShiftWorld(tasks[0], parametrization=PerRow()), tasks)
    plans = np.random.default_rng(0).normal(size=(2, 4, 1, 5)).astype(np.float32)
    found = ablation.evaluated(evaluator, plans, 10 * np.arange(1, 5))
    curves = evaluator.curves(plans, "test")
    base = evaluator.curves(np.zeros_like(plans[:, :1]), "test")["retain"][:, 0]
    met = (curves["forget"] <= 0.01) & (curves["retain"] >= base[:, None] - 0.01)
    for index, (metrics, on_the_way) in enumerate(found):
        drop = base[index] - curves["retain"][index]
        assert metrics["forget_accuracy_test"] == curves["forget"][index, -1]
        assert metrics["retain_drop_test"] == pytest.approx(drop[-1], abs=1e-6)
        expected = (1 - curves["forget"][index]) * (1 - np.abs(drop))
        np.testing.assert_allclose(on_the_way["closeness"], expected, rtol=1e-6)
        assert metrics["closeness"] == pytest.approx(expected[-1])
        first = 10 * (1 + met[index].argmax()) if met[index].any() else np.nan
        np.testing.assert_equal(metrics["evaluations_to_target"], float(first))


def test_a_variant_that_diverges_is_left_out(config, monkeypatch):
    """Few evaluations and four epochs, for instance: one such task must not cost all the others."""

    def rows(config, setup, world, name, variant):
        if name != "4 epochs":
            raise NonFiniteError("weights that are not finite")
        return [Row("ppo-shift", "forget-7", 0, {"closeness": 1.0}, Cost(), {"variant": name})]

    monkeypatch.setattr(ablation, "prepare", lambda config, searches: None)
    monkeypatch.setattr(ablation, "variant_rows", rows)
    found, notes = ablation.ablate(config)
    assert [row.factors["variant"] for row in found] == ["4 epochs"]
    assert len(notes) == len(ablation.chosen_variants(config)) - 1
    assert notes[0].startswith("default in shift was left out, it diverged: weights that are not")
    monkeypatch.setattr(ablation, "chosen_variants", lambda config: {"default": Variant()})
    monkeypatch.setattr(ablation, "cached_rows", lambda path, build: build())
    with pytest.raises(ValueError, match="all variants diverged: default in shift"):
        ablation.ablate(config)


def test_a_line_of_the_table():
    rows = [
        Row(
            "ppo-shift",
            "forget-7",
            seed,
            {"forget_accuracy_test": forget, "retain_drop_test": drop,
             "evaluations_to_target": needed},
            Cost(),
            {"variant": "default"},
        )
        for seed, (forget, drop, needed) in enumerate(
            [(0.0, -0.03, 200.0), (0.01, 0.02, 1200.0), (0.002, 0.001, np.nan)]
        )
    ]  # fmt: skip
    lines = ablation.variant_table(rows).splitlines()
    assert lines[0].count("|") == lines[2].count("|")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["default", "0.40", "1.00", "−0.30", "2.00", "2", "1,200", "–"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_compares_the_variants(config, monkeypatch):
    names = ("default", "rank 1", "1/4 of the examples")
    kept = {name: own for question in QUESTIONS.values() for name, own in question.items()}
    few = {"action": {"rank 1": kept["rank 1"]}, "examples": {names[2]: kept[names[2]]}}
    monkeypatch.setattr(ablation, "QUESTIONS", few)
    config = replace(config, questions=("action", "examples"), budget=200)
    assert command.main(config) == 0
    rows = read_summary(config.run_dir).rows
    assert [row.factors["variant"] for row in rows] == list(names)
    with (config.run_dir / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    curves = {
        tuple(line["retain_drop_test"] for line in lines if line["variant"] == name)
        for name in names
    }
    assert len(curves) == 3 and all(curves)
    text = (config.run_dir / "report.md").read_text()
    assert all(f"| {name} |" in text for name in names)
    assert command.main(replace(config, resume=True)) == 0
    assert (config.run_dir / "report.md").read_text() == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "--budget must be at least 1"),
        ({"forget_class": "12"}, "0 to 9"),
        ({"questions": ("action", "action")}, "--questions names action twice"),
        (
            {"reward": "accuracy"},
            "--questions reward compares built-in rewards: leave out --reward",
        ),
    ],
)
def test_mistakes_are_one_line(config, capsys, changes, message):
    assert message in error_of(command.main, replace(config, **changes), capsys)
    assert not config.run_dir.exists()
