"""Two processes of one command, joined by JAX's variables, share the work and one run folder."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from experiments.bias_mitigation.__main__ import command as bias_mitigation
from experiments.common.processes import VARIABLES, join_processes, named
from experiments.lifelong_editing.__main__ import command as lifelong_editing
from experiments.transfer.__main__ import command as transfer
from experiments.unlearning.__main__ import command as unlearning
from modeledit_jax.processes import agreed, first_does, first_goes_ahead, is_first
from modeledit_jax.report.summary import read_summary
from tests.experiments.command_line import error_of

ADDRESS, COUNT, INDEX = VARIABLES
ALL = {ADDRESS: "localhost:1234", COUNT: "2", INDEX: "1"}
COMMANDS = {"unlearning": unlearning, "bias_mitigation": bias_mitigation}
SMALL = {
    "unlearning": {"seeds": 3, "epochs": 2, "retrains": 1, "methods": ("snes-shift", "ridge"),
                   "budget": 2000},
    "bias_mitigation": {"seeds": 2, "epochs": 1, "methods": ("snes-shift", "last-layer-refit",
                                                             "other-seed"), "budget": 4000},
}  # fmt: skip
SECONDS = 240


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({COUNT: "2"}, f"{COUNT} is set, {ADDRESS} and {INDEX} is not: set all three"),
        (ALL | {INDEX: ""}, f"{INDEX} is not"),
        (ALL | {ADDRESS: "localhost"}, "must be host:port of the first process, got 'localhost'"),
        (ALL | {COUNT: "two"}, f"{COUNT} must be a number, got 'two'"),
        (ALL | {INDEX: "2"}, f"{INDEX} is 2 of {COUNT} 2: the processes are numbered from 0 to 1"),
        (ALL | {INDEX: "-1"}, f"{INDEX} must be a number"),
    ],
)
def test_variables_that_make_no_sense_are_refused(variables, message):
    with pytest.raises(ValueError) as error:
        join_processes(variables)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_without_variables_there_is_one_process():
    join_processes({})
    assert not named({}) and not named(ALL | {COUNT: "1"}) and named(ALL)
    assert is_first() and agreed({"a": [1, None]}) == {"a": [1, None]}
    with first_goes_ahead():
        pass
    with pytest.raises(OSError, match="full"):
        first_does(_fail)


def _fail():
    raise OSError("full")


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        (unlearning, {}, "name all their devices, e.g. --mesh tasks=8"),
        (bias_mitigation, {}, "name all their devices, e.g. --mesh tasks=8"),
        (transfer, {"mesh": "tasks=8"}, "this command runs in one process"),
        (lifelong_editing, {"mesh": "model=8"}, "this command runs in one process"),
    ],
)
def test_several_processes_that_share_nothing_are_refused(
    command, options, said, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("experiments.common.command.join_processes", lambda: None)
    for name, value in ALL.items():
        monkeypatch.setenv(name, value)
    config = command.options(run_dir=tmp_path / "run", **options)
    assert said in error_of(command.main, config, capsys)
    assert not (tmp_path / "run").exists()


def start(name, config, mesh):
    """Two processes with two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2")
    words = [sys.executable, "-m", f"experiments.{name}", "--mesh", mesh]
    for option, value in vars(config).items():
        if option in SMALL[name] or option in ("run_dir", "cache_dir"):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{option.replace('_', '-')}", *map(str, values)]
    found = []
    for index in range(2):
        mine = {ADDRESS: f"localhost:{port}", COUNT: "2", INDEX: str(index), "XLA_FLAGS": flags}
        found.append(
            subprocess.Popen(
                words, env=os.environ | mine, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    return found


def finished(processes):
    try:
        told = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], told


def options(name, folder, **others):
    config = COMMANDS[name].options(run_dir=folder / "run", cache_dir=folder / "cache")
    return replace(config, **SMALL[name], **others)


def rows_of(name, config):
    assert COMMANDS[name].main(config) == 0
    return read_summary(config.run_dir).rows


def assert_same(found, expected):
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert (row.method, row.task, row.seed) == (other.method, other.task, other.seed)
        for metric, value in other.metrics.items():
            np.testing.assert_allclose(
                row.metrics[metric], value, rtol=1e-3, atol=1e-3, err_msg=f"{row.method} {metric}"
            )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_give_the_rows_of_one_and_one_goes_on_for_them(name, tmp_path):
    """The second run is killed in its search: of the two, one process is, and the other ends."""
    expected = rows_of(name, options(name, tmp_path / "alone"))
    together = options(name, tmp_path / "two")
    codes, told = finished(start(name, together, "tasks=4"))
    assert codes == [0, 0], told
    assert "report: " in told[0][0] and "report: " not in told[1][0]
    assert_same(read_summary(together.run_dir).rows, expected)

    stopped = replace(together, run_dir=tmp_path / "stopped")
    processes = start(name, stopped, "tasks=2,population=2")
    checkpoints = stopped.run_dir / "checkpoints" / "snes-shift"
    deadline = time.monotonic() + SECONDS
    while not list(checkpoints.glob("[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    processes[1].kill()
    codes, told = finished(processes)
    assert codes[0] != 0 and codes[1] == -9, told
    assert not (stopped.run_dir / "report.md").exists()
    assert_same(rows_of(name, replace(stopped, mesh=None, resume=True)), expected)
