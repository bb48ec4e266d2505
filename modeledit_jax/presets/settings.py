"""From the settings of a file to the object that they describe, each checked by its dataclass."""

import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import dacite


def import_class(name: str, folder: Path | None = None) -> type:
    """Imports a dataclass given as ``module:Class``.

    Args:
      name: of module and class.
      folder: where modules are looked for as well.

    Raises:
      ValueError: it cannot be imported, is no dataclass, or another folder's module of that name
        was imported before.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"class must be given as 'module:Class', got {name!r}")
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = importlib.import_module(module)
        kind = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot import the class {name!r} ({reason})") from error
    own, loaded = (folder or Path()) / f"{module}.py", Path(found.__file__ or "")
    if folder is not None and own.is_file() and not own.samefile(loaded):
        raise ValueError(f"a module {module!r} is loaded from {loaded}, not {own}; rename one")
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"{name!r} is no dataclass: decorate the class with @dataclass")
    return kind


def replaced(settings: Mapping[str, Any], place: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of the settings with another value at a place, a path through tables."""
    first, *rest = place
    if rest and not isinstance(settings.get(first, {}), Mapping):
        raise ValueError(f"the setting {first} is {settings[first]!r}, no table with {rest[0]}")
    inner = replaced(settings.get(first, {}), rest, value) if rest else value
    return {**settings, first: inner}


def _integer(value: Any) -> Any:
    """No truth value, which dacite takes for a number; all else is left to its check of types."""
    if isinstance(value, bool):
        raise ValueError(f"{value} stands where a number belongs")
    return value


def _number(value: Any) -> Any:
    """The same where a float is asked for, which an integer may stand for."""
    value = _integer(value)
    return float(value) if isinstance(value, int) else value


STRICT = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _number, int: _integer})


def build_object(kind: type, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """An object of a dataclass from its settings; fields in ``given`` are set by the caller."""
    hints = _hints(kind)
    values = {name: _value(value) for name, value in settings.items()}
    # Objects and None are checked by the class itself: dacite knows plain values and tables.
    ready = {n: v for n, v in values.items() if v is None or not _is_plain(v)}
    plain = {n: v for n, v in values.items() if n not in ready}
    if unknown := values.keys() - {f.name for f in dataclasses.fields(kind)}:
        fields = ", ".join(f.name for f in dataclasses.fields(kind))
        raise ValueError(
            f"{kind.__name__} has no setting {', '.join(sorted(unknown))}; it has {fields}"
        )
    checked = {
        name: getattr(_holder(name, hints[name], value), name) for name, value in plain.items()
    }
    return kind(**checked, **ready, **given)


def _hints(kind: type) -> dict[str, Any]:
    """Types of a dataclass' fields; one of any type that is a float by default has to be one."""
    numbers = {f.name: float for f in dataclasses.fields(kind) if isinstance(f.default, float)}
    hints = get_type_hints(kind)
    return {n: numbers.get(n, hint) if hint is Any else hint for n, hint in hints.items()}


def _holder(name: str, hint: Any, value: Any) -> Any:
    """A value checked and converted as dacite does it, in a dataclass of that one field."""
    one = dataclasses.make_dataclass("Setting", [(name, hint)], frozen=True)
    return dacite.from_dict(one, {name: value}, STRICT)


def _value(value: Any) -> Any:
    """The file's value with None and objects in place of what stands for them."""
    if isinstance(value, str) and value == "none":
        return None
    if isinstance(value, Mapping):
        inner = {name: _value(item) for name, item in value.items()}
        if "class" in inner:
            if not isinstance(name := inner.pop("class"), str):
                raise ValueError(f"class must be given as 'module:Class', got {name!r}")
            return build_object(import_class(name), inner, {})
        return inner
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, list, tuple, Mapping))


def leaves_of(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of all tables, with dots between their names; tables that name a class are whole."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "class" not in value:
            found |= leaves_of(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
