"""Options of the commands with values that they were not made for: checked, or refused in one line.

What computes is left out: this is about what comes before it.
"""

import dataclasses
import importlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.common.command import Tool
from experiments.common.console import experiment_names

NASTY = (
    "", " ", "0", "-1", "1", "nan", "inf", "-inf", "1e400", "1e9", "0.5", "x", "None", "True", "[]",
    "99999999999999999999999", "-99999999999999999999999", "999999999999999999", "~/x", "./x:y",
    "math:pi", "os:system", "a:b:c", "/dev/null", "/dev/null/x", "\ud83d", "*", "**", "[", "é",
    "../..", "openes", "ppo-shift", "--", "7", "[0]", "1,2", "1e3", "0x10", "١",
    "hidden", "real", "network", "last", "smollm2-135m", "tests", "README.md", "none.toml",
)  # fmt: skip


def _commands() -> dict[str, Tool]:
    modules = {name: f"experiments.{name}.__main__" for name in experiment_names()}
    return {name: importlib.import_module(module).command for name, module in modules.items()}


COMMANDS = _commands()


@st.composite
def arguments(draw, options: type) -> list[str]:
    """A few options of a command, with one or more values each."""
    names = [field.name.replace("_", "-") for field in dataclasses.fields(options)]
    line: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        line.append("--" + draw(st.sampled_from(names)))
        line += draw(st.lists(st.sampled_from(NASTY), min_size=0, max_size=2))
    return line


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_checked_or_refused(name, count, monkeypatch, capsys):
    command, codes = COMMANDS[name], {0: 0, 2: 0}
    monkeypatch.setattr(type(command), "_run", lambda self, config: Path("report.md"))
    tried: set[tuple[str, ...]] = set()

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(arguments(command.options))
    def run(line):
        with pytest.raises(SystemExit) as info:
            command(line)
        output = capsys.readouterr()
        assert info.value.code in codes, (line, info.value.code)
        assert "Traceback" not in output.err
        if info.value.code == 2:
            assert output.err.strip(), line
        codes[info.value.code] += tuple(line) not in tried
        tried.add(tuple(line))

    run()
    print(f"{name}: {len(tried)} distinct lines, {codes[0]} accepted, {codes[2]} refused")
