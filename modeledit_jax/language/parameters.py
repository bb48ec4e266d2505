"""The parameter pytree of a language model: names, shapes, initial values, stacked layers."""

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from modeledit_jax.language.config import LanguageModelConfig, layer_modules
from modeledit_jax.types import Array, Key, Params

INITIAL_SCALE = 0.02
"""Standard deviation of initial weights, as in GPT-2 and its successors."""

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: LanguageModelConfig) -> Shapes:
    """Returns the shape of every leaf by its path, with one dict per layer (not stacked).

    Leaves are ``tokens/embedding``, ``positions/embedding``, ``layers/3/mlp/down/kernel`` (and
    ``/bias``), ``layers/3/attention_norm/scale``, ``final_norm/scale`` and ``head/kernel``.
    """
    shapes: Shapes = {"tokens/embedding": (config.vocab_size, config.width)}
    if config.positions == "learned":
        shapes["positions/embedding"] = (config.context, config.width)
    layer = _layer_shapes(config)
    for index in range(config.num_layers):
        shapes |= {f"layers/{index}/{name}": shape for name, shape in layer.items()}
    shapes |= _norm_shapes(config, "final_norm")
    if not config.tied_head:
        shapes["head/kernel"] = (config.width, config.vocab_size)
    return shapes


def _layer_shapes(config: LanguageModelConfig) -> Shapes:
    norms = ["attention_norm", "mlp_norm"]
    if config.post_norms:
        norms += ["attention_post_norm", "mlp_post_norm"]
    shapes: Shapes = {}
    for norm in norms:
        shapes |= _norm_shapes(config, norm)
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    width, hidden = config.width, config.mlp_width
    sizes = {
        "attention/query": (width, queries, config.qkv_bias),
        "attention/key": (width, keys, config.qkv_bias),
        "attention/value": (width, keys, config.qkv_bias),
        "attention/output": (queries, width, config.output_bias),
        "mlp/gate": (width, hidden, config.mlp_bias),
        "mlp/up": (width, hidden, config.mlp_bias),
        "mlp/down": (hidden, width, config.mlp_bias),
    }
    for module in layer_modules(config):
        d_in, d_out, has_bias = sizes[module]
        shapes[f"{module}/kernel"] = (d_in, d_out)
        if has_bias:
            shapes[f"{module}/bias"] = (d_out,)
    return shapes


def _norm_shapes(config: LanguageModelConfig, name: str) -> Shapes:
    shapes: Shapes = {f"{name}/scale": (config.width,)}
    return shapes | ({f"{name}/bias": (config.width,)} if config.norm == "layer" else {})


def init_params(config: LanguageModelConfig, key: Key) -> Params:
    """Returns random float32 parameters, in the layout that ``config.scan_layers`` asks for.

    Weights are normal with deviation 0.02; those that write to the residual stream are smaller by
    ``sqrt(2 · num_layers)``, which keeps its variance independent of the depth (GPT-2).
    """
    leaves = {
        path: _initial(config, path, shape, jax.random.fold_in(key, index))
        for index, (path, shape) in enumerate(parameter_shapes(config).items())
    }
    params = unflatten_dict(leaves, sep="/")
    return stack_layers(params) if config.scan_layers else params


def _initial(config: LanguageModelConfig, path: str, shape: tuple[int, ...], key: Key) -> Array:
    if path.endswith("/scale"):
        return jnp.full(shape, 0.0 if config.norm == "rms_plus_one" else 1.0)
    if path.endswith("/bias"):
        return jnp.zeros(shape)
    to_residual = path.endswith(("attention/output/kernel", "mlp/down/kernel"))
    scale = INITIAL_SCALE / (2 * config.num_layers) ** 0.5 if to_residual else INITIAL_SCALE
    return scale * jax.random.normal(key, shape)


def layers_are_stacked(params: Params) -> bool:
    """Whether ``params["layers"]`` is one dict of stacked leaves instead of one dict per layer."""
    return "0" not in params["layers"]


def layer_parameters(params: Params, layer: int) -> Params:
    """The leaves of one layer, whether layers are stacked or not."""
    if layers_are_stacked(params):
        return jax.tree.map(lambda leaf: leaf[layer], params["layers"])
    return params["layers"][str(layer)]


def stack_layers(params: Params) -> Params:
    """Returns ``params`` with the leaves of all layers stacked ``[L, ...]``, for ``scan_layers``.

    Raises:
      ValueError: they are stacked already.
    """
    if layers_are_stacked(params):
        raise ValueError("the layers are stacked already; unstack_layers takes them apart")
    layers = [params["layers"][str(index)] for index in range(len(params["layers"]))]
    return params | {"layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)}


def unstack_layers(params: Params) -> Params:
    """Returns ``params`` with one dict of leaves per layer, keyed ``"0"``, ``"1"``, ….

    Raises:
      ValueError: they are not stacked.
    """
    if not layers_are_stacked(params):
        raise ValueError("the layers are not stacked; stack_layers stacks them")
    stacked = flatten_dict(params["layers"], sep="/")
    depth = next(iter(stacked.values())).shape[0]
    layers = {
        str(index): unflatten_dict({path: leaf[index] for path, leaf in stacked.items()}, sep="/")
        for index in range(depth)
    }
    return params | {"layers": layers}
