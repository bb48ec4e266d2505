"""``--mesh`` of the four experiments: what is refused, and runs that change their devices."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import modeledit_jax.run.edit_many as run_module
from experiments.bias_mitigation.__main__ import command as bias_mitigation
from experiments.common.options import open_mesh
from experiments.lifelong_editing.__main__ import command as lifelong_editing
from experiments.transfer.__main__ import command as transfer
from experiments.unlearning.__main__ import command as unlearning
from experiments.unlearning.config import Config
from modeledit_jax.report.summary import read_summary
from tests.experiments.command_line import error_of

COMMANDS = {
    "unlearning": unlearning,
    "bias_mitigation": bias_mitigation,
    "transfer": transfer,
    "lifelong_editing": lifelong_editing,
}
TASKS = ("unlearning", "bias_mitigation", "transfer")


def refused(name, capsys, tmp_path, **options):
    command = COMMANDS[name]
    config = command.options(run_dir=tmp_path / "run", **options)
    message = error_of(command.main, config, capsys)
    assert not (tmp_path / "run").exists()  # before any work
    return message


@pytest.mark.parametrize("name", COMMANDS)
def test_what_names_no_mesh_is_refused(name, capsys, tmp_path):
    axes = "tasks or population" if name in TASKS else "data or model"
    first = axes.split()[0]
    for mesh, said in {
        "devices=2": f"has an axis devices: name {axes}",
        f"{first}=16": "takes 16 devices, there are 8: XLA_FLAGS=--xla_force_host_platform_device",
        f"{first}=0": f"0 devices along {first}: give at least 1",
        f"{first}=2,{first}=2": f"names {first} twice",
        "8": f"axis=devices joined by commas, e.g. {first}=4",
    }.items():
        assert said in refused(name, capsys, tmp_path, mesh=mesh)


def test_devices_that_do_not_divide_what_lies_along_them_are_refused(capsys, tmp_path):
    message = refused("lifelong_editing", capsys, tmp_path, mesh="data=4")
    assert "4 devices along data do not divide --batch-size 10: change one of them" in message
    message = refused("transfer", capsys, tmp_path, mesh="tasks=3")
    assert "updates of policies draw 8 and 16 tasks, which 3 devices do not divide" in message


def test_devices_that_are_threads_have_more_than_one_each(monkeypatch):
    """Eight threads for eight devices end in a deadlock: see ``docs/scale.md``."""
    for given, kept in ((None, 64), ("100", 100)):
        monkeypatch.delenv("PJRT_NPROC", raising=False)
        if given:
            monkeypatch.setenv("PJRT_NPROC", given)
        open_mesh(Config(mesh="tasks=8"))
        assert int(os.environ["PJRT_NPROC"]) >= kept


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


SMALL = {
    "unlearning": {
        "seeds": 3, "budget": 130, "epochs": 2, "methods": ("snes-shift", "ridge"), "retrains": 1,
    },
    "bias_mitigation": {
        "seeds": 3, "budget": 130, "epochs": 1, "methods": ("snes-shift", "last-layer-refit"),
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SMALL)
def small(request, cache):
    """A command and its options."""
    command = COMMANDS[request.param]
    return command, command.options(cache_dir=cache, **SMALL[request.param])


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """The rows of one device."""
    command, config = small
    return rows_of(command, replace(config, run_dir=tmp_path_factory.mktemp("run") / "alone"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_are_those_of_one_device(small, alone, tmp_path):
    """Of networks trained on the mesh too: the cache is another one."""
    command, config = small
    spread = replace(config, mesh="tasks=8", run_dir=tmp_path / "run", cache_dir=tmp_path)
    assert_same(rows_of(command, spread), alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("then", [None, "tasks=4"])
def test_a_run_on_eight_devices_is_resumed_on_others(small, alone, then, tmp_path, monkeypatch):
    command, config = small
    config = replace(config, mesh="tasks=8", run_dir=tmp_path / "run")
    saved = partial(run_module.run_search, chunk=2, save_every=0.0)
    with monkeypatch.context() as stopped:
        stopped.setattr(run_module, "run_search", saved)
        stopped.setattr("experiments.common.methods.SearchProgress.__call__", interrupt)
        assert command.main(config) == 130
    assert (tmp_path / "run" / "checkpoints" / "snes-shift" / "2").is_dir()
    assert_same(rows_of(command, replace(config, mesh=then, resume=True)), alone)


def interrupt(self, done, total, record):
    if done > 3:
        raise KeyboardInterrupt


def rows_of(command, config):
    assert command.main(config) == 0
    return read_summary(config.run_dir).rows


def assert_same(found, expected):
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert (row.method, row.task, row.seed) == (other.method, other.task, other.seed)
        assert row.metrics.keys() == other.metrics.keys()
        for name, value in other.metrics.items():
            about = f"{row.method} {name}"
            np.testing.assert_array_equal(row.metrics[name], value, err_msg=about)
