"""Reading the arrays of ``goldens/`` (see the README there)."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from modeledit_jax.lifelong.methods.dafnet_network import (
    AttentionScores,
    AttentionValues,
    DAFNetLayer,
    DAFNetwork,
    FeedForward,
    LayerNorm,
)
from modeledit_jax.lifelong.methods.hypernetwork import Block, Hypernetwork
from modeledit_jax.lifelong.methods.linear import Linear
from modeledit_jax.lifelong.methods.normalization import RunningMoments

FOLDER = Path(__file__).parent / "goldens"


def load(name):
    """All arrays of one file, by key."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def section(arrays, prefix):
    """The arrays below ``prefix``, by the rest of their key."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def hypernetwork(arrays, prefix, dtype=np.float64):
    """The network stored below ``prefix``, e.g. ``"theta/32x48/"``; parameters or gradients."""
    part = section(arrays, prefix)
    depth = 1 + max(int(k.split("/")[1]) for k in part if k.startswith("blocks/"))
    names = {"down": "A", "up": "B", "bias": "bias", "scale": "scale", "shift": "shift"}

    def stack(name):
        blocks = [part[f"blocks/{b}/{name}"] for b in range(depth)]
        return jnp.asarray(np.stack(blocks).astype(dtype))

    blocks = Block(**{ours: stack(theirs) for ours, theirs in names.items()})
    return Hypernetwork(
        blocks, jnp.asarray(part["lr"].astype(dtype)), jnp.asarray(part["lamda"].astype(dtype))
    )


def dafnet(arrays, prefix, lr, dtype=np.float64):
    """The DAFNet stored below ``prefix``; parameters or gradients."""
    part = section(arrays, prefix)

    def get(name):
        depth = 1 + max(int(key.split("/")[0]) for key in part)
        return jnp.asarray(np.stack([part[f"{b}/{name}"] for b in range(depth)]).astype(dtype))

    def linear(name):
        return Linear(get(f"{name}/kernel"), get(f"{name}/bias"))

    def norms(name):
        return jnp.stack([get(f"norms/{index}/{name}") for index in range(3)], axis=1)

    layers = DAFNetLayer(
        *(FeedForward(linear(f"{name}/hidden"), linear(f"{name}/output"))
          for name in ("tokens", "gate")),
        attention=AttentionScores(linear("attention/query"), get("attention/key/kernel")),
        values=AttentionValues(linear("values/value"), linear("values/output")),
        worth=AttentionScores(linear("worth/query"), get("worth/key/kernel")),
        mlp=FeedForward(linear("mlp/hidden"), linear("mlp/output")),
        norms=LayerNorm(norms("scale"), norms("offset")),
        scale=get("scale"),
        shift=get("shift"),
    )  # fmt: skip
    return DAFNetwork(layers, jnp.asarray(np.asarray(lr, dtype)))


def moments(arrays, prefix, dtype=np.float64):
    """The normalizer stored below ``prefix``, e.g. ``"statistics/32x48/"``."""
    part = section(arrays, prefix)
    mean, squares, count = (
        jnp.asarray(part[k].astype(dtype)) for k in ("mean", "squares", "count")
    )
    return RunningMoments(mean, squares, count, released=True)


def relative_error(value, golden):
    """Largest deviation, relative to the largest entry of the golden array."""
    value, golden = np.asarray(value, np.float64), np.asarray(golden, np.float64)
    return float(np.abs(value - golden).max() / max(np.abs(golden).max(), 1e-30))
