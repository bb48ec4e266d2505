"""How many tasks lie side by side: groups of a size that suits the machine, one after another.

A group is some networks with some requests of each, in one program: what belongs to a network is in
it once, and never repeated for its requests. Counts that do not divide are filled with copies, as
`mesh.Spread` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from modeledit_jax.mesh import TASKS, Spread, axis_size, on_one_device
from modeledit_jax.types import PyTree

FILLED = 0.15
"""Largest share of copies that requests side by side may cost; else there are fewer of them."""


@dataclass(frozen=True)
class Group:
    """What is static about the groups of one device.

    Attributes:
      count: groups, one after another.
      networks: side by side in a group.
      requests: of each, side by side.
      all_networks: whether a group is all networks, each once and in order, so that there is
        nothing to look up.
    """

    count: int
    networks: int
    requests: int
    all_networks: bool

    @property
    def tasks(self) -> int:
        """Of one group."""
        return self.networks * self.requests


@dataclass(frozen=True, eq=False)
class TaskLayout:
    """Where each of ``B`` tasks of ``S`` networks is computed.

    Attributes:
      group: sizes.
      tasks: ``[n]``, number of the task in every place; devices, groups, networks and requests
        follow each other in this order.
      networks: ``[m]``, number of the network in every place, those of a device together.
      network: ``[devices · count, networks]`` int32, the place of every network of a group among
        those of its device.
      places: ``[B]``, a place of every task.
      mesh: devices; None: one.
    """

    group: Group
    tasks: np.ndarray
    networks: np.ndarray
    network: np.ndarray
    places: np.ndarray
    mesh: Mesh | None

    @property
    def spread(self) -> Spread | None:
        """The places on the devices of the mesh; None: one device."""
        return None if self.mesh is None else Spread(self.mesh, len(self.tasks))

    def put(self, tree: PyTree, rows: np.ndarray) -> PyTree:
        """The chosen rows of arrays on the devices of their places."""
        tree = _rows(tree, rows)
        return tree if self.mesh is None else Spread(self.mesh, len(rows)).place(tree)

    def place(self, tree: PyTree) -> PyTree:
        """Arrays ``[B, ...]`` as ``[n, ...]``."""
        return self.put(tree, self.tasks)

    def gather(self, tree: PyTree) -> PyTree:
        """Arrays ``[n, ...]`` as ``[B, ...]``, on one device."""
        if self.mesh is not None:
            tree = on_one_device(tree)
        if len(self.places) == len(self.tasks) and np.all(
            self.places == np.arange(len(self.places))
        ):
            return tree
        return jax.tree.map(lambda leaf: leaf[self.places], tree)


def task_layout(networks: np.ndarray, limit: int, mesh: Mesh | None = None) -> TaskLayout:
    """Arranges tasks so that at most ``limit`` lie side by side on a device.

    Args:
      networks: ``[B]``, number of the network of every task, 0 … S − 1.
      limit: at least 1.
      mesh: devices along its axis ``tasks``; None: one.
    """
    of_task = np.asarray(networks)
    order = np.argsort(of_task, kind="stable")
    requests = np.split(order, np.cumsum(np.bincount(of_task))[:-1])
    wide = _width([len(own) for own in requests], limit)
    blocks = [own[begin : begin + wide] for own in requests for begin in range(0, len(own), wide)]
    devices = axis_size(mesh, TASKS)
    each = -(-len(blocks) // devices)
    count = -(-each // max(min(limit // wide, each), 1))
    side = -(-each // count)
    rows = np.minimum(np.arange(devices * count * side), len(blocks) - 1)
    filled = np.stack([np.pad(own, (0, wide - len(own)), mode="edge") for own in blocks])[rows]
    whose = of_task[filled[:, 0]].reshape(devices, count * side)
    stored = [np.unique(own) for own in whose]
    most = max(map(len, stored))
    local = [np.searchsorted(own, of) for own, of in zip(stored, whose, strict=True)]
    tasks = filled.reshape(-1)
    places = np.zeros(len(of_task), int)
    places[tasks[::-1]] = np.arange(len(tasks))[::-1]
    in_order = all(np.array_equal(one, np.arange(most)) for one in local)
    return TaskLayout(
        Group(count, side, wide, count == 1 and in_order),
        tasks,
        np.concatenate([np.pad(own, (0, most - len(own)), mode="edge") for own in stored]),
        np.stack(local).reshape(devices * count, side).astype(np.int32),
        places,
        mesh,
    )


def _width(counts: Sequence[int], limit: int) -> int:
    """The most requests of one network side by side that cost few copies."""
    largest = max(counts)
    best = 1
    for wide in range(1, min(limit, largest) + 1):
        copies = sum(-count % wide for count in counts)
        if copies <= FILLED * sum(counts):
            best = wide
    return best


def _rows(tree: PyTree, rows: np.ndarray) -> PyTree:
    """Rows of all arrays; themselves, where these are all rows in order."""
    in_order = np.array_equal(rows, np.arange(len(rows)))

    def chosen(leaf: Any) -> Any:
        return leaf if in_order and len(leaf) == len(rows) else jnp.asarray(leaf)[rows]

    return jax.tree.map(chosen, tree)
