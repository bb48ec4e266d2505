"""Methods as TOML files: what is read, set from outside, and refused."""

import sys
from dataclasses import dataclass, field

import pytest

from modeledit_jax.presets.preset import (
    Preset,
    Style,
    import_class,
    load_preset,
    preset,
    preset_families,
    preset_names,
)


@dataclass(frozen=True)
class Inner:
    """A table of settings."""

    rate: float = 0.1
    depth: int | None = 3


@dataclass(frozen=True)
class Method:
    """A class that presets name."""

    budget: int = 10
    share: float = 0.5
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ()
    helper: object = None

    def __post_init__(self):
        if self.budget < 1:
            raise ValueError("a budget below 1: give more")


HEAD = 'class = "tests.presets.test_preset:Method"\n'
FULL = (
    HEAD
    + """role = "control"
tuned = "by hand"

[settings]
share = 1
names = ["a", "b"]

[settings.inner]
rate = 2e-3
depth = "none"

[settings.helper]
class = "tests.presets.test_preset:Inner"
depth = 7

[options]
speed = "inner.rate"
size = "budget"

[style]
color = "#123456"
marker = "o"
line = "-"
"""
)


@pytest.fixture
def written(tmp_path):
    def write(text, name="own-method"):
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_file_is_its_class_with_its_settings(written):
    found = load_preset(written(FULL))
    assert (found.name, found.kind, found.role, found.tuned) == (
        *("own-method", Method, "control", "by hand"),
    )
    assert found.style == Style("#123456", "o", "-")
    method = found.build()
    assert method == Method(10, 1.0, Inner(2e-3, None), ("a", "b"), Inner(depth=7))
    assert isinstance(method.share, float)  # an integer stands for it
    hash(method)


def test_context_fills_fields_that_the_file_leaves_open(written):
    found = load_preset(written(HEAD + "[settings]\nbudget = 5\n"))
    assert found.build(budget=7, share=0.25, unknown=1) == Method(5, 0.25)


def test_options_replace_settings_at_any_depth(written):
    found = load_preset(written(FULL))
    assert found.build(speed=0.5, size=None).inner == Inner(0.5, None)
    assert found.build(size=4).budget == 4
    changed = found.with_options(speed=0.5, other=3)
    assert changed.settings["inner"] == {"rate": 0.5, "depth": "none"}
    assert found.settings["inner"]["rate"] == 2e-3  # the preset itself stays


def test_settings_by_name(written):
    path = written(FULL)
    found = load_preset(path).with_settings({"inner.depth": 9, "budget": 2})
    assert found.build().inner == Inner(2e-3, 9) and found.build().budget == 2
    assert (
        preset(path, budget=3, speed=1.5)
        == found.with_settings({"budget": 3, "inner.rate": 1.5, "inner.depth": "none"}).build()
    )


def test_a_class_may_lie_beside_the_file(written, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_file.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Own:\n    x: int = 1\n"
    )
    assert preset(written('class = "beside_the_file:Own"\n[settings]\nx = 4\n')).x == 4


def test_every_preset_of_the_project_is_well_formed():
    assert {"lifelong", "unlearning"} <= set(preset_families())
    for family in preset_families():
        assert len(preset_names(family)) > 3
        for name in preset_names(family):
            found = load_preset(f"{family}/{name}")
            assert isinstance(found, Preset) and found == load_preset(name, family)
            assert isinstance(found.kind, type)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("class = ", ["own-method", "no TOML"]),
        ("", ["'module:Class'"]),
        ('class = "no.such.module:X"\n', ["cannot import", "no.such.module:X"]),
        ('class = "json:JSONDecoder"\n', ["no dataclass", "@dataclass"]),
        (HEAD + "settngs = 1\n", ["unknown settngs", "settings"]),
        (HEAD + 'role = "best"\n', ["role must be one of edit, control, reference"]),
        (HEAD + '[style]\ncolor = "red"\n', ["own-method", "marker"]),
    ],
)
def test_a_file_that_is_no_preset_says_why(written, text, parts):
    with pytest.raises(ValueError) as error:
        load_preset(written(text))
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ("budgt = 3", ["Method has no setting budgt", "it has budget, share"]),
        ('budget = "many"', ["budget", "int"]),
        ("budget = 0", ["own-method", "a budget below 1"]),
        ("inner.rte = 3", ["rte"]),
        ("names = [1]", ["names"]),
    ],
)
def test_settings_are_checked_by_the_class(written, settings, parts):
    found = load_preset(written(HEAD + f"[settings]\n{settings}\n"))
    with pytest.raises(ValueError) as error:
        found.build()
    assert all(part in str(error.value) for part in parts), error.value


def test_unknown_names_list_the_known_ones(written, tmp_path):
    with pytest.raises(ValueError, match="unknown family 'cooking'; choose one of"):
        preset_names("cooking")
    with pytest.raises(ValueError, match=r"unknown method 'rledt'; choose one of.*rledit"):
        load_preset("rledt", "lifelong")
    with pytest.raises(FileNotFoundError, match="no method file"):
        load_preset(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="must be lower case with hyphens"):
        load_preset(written(HEAD, "Own_Method"))
    with pytest.raises(ValueError, match="must be given as 'module:Class'"):
        import_class("module")
