"""The mesh that a text names, and what is computed on it: nothing but where it is computed changes.

`tests.conftest` makes eight devices of the CPU.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.mesh import Spread, axis_size, make_mesh, map_candidates, parse_mesh, read_mesh

AXES = ("tasks", "population")


def test_a_text_names_axes_and_devices():
    assert parse_mesh("tasks=4", AXES) == {"tasks": 4}
    assert parse_mesh(" population=2, tasks = 3", AXES) == {"population": 2, "tasks": 3}
    mesh = read_mesh("tasks=4,population=2", AXES)
    assert dict(mesh.shape) == {"tasks": 4, "population": 2}
    assert (axis_size(mesh, "tasks"), axis_size(mesh, "data"), axis_size(None, "tasks")) == (
        4,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks", "must be axis=devices joined by commas, e.g. tasks=4, got 'tasks'"),
        ("4", "e.g. tasks=4"),
        ("tasks=", "e.g. tasks=4"),
        ("tasks=two", "e.g. tasks=4"),
        ("tasks=1.5", "e.g. tasks=4"),
        ("tasks=4,", "e.g. tasks=4"),
        ("tasks=0", "0 devices along tasks: give at least 1"),
        ("tasks=-2", "-2 devices along tasks"),
        ("data=2", "has an axis data: name tasks or population"),
        ("tasks=2,tasks=2", "names tasks twice"),
        ("tasks=9", "takes 9 devices, there are 8: XLA_FLAGS=--xla_force_host_platform_device_co"),
        ("tasks=4,population=4", "takes 16 devices, there are 8"),
    ],
)
def test_what_names_no_mesh_is_refused(text, message):
    with pytest.raises(ValueError) as error:
        read_mesh(text, AXES)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_what_is_placed_is_gathered(count):
    spread = Spread(make_mesh({"tasks": 4}), count)
    tree = {
        "x": np.arange(count * 3.0, dtype=np.float32).reshape(count, 3),
        "key": jax.random.split(jax.random.key(0), count),
        "none": None,
    }
    placed = spread.place(tree)
    assert placed["x"].shape[0] % 4 == 0
    assert len(placed["x"].sharding.device_set) == 4
    found = spread.gather(placed)
    assert found["x"].sharding.device_set == {jax.local_devices()[0]}
    np.testing.assert_array_equal(found["x"], tree["x"])
    assert (found["key"] == tree["key"]).all()


def test_each_device_computes_its_part():
    spread = Spread(make_mesh({"tasks": 4}), 6)
    sizes = []

    def scaled(factor, x):
        sizes.append(x.shape)
        return factor * x

    found = jax.jit(spread.each(scaled, shared=1))(2.0, spread.place(jnp.arange(6.0)))
    np.testing.assert_array_equal(spread.gather(found), 2 * np.arange(6.0))
    assert sizes == [(2,)]  # of the eight, two on each of four


@pytest.mark.parametrize("sizes", [{"population": 4}, {"tasks": 2, "population": 3}])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_candidates_are_shared_out(sizes, batch_size):
    spread = Spread(make_mesh(sizes), 2)
    seen = []

    def search(start):
        def score(x):
            seen.append(x.shape)
            return {"score": jnp.square(x).sum() + start, "x": x}

        return map_candidates(score, jnp.arange(14.0).reshape(7, 2), batch_size)

    starts = jnp.arange(2.0)
    alone = jax.jit(jax.vmap(search))(starts)
    found = spread.gather(jax.jit(spread.each(jax.vmap(search)))(spread.place(starts)))
    jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_a_device_gets_no_more_than_its_share_of_candidates():
    spread = Spread(make_mesh({"population": 4}), 1)

    def search(start):
        return map_candidates(lambda x: x + jax.lax.axis_index("population"), jnp.zeros(10)) + start

    owners = spread.gather(jax.jit(spread.each(jax.vmap(search)))(spread.place(jnp.zeros(1))))
    np.testing.assert_array_equal(owners[0], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
