"""Tuning of lifelong methods: grids of one size, and presets of what was best."""

import json
from dataclasses import replace

import pytest

from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.tuning.lifelong_editing import grids
from experiments.tuning.lifelong_editing import run as tuning
from experiments.tuning.lifelong_editing.__main__ import command
from experiments.tuning.lifelong_editing.config import TuneConfig, TunedName
from modeledit_jax.presets.preset import load_preset
from modeledit_jax.presets.writing import tuned_preset


@pytest.mark.parametrize("tried", [grids.STEPS, grids.PRETRAINED], ids=["here", "pretrained"])
def test_every_method_has_as_many_trials_of_its_settings(tried):
    for name, grid in tried.items():
        found = grids.trials(grid)
        assert len(found) == 4 == len({tuple(trial.values()) for trial in found})
        preset = load_preset(name, "lifelong").for_pretrained()
        for trial in found:
            build_method(grids.with_trial(preset, trial))


def test_a_trial_may_be_of_other_layers_and_so_is_the_preset_of_the_best(tmp_path):
    preset = load_preset("memit", "lifelong").for_pretrained()
    trial = {"depth": (0.1, 0.5), "weight": 7.0}
    found = grids.with_trial(preset, trial)
    assert found.pretrained.depth == (0.1, 0.5) and build_method(found).weight == 7
    assert found.settings == preset.settings | {"weight": 7.0}
    (tmp_path / "own.toml").write_text(tuned_preset("memit", "lifelong", trial, "here", True))
    assert load_preset(tmp_path / "own.toml").pretrained.depth == (0.1, 0.5)
    assert build_method(load_preset(tmp_path / "own.toml").for_pretrained()).weight == 7


def test_grids_are_of_the_methods_that_may_be_named():
    assert tuple(grids.PRETRAINED) == TunedName.__args__
    assert set(grids.grids(TuneConfig())) == set(grids.STEPS) < set(grids.PRETRAINED)
    with pytest.raises(ValueError, match=r"--methods memit: there are no .* without --model"):
        grids.grids(TuneConfig(methods=("memit",)))


def test_routed_methods_take_what_rledit_takes():
    assert set(tuning.followers("rledit")) == {
        *("hiedit", "hiedit-ste", "random-k", "fixed-k", "top-norm-k")
    }
    assert tuning.followers("mend") == tuning.followers("ft-l") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_best_settings_become_presets(tmp_path, monkeypatch):
    """A world of six facts; the grids cut to two trials each, to compile little."""
    cut = {
        "ultraedit": {"learning_rate": (1e-4, 1e-1)},
        "rledit": {"network.edit_lr": (1e-4, 2.0)},
    }
    monkeypatch.setattr(grids, "STEPS", cut)
    config = TuneConfig(
        methods=("ultraedit", "rledit"),
        edits=6,
        batch_size=3,
        train_edits=6,
        modules=("layers/1/mlp/down",),
        meta_updates=2,
        judged_batches=1,
        width=16,
        mlp_width=32,
        steps=20,
        plain=20,
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "run",
    )
    assert command.main(config) == 0
    found = json.loads((config.run_dir / "tuning.json").read_text())["trials"]
    for name, settings in cut.items():
        (setting, values), trials = next(iter(settings.items())), found[name]
        assert sorted(trial[setting] for trial in trials) == list(values)
        assert trials[0]["score"] >= trials[1]["score"]
        (preset,) = load_methods([str(config.run_dir / "presets" / f"{name}.toml")], Config())
        expected = load_preset(name, "lifelong").with_settings({setting: trials[0][setting]})
        assert build_method(preset) == build_method(expected)
        assert "2 trials" in preset.tuned and preset.style == expected.style
    (hiedit,) = load_methods([str(config.run_dir / "presets" / "hiedit.toml")], Config())
    best = found["rledit"][0]["network.edit_lr"]
    assert build_method(hiedit).network.edit_lr == best
    assert "released weights" in (config.run_dir / "presets" / "hiedit.toml").read_text()
    assert command.main(replace(config, resume=True)) == 0
