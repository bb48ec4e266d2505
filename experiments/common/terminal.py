"""What a command and its terminal or scheduler have to do with each other."""

import _thread
import codecs
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ASCII = {"−": "-", "–": "-", "…": "...", "≤": "<=", "≥": ">=", "±": "+/-", "×": "x", "·": "*"}

_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")
"""Of schedulers and of a terminal that is closed; Windows has but the first."""

_AGAIN = 0.05  # seconds until a signal that was lost is raised again


class Terminated(KeyboardInterrupt):
    """The process was told to end by another signal than that of Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Signals that end a process raise `Terminated` in it, in the main thread alone.

    Python ignores what is raised in finalizers and in callbacks of its garbage collector, of which
    JAX has one: a signal that comes just then, Ctrl-C as well, is raised once more.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    numbers = [getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)]
    heard = [
        number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN
    ]  # nohup
    try:
        before = {number: signal.signal(number, end) for number in heard}
    except ValueError:  # not the main thread: signals are not ours
        before = {}
    timers: list[threading.Timer] = []
    report = sys.unraisablehook

    def raise_again(ignored: Any) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            return report(ignored)
        number = getattr(ignored.exc_value, "number", signal.SIGINT)
        timers.append(threading.Timer(_AGAIN, _thread.interrupt_main, (number,)))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings are one line each: where in the source they come from helps no user of a command."""

    def formatted(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        return f"warning: {' '.join(str(message).split())}\n"

    before, warnings.formatwarning = warnings.formatwarning, formatted
    try:
        yield
    finally:
        warnings.formatwarning = before


def show_what_can_be_shown() -> None:
    """Replaces characters that the standard streams cannot encode: no output ends a command."""
    codecs.register_error("ascii_look_alike", _look_alike)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="ascii_look_alike")


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    """What is nearest to the characters in ASCII, or question marks."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(map(_nearest, characters)), error.end


def _nearest(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _ASCII.get(character) or plain or "?"
