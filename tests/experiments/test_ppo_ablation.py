"""The ablation of PPO: what its variants are, and its table."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.ppo_ablation import run as ablation
from experiments.ppo_ablation.__main__ import command
from experiments.ppo_ablation.config import AblationConfig
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.run.plan_evaluation import PlanEvaluator
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


def test_variants_change_what_ppo_has():
    fields = PPOConfig.__dataclass_fields__.keys() | {"horizon", "observation"}
    assert all(set(changes) <= fields for changes in ablation.VARIANTS.values())
    assert ablation.VARIANTS["default"] == {}


def test_results_of_a_variant_are_counted_on_test():
    tasks = [tiny.task(0), tiny.task(1)]
    evaluator = PlanEvaluator(ShiftWorld(tasks[0], parametrization=PerRow()), tasks)
    plans = np.random.default_rng(0).normal(size=(2, 4, 1, 5)).astype(np.float32)
    found = ablation.evaluated(evaluator, plans, 10, (1, 2))
    curves = evaluator.curves(plans, "test")
    base = evaluator.curves(np.zeros_like(plans[:, :1]), "test")["retain"][:, 0]
    drop = base - curves["retain"][:, -1]
    assert found["forget_mean"] == pytest.approx(curves["forget"][:, -1].mean())
    assert found["forget_worst"] == pytest.approx(curves["forget"][:, -1].max())
    assert found["drop_mean"] == pytest.approx(drop.mean(), abs=1e-6)
    assert found["drop_worst"] == pytest.approx(drop.max(), abs=1e-6)
    met = (curves["forget"] <= 0.01) & (curves["retain"] >= base[:, None] - 0.01)
    assert found["solved"] == met.any(axis=1).sum()


def test_a_row_of_the_table():
    row = {
        "variant": "default", "forget_mean": 0.001, "forget_worst": 0.01, "drop_mean": -0.002,
        "drop_worst": 0.03, "closeness": [0.9, 0.8, 1.0], "solved": 3, "median": 1200.0,
        "p90": None,
    }  # fmt: skip
    lines = ablation.table([row]).splitlines()
    assert lines[0].count("|") == lines[2].count("|")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["default", "0.10", "1.00", "-0.20", "3.00", "3", "1,200", "–"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_compares_the_variants(config, monkeypatch):
    names = ("default", "population 4", "horizon 2, time alone observed")
    monkeypatch.setattr(ablation, "VARIANTS", {name: ablation.VARIANTS[name] for name in names})
    assert command.main(config) == 0
    rows = json.loads((config.run_dir / "ablation.json").read_text())["variants"]["shift"]
    assert [row["variant"] for row in rows] == list(names)
    assert len({row["closeness"][0] for row in rows}) == 3
    text = (config.run_dir / "ablation.md").read_text()
    assert all(f"| {name} |" in text for name in names)
    assert command.main(replace(config, resume=True)) == 0
    assert (config.run_dir / "ablation.md").read_text() == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"budget": 0}, "--budget must be at least 1"), ({"forget_class": "12"}, "0 to 9")],
)
def test_mistakes_are_one_line(config, capsys, changes, message):
    assert message in error_of(command.main, replace(config, **changes), capsys)
    assert not config.run_dir.exists()
