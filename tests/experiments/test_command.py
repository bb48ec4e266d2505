"""The entry that all commands share: exit codes, one-line errors, the folder of a run."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from experiments.common.command import Command, Tool
from experiments.common.console import experiment_names, main
from experiments.common.options import RunOptions, run_folder
from tests.experiments.command_line import error_of

ROOT = Path(__file__).parents[2]


ERRORS = {
    "value": ValueError,
    "os": OSError,
    "stop": KeyboardInterrupt,
    "memory": MemoryError,
    "device": lambda text: RuntimeError(f"RESOURCE_EXHAUSTED: {text}"),
    "bug": RuntimeError,
}


@dataclass(frozen=True)
class Options(RunOptions):
    """Options of a command made up here."""

    fail: str = ""


@pytest.fixture
def command(monkeypatch):
    """A command whose run fails as its option says, or writes a report."""
    module = ModuleType("experiments.made_up.run")

    def run(config):
        if config.fail:
            raise ERRORS[config.fail]("two\nlines")
        path = run_folder(config) / "report.md"
        path.write_text("done")
        return path

    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Command(Options, module.__name__, "Makes it up.")


def test_a_run_has_a_folder_and_says_where_its_report_is(command, tmp_path, capsys):
    config = Options(run_dir=tmp_path / "run", seeds=2)
    assert command.main(config) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'run' / 'report.md'}\n"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seeds"] == 2
    assert "--resume" in error_of(command.main, config, capsys)
    assert command.main(replace(config, resume=True)) == 0
    assert "seeds was 2" in error_of(command.main, replace(config, resume=True, seeds=1), capsys)


def test_without_a_folder_the_run_is_named_after_the_command(command):
    assert command.name == "made_up"
    folder = command.resolve(Options()).run_dir
    assert folder.parent == Path("runs") and folder.name.startswith("made-up-20")
    tuning = Command(Options, "experiments.tuning.unlearning.run")
    assert tuning.name == "tuning.unlearning"
    assert tuning.resolve(Options()).run_dir.name.startswith("tuning-unlearning-20")


@pytest.mark.parametrize("fail", ["value", "os"])
def test_a_mistake_is_one_line_and_leaves_no_run_behind(command, tmp_path, capsys, fail):
    config = Options(run_dir=tmp_path / "run", fail=fail)
    assert error_of(command.main, config, capsys) == "error: two lines"
    assert not config.run_dir.exists()


@pytest.mark.parametrize("fail", ["memory", "device"])
def test_a_machine_that_is_too_small_is_one_line(command, tmp_path, capsys, fail):
    message = error_of(command.main, Options(run_dir=tmp_path / "run", fail=fail), capsys)
    assert message.startswith("error: out of memory (") and "--seeds" in message
    with pytest.raises(RuntimeError, match="two"):
        command.main(Options(run_dir=tmp_path / "bug", fail="bug"))


def test_a_run_that_was_moved_goes_on(command, tmp_path, monkeypatch, capsys):
    """Moved, spelled otherwise, from another working folder, with another cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert command.main(Options(run_dir=Path("~/run"), cache_dir=Path("~/cache"))) == 0
    assert not (tmp_path / "~").exists()
    (tmp_path / "home" / "run").rename(tmp_path / "moved")
    for folder in (Path("moved"), tmp_path / "moved", Path("home/../moved/"), Path("~/../moved")):
        assert command.main(Options(run_dir=folder, resume=True)) == 0
    monkeypatch.chdir(tmp_path / "home")
    assert command.main(Options(run_dir=Path("../moved"), cache_dir=Path("c"), resume=True)) == 0
    message = error_of(command.main, Options(run_dir=Path("~no-such-user/x")), capsys)
    assert message.startswith("error: ~no-such-user/x names no folder of a user")


def test_an_interrupt_says_how_to_go_on(command, tmp_path, capsys):
    config = Options(run_dir=tmp_path / "run", fail="stop")
    assert command.main(config) == 130
    assert f"--resume --run-dir {config.run_dir}" in capsys.readouterr().err
    assert (config.run_dir / "config.json").exists()


def test_options_are_checked_before_anything_is_written(command, tmp_path, capsys):
    config = Options(run_dir=tmp_path / "run", seeds=0)
    assert "--seeds must be at least 1, got 0" in error_of(command.main, config, capsys)
    assert "--run-dir" in error_of(command.main, Options(resume=True), capsys)
    assert not list(tmp_path.iterdir())


def test_the_process_leaves_with_the_exit_code(command, tmp_path, monkeypatch, capsys):
    arguments = ["--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as left:
        command(arguments)
    assert left.value.code == 0
    with pytest.raises(SystemExit) as left:
        command(arguments)
    assert left.value.code == 2
    monkeypatch.setattr(os, "_exit", lambda code: sys.exit(f"at once with {code}"))
    with pytest.raises(SystemExit, match="at once with 130"):
        command(["--run-dir", str(tmp_path / "other"), "--fail", "stop"])
    with pytest.raises(SystemExit):
        command(["--help"], prog="modeledit made_up")
    assert "usage: modeledit made_up" in capsys.readouterr().out


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_goes_through_the_entry(name, tmp_path, capsys):
    command = importlib.import_module(f"experiments.{name}.__main__").command
    assert command.name == name
    if not isinstance(command, Command):
        assert isinstance(command, Tool) and importlib.import_module(command.run).run
        return
    config = command.options(seeds=0, run_dir=tmp_path / "run")
    assert "--seeds must be at least 1" in error_of(command.main, config, capsys)
    assert importlib.import_module(command.run).run


def test_reading_the_options_imports_nothing_heavy():
    lines = [f"import experiments.{name}.__main__" for name in experiment_names()]
    lines += ["import experiments.common.console, sys"]
    lines += ["print(*{name.split('.')[0] for name in sys.modules})"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {"jax", "numpy", "scipy", "matplotlib", "pandas", "modeledit_jax"}
    assert not heavy & set(done.stdout.split())


def test_the_console_script_lists_the_experiments(capsys):
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("usage: modeledit")
        for name, about in experiment_names().items():
            assert about.endswith(".")
            assert any(line.split() == [*name.split(), *about.split()] for line in lines)


def test_the_console_script_runs_an_experiment(capsys):
    with pytest.raises(SystemExit) as left:
        main(["tuning.unlearning", "--budget", "0"])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: --budget must be at least 1")
    with pytest.raises(SystemExit) as left:
        main(["bias-mitigation", "--help"])
    assert left.value.code == 0
    assert "usage: modeledit bias_mitigation" in capsys.readouterr().out


def test_the_console_script_knows_what_was_meant(capsys):
    for name, cure in (("unlearnin", "did you mean unlearning?"), ("x", "--help lists all")):
        with pytest.raises(SystemExit) as left:
            main([name])
        assert left.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and cure in error
