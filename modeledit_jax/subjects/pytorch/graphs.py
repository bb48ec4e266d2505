"""Leaves and steps of an exported torch program (`torch.export.ExportedProgram`)."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from modeledit_jax.subjects.pytorch.layouts import Layout, Leaf
from modeledit_jax.subjects.pytorch.network import OPERATORS, Step, Value

ASSERTIONS = frozenset(
    f"aten.{name}"
    for name in (
        "_assert_async.msg",
        "_assert_scalar.default",
        "_assert_tensor_metadata.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
    )
)
"""Operators that compute nothing."""

IMPLIED = ("device", "dtype", "layout", "memory_format", "non_blocking", "pin_memory")
"""Options that say how a result is kept; its dtype is known of every step."""

DTYPES = {"int64": "int32", **{name: name for name in ("float32", "int32", "int16", "int8")}}
DTYPES |= {"uint8": "uint8", "bool": "bool"}
"""The dtypes that are read, and what they are in JAX."""


def read_leaves(
    exported: Any, tensors: Mapping[str, Any], parameters: Set[str]
) -> tuple[tuple[Leaf, ...], dict[str, np.ndarray]]:
    """The tensors of a module and the constants of its program.

    Args:
      exported: the program.
      tensors: the module's state dict, the tensors themselves.
      parameters: the names in it that are no buffers.

    Returns:
      The leaves, one for all names of a tensor, and by their names the arrays, as torch has them.
    """
    inputs = _inputs(exported)
    constants = {name: exported.constants[name] for name in inputs if name not in tensors}
    every = {**tensors, **constants}
    groups: dict[Any, list[str]] = {}
    for name, tensor in every.items():
        groups.setdefault(_memory(tensor), []).append(name)
    leaves, arrays = [], {}
    for names in groups.values():
        name, tensor = names[0], every[names[0]]
        if (dtype := dtype_name(tensor.dtype)) not in DTYPES:
            raise ValueError(
                f"the constant {name!r} is {dtype}: from_torch computes in float32; convert it"
            )
        nodes = [node for own in names for node in inputs.get(own, ())]
        is_parameter = not parameters.isdisjoint(names)
        leaf = Leaf(
            name=name,
            collection="params" if is_parameter else "buffers",
            shape=tuple(tensor.shape),
            dtype=dtype,
            layout=_layout(nodes) if is_parameter else "torch",
            aliases=tuple(own for own in names if own in tensors),
            values=tuple(node.name for node in nodes),
        )
        leaves.append(leaf)
        arrays[name] = tensor.detach().cpu().numpy()
    return tuple(leaves), arrays


def _inputs(exported: Any) -> dict[str, list[Any]]:
    """Of every tensor that the graph is given, the nodes that stand for it."""
    signature = exported.graph_signature
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    found: dict[str, list[Any]] = {}
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in targets:
            found.setdefault(targets[node.name], []).append(node)
    return found


def _memory(tensor: Any) -> Any:
    """Equal for tensors that are one and the same in memory."""
    if not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), str(tensor.dtype)


def _layout(nodes: list[Any]) -> Layout:
    """How a tensor is kept that stands for these nodes: a matrix if layers alone read it."""
    uses = {_use(user, node) for node in nodes for user in node.users}
    return uses.pop() if len(uses) == 1 else "torch"


def _use(user: Any, node: Any) -> Layout:
    weighs = len(user.args) > 1 and user.args[1] is node and user.all_input_nodes.count(node) == 1
    if weighs and str(user.target) == "aten.linear.default" and node.meta["val"].ndim == 2:
        return "dense"
    if weighs and str(user.target) == "aten.convolution.default":
        transposed, groups = user.args[6], user.args[8]
        return "transposed" if transposed else "convolution" if groups == 1 else "grouped"
    return "torch"


def read_steps(exported: Any) -> tuple[tuple[Step, ...], str, str]:
    """The steps of a program, and the names of its input and of its output.

    Raises:
      ValueError: an operator that `OPERATORS` lacks, or one that is not for evaluation; the message
        has its name and that of the module that it comes from.
    """
    signature = exported.graph_signature
    (given,) = signature.user_inputs
    if changed := [
        *signature.buffers_to_mutate.values(),
        *signature.user_inputs_to_mutate.values(),
    ]:
        raise ValueError(
            f"the module changes {changed[0]!r} in evaluation mode: let it do so if self.training"
        )
    nodes = _needed(exported.graph)
    unknown = [n for n in nodes if n.op != "call_function" or operator_name(n) not in OPERATORS]
    if unknown:
        others = sorted({operator_name(node) for node in unknown[1:]} - {operator_name(unknown[0])})
        beside = f" (and {', '.join(others)})" if others else ""
        raise ValueError(
            f"from_torch does not know the operator {operator_name(unknown[0])}"
            f"{_origin(unknown[0])}{beside}: replace that layer, or write apply yourself"
        )
    return tuple(_step(node) for node in nodes), given, _output(exported.graph).name


def _output(graph: Any) -> Any:
    (output,) = (node for node in graph.nodes if node.op == "output")
    return output.args[0][0]


def _needed(graph: Any) -> list[Any]:
    """The nodes that the output depends on, in order."""
    needed = {_output(graph)}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed and node.op != "placeholder"]


def operator_name(node: Any) -> str:
    """Name of a node's operator: ``"aten.relu.default"``, ``"operator.mul"``."""
    target = node.target
    module = getattr(target, "__module__", None)
    return f"operator.{target.__name__}" if module == "_operator" else str(target)


def _origin(node: Any) -> str:
    """Which module a node comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return ""
    path, kind = stack[-1]
    kind = str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    return f" of {path!r} ({kind})" if path else f" of the forward of {kind}"


def _step(node: Any) -> Step:
    name, value = operator_name(node), node.meta.get("val")
    if name == "aten._native_batch_norm_legit.no_stats" and node.args[0].meta["val"].shape[0] != 1:
        raise ValueError(
            f"the normalization{_origin(node)} is by the statistics of the batch in evaluation "
            "mode too: give it running statistics (track_running_stats=True)"
        )
    dtype = dtype_name(value.dtype) if hasattr(value, "dtype") else None
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(
            f"the operator {name}{_origin(node)} computes in {dtype}: from_torch computes in "
            "float32; convert it there"
        )
    options = sorted((key, _plain(a)) for key, a in node.kwargs.items() if key not in IMPLIED)
    return Step(
        operator=name,
        inputs=tuple(_plain(argument) for argument in node.args),
        options=tuple(options),
        result=node.name,
        dtype=None if dtype is None else DTYPES[dtype],
    )


def dtype_name(dtype: Any) -> str:
    """A torch dtype as NumPy calls it."""
    return str(dtype).removeprefix("torch.")


def _plain(argument: Any) -> Any:
    """An argument of a node as numbers, texts, tuples and `Value`."""
    if hasattr(argument, "op") and hasattr(argument, "name"):  # a node
        return Value(argument.name)
    if isinstance(argument, list | tuple):
        return tuple(_plain(one) for one in argument)
    if argument is None or isinstance(argument, bool | int | float | str):
        return argument
    raise ValueError(f"from_torch does not know arguments like {argument!r}: write apply yourself")
