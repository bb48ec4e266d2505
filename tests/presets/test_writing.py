"""Presets with other settings: what is not changed stays as it was written."""

import tomllib

from modeledit_jax.presets.preset import load_preset, preset_source
from modeledit_jax.presets.writing import tuned_preset


def test_settings_change_and_comments_stay():
    before = preset_source("rledit", "lifelong")[1]
    settings = {"network.edit_lr": 0.5, "training.learning_rate": 1e-3}
    text = tuned_preset("rledit", "lifelong", settings, "by a test")
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert comments and all(line in text for line in comments)
    old, new = tomllib.loads(before), tomllib.loads(text)
    assert new["tuned"] == "by a test"
    assert new["settings"]["network"]["edit_lr"] == 0.5
    assert new["settings"]["training"]["learning_rate"] == 1e-3
    new["settings"]["network"]["edit_lr"] = old["settings"]["network"]["edit_lr"]
    new["settings"]["training"]["learning_rate"] = old["settings"]["training"]["learning_rate"]
    assert new | {"tuned": old["tuned"]} == old


def test_a_file_that_has_no_such_table_gets_one(tmp_path):
    path = tmp_path / "own-method.toml"
    path.write_text('class = "tests.presets.test_preset:Method"\n')
    path.write_text(tuned_preset(path, "", {"inner.depth": 5, "budget": 2}, "once"))
    found = load_preset(path).build()
    assert found.inner.depth == 5 and found.budget == 2
