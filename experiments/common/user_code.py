"""Errors of code that the user has named, in one line that says whose they are."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def said(error: BaseException, module: str) -> str:
    """An error in one line, with the last place in the user's module."""
    name = f"{module.rpartition('.')[2]}.py"
    places = [place for place in traceback.extract_tb(error.__traceback__)
              if Path(place.filename).name == name]  # fmt: skip
    where = f" in line {places[-1].lineno} of {places[-1].filename}" if places else ""
    message = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {message}{where}"


@contextmanager
def errors_of(name: str, method: Any) -> Iterator[None]:
    """Turns what a method of the user's raises into a ValueError; others are left alone.

    Args:
      name: of the method.
      method: an object of a class of the project or of the user.

    Raises:
      ValueError: instead of any error but those of the system, and of `SystemExit`.
    """
    module = type(method).__module__
    try:
        yield
    except (ValueError, OSError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if module.partition(".")[0] in ("modeledit_jax", "experiments"):
            raise
        raise ValueError(f"the method {name} raised {said(error, module)}") from error
