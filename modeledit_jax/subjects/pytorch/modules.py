"""Modules of PyTorch: their tensors and their graph read, and tensors given back to them.

The graph is that of `torch.export`, in evaluation mode, decomposed by torch's own table into the
operators of ATen that `modeledit_jax.subjects.pytorch.network` knows. torch is imported where it is
used: the package does without it.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.edits.site import match_paths
from modeledit_jax.subjects.pytorch.graphs import DTYPES, dtype_name, read_leaves, read_steps
from modeledit_jax.subjects.pytorch.layouts import Leaf, kernel_matrix, torch_tensor
from modeledit_jax.subjects.pytorch.network import TorchNetwork
from modeledit_jax.types import Params

KEPT_WHOLE = ("linear.default", "scaled_dot_product_attention.default")
"""Operators of ATen that are not decomposed further than they have to be."""

TOLERANCE = 1e-3
"""Difference of outputs on the example, relative to the largest, that is put down to rounding."""

_WIDEST = np.iinfo(np.int32)


def read_module(
    module: Any, example: Any, *, channels_last: bool = False, unfold: str | Sequence[str] = ()
) -> tuple[Params, TorchNetwork]:
    """Reads a ``torch.nn.Module``.

    Args:
      module: it is exported in evaluation mode, and left in the mode that it was in.
      example: a batch of inputs ``[N, ...]``, of which shape and dtype count: a tensor or array.
      channels_last: whether images are ``[N, H, W, C]`` here; torch is given ``[N, C, H, W]``.
      unfold: pattern(s) of kernels of convolutions to run as dense layers on unfolded windows.

    Returns:
      Parameters ``{"params": …, "buffers": …}``, nested as the names of the state dict are, and
      the function that they are for.

    Raises:
      ValueError: no torch, or a module or example that cannot be read; the message says which
        operator, tensor or line is in the way.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(
            f"from_torch takes a torch.nn.Module, got {type(module).__name__}: pass the network"
        )
    x = _as_tensor(torch, example, channels_last)
    tensors = module.state_dict(keep_vars=True)
    _check_tensors(torch, tensors)
    with torch.no_grad(), _evaluation_mode(torch, module), _quiet():
        device = next((t.device for t in tensors.values()), torch.device("cpu"))
        outputs = _outputs(torch, module, x.to(device))
        exported = _exported(torch, module, x[:1].to(device))
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    leaves, arrays = read_leaves(exported, tensors, names)
    steps, given, output = read_steps(exported)
    params: dict[str, Any] = {"params": {}, "buffers": {}}
    for leaf in leaves:
        matrix = kernel_matrix(arrays[leaf.name], leaf.layout)
        _set(params, leaf.keys, jnp.asarray(_narrow(leaf.name, matrix)))
    leaves = _unfolded(leaves, params, unfold)
    shape, dtype = tuple(x.shape[1:]), DTYPES[dtype_name(x.dtype)]
    network = TorchNetwork(leaves, steps, given, output, shape, dtype, channels_last)
    _check_outputs(network, params, x, outputs.cpu().numpy())
    return params, network


def state_dict(network: TorchNetwork, params: Params) -> dict[str, Any]:
    """The state dict, as ``module.load_state_dict`` reads it, of a network with these parameters.

    Args:
      network: of `read_module`.
      params: of its structure; leaves that are those that were read keep their bits.

    Raises:
      ValueError: parameters of another structure or shape, or no torch.
    """
    torch = _torch()
    found: dict[str, Any] = {}
    for leaf in network.leaves:
        value = _get(params, leaf.keys)
        expected = kernel_matrix(np.empty(leaf.shape, np.int8), leaf.layout).shape
        if np.shape(value) != expected:
            raise ValueError(
                f"the leaf {leaf.path!r} has the shape {np.shape(value)}, and the network "
                f"of torch {expected}: pass the parameters of an edit of this network"
            )
        array = torch_tensor(np.asarray(value), leaf.layout, leaf.shape)
        # A copy for each name: those of JAX cannot be written to.
        found |= {name: torch.tensor(array.astype(leaf.dtype)) for name in leaf.aliases}
    return found


def _torch() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except ImportError as error:
        raise ValueError(
            "networks of torch need torch: pip install 'modeledit-jax[torch]'"
        ) from error
    return torch


@contextmanager
def _evaluation_mode(torch: Any, module: Any) -> Iterator[None]:
    """Afterwards the module is in the mode, and its buffers have the numbers, that they had."""
    modes = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    numbers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.eval()
    try:
        yield
    finally:
        for part, mode, buffers in modes:
            part.training = mode
            part._buffers.update(buffers)
        for buffer, before in numbers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings, logs and graphs that an export writes: what matters is raised."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def _as_tensor(torch: Any, example: Any, channels_last: bool) -> Any:
    """The example as torch reads it: float32, or integers."""
    if not isinstance(example, torch.Tensor):
        if not hasattr(example, "dtype") or np.asarray(example).dtype.kind not in "fiub":
            raise ValueError(
                f"the example is a {type(example).__name__}: pass a batch of inputs, an array or "
                "tensor [N, ...]"
            )
        example = torch.tensor(np.asarray(example))
    example = example.detach().cpu()
    if not example.is_floating_point() and dtype_name(example.dtype) not in DTYPES:
        raise ValueError(
            f"the example is {dtype_name(example.dtype)}: pass float32, or integers of 32 bits"
        )
    if example.ndim < 1 or not len(example):
        raise ValueError(
            f"the example has the shape {tuple(example.shape)}: pass a batch of inputs [N, ...]"
        )
    if channels_last:
        if example.ndim < 3:
            raise ValueError(
                f"channels_last is for images [N, H, W, C], and the example has the shape "
                f"{tuple(example.shape)}: leave it out"
            )
        example = example.movedim(-1, 1)
    return example.float() if example.is_floating_point() else example


def _check_tensors(torch: Any, tensors: dict[str, Any]) -> None:
    """Raises ValueError for tensors that would not come back as they are."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"the state dict has {name!r}, a {type(tensor).__name__} and no tensor: from_torch "
                "reads modules of tensors alone"
            )
        if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ValueError(
                f"{name!r} has no numbers yet: run the module once, or load its weights"
            )
        inexact = tensor.is_floating_point() or tensor.is_complex()
        if inexact and tensor.dtype != torch.float32:
            raise ValueError(
                f"{name!r} is {dtype_name(tensor.dtype)}: from_torch reads float32; convert it "
                "with module.float()"
            )


def _outputs(torch: Any, module: Any, x: Any) -> Any:
    """The module's outputs on the example."""
    try:
        outputs = module(x)
    except Exception as error:  # code of the user's, which may raise anything
        raise ValueError(
            f"the module fails on the example, of shape {tuple(x.shape)} ({_about(error)}): pass "
            "a batch of its inputs [N, ...]"
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"the module returns a {type(outputs).__name__}: wrap it in one whose forward returns "
            "the logits [N, C] alone"
        )
    if outputs.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"the module gives outputs of shape {tuple(outputs.shape)} for an example of shape "
            f"{tuple(x.shape)}: the first axis of both must be the examples; pass a batch [N, ...]"
        )
    return outputs


def _exported(torch: Any, module: Any, one: Any) -> Any:
    """The exported program for any number of examples.

    Two examples are traced: torch takes sizes of 0 and 1 for fixed.
    """
    batch, shape = torch.cat([one, one]), tuple(one.shape[1:])
    try:
        module(batch)
    except Exception as error:
        raise ValueError(_FIXED.format(shape)) from error
    try:
        dynamic = ({0: torch.export.Dim("n", min=1)},)
        exported = torch.export.export(module, (batch,), dynamic_shapes=dynamic, strict=False)
        table = torch.export.default_decompositions()
        for name in KEPT_WHOLE:
            packet, overload = name.split(".")
            table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
        return exported.run_decompositions(table)
    except Exception as error:
        raise ValueError(_refusal(error, shape)) from error


_FIXED = (
    "the module works for some numbers of examples of shape {} alone: give the example a batch "
    "axis, and write forward for any number, with x.shape[0] in place of len(x) or of the number"
)


def _refusal(error: Exception, shape: tuple[int, ...]) -> str:
    """One line about an export that failed."""
    text = str(error)
    if "Constraints violated" in text:
        return _FIXED.format(shape)
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        return (
            "the module decides by the values of its inputs which way to go, which torch.export "
            f"cannot follow ({_about(error)}): use torch.where in place of if"
        )
    return f"torch.export cannot follow the module ({_about(error)}): export it yourself to see why"


def _about(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _unfolded(
    leaves: tuple[Leaf, ...], params: Params, patterns: str | Sequence[str]
) -> tuple[Leaf, ...]:
    """The leaves, those that match a pattern as kernels of unfolded convolutions."""
    if not patterns:
        return leaves
    paths = match_paths(params, patterns, "unfold")
    wrong = [leaf.path for leaf in leaves if leaf.path in paths and leaf.layout != "convolution"]
    if wrong:
        raise ValueError(
            f"unfold is for kernels of convolutions without groups, and {wrong[0]!r} is none: "
            "leave it out"
        )
    return tuple(replace(leaf, unfold=leaf.path in paths) for leaf in leaves)


def _narrow(name: str, array: np.ndarray) -> np.ndarray:
    """Integers of 64 bits as those of 32 that JAX has."""
    if array.dtype != np.int64:
        return array
    if array.size and not (_WIDEST.min <= array.min() and array.max() <= _WIDEST.max):
        raise ValueError(f"{name!r} has integers beyond 32 bits: JAX has none; make them smaller")
    return array.astype(np.int32)


def _check_outputs(network: TorchNetwork, params: Params, x: Any, expected: np.ndarray) -> None:
    """Raises ValueError unless JAX gives the outputs that torch gives on the example."""
    given = x.movedim(1, -1) if network.channels_last else x
    with jax.default_matmul_precision("highest"):
        found = np.asarray(jax.jit(network)(params, given.numpy()))
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=0, atol=TOLERANCE * size, equal_nan=True
    ):
        raise ValueError(
            "the network computes something else in JAX than in torch: please report it with the "
            "module, and write its apply by hand"
        )


def _set(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _get(tree: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not hasattr(tree, "keys") or key not in tree:
            raise ValueError(
                f"the parameters have no leaf {'/'.join(keys)!r}: pass those of an edit of this "
                "network"
            )
        tree = tree[key]
    return tree
