"""Saves that are killed, saves beside each other, disks that are full."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modeledit_jax.run.checkpoint import load_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


def test_a_save_killed_at_any_call_leaves_a_whole_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.chaos.saves", "kills", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    print(f"kills at {len(steps) - 1} calls; found after them: {steps}")
    assert len(steps) > 20 and set(steps) == {20, 30} and steps[-1] == 30
    assert steps == sorted(steps)  # 20 until the new one has its name, 30 from then on


SAVES = """
import sys, time
from pathlib import Path
import numpy as np
from modeledit_jax.run.checkpoint import load_tree, save_tree
path, mark, start = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
for n in range(14):
    assert save_tree(path, {"w": np.full(500, 100 * mark + n)})
print("14 saves")
"""


def test_three_processes_save_to_one_place(tmp_path):
    start = str(time.time() + 20.0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVES, str(tmp_path / "tree"), str(mark), start],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for mark in range(3)
    ]  # fmt: skip
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert output == "14 saves\n"
    values = set(load_tree(tmp_path / "tree")["w"].tolist())
    assert values <= {13.0, 113.0, 213.0} and len(values) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from absl import logging
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import save_tree
logging.set_verbosity(logging.FATAL)  # as commands do
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
tree = {"w": np.random.default_rng(0).normal(size=100_000)}
try:
    save_tree(folder / "tree", tree)
except OSError as error:
    print(error)
found = cached_tree(folder / "cache", {"seed": 0}, lambda: tree)
print((found["w"] == tree["w"]).all())
"""


def test_a_disk_that_fills_while_writing(tmp_path):
    """Files of this process may not grow beyond 100 kB, which no check beforehand can foresee."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, kept = done.stdout.splitlines()
    assert refused.startswith("[Errno") and f"cannot save to {tmp_path / 'tree'}" in refused
    assert kept == "True"
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "tree").exists()
