"""Reward functions of users, named on the command line."""

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from experiments.common.user_code import said

ARGUMENTS = ("sets", "edit")


@cache  # one object, so that what is compiled for it is found again
def import_reward(name: str) -> Callable[..., Any]:
    """Imports a user's reward function, given as ``module:function``.

    An error that it raises when it is called becomes a ValueError with its place.

    Raises:
      ValueError: it cannot be imported, is no function, or takes other arguments; the message says
        what was found.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise ValueError(
            f"--reward {name!r} is no name of a function: give module:function, e.g. "
            "my_module:reward for the function reward of my_module.py in this folder"
        )
    found = _imported(name, module, attribute)
    from modeledit_jax.tasks.reward import Reward  # imports JAX

    if isinstance(found, Reward):
        return found
    if not callable(found):
        raise ValueError(
            f"--reward {name} is {found!r:.60}, of type {type(found).__name__}: name a function "
            "f(sets, edit)"
        )
    try:
        inspect.signature(found).bind(*ARGUMENTS)
    except TypeError as error:
        raise ValueError(
            f"--reward {name} cannot be called as f(sets, edit) ({error}): name a function that can"
        ) from error
    except ValueError:
        pass  # some functions in C do not say what they take
    return _named(name, found)


def _imported(name: str, module: str, attribute: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` would find it
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import the reward {name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # the module's own code may raise anything
        raise ValueError(f"cannot import the reward {name!r}: {said(error, module)}") from error


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with errors that say whose they are."""

    @wraps(function, assigned=("__doc__", "__name__", "__qualname__", "__module__"), updated=())
    def reward(sets: Any, edit: Any) -> Any:
        try:
            return function(sets, edit)
        except (Exception, SystemExit) as error:
            known = ", ".join(sets)
            raised = said(error, name.partition(":")[0])
            raise ValueError(f"the reward {name} raised {raised} (the sets are {known})") from error

    return reward
