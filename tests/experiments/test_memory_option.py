"""``--memory``: what is refused, and what a run says of it."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.bias_mitigation.__main__ import command as bias_mitigation
from experiments.lifelong_editing.__main__ import command as lifelong_editing
from experiments.transfer.__main__ import command as transfer
from experiments.transfer_bias.__main__ import command as transfer_bias
from experiments.unlearning.__main__ import command as unlearning
from modeledit_jax.report.summary import read_summary
from tests.experiments.command_line import error_of

COMMANDS = (unlearning, bias_mitigation, lifelong_editing, transfer, transfer_bias)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
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


def said(command, config, memory, tmp_path, capsys):
    """The exit code, the rows, and what was printed on the standard error."""
    own = replace(config, memory=memory, run_dir=tmp_path / str(memory))
    code, said = command.main(own), capsys.readouterr().err
    return code, read_summary(own.run_dir).rows if code == 0 else [], said


def assert_alike(rows, others):
    assert len(rows) == len(others)
    for one, other in zip(rows, others, strict=True):
        assert (one.method, one.task, one.seed) == (other.method, other.task, other.seed)
        for key, value in one.metrics.items():
            if key not in ("ms_per_edit", "seconds_per_edit", "seconds_per_training",
                           "break_even_edits"):  # fmt: skip
                np.testing.assert_allclose(other.metrics[key], value, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lifelong_editing_says_how_each_method_fits(tmp_path, capsys):
    config = lifelong_editing.options(
        edits=12, batch_size=12, train_edits=12, width=16, mlp_width=32, layers=2, plain=20,
        steps=40, meta_updates=3, methods=("original", "malmen"), cache_dir=tmp_path / "cache",
    )  # fmt: skip
    code, rows, lines = said(lifelong_editing, config, None, tmp_path, capsys)
    assert code == 0 and "original, seed 0: memory: at most" in lines
    assert "malmen, seed 0: memory: at most" in lines
    assert "100 questions at a time, 12 of 12 facts of a batch in training" in lines
    assert "12 of 12 facts of a batch in editing" in lines
    few = said(lifelong_editing, config, "1.2MB", tmp_path, capsys)
    assert few[0] == 0 and "50 questions at a time, 6 of 12 facts of a batch" in few[2]
    assert_alike(few[1], rows)
    code, _, lines = said(lifelong_editing, config, "200KB", tmp_path, capsys)
    assert code == 2 and "error: the memory budget of 200 KB is too small for one" in lines


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_transfer_says_how_each_policy_fits(tmp_path, capsys):
    config = transfer.options(
        worlds=("shift",), parts=("zero-shot",), held_out="4", networks=("mlp-16x8-1ep",),
        other_networks=(), training_networks=2, seeds=1, updates=4, sequence_updates=0,
        cache_dir=tmp_path / "cache",
    )  # fmt: skip
    code, rows, lines = said(transfer, config, None, tmp_path, capsys)
    assert code == 0 and "policy shift-without-4: memory: at most" in lines
    few = said(transfer, config, "6MB", tmp_path, capsys)
    assert few[0] == 0 and " 16 of 16 tasks" not in few[2] and "of 16 tasks of an" in few[2]
    assert_alike(few[1], rows)
    code, _, lines = said(transfer, config, "100KB", tmp_path, capsys)
    assert code == 2 and "error: the memory budget of 100 KB is too small for training" in lines
