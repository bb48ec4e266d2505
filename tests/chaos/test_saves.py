"""Saves that are killed, saves beside each other, disks that are full."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modeledit_jax.run.checkpoint import load_tree
from tests.lifelong.folders import write_folder

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


FEATURES = """
import sys
from pathlib import Path
import numpy as np
from modeledit_jax.run import text_features as module
from tests.chaos.saves import kill_at
folder, cache, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
module.CHUNK = 4
features = module.TextFeatures(folder / "network", folder / cache, layer=1, length=8)
_ = features.model, features.identity  # what is killed is the writing
if number:
    kill_at(number)
np.save(folder / f"{cache}.npy", features([f"the sea {n} is deep" for n in range(24)]).pooled)
"""


def test_features_killed_at_any_call_go_on_where_they_were(tmp_path):
    """At the first call to the system, at the third, the ninth, ...; all in the same cache."""
    write_folder(tmp_path / "network")

    def make(cache, number):
        line = [sys.executable, "-c", FEATURES, str(tmp_path), cache, str(number)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)

    done = make("whole", 0)
    assert done.returncode == 0, done.stderr[-3000:]
    kept, number = [], 1
    while done.returncode or number == 1:
        done = make("killed", number)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
        kept.append(4 * len(list((tmp_path / "killed").glob("features/*/[!.]*/digests.json"))))
        number *= 3
    print(f"{len(kept) - 1} kills of features; texts kept after them: {kept}; the same bits")
    assert len(kept) > 3 and kept == sorted(kept) and kept[-1] == 24
    assert not list((tmp_path / "killed").glob("features/*/.*.tmp*"))  # what kills had left
    whole, killed = (np.load(tmp_path / f"{name}.npy") for name in ("whole", "killed"))
    assert whole.tobytes() == killed.tobytes()


FULL_CACHE = """
import resource, signal, sys, warnings
from pathlib import Path
import numpy as np
from absl import logging
from modeledit_jax.run.text_features import TextFeatures
logging.set_verbosity(logging.FATAL)
network, cache = map(Path, sys.argv[1:])
texts = [f"the sea {n} is deep" for n in range(24)]
right = TextFeatures(network, cache / "right", layer=1, length=8)(texts).pooled
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = TextFeatures(network, cache / "full", layer=1, length=8)(texts).pooled
print(len([w for w in caught if "cannot be written" in str(w.message)]), (found == right).all())
"""


def test_a_disk_that_fills_while_features_are_made(tmp_path):
    network = write_folder(tmp_path / "network")
    done = subprocess.run(
        [sys.executable, "-c", FULL_CACHE, str(network), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "1 True\n" and "Traceback" not in done.stderr
