"""Tuning of searches: equal numbers of trials, scores on select, and presets of what was best."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tuning import searches
from experiments.tuning.bias_mitigation import run as bias_mitigation
from experiments.tuning.unlearning import run as unlearning
from experiments.tuning.unlearning.__main__ import command
from experiments.tuning.unlearning.config import TuneConfig
from modeledit_jax.editors.editor import EditResult
from modeledit_jax.editors.unlearning.references import Original
from modeledit_jax.evaluation.accuracy import accuracies
from modeledit_jax.presets.preset import load_preset, preset_names
from tests import tiny
from tests.experiments.command_line import error_of

KINDS = ("PPO", "OpenES", "SNES", "RandomSearch")


@pytest.mark.parametrize("module", [unlearning, bias_mitigation])
def test_every_search_has_six_trials_of_settings_that_it_has(module):
    for kind in KINDS:
        found = module.trials(kind)
        assert len(found) == 6 == len({tuple(trial.values()) for trial in found})
        name = {"RandomSearch": "random-search"}.get(kind, kind.lower())
        for trial in found:
            preset = load_preset(f"{name}-shift", "unlearning").with_settings(trial)
            assert all(getattr(preset.build(), field) == trial[field] for field in trial)
    with pytest.raises(ValueError, match="no grid of settings for HillClimb: this command tunes"):
        module.trials("HillClimb")


def test_every_other_method_has_six_trials_of_settings_that_it_has():
    presets = [load_preset(name, "unlearning") for name in preset_names("unlearning")]
    kinds = {preset.kind.__name__: preset for preset in presets}
    assert set(unlearning.GRIDS) <= set(kinds)
    for kind in set(unlearning.GRIDS) - set(KINDS):
        found = unlearning.trials(kind)
        assert len(found) == 6 == len({tuple(trial.values()) for trial in found})
        for trial in found:
            assert trial.items() <= vars(kinds[kind].with_settings(trial).build()).items()
    assert "trials" in load_preset("eu", "unlearning").tuned


def test_an_edit_without_a_curve_is_judged_by_its_end():
    tasks = [tiny.task(1), tiny.task(2)]
    keys = jax.random.split(jax.random.key(0), 2)
    arguments = (tasks, keys, accuracies, unlearning.area)
    nothing = searches._score(Original(), *arguments)
    found = []
    for task in tasks:
        sets = task.roles["select"]
        logits = task.subject.apply(task.subject.params, jnp.asarray(sets.x))
        right = np.asarray(logits).argmax(axis=1) == sets.targets
        found.append(1 - right[sets.weights["forget"] > 0].mean())
    assert nothing == pytest.approx(np.mean(found))

    @dataclass(frozen=True)
    class Explode:
        def edit(self, task, key):
            return EditResult(jax.tree.map(lambda leaf: leaf * jnp.inf, task.subject.params))

    assert searches._score(Explode(), *arguments) == searches.DIVERGED


def test_long_episodes_are_tuned_for_ppo_alone():
    found = unlearning.trials("PPO", 2)
    assert len(found) == 6 and max(trial["learning_rate"] for trial in found) == 1.25
    with pytest.raises(ValueError, match="no grid of settings for SNES: this command tunes PPO"):
        unlearning.trials("SNES", 2)


def test_the_area_under_the_curve_by_hand():
    curves = {"forget": np.array([[0.5, 0.0], [1.0, 1.0]]), "retain": np.array([[0.9, 0.95]] * 2)}
    base = {"forget": np.ones((2, 1)), "retain": np.array([[0.95], [0.85]])}
    # First task: half forgotten at a loss of five points, then all at none; the second: nothing.
    assert unlearning.area(curves, base) == pytest.approx((0.5 * 0.5 + 1.0 + 0 + 0) / 4)


def test_the_criterion_of_bias_mitigation_by_hand():
    curves = {"fped": np.array([[9, 0.2], [9, 0.4]]), "fned": np.array([[9, 0.1], [9, 0.0]])}
    curves["accuracy"] = np.array([[0.1, 0.8], [0.1, 0.9]])
    base = {"accuracy": np.array([[0.9], [0.904]])}
    # The first loses ten points, of which half a point is free.
    expected = np.mean([-0.2 - 0.1 - 4 * 0.095, -0.4])
    assert bias_mitigation.criterion(curves, base) == pytest.approx(expected)


@pytest.fixture
def config(tmp_path):
    return TuneConfig(
        methods=("openes-shift",),
        forget_class="7",
        budget=18,
        epochs=2,
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "run",
    )


@pytest.mark.slow
def test_the_best_settings_become_a_preset(config, monkeypatch):
    grid = {"population": (6,), "std": (0.3,), "learning_rate": (1e-4, 0.3)}
    monkeypatch.setitem(unlearning.GRIDS, "OpenES", grid)
    mine = config.run_dir.parent / "my_openes.toml"
    mine.write_text(
        'class = "modeledit_jax.editors.search.evolution:OpenES"  # mine\n'
        '[settings]\nworld = "mask"\n'
    )
    config = replace(config, methods=("openes-shift", str(mine)))
    assert command.main(config) == 0
    found = json.loads((config.run_dir / "tuning.json").read_text())
    assert found["config"]["budget"] == 18 and set(found["trials"]) == {"openes-shift", "my-openes"}
    for name, trials in found["trials"].items():
        assert sorted(trial["learning_rate"] for trial in trials) == [1e-4, 0.3]
        assert trials[0]["score"] >= trials[1]["score"]
        written = load_preset(config.run_dir / "presets" / f"{name}.toml")
        best = {field: trials[0][field] for field in grid}
        assert best.items() <= dict(written.settings).items() and "2 trials" in written.tuned
        editor = written.build(budget=18)
        assert (editor.population, editor.updates) == (6, 3)
    assert "# mine" in (config.run_dir / "presets" / "my-openes.toml").read_text()
    before = (config.run_dir / "tuning.json").read_bytes()
    assert command.main(replace(config, resume=True)) == 0
    after = json.loads((config.run_dir / "tuning.json").read_text())
    assert after["trials"] == json.loads(before)["trials"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": ("random-edit",)},
            "no grid of settings for RandomEdit: this command tunes",
        ),
        ({"methods": ("openes",)}, "unknown method 'openes'"),
        ({"horizon": 2}, "no grid of settings for OpenES"),
        ({"budget": 0}, "--budget must be at least 1"),
    ],
)
def test_mistakes_are_one_line(config, capsys, changes, message):
    assert message in error_of(command.main, replace(config, **changes), capsys)
    assert not config.run_dir.exists()
