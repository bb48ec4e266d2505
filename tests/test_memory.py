"""Bytes in texts, of the machine, and of what a computation holds at a time."""

import jax
import jax.numpy as jnp
import pytest

import modeledit_jax.memory as memory_module
from modeledit_jax.memory import (
    default_budget,
    device_bytes,
    live_bytes,
    machine_memory,
    memory_text,
    most_that_fit,
    parse_memory,
    room_text,
    tree_bytes,
)
from modeledit_jax.mesh import Spread, make_mesh, on_every_device

KB = jax.ShapeDtypeStruct((250,), jnp.float32)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("500mb", 5 * 10**8), ("1B", 1), (".5kb", 500)],
)
def test_texts_of_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["8", "GB", "-1GB", "1e3GB", "8 G B", "0GB", "inf GB", "", "8XB"])
def test_texts_of_no_size_are_refused_in_a_line(text):
    with pytest.raises(ValueError, match="memory must be") as error:
        parse_memory(text)
    assert repr(text) in str(error.value) and "\n" not in str(error.value)


def test_sizes_as_texts():
    texts = [memory_text(size) for size in (12, 1500, 2_340_000, 8 * 10**9, 125 * 10**10)]
    assert texts == ["12 B", "1.5 KB", "2.34 MB", "8 GB", "1.25 TB"]


@pytest.mark.parametrize("size", [7, 999, 1000, 2_241_469, 123_456_789, 999_999, 4 * 10**12 + 1])
def test_what_is_told_to_be_given_is_enough(size):
    assert size <= parse_memory(room_text(size)) < 1.011 * size


def test_the_default_is_less_than_the_machine_has(tmp_path, monkeypatch):
    assert 1e7 < default_budget() * jax.local_device_count() <= machine_memory()
    (tmp_path / "max").write_text("1000000\n")
    monkeypatch.setattr(memory_module, "CGROUPS", (str(tmp_path / "max"),))
    assert machine_memory() == 1_000_000


def test_bytes_of_trees():
    tree = {"a": jnp.zeros((3, 2)), "b": (jnp.zeros(5, jnp.int8), jax.random.key(0)), "c": None}
    assert tree_bytes(tree) == 24 + 5 + 8


def test_bytes_on_one_of_several_devices():
    mesh = make_mesh({"tasks": 4})
    spread = Spread(mesh, 8).place(jnp.zeros((8, 5)))
    assert device_bytes({"a": spread, "b": on_every_device(jnp.zeros(3), mesh)}) == 2 * 20 + 12
    assert device_bytes((jnp.zeros(5), jax.random.key(0), KB)) == 20 + 8 + 1000


def test_as_many_as_fit_are_found_from_two_sizes():
    asked = []

    def bytes_of(rows):
        asked.append(rows)
        return 100 + 7 * rows

    assert [most_that_fit(bytes_of, 20, room) for room in (10**6, 240)] == [20, 20]
    assert asked == [20, 20]
    for room in range(107, 240):
        found = most_that_fit(bytes_of, 20, room)
        assert bytes_of(found) <= room < bytes_of(found + 1)
    assert most_that_fit(bytes_of, 20, 106) == most_that_fit(bytes_of, 1, 106) == 0


def test_what_stays_the_same_at_first_is_not_taken_for_room():
    bytes_of = lambda rows: max(1000, 100 * rows)  # noqa: E731
    for room in range(1000, 3000, 50):
        assert bytes_of(most_that_fit(bytes_of, 30, room)) <= room


def test_values_count_until_their_last_use():
    """Never more than two of these four are alive."""
    assert live_bytes(lambda x: jnp.sin(jnp.sin(jnp.sin(jnp.sin(x)))), KB) == 2000


def test_values_that_are_needed_later_count_longer():
    def function(x):
        parts = [jnp.sin(x * scale) for scale in range(1, 6)]
        return sum(parts[::-1], start=0.0)

    assert 5000 <= live_bytes(function, KB) <= 7000


def test_what_an_outer_product_takes_is_counted_inside_loops_and_calls():
    def function(x):
        inner = jax.jit(lambda y: jnp.outer(y, y).sum())
        return jax.lax.map(inner, jnp.stack([x, x, x]))

    assert 250_000 <= live_bytes(function, KB) <= 260_000
