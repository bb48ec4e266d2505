"""Devices: the mesh that ``tasks=4`` names, and work spread along the axes of a mesh.

JAX's own SPMD runtime does all of it. What is independent (the tasks of a search, networks that are
trained) runs by `jax.shard_map`: every device computes its own part and nothing is sent between
devices, so that results are those of one device, up to the rounding of a program that XLA compiles
for another number of tasks. What is summed over devices is equal up to the order of the sum.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from modeledit_jax.processes import several
from modeledit_jax.types import Array, PyTree

TASKS = "tasks"
"""Axis of tasks, or networks, that know nothing of each other."""

POPULATION = "population"
"""Axis of the candidates of each search."""


def parse_mesh(text: str, axes: Sequence[str]) -> dict[str, int]:
    """Reads ``"tasks=4,population=2"``.

    Args:
      text: axes with the number of devices along each.
      axes: those that are known.

    Raises:
      ValueError: it is no such text, or names an axis that is not known, twice, or without devices.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = (piece.strip() for piece in part.partition("="))
        if not name or not size.lstrip("+-").isdecimal():
            raise ValueError(
                f"the mesh must be axis=devices joined by commas, e.g. {axes[0]}=4, got {text!r}"
            )
        if name not in axes:
            raise ValueError(f"the mesh {text} has an axis {name}: name {' or '.join(axes)}")
        if name in sizes:
            raise ValueError(f"the mesh {text} names {name} twice: name it once")
        if int(size) < 1:
            raise ValueError(f"the mesh {text} has {size} devices along {name}: give at least 1")
        sizes[name] = int(size)
    return sizes


def read_mesh(text: str, axes: Sequence[str]) -> Mesh:
    """The mesh that a text names, with one device along axes that it leaves out.

    Errors are those of `parse_mesh` and `make_mesh`.
    """
    sizes = parse_mesh(text, axes)
    return make_mesh({axis: sizes.get(axis, 1) for axis in axes})


def make_mesh(sizes: Mapping[str, int]) -> Mesh:
    """A mesh of the first devices, with so many along each axis.

    Raises:
      ValueError: there are fewer devices; the message says how to get more of a CPU. Or several
        processes run, and some of their devices would have nothing to do.
    """
    needed, present = math.prod(sizes.values()), jax.device_count()
    text = ",".join(f"{name}={size}" for name, size in sizes.items() if size > 1)
    if needed > present:
        cpu = jax.default_backend() == "cpu"
        cure = f"XLA_FLAGS=--xla_force_host_platform_device_count={needed} makes so many of a CPU"
        raise ValueError(
            f"the mesh {text} takes {needed} devices, there are {present}: "
            + (cure if cpu else "ask for fewer")
        )
    if several() and needed < present:
        raise ValueError(
            f"the mesh {text or 'of one device'} takes {needed} of the {present} devices of "
            f"{jax.process_count()} processes: give all of them"
        )
    devices = np.array(jax.devices()[:needed]).reshape(tuple(sizes.values()))
    return Mesh(devices, tuple(sizes))


def automatic(mesh: Mesh) -> Mesh:
    """The same devices with axes along which the compiler moves arrays, whatever they were."""
    return Mesh(mesh.devices, mesh.axis_names)


def axis_size(mesh: Mesh | None, axis: str) -> int:
    """Devices along an axis; 1 where there is no mesh, or none of its axes is called so."""
    return 1 if mesh is None else dict(mesh.shape).get(axis, 1)


def axis_spec(mesh: Mesh, axis: str) -> PartitionSpec:
    """Arrays cut in their first dimension along an axis, if the mesh has it."""
    return PartitionSpec(axis) if axis in mesh.axis_names else PartitionSpec()


@dataclass(frozen=True)
class Spread:
    """``count`` things side by side, leading axes of arrays, spread along one axis of a mesh.

    A number that the devices do not divide is padded with copies of the last, which `gather` drops.
    """

    mesh: Mesh
    count: int
    axis: str = TASKS

    def __post_init__(self) -> None:
        object.__setattr__(self, "mesh", automatic(self.mesh))

    def place(self, tree: PyTree) -> PyTree:
        """Arrays ``[count, ...]`` spread over the devices, padded."""
        missing = -self.count % axis_size(self.mesh, self.axis)
        sharding = NamedSharding(self.mesh, axis_spec(self.mesh, self.axis))

        def placed(leaf: Any) -> Array:
            leaf = jnp.asarray(leaf)
            if missing:
                leaf = jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, axis=0)])
            return put(leaf, sharding)

        return jax.tree.map(placed, tree)

    def gather(self, tree: PyTree) -> PyTree:
        """What `place` was given, or what was made of it, on one device."""
        return jax.tree.map(lambda leaf: leaf[: self.count], on_one_device(tree))

    def each(self, function: Callable[..., PyTree], shared: int = 0) -> Callable[..., PyTree]:
        """A function of arrays ``[n, ...]`` for any ``n``, run by every device on its part.

        Args:
          function: its results have the axis too.
          shared: so many of its first arguments are the same on all devices.
        """
        spec = axis_spec(self.mesh, self.axis)

        def spread(*arguments: PyTree) -> PyTree:
            specs = (*(PartitionSpec(),) * shared, *(spec,) * (len(arguments) - shared))
            return jax.shard_map(
                function, mesh=self.mesh, in_specs=specs, out_specs=spec, check_vma=False
            )(*arguments)

        return spread


@dataclass(frozen=True)
class Layout:
    """Where the leaves of a pytree lie on the devices of a mesh; as `Spread`, for any arrays."""

    shardings: PyTree

    @classmethod
    def of(cls, tree: PyTree) -> "Layout":
        """The layout of arrays that lie on a mesh."""
        return cls(jax.tree.map(lambda leaf: leaf.sharding, tree))

    def place(self, tree: PyTree) -> PyTree:
        """Arrays laid out so; nothing happens to those that are."""
        return jax.tree.map(put, tree, self.shardings)

    def gather(self, tree: PyTree) -> PyTree:
        """Arrays on one device."""
        return on_one_device(tree)


@runtime_checkable
class Placement(Protocol):
    """How a state lies on devices, where it is computed."""

    def place(self, tree: PyTree) -> PyTree:
        """Arrays as they are kept, laid out so."""

    def gather(self, tree: PyTree) -> PyTree:
        """What `place` was given, on one device."""


def put(leaf: Any, sharding: Sharding) -> Array:
    """An array laid out in some way, also on devices of other processes.

    Args:
      leaf: lies on a mesh, or every process has all of it.
      sharding: how it is to lie.
    """
    if not several():
        return jax.device_put(leaf, sharding)
    leaf = jnp.asarray(leaf)
    if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # jax.device_put does not take such
        numbers = put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    if not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def on_one_device(tree: PyTree) -> PyTree:
    """All of every array on the first device of this process."""
    if several():
        tree = jax.tree.map(_of_this_process, tree)
    return jax.device_put(tree, jax.local_devices()[0])


def _of_this_process(leaf: Any) -> Any:
    """All of an array that other processes may have parts of."""
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, NamedSharding) or leaf.is_fully_addressable:
        return leaf
    return put(leaf, NamedSharding(sharding.mesh, PartitionSpec())).addressable_data(0)


def on_every_device(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays of which every device of a mesh has all."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: put(jnp.asarray(leaf), sharding), tree)


def mesh_of(tree: PyTree) -> Mesh | None:
    """The mesh of several devices that the arrays of a pytree lie on, or None."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
            return Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
    return None


def laid_out(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays that lie on a mesh, as they do; every device gets all of each other one."""

    def there(leaf: Any) -> Array:
        on_mesh = isinstance(getattr(leaf, "sharding", None), NamedSharding)
        return leaf if on_mesh else put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(there, tree)


def constrained(tree: PyTree, mesh: Mesh | None, axis: str | None) -> PyTree:
    """Inside `jax.jit`: arrays cut in their first dimension along an axis; None: on every device.

    The compiler divides what is computed from them in the same way, and sums over devices where a
    sum needs it.
    """
    if mesh is None:
        return tree
    spec = PartitionSpec() if axis is None else axis_spec(mesh, axis)
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))


def map_candidates(
    function: Callable[[PyTree], PyTree], inputs: PyTree, batch_size: int | None = None
) -> PyTree:
    """Applies a function to each of ``E`` candidates, leaves ``[E, ...]``.

    Inside `Spread.each` on a mesh with the axis ``population``, every device along it takes an
    equal part of the candidates and gets the results of all.

    Args:
      function: of one candidate.
      inputs: of all.
      batch_size: candidates at a time on each device; None: all.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if POPULATION not in mesh.manual_axes or mesh.shape[POPULATION] == 1:
        return mapped(function, inputs, batch_size)
    total = jax.tree.leaves(inputs)[0].shape[0]
    share = -(-total // mesh.shape[POPULATION])
    first = jax.lax.axis_index(POPULATION) * share

    def part(leaf: Array) -> Array:  # beyond the end, the last candidate again
        return leaf[jnp.minimum(first + jnp.arange(share), total - 1)]

    batch_size = None if batch_size is None else min(batch_size, share)
    found = mapped(function, jax.tree.map(part, inputs), batch_size)
    return jax.tree.map(
        lambda leaf: jax.lax.all_gather(leaf, POPULATION, tiled=True)[:total], found
    )


def mapped(function: Callable[[PyTree], PyTree], inputs: PyTree, batch_size: int | None) -> PyTree:
    """A function of each of ``E`` inputs, leaves ``[E, ...]``, so many at a time; None: all."""
    if batch_size is None:
        return jax.vmap(function)(inputs)
    return jax.lax.map(function, inputs, batch_size=batch_size)
