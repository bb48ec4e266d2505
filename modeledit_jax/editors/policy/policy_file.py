"""A policy in one safetensors file: its architecture, its world, its parameters, and a digest.

The metadata hold the architecture and the world as JSON, and a SHA-256 over that text and all
tensors. A file without a digest, of an earlier version, is read if everything in it is right.
"""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from modeledit_jax.agents.equivariant import EDGES, Action, EquivariantPolicy
from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.files import regular_file
from modeledit_jax.reading.json_text import as_object, parse_json
from modeledit_jax.reading.tensor_files import check_floating, open_safetensors, tensors_digest
from modeledit_jax.types import Params

_ABOUT, _DIGEST = "modeledit_jax", "sha256"
_DAMAGED = "is damaged: copy or train it again ({reason})"
_NEWER = "update modeledit_jax if a newer version has written the file"

_ARCHITECTURE = tuple(f.name for f in fields(EquivariantPolicy) if f.name not in ("parent", "name"))
_MOST_ROUNDS, _LARGEST_WIDTH, _LARGEST_SCALE = 64, 2**16, 1e6
"""Ranges of an architecture: what no policy has is refused before anything is traced."""


def write_policy(path: str | Path, network: EquivariantPolicy, params: Params, world: str) -> None:
    """Writes a policy, whole or not at all.

    Args:
      path: of the file; its folder is made.
      network: the architecture.
      params: of the network.
      world: name of the world it acts in.

    Raises:
      ValueError: parameters that are not those of the architecture, or not finite.
    """
    path = Path(path)
    flat = {name: np.asarray(leaf) for name, leaf in flatten_dict(params, sep="/").items()}
    architecture = {name: getattr(network, name) for name in _ARCHITECTURE}
    about = json.dumps({"network": architecture, "world": world})
    where = "the policy to be saved"
    _check_tensors(_network(Fields(architecture, where, cure="train it anew")), flat, where)
    metadata = {_ABOUT: about, _DIGEST: tensors_digest(flat, about)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(save(flat, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_policy(path: str | Path, worlds: Sequence[str]) -> tuple[EquivariantPolicy, Params, str]:
    """Reads a policy that `write_policy` has written.

    Args:
      path: of the file.
      worlds: names of the worlds there are.

    Returns:
      The architecture, its parameters, and the name of the policy's world.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, holds no policy or one of a newer version, or tensors that are
        missing, superfluous, of another shape, no floats, or not finite.
    """
    missing = "no policy at {path}: train one, or give the path of its file"
    path = regular_file(path, missing)
    with open_safetensors(path, _DAMAGED) as file:
        metadata = file.metadata() or {}
        about = _about(metadata, path)
        names = list(file.keys())
        check_floating({name: file.get_slice(name).get_dtype() for name in names}, path)
        flat = {name: file.get_tensor(name) for name in names}
    if _DIGEST in metadata and metadata[_DIGEST] != tensors_digest(flat, metadata[_ABOUT]):
        reason = "its content is not what was written"
        raise ValueError(f"{path} {_DAMAGED.replace('{reason}', reason)}")
    world = about.choice("world", worlds)
    network = _network(about.inner("network"))
    _check_tensors(network, flat, str(path))
    leaves = {name: jnp.asarray(array) for name, array in flat.items()}
    return network, unflatten_dict(leaves, sep="/"), world


def _about(metadata: Mapping[str, str], path: Path) -> Fields:
    """What the metadata say of the policy."""
    if _ABOUT not in metadata:
        raise ValueError(f"{path} holds tensors but no policy: give a file of LearnedEditor.save")
    if others := metadata.keys() - {_ABOUT, _DIGEST}:
        shown = ascii(sorted(others)[0])[:80]
        raise ValueError(f"{path} has the unknown metadata {shown}: copy it again, or {_NEWER}")
    where = f"{path}, metadata"
    content = as_object(parse_json(metadata[_ABOUT], where, _DAMAGED), where, _DAMAGED)
    about = Fields(content, where, cure=_NEWER)
    about.refuse_others(("network", "world"))
    return about


def _network(known: Fields) -> EquivariantPolicy:
    """The architecture that fields describe; ValueError if one is out of range."""
    known.refuse_others(_ARCHITECTURE)
    action: Any = known.choice("action", get_args(Action))
    return EquivariantPolicy(
        action=action,
        rank=known.integer("rank", 1, _LARGEST_WIDTH),
        hidden=known.integer("hidden", 1, _LARGEST_WIDTH),
        rounds=known.integer("rounds", 1, _MOST_ROUNDS),
        start_scale=known.number("start_scale", _LARGEST_SCALE, zero=True),
        gradient=known.flag("gradient"),
    )


def _check_tensors(network: EquivariantPolicy, flat: Mapping[str, np.ndarray], where: str) -> None:
    """Raises ValueError unless tensors are the finite parameters of an architecture."""
    expected = _shapes(network, flat, where)
    faults = [f"{name} is missing" for name in expected if name not in flat]
    for name, array in flat.items():
        if name not in expected:
            faults.append(f"{ascii(name)[:80]} has no place in the network")
        elif array.shape != expected[name]:
            faults.append(f"{name} has shape {array.shape} instead of {expected[name]}")
        elif not np.isfinite(array).all():
            faults.append(f"{name} holds values that are not finite")
    if faults:
        more = f" and {len(faults) - 5} faults more" if len(faults) > 5 else ""
        raise ValueError(
            f"the tensors of {where} are not those of its network: {'; '.join(faults[:5])}{more}: "
            "copy or train it again"
        )


def _shapes(
    network: EquivariantPolicy, flat: Mapping[str, np.ndarray], where: str
) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, for tasks with as many features as the tensors read."""

    def rows(layer: str) -> int:
        shape: tuple[int, ...] = getattr(flat.get(f"params/{layer}/kernel"), "shape", ())
        if len(shape) != 2 or 0 in shape:
            raise ValueError(
                f"the tensors of {where} are not those of its network: params/{layer}/kernel is "
                "missing or no matrix: copy or train it again"
            )
        return int(shape[0])

    context = max(rows("everyone_0") - 2 * network.hidden, 0)
    seen = {
        "inputs": jax.ShapeDtypeStruct((3, rows("inputs")), jnp.float32),
        "outputs": jax.ShapeDtypeStruct((2, rows("outputs")), jnp.float32),
        **{name: jax.ShapeDtypeStruct((3, 2), jnp.float32) for name in EDGES},
    }
    observation = {
        "layers": (seen,),
        "context": jax.ShapeDtypeStruct((context,), jnp.float32),
    }
    params = jax.eval_shape(network.init, jax.random.key(0), observation)
    return {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}
