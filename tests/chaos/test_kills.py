"""A run that is killed again and again ends with the bits of one that never was.

Also of the kind: interrupts, the signals of schedulers and of closed terminals, pipes that nobody
reads any more, two processes in one folder.
"""

import os
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

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "unlearning": [
        "--seeds", "2", "--epochs", "2", "--budget", "600", "--retrains", "1",
        "--methods", "ppo-mask", "snes-mask", "ppo-shift", "snes-shift",
    ],
    "bias_mitigation": [
        "--seeds", "1", "--epochs", "2", "--budget", "400",
        "--methods", "ppo-shift", "snes-shift", "clp", "leace",
    ],
    "lifelong_editing": [
        "--edits", "40", "--train-edits", "60", "--meta-updates", "30", "--steps", "60",
        "--plain", "100", "--width", "32", "--layers", "2", "--seeds", "1",
        "--modules", "layers/1/mlp/*", "--methods", "original", "ultraedit", "rledit",
    ],
}  # fmt: skip


def command(experiment, run_dir, cache, *more):
    line = [sys.executable, "-m", f"experiments.{experiment}", *OPTIONS[experiment]]
    return [*line, "--run-dir", str(run_dir), "--cache-dir", str(cache), *more]


def start(experiment, run_dir, cache, **options):
    # Before a run has a folder there is nothing to resume.
    more = ["--resume"] if (run_dir / "config.json").exists() else []
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Tests that a shell runs in the background ignore interrupts, and so would their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
    return subprocess.Popen(command(experiment, run_dir, cache, *more), cwd=ROOT, **streams)


def outcome(run_dir):
    weights = {
        str(path.relative_to(run_dir)): jax.tree.map(np.asarray, load_params(path))
        for path in sorted((run_dir / "weights").glob("*/*"))
    }
    return weights, (run_dir / "metrics.csv").read_bytes()


def check_kills(experiment, tmp_path, kills, seed):
    for name in ("first", "whole"):  # the second time with compiled programs, as those killed
        begin = time.monotonic()
        whole = command(experiment, tmp_path / name, tmp_path / "cache-a")
        subprocess.run(whole, cwd=ROOT, check=True)
        duration = time.monotonic() - begin
    choose, done = random.Random(seed), 0
    while done < kills:
        process = start(experiment, tmp_path / "killed", tmp_path / "cache-b")
        try:
            output, _ = process.communicate(timeout=choose.uniform(0.2, 1.0) * duration)
            # Finished before the blow: start over, so that every kill hits a running process.
            assert process.returncode == 0, output
            shutil.rmtree(tmp_path / "killed")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
    process = start(experiment, tmp_path / "killed", tmp_path / "cache-b")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    expected, found = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert bool(expected[0]) == (experiment != "lifelong_editing")  # which saves no networks
    chex.assert_trees_all_equal(expected[0], found[0])
    assert expected[1] == found[1]
    print(f"{experiment}: {kills} kills, the same bits")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("experiment", OPTIONS)
def test_two_kills_change_nothing(tmp_path, experiment):
    check_kills(experiment, tmp_path, kills=2, seed=0)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("experiment", OPTIONS)
def test_twenty_kills_change_nothing(tmp_path, experiment):
    check_kills(experiment, tmp_path, kills=20, seed=1)


@pytest.fixture
def under_way(tmp_path):
    """Starts the first experiment; returns its process when it is at work in its folder."""

    def make(**options):
        process = start("unlearning", tmp_path / "run", tmp_path / "cache", **options)
        while not (tmp_path / "run" / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1.0)
        return process

    return make


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_a_run_to_resume(tmp_path, under_way, name):
    process = under_way()
    process.send_signal(getattr(signal, name))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name), output
    assert b"--resume" in output and b"Traceback" not in output
    assert (tmp_path / "run" / "config.json").exists()  # what it takes to be resumed


@pytest.mark.timeout(300)
def test_a_second_process_is_refused(tmp_path, under_way):
    process = under_way()
    for more in ([], ["--resume"]):
        again = command("unlearning", tmp_path / "run", tmp_path / "cache", *more)
        done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("error: another process is at work")
        assert done.stderr.count("\n") == 1
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.timeout(300)
def test_output_that_nobody_reads_ends_a_run_that_is_whole(tmp_path):
    process = start(
        "unlearning", tmp_path / "run", tmp_path / "cache", stderr=subprocess.PIPE
    )  # fmt: skip
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert process.wait() == 128 + signal.SIGPIPE and b"Traceback" not in errors
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "C"],
)
def test_a_plain_terminal_sees_the_table(tmp_path, variables):
    more = {"env": os.environ | variables}
    process = start("unlearning", tmp_path / "run", tmp_path / "cache", **more)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.isascii() and b"| ppo-mask |" in output
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "\u2212" in report  # files keep what the terminal cannot show
