"""Method files: found by name or path, checked by the class they name, mistakes in one line.

Of the kind "files that are not what they must be": entries of another type, numbers that are none,
nesting without end, other encodings, named pipes and folders, modules that raise on import.
"""

import os
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest

from modeledit_jax.editors.search.evolution import SNES, OpenES
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.edits.parametrization import LowRank, PerRow
from modeledit_jax.presets.preset import (
    Preset,
    Style,
    import_class,
    load_preset,
    preset,
    preset_families,
    preset_names,
    preset_source,
)


@dataclass(frozen=True)
class Inner:
    size: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Method:
    """Fields of all kinds that a file can set."""

    steps: int = 10
    rate: float = 0.1
    name: str = "a"
    pair: tuple[int, ...] = (1, 2)
    limit: float | None = 1.0
    inner: Inner = Inner()
    anything: Any = None
    free: Any = 0.5

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")


HERE = f"{__name__}:Method"


def written(folder, settings="", *, name="my-method", head=f'class = "{HERE}"', more=""):
    """A file of a user's with these settings."""
    path = folder / f"{name}.toml"
    path.write_text(f"{head}\n[settings]\n{settings}\n{more}\n")
    return path


def build(folder, settings="", **context):
    return load_preset(written(folder, settings)).build(**context)


def test_presets_of_the_project_are_found_by_name():
    found = load_preset("unlearning/openes-shift")
    assert found == load_preset("openes-shift", "unlearning")
    assert found.kind is OpenES and found.role == "edit" and "six trials" in found.tuned
    assert found.settings["population"] == 6
    assert found.style == Style("#D55E00", "s", "-")
    assert load_preset("original", "bias_mitigation").role == "reference"
    editor = found.build(budget=77)
    assert editor == OpenES("shift", 77, population=6, std=0.3, learning_rate=0.1)


def test_a_preset_is_built_in_one_call_with_settings_of_ones_own():
    assert preset("unlearning/ppo-mask", budget=500) == PPO("mask", 500)
    editor = preset("unlearning/snes-shift", std=0.5, parametrization=PerRow())
    assert (editor.std, editor.parametrization, editor.learning_rate) == (0.5, PerRow(), 1.0)
    with pytest.raises(ValueError, match="'snes-shift': SNES has no setting spread; it has world,"):
        preset("unlearning/snes-shift", spread=1)


def test_families_and_their_names():
    assert {"unlearning", "bias_mitigation", "lifelong"} <= set(preset_families())
    names = preset_names("unlearning")
    assert names == tuple(sorted(names)) and {"ridge", "neggrad-plus", "ppo-shift"} <= set(names)
    for family in ("", "unlearn", "unlearning/ridge"):
        with pytest.raises(ValueError, match=r"unknown family .*; choose one of bias_mitigation, "):
            preset_names(family)


def test_settings_become_what_their_fields_ask_for(tmp_path):
    settings = """
    steps = 5
    rate = 2                  # an integer where a float is asked for
    pair = [3, 4, 5]
    limit = "none"
    inner = {size = 7}
    anything = {class = "modeledit_jax.edits.parametrization:LowRank", rank = 2}
    """
    found = build(tmp_path, settings)
    assert found == Method(5, 2.0, "a", (3, 4, 5), None, Inner(7), LowRank(2))
    assert isinstance(found.rate, float)
    assert build(tmp_path) == Method()


def test_the_context_fills_what_the_file_leaves_open(tmp_path):
    found = build(tmp_path, "steps = 5", steps=9, rate=0.7, unknown="left aside")
    assert found == Method(5, 0.7)
    assert build(tmp_path, inner=Inner(1)) == Method(inner=Inner(1))


def test_options_replace_the_settings_they_name(tmp_path):
    more = '[options]\nbudget = "steps"\nwidth = "inner.size"\n'
    found = load_preset(written(tmp_path, "steps = 5\ninner = {rate = 0.2}", more=more))
    assert found.build() == Method(5, inner=Inner(3, 0.2))
    assert found.build(budget=8, width=6) == Method(8, inner=Inner(6, 0.2))
    assert found.build(budget=None) == Method(5, inner=Inner(3, 0.2))
    changed = found.with_settings({"inner.rate": 0.9, "name": "b"})
    assert changed.build() == Method(5, name="b", inner=Inner(3, 0.9))
    assert found.settings["inner"] == {"rate": 0.2}  # the first one is as it was


def test_numbers_of_toml(tmp_path):
    assert build(tmp_path, "rate = inf").rate == float("inf")  # a limit that never binds
    assert build(tmp_path, "free = 2").free == 2.0


def test_a_mark_and_other_encodings(tmp_path):
    path = written(tmp_path, "steps = 5")
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_preset(path).build().steps == 5
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=r"my-method\.toml is UTF-16: convert it"):
        load_preset(path)
    path.write_bytes(text.encode() + b"# \xe9")
    with pytest.raises(ValueError, match=r"my-method\.toml is not UTF-8"):
        load_preset(path)


@pytest.mark.timeout(20)
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name, kind in (("pipe", "a named pipe"), ("folder", "a folder")):
        with pytest.raises(ValueError, match=rf"{name}\.toml is {kind}"):
            load_preset(tmp_path / f"{name}.toml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = (", "was never closed"),
        ("1 / 0", "division by zero"),
        ("raise KeyError", "KeyError"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, text, reason):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_{reason.split()[0].lower()}"
    (tmp_path / f"{name}.py").write_text(text)
    path = written(tmp_path, head=f'class = "{name}:Prune"')
    with pytest.raises(ValueError, match=rf"cannot import the class '{name}:Prune' \(.*{reason}"):
        load_preset(path)


def test_an_option_of_a_setting_that_is_no_table(tmp_path):
    path = written(tmp_path, "rate = 0.5", more='[options]\nbudget = "rate.inner"')
    with pytest.raises(ValueError, match=r"the setting rate is 0\.5, no table with inner"):
        load_preset(path).build(budget=3)


def test_paths_beside_the_file(tmp_path):
    assert build(tmp_path, 'name = "./weights"').name == str(tmp_path / "weights")


def test_a_preset_needs_no_file():
    found = Preset("my-snes", SNES, MappingProxyType({"std": 0.2}))
    assert found.build(budget=50) == SNES(budget=50, std=0.2)
    assert replace(found, kind=NegGradPlus, settings={}).build(steps=3) == NegGradPlus(steps=3)


MISTAKES = {
    "unknown setting": ("stepz = 3", "Method has no setting stepz; it has steps, rate, name, pair"),
    "wrong type": ('steps = "many"', 'wrong value type for field "steps"'),
    "float for integer": ("steps = 2.5", 'wrong value type for field "steps"'),
    "truth value for a number": ("rate = true", "True stands where a number belongs"),
    "truth value for an integer": ("steps = true", "True stands where a number belongs"),
    "wrong item": ('pair = [1, "b"]', 'wrong value type for field "pair'),
    "unknown inner setting": ("inner = {length = 3}", "length"),
    "refused by the class": ("steps = -1", "steps must be at least 0, got -1"),
    "unknown inner class": (
        'anything = {class = "modeledit_jax.edits.parametrization:Diagonal"}',
        "cannot import the class 'modeledit_jax.edits.parametrization:Diagonal'",
    ),
    "inner class of another type": ("anything = {class = 3}", "given as 'module:Class', got 3"),
    "text for a number of any type": ('free = "high"', 'wrong value type for field "free"'),
    "setting of an inner class": (
        'anything = {class = "modeledit_jax.edits.parametrization:LowRank", ranks = 2}',
        "LowRank has no setting ranks; it has rank, start_scale",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_settings_are_one_line_that_names_the_method(tmp_path, name):
    settings, message = MISTAKES[name]
    with pytest.raises(ValueError) as info:
        build(tmp_path, settings)
    text = str(info.value)
    assert text.startswith("preset 'my-method': ") and message in text and "\n" not in text, text


HEADS = {
    "no TOML": ("class = ", "is no TOML"),
    "unknown key": (f'class = "{HERE}"\ncolour = "red"', "has the unknown colour; known are"),
    "unknown role": (
        f'class = "{HERE}"\nrole = "best"',
        "role must be one of edit, control",
    ),
    "no class": ('role = "edit"', "class must be given as 'module:Class', got ''"),
    "no module": ('class = "Method"', "class must be given as 'module:Class', got 'Method'"),
    "unknown module": ('class = "no_such_module:A"', "cannot import the class 'no_such_module:A'"),
    "unknown class": (f'class = "{__name__}:Other"', f"cannot import the class '{__name__}:Other'"),
    "no dataclass": ('class = "pathlib:Path"', "'pathlib:Path' is no dataclass: decorate"),
    "no class at all": ('class = "math:pi"', "'math:pi' is no dataclass"),
    "class of another type": ("class = 3", "class is 3, it must be a text"),
    "relative module": ('class = ".x:y"', "cannot import the class '.x:y'"),
    "tuned of another type": (f'class = "{HERE}"\ntuned = 3', "tuned is 3, it must be a text"),
    "role of another type": (f'class = "{HERE}"\nrole = ["edit"]', "role is ['edit'], it must"),
    "style of another type": (f'class = "{HERE}"\nstyle = 3', "style is 3, it must be a table"),
    "options of another type": (f'class = "{HERE}"\noptions = "x"', "options is 'x', it must be"),
    "option of another type": (f'class = "{HERE}"\noptions = {{b = 3}}', "the option b is 3, it"),
    "empty option": (f'class = "{HERE}"\noptions = {{b = "a."}}', "the option b is 'a.', it must"),
    "NaN": (f'class = "{HERE}"\nstyle = {{color = nan}}', "is no TOML (nan is no number"),
    "overflow": (f'class = "{HERE}"\n[settings]\nrate = 1e999', "is no TOML (1e999 is no number"),
    "nested": ("class = " + "[" * 100_000, "is no TOML (it is nested too deeply)"),
    "digits": ("class = " + "9" * 5000, "is no TOML (Exceeds the limit"),
}


@pytest.mark.parametrize("name", HEADS)
def test_files_that_are_no_preset_are_refused_in_one_line(tmp_path, name):
    head, message = HEADS[name]
    with pytest.raises(ValueError) as info:
        load_preset(written(tmp_path, head=head))
    text = str(info.value)
    assert text.startswith("preset 'my-method'") and message in text and "\n" not in text, text


@pytest.mark.parametrize(
    "style", ['color = "red"', 'color = "red"\nmarker = "o"\nline = 3', 'colour = "red"']
)
def test_a_style_is_whole_or_absent(tmp_path, style):
    with pytest.raises(ValueError, match="preset 'my-method': ") as info:
        load_preset(written(tmp_path, more=f"[style]\n{style}"))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["My-method", "1st", "a--b", "a b"])
def test_names_are_lower_case_with_hyphens(tmp_path, name):
    with pytest.raises(ValueError, match="must be lower case with hyphens, like 'ppo-shift'"):
        load_preset(written(tmp_path, name=name))


def test_a_file_may_be_named_as_python_files_are(tmp_path):
    assert load_preset(written(tmp_path, name="my_method")).name == "my-method"


def test_what_does_not_exist_is_named_with_the_cure(tmp_path):
    with pytest.raises(ValueError, match=r"unknown method 'ppo'; choose one of .*ppo-mask"):
        load_preset("ppo", "unlearning")
    with pytest.raises(ValueError, match="unknown family 'unlearnings'"):
        load_preset("unlearnings/ppo-mask")
    with pytest.raises(FileNotFoundError, match=r"no method file .*mine\.toml: give the path of a"):
        load_preset(tmp_path / "mine.toml")


def test_the_source_of_a_preset(tmp_path):
    path = written(tmp_path, "steps = 1")
    assert preset_source(path) == ("my-method", path.read_text(), tmp_path.resolve())
    name, text, folder = preset_source("ridge", "unlearning")
    assert name == "ridge" and "RidgeEditor" in text and folder is None


def test_classes_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", ["/nowhere"])
    code = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = {}\n"
    (tmp_path / "one_of_mine.py").write_text(code.format(1))
    kind = import_class("one_of_mine:A", tmp_path)
    assert kind().x == 1 and import_class("one_of_mine:A", tmp_path) is kind
    # Of another folder, but of the same name: not the first one in disguise.
    other = tmp_path / "other"
    other.mkdir()
    (other / "one_of_mine.py").write_text(code.format(2))
    with pytest.raises(ValueError, match=r"a module 'one_of_mine' is loaded from .*; rename one"):
        import_class("one_of_mine:A", other)


def test_every_preset_of_the_project_is_well_formed():
    assert {"lifelong", "unlearning", "bias_mitigation"} <= set(preset_families())
    for family in preset_families():
        assert len(preset_names(family)) > 3
        for name in preset_names(family):
            found = load_preset(f"{family}/{name}")
            assert isinstance(found, Preset) and found == load_preset(name, family)
            assert isinstance(found.kind, type)


def test_settings_for_pretrained_models_replace_those_of_their_names(tmp_path):
    path = tmp_path / "own.toml"
    text = """
class = "modeledit_jax.lifelong.methods.fine_tuning:FineTune"
tuned = "here"
[settings]
loss = "teacher"
learning_rate = 1e-3
[pretrained]
depth = [0.5, 0.75]
tuned = "there"
[pretrained.settings]
learning_rate = 1e-5
"""
    path.write_text(text)
    found = load_preset(path)
    assert found.build().learning_rate == 1e-3 and found.pretrained.depth == (0.5, 0.75)
    other = found.for_pretrained()
    assert other.build() == replace(found.build(), learning_rate=1e-5) and other.tuned == "there"
    assert preset(path, pretrained=True) == other.build()
    path.write_text(text.replace("[0.5, 0.75]", "[0.75, 0.5]"))
    with pytest.raises(ValueError, match=r"'own': depth=.* give two shares of the layers"):
        load_preset(path)
    path.write_text(text.replace("[0.5, 0.75]", "3"))
    with pytest.raises(ValueError, match=r"'own'.*depth"):
        load_preset(path)


def test_nested_settings_for_pretrained_models_leave_the_others():
    own = load_preset("rledit", "lifelong")
    other = own.for_pretrained().build()
    assert other.training.updates == own.pretrained.settings["training"]["updates"]
    assert other.training.objective.past == own.build().training.objective.past
