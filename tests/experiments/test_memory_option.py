"""``--memory`` of the searches: what is refused, and what a run says of it."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.bias_mitigation.__main__ import command as bias_mitigation
from experiments.unlearning.__main__ import command as unlearning
from modeledit_jax.report.summary import read_summary
from tests.experiments.command_line import error_of


@pytest.mark.parametrize("command", [unlearning, bias_mitigation], ids=lambda c: c.name)
@pytest.mark.parametrize("memory", ["8", "much", "0GB"])
def test_what_names_no_size_is_refused(command, memory, capsys, tmp_path):
    config = command.options(run_dir=tmp_path / "run", memory=memory)
    message = error_of(command.main, config, capsys)
    assert f"--memory {memory}: the memory must be" in message
    assert not (tmp_path / "run").exists()  # before any work


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_memory_takes_less_at_a_time_and_finds_the_same(tmp_path, capsys):
    config = unlearning.options(
        seeds=2,
        forget_class="all",
        budget=60,
        epochs=2,
        methods=("snes-shift",),
        retrains=1,
        cache_dir=tmp_path / "cache",
    )
    rows = []
    for name, memory in {"much": None, "little": "3MB", "none": "20KB"}.items():
        own = replace(config, memory=memory, run_dir=tmp_path / name)
        code, said = unlearning.main(own), capsys.readouterr()
        if name == "none":
            assert code == 2 and "the memory budget of 20 KB is too small for one" in said.err
            continue
        assert code == 0
        (line,) = [line for line in said.err.splitlines() if "memory: at most" in line]
        assert line.startswith("snes-shift: ") and (", 1 side by side, 5 cand" in line) == (
            name == "little"
        )
        rows.append(read_summary(tmp_path / name).rows)
    assert len(rows[0]) == len(rows[1])
    for one, other in zip(*rows, strict=True):
        assert (one.method, one.task, one.seed) == (other.method, other.task, other.seed)
        for key, value in one.metrics.items():
            np.testing.assert_allclose(other.metrics[key], value, rtol=1e-4, atol=1e-4)
