"""A method as a small TOML file: its class, its settings and how it is drawn.

::

    class = "modeledit_jax.editors.search.evolution:OpenES"
    role = "edit"                 # edit, control or reference
    tuned = "six trials on ..."   # how the settings were found
    [settings]                    # fields of the class
    population = 6
    [style]                       # in figures
    color = "#D55E00"
    marker = "s"
    line = "-"
    [options]                     # which setting an option of a command sets, at any depth
    updates = "training.updates"
    [pretrained]                  # of language models that are given, instead of the above
    depth = [0.66, 0.93]          # layers edited, as shares of their number
    tuned = "four trials on ..."
    [pretrained.settings]
    learning_rate = 1e-4

Settings are checked by the dataclass they belong to. A table among them that names a ``class``
becomes an object of that class; a nested dataclass takes a table; ``"none"`` stands for None, which
TOML cannot say; in a file of a user ``"./policy.safetensors"`` is a path beside it. Files of the
project are named by ``family/name``, those of a user by their path.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import dacite

from modeledit_jax.presets.settings import (
    STRICT,
    build_object,
    import_class,
    leaves_of,
    replaced,
)
from modeledit_jax.reading.files import read_text, regular_file

Role = Literal["edit", "control", "reference"]
"""What a method is in a comparison: an edit; a control that shows what an edit has to beat; or a
reference for how to read the others."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_KEYS = {"class", "role", "tuned", "settings", "style", "options", "pretrained"}


@dataclass(frozen=True)
class Style:
    """How a method is drawn: color, marker and line style of matplotlib."""

    color: str
    marker: str
    line: str


@dataclass(frozen=True)
class Pretrained:
    """What is else about a method of a language model that is given, not trained here.

    Attributes:
      depth: the layers whose MLPs are edited, from one share of their number on, below another.
      settings: as in `Preset`; they replace those of the same name.
      tuned: how they were found.
    """

    depth: tuple[float, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = ""

    def __post_init__(self) -> None:
        begin, end = self.depth
        if not 0 <= begin < end <= 1:
            raise ValueError(f"depth={self.depth}: give two shares of the layers, in their order")


@dataclass(frozen=True)
class Preset:
    """A method, not built yet.

    Attributes:
      name: lower case with hyphens, e.g. ``"ppo-shift"``; that of its file.
      kind: the method's class, a dataclass.
      settings: of its fields, as they stand in the file.
      role: see `Role`.
      tuned: how the settings were found; empty if they are defaults.
      style: in figures; None: one derived from the name.
      options: settings, with dots between tables, by the names of options that set them.
      pretrained: what is else of a language model that is given; None: nothing.
    """

    name: str
    kind: type
    settings: Mapping[str, Any] = field(default_factory=dict)
    role: Role = "edit"
    tuned: str = ""
    style: Style | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    pretrained: Pretrained | None = None

    def build(self, **context: Any) -> Any:
        """Makes the method.

        Args:
          **context: what the caller knows (a budget, say). One of the ``options`` replaces the
            setting that it names unless it is None; a field of the class that has no setting takes
            its value from here; anything else is left aside.

        Raises:
          ValueError: a setting that the class does not have, or of another type, or refused by it.
        """
        settings = self.with_options(**context).settings
        names = {f.name for f in dataclasses.fields(self.kind) if f.init} - self.options.keys()
        known = {k: v for k, v in context.items() if k in names and k not in settings}
        try:
            return build_object(self.kind, settings, known)
        except (dacite.DaciteError, TypeError, ValueError) as error:
            raise ValueError(f"preset {self.name!r}: {error}") from error

    def with_options(self, **options: Any) -> "Preset":
        """The method with the settings that its ``options`` name; None and others change none."""
        given = {name: value for name, value in options.items() if value is not None}
        names = [name for name in self.options if name in given]
        return self.with_settings({self.options[name]: given[name] for name in names})

    def with_settings(self, settings: Mapping[str, Any]) -> "Preset":
        """The method with other settings, by name; dots stand between the names of tables."""
        changed = dict(self.settings)
        for name, value in settings.items():
            changed = replaced(changed, name.split("."), value)
        return dataclasses.replace(self, settings=changed)

    def for_pretrained(self) -> "Preset":
        """The method as it is for a language model that is given."""
        if self.pretrained is None:
            return self
        changed = self.with_settings(leaves_of(self.pretrained.settings))
        return dataclasses.replace(changed, tuned=self.pretrained.tuned or self.tuned)


def preset_names(family: str) -> tuple[str, ...]:
    """Names of all presets of a family, e.g. ``"unlearning"``.

    Raises:
      ValueError: unknown family; the message lists them.
    """
    folder = files(__package__) / family
    if not family or not folder.is_dir():
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(preset_families())}")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_preset(name: str | Path, family: str = "") -> Preset:
    """Reads a preset.

    Args:
      name: of a preset of the project, alone or as ``family/name``, or the path of a TOML file.
      family: where a name without one is looked up.

    Raises:
      FileNotFoundError: no such file.
      ValueError: unknown name, or a file that is no preset; the message says what is wrong.
    """
    return _read(*preset_source(name, family))


def preset_source(name: str | Path, family: str = "") -> tuple[str, str, Path | None]:
    """Finds a preset: its name, its text, and the folder of a user's file. See `load_preset`."""
    text = str(name)
    if text.endswith(".toml"):
        path = Path(text).expanduser()
        path = regular_file(path, "no method file {path}: give the path of a TOML file")
        return path.stem.replace("_", "-"), read_text(path), path.resolve().parent
    if "/" in text:
        family, text = text.rsplit("/", 1)
    known = preset_names(family)
    if text not in known:
        raise ValueError(
            f"unknown method {text!r}; choose one of {', '.join(known)}, or give the path of a "
            "TOML file of your own"
        )
    content = (files(__package__) / family / f"{text}.toml").read_text(encoding="utf-8")
    return text, content, None


def preset(name: str | Path, *, pretrained: bool = False, **settings: Any) -> Any:
    """Builds the method of a preset: ``preset("unlearning/ppo-shift", budget=500)``.

    Args:
      name: see `load_preset`.
      pretrained: with the settings for a language model that is given (`Preset.for_pretrained`).
      **settings: to use instead of those of the file: fields of the class, or the file's options.

    Raises:
      FileNotFoundError, ValueError: as `load_preset` and `Preset.build`.
    """
    found = load_preset(name)
    found = found.for_pretrained() if pretrained else found
    options = {name: settings.pop(name) for name in found.options if name in settings}
    return found.with_settings(settings).build(**options)


def preset_families() -> list[str]:
    """Names of the families that presets come in."""
    return sorted(entry.name for entry in files(__package__).iterdir() if _is_family(entry))


def _is_family(entry: Any) -> bool:
    return entry.is_dir() and any(child.name.endswith(".toml") for child in entry.iterdir())


def _read(name: str, text: str, folder: Path | None) -> Preset:
    """Parses a file; classes of a user's file may stand beside it, in ``folder``."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"method name {name!r} must be lower case with hyphens, like 'ppo-shift'")
    content = _parsed(name, text)
    if unknown := content.keys() - _KEYS:
        raise ValueError(
            f"preset {name!r} has the unknown {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(_KEYS))}"
        )
    _check_entries(name, content)
    try:
        style = dacite.from_dict(Style, content["style"], STRICT) if "style" in content else None
        pretrained = _pretrained(content, folder)
        kind = import_class(content.get("class", ""), folder)
    except (dacite.DaciteError, ValueError) as error:
        raise ValueError(f"preset {name!r}: {error}") from error
    return Preset(
        name,
        kind,
        _beside(content.get("settings", {}), folder),
        content.get("role", "edit"),
        content.get("tuned", ""),
        style,
        content.get("options", {}),
        pretrained,
    )


def _pretrained(content: Mapping[str, Any], folder: Path | None) -> Pretrained | None:
    if "pretrained" not in content:
        return None
    table = dict(content["pretrained"])
    depth = table.get("depth")
    if not (isinstance(depth, list) and len(depth) == 2):
        raise ValueError(f"depth={depth}: give two shares of the layers, in their order")
    table["settings"] = _beside(table.get("settings", {}), folder)
    return dacite.from_dict(Pretrained, table, STRICT)


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=_number_of_toml)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:  # TOML's own, and integers of thousands of digits
        reason = str(error)
    raise ValueError(f"preset {name!r} is no TOML ({reason})")


def _number_of_toml(text: str) -> float:
    """A float of the file; ``inf`` may be meant (a limit that never binds), NaN never is."""
    number = float(text)
    if math.isnan(number) or (math.isinf(number) and "inf" not in text):
        raise ValueError(f"{text[:40]} is no number or larger than any float")
    return number


def _check_entries(name: str, content: Mapping[str, Any]) -> None:
    """Raises ValueError unless the entries of a file are of their types."""
    for key in ("class", "tuned", "role"):
        if not isinstance(content.get(key, ""), str):
            raise ValueError(f"preset {name!r}: {key} is {content[key]!r}, it must be a text")
    for key in ("settings", "style", "options", "pretrained"):
        if not isinstance(content.get(key, {}), Mapping):
            raise ValueError(f"preset {name!r}: {key} is {content[key]!r}, it must be a table")
    if content.get("role", "edit") not in get_args(Role):
        raise ValueError(f"preset {name!r}: role must be one of {', '.join(get_args(Role))}")
    for option, setting in content.get("options", {}).items():
        if not isinstance(setting, str) or not all(setting.split(".")):
            raise ValueError(
                f"preset {name!r}: the option {option} is {setting!r}, it must be the name of a "
                "setting, with dots between tables"
            )


def _beside(settings: Any, folder: Path | None) -> Any:
    """Settings of a user's file, in which ``"./..."`` is a path beside that file."""
    if folder is not None and isinstance(settings, str) and settings.startswith("./"):
        return str(folder / settings)
    if isinstance(settings, Mapping):
        return {name: _beside(value, folder) for name, value in settings.items()}
    return settings
