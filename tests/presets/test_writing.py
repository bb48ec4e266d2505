"""Tuned presets keep all of a file but the settings that were tuned."""

import tomllib

import pytest

from modeledit_jax.presets.preset import load_preset, preset_source
from modeledit_jax.presets.writing import tuned_preset

TEXT = """# What this method is for.
class = "modeledit_jax.editors.search.evolution:SNES"
role = "control"    # it has to be beaten

[settings]
world = "mask"      # scales weights
std = 0.3           # of the candidates

[style]
color = "#007A5E"   # green
marker = "^"
line = "-"
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "my-snes.toml").write_text(TEXT)
    return tmp_path / "my-snes.toml"


def test_comments_and_all_else_stay(path):
    text = tuned_preset(path, "", {"std": 0.5}, "six trials")
    changed = TEXT.replace("std = 0.3 ", "std = 0.5 ")
    assert [line for line in text.splitlines() if line not in changed.splitlines()] == [
        'tuned = "six trials"'
    ]
    assert [line for line in changed.splitlines() if line not in text.splitlines()] == []
    assert path.read_text() == TEXT  # what it was made from is as it was


def test_the_written_file_is_the_tuned_method(path, tmp_path):
    settings = {"std": 0.5, "population": 6, "learning_rate": 1.5}
    written = tmp_path / "tuned-snes.toml"
    written.write_text(tuned_preset(path, "", settings, "six trials"))
    found, before = load_preset(written), load_preset(path)
    assert found.settings == {"world": "mask", **settings} and found.tuned == "six trials"
    assert (found.kind, found.role, found.style) == (before.kind, before.role, before.style)
    editor = found.build(budget=60)
    assert (editor.std, editor.population, editor.world, editor.updates) == (0.5, 6, "mask", 10)


def test_settings_of_tables_are_named_with_dots(path):
    settings = {"training.learning_rate": 0.1, "training.decay.steps": 3}
    content = tomllib.loads(tuned_preset(path, "", settings, "by hand"))
    assert content["settings"]["training"] == {"learning_rate": 0.1, "decay": {"steps": 3}}
    assert content["settings"]["std"] == 0.3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("snes-shift", {"learning_rate": 2.0}),  # was tuned before
        ("ridge", {"weight": 2.0}),  # has no settings yet
    ],
)
def test_presets_of_the_project_can_be_tuned(name, settings):
    content = tomllib.loads(tuned_preset(name, "unlearning", settings, "again"))
    before = tomllib.loads(preset_source(name, "unlearning")[1])
    assert content["tuned"] == "again"
    assert content["settings"] == {**before.get("settings", {}), **settings}
    assert content.get("style") == before.get("style") and content["class"] == before["class"]


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown method 'nothing'"):
        tuned_preset("nothing", "unlearning", {}, "")
    with pytest.raises(FileNotFoundError, match="no method file"):
        tuned_preset(tmp_path / "none.toml", "", {}, "")


def test_a_file_that_has_no_such_table_gets_one(tmp_path):
    path = tmp_path / "own-method.toml"
    path.write_text('class = "tests.presets.test_preset:Method"\n')
    path.write_text(tuned_preset(path, "", {"inner.size": 5, "steps": 2}, "once"))
    found = load_preset(path).build()
    assert found.inner.size == 5 and found.steps == 2
