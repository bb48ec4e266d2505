"""Compiled programs on disk: read again by the next process, never when they are damaged.

Other inputs of the kind: bits of listed programs flipped, programs of a killed process that are cut
off, the list itself damaged, a folder that cannot be written, a folder that the user chose.
"""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from modeledit_jax.run import programs
from modeledit_jax.run.programs import kept_programs, processor, remove_damaged

HIT = "/jax/compilation_cache/cache_hits"
MISS = "/jax/compilation_cache/cache_misses"


@pytest.fixture
def no_folder():
    """JAX as a user has it who has chosen no folder for programs."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture
def events():
    """Names of the events that JAX reports."""
    found = []

    def note(event, **_):
        found.append(event)

    jax.monitoring.register_event_listener(note)
    yield found
    jax.monitoring.unregister_event_listener(note)


def compute(cache):
    """What another process would do: it has compiled nothing."""
    jax.clear_caches()
    with kept_programs(cache):
        return jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((5, 3)))


def folder(cache):
    return Path(cache) / "programs" / processor()


def files(cache):
    return sorted(folder(cache).glob("*-cache"))


def test_the_second_process_compiles_nothing(tmp_path, no_folder, events):
    first = compute(tmp_path)
    assert HIT not in events and events.count(MISS) >= 1
    events.clear()
    assert (compute(tmp_path) == first).all()
    assert MISS not in events and events.count(HIT) >= 1


def test_settings_are_those_of_before(tmp_path, no_folder):
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    with kept_programs(tmp_path):
        assert jax.config.jax_compilation_cache_dir == str(folder(tmp_path))
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert jax.config.jax_compilation_cache_dir is None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before


def test_a_chosen_folder_stays(tmp_path):
    chosen = jax.config.jax_compilation_cache_dir
    with kept_programs(tmp_path):
        assert jax.config.jax_compilation_cache_dir == chosen is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("position", [0, 0.3, 0.7, 1])
def test_a_flipped_bit_is_noticed(tmp_path, no_folder, position):
    first = compute(tmp_path)
    for path in files(tmp_path):
        data = bytearray(path.read_bytes())
        data[int(position * (len(data) - 1))] ^= 4
        path.write_bytes(data)
    with pytest.warns(UserWarning, match=f"damaged; made again: {len(files(tmp_path))}"):
        again = compute(tmp_path)
    assert (again == first).all()
    compute(tmp_path)  # without a warning


@pytest.mark.parametrize("damage", ["", "[1]", '{"a'])
def test_what_a_killed_process_left_is_used_if_it_is_whole(tmp_path, no_folder, events, damage):
    compute(tmp_path)
    (folder(tmp_path) / programs.DIGESTS).write_text(damage)
    cut, *whole = files(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-20])
    assert remove_damaged(folder(tmp_path)) == [cut.name]
    assert files(tmp_path) == whole
    events.clear()
    compute(tmp_path)
    assert events.count(MISS) == 1 and events.count(HIT) == len(whole)


def test_the_oldest_go_first(tmp_path):
    for index in range(5):
        path = tmp_path / f"{index}-cache"
        path.write_bytes(b"0" * 10)
        os.utime(path, (index, index))
    programs._remove_oldest(tmp_path, limit=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3-cache", "4-cache"]


def test_a_folder_holds_a_gibibyte(tmp_path):
    """Files without content; what is listed is not read again."""

    def add(index):
        path = tmp_path / f"{index}-cache"
        path.touch()
        os.truncate(path, 400 * 2**20)
        os.utime(path, (index, index))
        listed = programs._read_digests(tmp_path) | {path.name: str(index)}
        (tmp_path / programs.DIGESTS).write_text(json.dumps(listed))
        programs._write_digests(tmp_path)
        return sorted(programs._read_digests(tmp_path)), len(list(tmp_path.glob("*-cache")))

    add(0)
    assert add(1) == (["0-cache", "1-cache"], 2)
    assert add(2) == (["1-cache", "2-cache"], 2)


def test_a_digest_stays_that_of_what_was_written(tmp_path):
    path = tmp_path / "0-cache"
    path.write_bytes(b"a program")
    programs._write_digests(tmp_path)
    path.write_bytes(b"A program")
    programs._write_digests(tmp_path)
    assert remove_damaged(tmp_path) == ["0-cache"] and not path.exists()


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path, no_folder):
    (tmp_path / "file").write_text("")
    assert compute(tmp_path / "file").shape == (5, 5)
