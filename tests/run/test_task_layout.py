"""Groups of tasks: every task is computed somewhere, on its own network, and found again."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.mesh import make_mesh
from modeledit_jax.run.task_layout import FILLED, task_layout

NETWORKS = st.lists(st.integers(0, 5), min_size=1, max_size=40)


def layout_of(networks, limit, devices):
    # Numbered in the order in which they come, as those of a pool are.
    found = np.unique(networks, return_inverse=True)[1]
    mesh = None if devices == 1 else make_mesh({"tasks": devices})
    return found, task_layout(found, limit, mesh)


@settings(deadline=None, max_examples=200)
@given(NETWORKS, st.integers(1, 50), st.sampled_from([1, 2, 3, 8]))
def test_every_task_meets_its_network(networks, limit, devices):
    networks, layout = layout_of(networks, limit, devices)
    group = layout.group
    assert group.tasks <= limit
    assert len(layout.tasks) == devices * group.count * group.tasks
    np.testing.assert_array_equal(layout.tasks[layout.places], np.arange(len(networks)))
    stored = layout.networks.reshape(devices, -1)
    for device, places in enumerate(layout.network.reshape(devices, -1)):
        tasks = layout.tasks.reshape(devices, len(places), group.requests)[device]
        np.testing.assert_array_equal(
            networks[tasks], np.repeat(stored[device][places][:, None], group.requests, 1)
        )
    if devices == 1:  # once each
        np.testing.assert_array_equal(stored[0], np.arange(networks.max() + 1))
    if group.all_networks:
        np.testing.assert_array_equal(layout.network[0], np.arange(stored.shape[1]))


def test_ten_requests_of_a_hundred_networks():
    networks = np.repeat(np.arange(100), 10)
    for limit, (count, side, wide) in {
        1: (1000, 1, 1),
        5: (200, 1, 5),
        7: (200, 1, 5),
        12: (100, 1, 10),
        40: (25, 4, 10),
        2000: (1, 100, 10),
    }.items():
        group = task_layout(networks, limit).group
        assert (group.count, group.networks, group.requests) == (count, side, wide)
        assert group.all_networks == (limit == 2000)


def test_unequal_counts_cost_few_copies():
    networks = np.array([0] * 30 + [1, 2, 3, 4])
    layout = task_layout(networks, 30)
    blocks = layout.tasks.reshape(-1, layout.group.requests)
    assert 1 < layout.group.requests < 30
    assert len(np.unique(blocks, axis=0)) * layout.group.requests <= (1 + FILLED) * len(networks)


@pytest.mark.parametrize("devices", [1, 3])
def test_what_is_placed_is_found_again(devices):
    _, layout = layout_of([2, 0, 1, 1, 0, 2, 1], 2, devices)
    tree = {"a": jnp.arange(14.0).reshape(7, 2), "none": None}
    placed = layout.place(tree)
    np.testing.assert_array_equal(placed["a"], np.asarray(tree["a"])[layout.tasks])
    np.testing.assert_array_equal(layout.gather(placed)["a"], tree["a"])
