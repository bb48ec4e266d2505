"""Every code block of README and the documentation runs as printed."""

import importlib
import re
import shlex
import sys
import tomllib
import types

import matplotlib
import pytest
import tyro

from experiments.common.console import experiment_names
from modeledit_jax.envs.worlds import WORLDS
from tests.docs import local_files
from tests.docs.blocks import ROOT, Block, blocks, commands, pages

ALL = [block for page in pages() for block in blocks(page)]


def _is_slow(block):
    """Blocks that say so, and every program outside the README."""
    return block.slow or (block.language == "python" and block.page != "README.md")


def of(language, title):
    """Blocks as parameters of a test, by language, with or without a title."""
    return [
        pytest.param(
            block,
            id=block.name,
            marks=[pytest.mark.slow, pytest.mark.timeout(900)] if _is_slow(block) else [],
        )
        for block in ALL
        if block.language == language and (block.title is not None) == title
    ]


@pytest.fixture
def page_folder(tmp_path, monkeypatch):
    """A folder with the files of a page; what its programs import is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    matplotlib.use("agg")
    before, worlds = set(sys.modules), dict(WORLDS)

    def make(block: Block):
        for other in blocks(block.page):
            if other.title is not None:
                (tmp_path / other.title).write_text(other.text, encoding="utf-8")
        for name in block.needs:
            getattr(local_files, name)(tmp_path, monkeypatch)
        return tmp_path

    yield make
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    for name in set(WORLDS) - set(worlds):
        del WORLDS[name]


def test_blocks_are_found():
    assert len(of("python", False)) > 3 and len(of("bash", False)) > 3
    languages = {block.language for block in ALL}
    assert languages <= {"python", "bash", "toml", "text", "json"}


@pytest.mark.parametrize("block", of("python", False))
def test_a_program_runs_as_printed(block, page_folder, monkeypatch):
    page_folder(block)
    module = types.ModuleType("program")  # where its dataclasses look for their annotations
    monkeypatch.setitem(sys.modules, "program", module)
    exec(compile(block.text, block.name, "exec"), vars(module))


@pytest.mark.parametrize("block", of("bash", False))
def test_a_shell_command_is_understood(block, page_folder):
    page_folder(block)
    for line in commands(block):
        check_command(shlex.split(line))


def check_command(words):
    """Fails unless a command exists and takes these options."""
    match words:
        case ["python", "-m", module, *options] if module.startswith("experiments."):
            check_options(module.removeprefix("experiments."), options)
        case ["python", "-m", module, *_]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        case ["modeledit", name, *options]:
            check_options(name, options)
        case ["make", target, *variables]:
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert target in targets
            for variable in variables:
                name, _, value = variable.partition("=")
                assert name == "ARGS"
                if target.replace("-", "_") in experiment_names():
                    check_options(target.replace("-", "_"), shlex.split(value))
        case ["pip", "install", *what]:
            check_extras(" ".join(what))
        case ["git" | "cd" | "export" | "jupyter", *_]:
            pass
        case _:
            raise AssertionError(f"what is {words[0]!r}? Teach check_command about it")


def check_options(name, options):
    """Parses and checks the options of an experiment, without running it."""
    if options in (["--help"], []) and name in ("--help", *experiment_names()):
        return
    command = importlib.import_module(f"experiments.{name}.__main__").command
    tyro.cli(command.options, args=options).completed().check()


def check_extras(text):
    """The project's extras that a command installs are declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("block", of("python", True) + of("toml", True))
def test_a_file_of_a_page_is_well_formed(block):
    if block.language == "python":
        compile(block.text, block.title, "exec")
    else:
        assert "class" in tomllib.loads(block.text)
