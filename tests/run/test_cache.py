"""Computed once for every content, whatever happens to the folder meanwhile.

To the kind "storage that lies" belong: bits that flip, files cut short, emptied, removed or added,
folders of earlier versions, processes that write the same at once, folders that cannot be read or
written, full disks.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import fingerprint, save_tree
from modeledit_jax.run.digest import NAME
from tests.run.stored import DAMAGES, assert_same_bits, damage, flip_bit

KEY = {"seed": 0}
ENTRY = fingerprint(KEY)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_cached_tree_is_built_once_and_again_if_damaged(tmp_path, kind):
    calls = []

    def build():
        calls.append(1)
        return {"w": jnp.arange(1000.0)}

    folder = tmp_path / "cache"
    first = cached_tree(folder, KEY, build)
    assert_same_bits(cached_tree(folder, KEY, build), first)
    assert len(calls) == 1
    damage(folder / ENTRY, kind)
    with pytest.warns(UserWarning, match=rf"{ENTRY} is damaged: .*; it is made again"):
        assert_same_bits(cached_tree(folder, KEY, build), first)
    assert len(calls) == 2
    assert_same_bits(cached_tree(folder, KEY, build), first)
    assert len(calls) == 2
    assert isinstance(first["w"], np.ndarray)


def test_other_content_is_another_entry(tmp_path):
    for seed in (0, 1):
        found = cached_tree(tmp_path, {"seed": seed}, lambda seed=seed: {"w": np.full(2, seed)})
        np.testing.assert_array_equal(found["w"], seed)
    np.testing.assert_array_equal(cached_tree(tmp_path, KEY, dict)["w"], 0)


def test_what_a_kill_left_under_a_temporary_name_is_no_entry(tmp_path):
    save_tree(tmp_path / ENTRY, {"w": np.zeros(2)})
    (tmp_path / ENTRY).rename(tmp_path / f".{ENTRY}.1f.tmp")
    found = cached_tree(tmp_path, KEY, lambda: {"w": np.ones(2)})
    np.testing.assert_array_equal(found["w"], 1)


def test_flipped_bits_never_become_other_weights(tmp_path):
    rng = np.random.default_rng(0)
    expected = {"w": rng.normal(size=100).astype(np.float32), "b": np.arange(3)}
    for _ in range(10):
        cached_tree(tmp_path, KEY, lambda: expected)
        place = flip_bit(tmp_path / ENTRY, rng)
        with pytest.warns(UserWarning, match="it is made again"):
            assert_same_bits(cached_tree(tmp_path, KEY, lambda: expected), expected)
        assert place


def test_an_entry_of_an_earlier_version_is_built_again(tmp_path):
    cached_tree(tmp_path, KEY, lambda: {"w": np.zeros(2)})
    (tmp_path / ENTRY / NAME).unlink()
    with pytest.warns(UserWarning, match="it has no digests"):
        assert cached_tree(tmp_path, KEY, lambda: {"w": np.ones(2)})["w"].all()


def test_the_process_that_was_first_is_believed(tmp_path):
    def build():
        """Meanwhile another process finishes the same."""
        save_tree(tmp_path / ENTRY, {"w": np.full(2, 7.0)})
        return {"w": np.zeros(2)}

    assert cached_tree(tmp_path, KEY, build)["w"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize("where", ["a file", "below a file"])
def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path, where):
    file = tmp_path / "taken"
    file.write_text("")
    folder = file if where == "a file" else file / "cache"
    with pytest.warns(UserWarning, match=r"cannot be written .* another folder with --cache-dir"):
        assert cached_tree(folder, KEY, lambda: {"w": np.ones(2)})["w"].all()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_costs_a_warning(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert cached_tree(tmp_path, KEY, lambda: {"w": np.ones(2)})["w"].all()


def test_a_full_disk_costs_a_warning_and_not_the_network(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert cached_tree(tmp_path, KEY, lambda: {"w": np.ones(2)})["w"].all()
    assert not list(tmp_path.iterdir())


RACE = """
import sys, time, json
from pathlib import Path
import numpy as np
from modeledit_jax.run.cache import cached_tree
folder, start, rounds = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
sums = [
    float(cached_tree(folder, {"seed": n}, lambda: {"w": np.arange(1000.0) + n})["w"].sum())
    for n in range(rounds)
]
print(json.dumps(sums))
"""


@pytest.mark.slow
def test_processes_that_want_the_same_at_once_all_get_it(tmp_path):
    """25 entries, three processes: each call returns the right array and warns of nothing."""
    rounds = 25
    start = time.time() + 20.0
    arguments = [str(tmp_path), str(start), str(rounds)]
    command = [sys.executable, "-W", "error::UserWarning", "-c", RACE, *arguments]
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        for _ in range(3)
    ]
    expected = [float((np.arange(1000.0) + n).sum()) for n in range(rounds)]
    for process in processes:
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert json.loads(output) == expected
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())
