"""Terminals that cannot show everything, and signals that end a run.

To the kind belong: encodings of the terminal (ASCII, Latin-1, code pages), locales without UTF-8,
closed pipes and terminals, signals of schedulers, `nohup`, handlers of others.
"""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.common.terminal import (
    Terminated,
    show_what_can_be_shown,
    signals_interrupt,
)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "-0.10 >= +/-2 ... e ? 7"),
        ("latin-1", "-0.10 >= ±2 ... é ? 7"),
        ("cp1252", "-0.10 >= ±2 … é ? 7"),
        ("utf-8", "−0.10 ≥ ±2 … é ▏ 7"),
    ],
)
def test_what_cannot_be_shown_is_replaced(monkeypatch, encoding, shown):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    show_what_can_be_shown()
    print("−0.10 ≥ ±2 … é ▏ 7", end="", flush=True)
    assert raw.getvalue().decode(encoding) == shown


def test_streams_that_are_no_files_are_left(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    show_what_can_be_shown()
    print("\u2212", end="")
    assert sys.stdout.getvalue() == "\u2212" and sys.stderr is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interrupt_and_handlers_come_back(number, request):
    outside = signal.signal(number, signal.SIG_DFL)  # tests under nohup ignore one
    request.addfinalizer(lambda: signal.signal(number, outside))
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as info, signals_interrupt():
        os.kill(os.getpid(), number)
        signal.pause()
    assert isinstance(info.value, Terminated) and info.value.number == number
    assert signal.getsignal(number) is before


class _Interrupted:
    """A signal comes while it is finalized, where Python ignores what its handler raises."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_finalizer_is_not_lost(number, request):
    own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    outside = signal.signal(number, own)
    request.addfinalizer(lambda: signal.signal(number, outside))
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt) as info, signals_interrupt():
        _Interrupted(number)
        for _ in range(100):
            time.sleep(0.05)
    assert getattr(info.value, "number", signal.SIGINT) == number
    assert sys.unraisablehook is hook


def test_other_errors_of_finalizers_are_reported_as_ever(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: seen.append(ignored.exc_type))

    class Broken:
        def __del__(self):
            raise OSError

    with signals_interrupt():
        Broken()
    assert seen == [OSError]


def test_what_was_told_to_be_ignored_is(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_are_not_asked():
    failed = []

    def work():
        try:
            with signals_interrupt():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("variables", [PLAIN, {"PYTHONIOENCODING": "ascii"}], ids=["C", "ascii"])
@pytest.mark.parametrize("command", ["unlearning", "bias_mitigation"])
def test_help_and_mistakes_in_ascii(variables, command):
    module = [sys.executable, "-m", f"experiments.{command}"]
    for arguments, code in ((["--help"], 0), (["--seeds", "−3"], 2)):
        done = subprocess.run(
            [*module, *arguments], env=os.environ | variables, capture_output=True, timeout=60
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr and (done.stdout + done.stderr).isascii()


def test_a_warning_is_one_line():
    program = (
        "import warnings; from experiments.common.terminal import plain_warnings\n"
        "with plain_warnings(): warnings.warn('the cache is\\n  full')\n"
        "warnings.warn('elsewhere')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    first, second = done.stderr.splitlines()[:2]
    assert first == "warning: the cache is full" and second.endswith("UserWarning: elsewhere")
