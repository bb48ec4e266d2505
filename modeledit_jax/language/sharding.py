"""How the parameters of a language model lie on a mesh of devices."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.parameters import parameter_shapes
from modeledit_jax.mesh import put
from modeledit_jax.types import Array, Params, PyTree

AXES = ("data", "model")
"""Names of the mesh axes: examples lie along the first, features along the second."""

_COLUMNS = ("query", "key", "value", "gate", "up", "head")
_ROWS = ("output", "down")


def parameter_shardings(config: LanguageModelConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """Returns the sharding of every leaf by its path (layers not stacked).

    As in Megatron-LM: the kernels that read the residual stream are cut by columns along the axis
    ``"model"``, those that write to it by rows, so that attention and MLP each need one sum over
    devices; embeddings are cut by rows, norms are on every device. An axis whose size the mesh
    does not divide is not cut. Nothing is cut along ``"data"``: put the examples there.

    Raises:
      ValueError: the mesh lacks an axis.
    """
    if missing := set(AXES) - set(mesh.axis_names):
        raise ValueError(
            f"the mesh has axes {mesh.axis_names} and lacks {', '.join(sorted(missing))}; "
            'build it as jax.make_mesh((data, model), ("data", "model"))'
        )
    # With automatic axes, whatever those of the given mesh are: the compiler is to move
    # activations, where explicit axes would ask for the sharding of each.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    size = mesh.shape["model"]
    return {
        path: NamedSharding(mesh, _spec(path, shape, size))
        for path, shape in parameter_shapes(config).items()
    }


def spread_parameters(config: LanguageModelConfig, params: Params, mesh: Mesh) -> Params:
    """Parameters (layers not stacked) laid out on a mesh; errors as `parameter_shardings`."""
    shardings = parameter_shardings(config, mesh)
    leaves = get_leaves(params, list(shardings))
    spread = {path: put(leaf, shardings[path]) for path, leaf in leaves.items()}
    return set_leaves(params, spread)


def spread_rows(tree: PyTree, mesh: Mesh, dimension: int = 0) -> PyTree:
    """Examples, of which each device along ``"data"`` gets its part of a dimension.

    Every device gets all of them where the devices do not divide that dimension.
    """
    size = mesh.shape["data"]

    def there(leaf: Array) -> Array:
        cut = leaf.ndim > dimension and leaf.shape[dimension] % size == 0
        spec = PartitionSpec(*(None,) * dimension, "data") if cut else PartitionSpec()
        return put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(lambda leaf: there(jnp.asarray(leaf)), tree)


def _spec(path: str, shape: tuple[int, ...], size: int) -> PartitionSpec:
    *_, module, leaf = path.split("/")
    axes = {
        "kernel": 0 if module in _ROWS else 1,
        "bias": 0 if module in _COLUMNS else None,
        "embedding": 0,
    }
    axis = axes.get(leaf)
    if axis is None or shape[axis] % size:
        return PartitionSpec()
    return PartitionSpec(*(None,) * axis, "model")
