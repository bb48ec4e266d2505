"""Tuning of lifelong methods: grids of one size, and presets of what was best."""

import json
from dataclasses import replace

import pytest

from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.tuning.lifelong_editing import run as tuning
from experiments.tuning.lifelong_editing.__main__ import command
from experiments.tuning.lifelong_editing.config import TuneConfig, TunedName
from modeledit_jax.presets.preset import load_preset


@pytest.mark.parametrize("grids", [tuning.STEPS, tuning.PRETRAINED], ids=["here", "pretrained"])
def test_every_method_has_as_many_trials_of_its_settings(grids):
    for name, grid in grids.items():
        found = tuning.trials(grid)
        assert len(found) == 4 == len({tuple(trial.values()) for trial in found})
        preset = load_preset(name, "lifelong").for_pretrained()
        for trial in found:
            build_method(preset.with_settings(trial))


def test_grids_are_of_the_methods_that_may_be_named():
    assert tuple(tuning.PRETRAINED) == TunedName.__args__
    assert set(tuning.grids(TuneConfig())) == set(tuning.STEPS) < set(tuning.PRETRAINED)
    with pytest.raises(ValueError, match=r"--methods memit: there are no .* without --model"):
        tuning.grids(TuneConfig(methods=("memit",)))


def test_routed_methods_take_what_rledit_takes():
    assert set(tuning.followers("rledit")) == {
        *("hiedit", "hiedit-ste", "random-k", "fixed-k", "top-norm-k")
    }
    assert tuning.followers("mend") == tuning.followers("ft-l") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_best_settings_become_presets(tmp_path, monkeypatch):
    """A world of six facts; the grids cut to two trials each, to compile little."""
    grids = {
        "ultraedit": {"learning_rate": (1e-4, 1e-1)},
        "rledit": {"network.edit_lr": (1e-4, 2.0)},
    }
    monkeypatch.setattr(tuning, "STEPS", grids)
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
    for name, settings in grids.items():
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
