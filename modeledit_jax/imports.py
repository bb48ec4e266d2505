"""Modules that take long to import and are seldom used: they are executed at their first use.

`gymnax` imports pyplot and seaborn (and with it pandas and SciPy's statistics), because a few of
its environments can draw themselves: a third of the time that ``import modeledit_jax`` would take.
No part of gymnax can be imported without them, so here their execution is put off. Whoever draws
with gymnax gets the modules themselves.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()
_EXECUTING: set[str] = set()


class _Unexecuted(ModuleType):
    """A module that executes itself when it is asked for what it does not have yet.

    `importlib.util.LazyLoader` has one that any attribute executes, ``__spec__`` too, for which
    every further import statement asks.
    """

    def __getattr__(self, name: str) -> Any:
        name_of_module: str = self.__name__
        loader: Any = self.__loader__
        with _LOCK:
            if name_of_module in _EXECUTING or name == "__warningregistry__":  # `unittest` asks all
                raise AttributeError(f"module {name_of_module!r} has no attribute {name!r}")
            if type(self) is _Unexecuted:  # no other thread was first
                _EXECUTING.add(name_of_module)
                try:
                    loader.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]
                finally:
                    _EXECUTING.discard(name_of_module)
        return getattr(self, name)


class _Loader(Loader):
    """Makes modules that are executed by another loader at their first use."""

    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__class__ = _Unexecuted


class _Finder(MetaPathFinder):
    """Finds some modules as Python does, but for the time at which they are executed."""

    def __init__(self, names: Sequence[str]):
        self._names = names

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


@contextmanager
def executed_at_first_use(*names: str) -> Iterator[None]:
    """Modules of these names that are imported inside are executed when they are first used.

    Those that have been imported before stay as they are.
    """
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with executed_at_first_use("matplotlib.pyplot", "seaborn"):
    import gymnax  # noqa: F401
