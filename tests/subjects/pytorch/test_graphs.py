"""Exported graphs: which tensors are one leaf, how kernels are kept, where operators come from."""

import warnings

import pytest

from modeledit_jax.subjects.pytorch.graphs import read_leaves, read_steps
from modeledit_jax.subjects.pytorch.network import Value
from tests.subjects.pytorch.networks import Function, nn, torch


def exported(module, x):
    module.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x,), strict=False)
        table = torch.export.default_decompositions()
        table.pop(torch.ops.aten.linear.default)
        return program.run_decompositions(table)


def leaves_of(module, x):
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    leaves, arrays = read_leaves(exported(module, x), module.state_dict(keep_vars=True), names)
    assert {leaf.name for leaf in leaves} == set(arrays)
    return {leaf.name: leaf for leaf in leaves}


def test_a_kernel_is_a_matrix_where_layers_alone_read_it():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.grouped = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1, groups=2)
            self.turned = nn.ConvTranspose2d(4, 2, 2)
            self.fc, self.decayed = nn.Linear(5, 3), nn.Linear(3, 3)

        def forward(self, x):
            x = self.fc(self.turned(self.grouped(self.conv(x))))
            return self.decayed(x) + self.decayed.weight.sum()

    leaves = leaves_of(Network(), torch.ones(2, 2, 6, 6))
    layouts = {name: leaf.layout for name, leaf in leaves.items() if name.endswith("weight")}
    assert layouts == {
        "conv.weight": "convolution",
        "grouped.weight": "grouped",
        "turned.weight": "transposed",
        "fc.weight": "dense",
        "decayed.weight": "torch",
    }
    assert {leaf.layout for name, leaf in leaves.items() if name.endswith("bias")} == {"torch"}


def test_tensors_of_one_memory_are_one_leaf():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    module[1].bias = module[0].bias
    module[2].weight.data = module[0].weight.data  # another parameter, of the same memory
    leaves = leaves_of(module, torch.ones(2, 3))
    assert leaves.keys() == {"0.weight", "0.bias", "1.weight"}
    assert leaves["0.weight"].aliases == ("0.weight", "2.weight")
    assert leaves["0.bias"].aliases == ("0.bias", "1.bias") and len(leaves["0.bias"].values) == 2


def test_buffers_and_constants_are_no_parameters_and_the_latter_have_no_name_to_come_back_under():
    module = Function(lambda x: x * torch.tensor([1.0, 2.0]) + module.own)
    module.register_buffer("own", torch.ones(2), persistent=False)
    module.register_buffer("kept", torch.ones(2))
    leaves = leaves_of(module, torch.ones(2, 2))
    assert {leaf.collection for leaf in leaves.values()} == {"buffers"}
    aliases = {name: leaf.aliases for name, leaf in leaves.items()}
    assert aliases.pop("kept") == ("kept",) and len(aliases) == 2 and set(aliases.values()) == {()}


def test_steps_have_names_numbers_and_dtypes():
    steps, given, output = read_steps(
        exported(Function(lambda x: x.to(torch.int64).sum(1) * 2), torch.ones(2, 3))
    )
    assert given == "x" and output == steps[-1].result
    assert [(step.operator, step.dtype) for step in steps] == [
        ("aten._to_copy.default", "int32"),
        ("aten.sum.dim_IntList", "int32"),
        ("aten.mul.Tensor", "int32"),
    ]
    assert steps[0].inputs == (Value("x"),) and steps[0].options == ()
    assert steps[1].inputs == (Value(steps[0].result), (1,))


def test_unknown_operators_are_all_named_with_the_first_one_s_module():
    module = nn.Sequential(nn.Linear(3, 3), Function(lambda x: torch.lgamma(x) + torch.erfinv(x)))
    message = r"operator aten.lgamma.default of '1' \(Function\) \(and aten.erfinv.default\): repl"
    with pytest.raises(ValueError, match=message):
        read_steps(exported(module, torch.ones(2, 3)))
