"""A run that is killed again and again ends with the bits of one that never was."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from modeledit_jax.run.checkpoint import load_params

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "--seeds", "2", "--epochs", "2", "--budget", "600", "--retrains", "1",
    "--methods", "ppo-mask", "snes-mask", "ppo-shift", "snes-shift",
]  # fmt: skip


def command(run_dir, cache, *more):
    line = [sys.executable, "-m", "experiments.unlearning", *OPTIONS]
    return [*line, "--run-dir", str(run_dir), "--cache-dir", str(cache), *more]


def start(run_dir, cache):
    # Before a run has a folder there is nothing to resume.
    more = ["--resume"] if (run_dir / "config.json").exists() else []
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Tests that a shell runs in the background ignore interrupts, and so would their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        command(run_dir, cache, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def outcome(run_dir):
    weights = {
        str(path.relative_to(run_dir)): jax.tree.map(np.asarray, load_params(path))
        for path in sorted((run_dir / "weights").glob("*/*"))
    }
    return weights, (run_dir / "metrics.csv").read_bytes()


def check_kills(tmp_path, kills, seed):
    begin = time.monotonic()
    subprocess.run(command(tmp_path / "whole", tmp_path / "cache-a"), cwd=ROOT, check=True)
    duration = time.monotonic() - begin
    choose, done = random.Random(seed), 0
    while done < kills:
        process = start(tmp_path / "killed", tmp_path / "cache-b")
        try:
            process.communicate(timeout=choose.uniform(0.2, 1.0) * duration)
            # Finished before the blow: start over, so that every kill hits a running process.
            assert process.returncode == 0
            shutil.rmtree(tmp_path / "killed")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
    process = start(tmp_path / "killed", tmp_path / "cache-b")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    expected, found = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert len(expected[0]) == 4
    chex.assert_trees_all_equal(expected[0], found[0])
    assert expected[1] == found[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_kills_change_nothing(tmp_path):
    check_kills(tmp_path, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_change_nothing(tmp_path):
    check_kills(tmp_path, kills=20, seed=1)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_an_interrupt_leaves_a_run_to_resume(tmp_path):
    process = start(tmp_path / "run", tmp_path / "cache")
    while not (tmp_path / "run" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert b"--resume" in output
    assert (tmp_path / "run" / "config.json").exists()  # what it takes to be resumed
