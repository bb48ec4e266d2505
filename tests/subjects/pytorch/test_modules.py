"""Modules of torch as subjects: equal outputs, the way back, and what is refused."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.subjects.pytorch import layers, network
from modeledit_jax.subjects.pytorch.modules import read_module
from modeledit_jax.subjects.subject import Subject
from tests.subjects.pytorch.networks import NETWORKS, Function, build, inputs, nn, outputs, torch


def read(name, seed=0, **options):
    module = build(name, seed)
    return module, Subject(*read_module(module, inputs(name, 1), **options))


def assert_equal_outputs(subject, module, name):
    for count in (1, 2, 5):
        x = inputs(name, count, seed=count)
        found = jax.jit(subject.apply)(subject.params, x)
        np.testing.assert_allclose(found, outputs(module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [n if n in ("mlp", "cnn") else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS],
)
def test_a_network_has_the_outputs_of_torch_before_and_after_an_edit_of_every_leaf(name):
    module, subject = read(name)
    assert_equal_outputs(subject, module, name)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    same = subject.to_state_dict()
    assert same.keys() == before.keys()
    for key, tensor in before.items():
        assert tensor.dtype == same[key].dtype and torch.equal(tensor, same[key])

    rng = np.random.default_rng(1)
    edited = {
        path: leaf + np.float32(0.1) * rng.normal(size=leaf.shape).astype(np.float32)
        for path, leaf in get_leaves(subject.params, leaf_paths(subject.params)).items()
        if path.startswith("params/")
    }
    params = set_leaves(subject.params, edited)
    module.load_state_dict(subject.to_state_dict(params))
    assert_equal_outputs(Subject(params, subject.apply), module, name)
    x = inputs(name, 3)
    unedited = np.asarray(subject.apply(subject.params, jnp.asarray(x)))
    assert np.abs(outputs(module, x) - unedited).max() > 1e-3


def test_other_entries_of_the_state_dict_keep_their_bits():
    module, subject = read("cnn")
    leaves = get_leaves(subject.params, ["params/fc2/weight"])
    edited = set_leaves(subject.params, {path: 2 * leaf for path, leaf in leaves.items()})
    before, after = module.state_dict(), subject.to_state_dict(edited)
    assert torch.equal(after.pop("fc2.weight"), 2 * before.pop("fc2.weight"))
    assert after.keys() == before.keys() and {"version", "unused.bias"} <= before.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], tensor)


@pytest.mark.slow
def test_a_tensor_of_two_names_is_one_leaf_and_comes_back_under_both():
    _, subject = read("tied")
    paths = leaf_paths(subject.params)
    assert "params/words/weight" in paths and "params/out/weight" not in paths
    assert "params/first/weight" in paths and "params/again/weight" not in paths
    edited = set_leaves(subject.params, {"params/words/weight": jnp.ones((9, 6))})
    after = subject.to_state_dict(edited)
    assert (after["out.weight"] == 1).all() and (after["words.weight"] == 1).all()
    assert "scale" not in after and after["places"].dtype == torch.int64


def test_the_module_is_left_as_it_is():
    module = build("cnn").train()
    module.bn1.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    read_module(module, inputs("cnn", 1))
    assert module.training and module.dropout.training and not module.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    counting = Counting()
    with pytest.raises(ValueError, match="changes 'calls'"):
        read_module(counting, X)
    assert counting.calls == 0


def test_networks_of_one_architecture_have_equal_functions():
    one, other = (read_module(build("mlp", seed), inputs("mlp", 1))[1] for seed in (0, 1))
    assert one == other and hash(one) == hash(other) and one is not other
    assert one != read_module(build("cnn"), inputs("cnn", 1))[1]


def test_channels_may_be_last_and_convolutions_unfolded():
    module = build("cnn")
    x = inputs("cnn", 4)
    last = np.moveaxis(x, 1, -1)
    subject = Subject.from_torch(module, last[:1], channels_last=True, unfold="conv*/weight")
    last = jnp.asarray(last)
    np.testing.assert_allclose(
        subject.apply(subject.params, last), outputs(module, x), rtol=1e-5, atol=1e-5
    )
    primitives = {
        str(e.primitive) for e in jax.make_jaxpr(subject.apply)(subject.params, last).eqns
    }
    assert "conv_general_dilated" not in primitives and "dot_general" in primitives


X = torch.ones(2, 6)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Ranked(nn.Module):
    def __init__(self):
        super().__init__()
        self.scorer = Function(lambda x: x.topk(2)[0])

    def forward(self, x):
        return self.scorer(x)


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}


class Counting(nn.Linear):
    def __init__(self):
        super().__init__(6, 2)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def _integers(value):
    module = nn.Linear(6, 2)
    module.register_buffer("count", torch.tensor(value))
    return module


REFUSED = {
    "no module": (abs, X, "takes a torch.nn.Module, got builtin_function_or_method"),
    "a class": (nn.Linear, X, "takes a torch.nn.Module, got type"),
    "no array": (nn.Linear(6, 2), "text", "example is a str: pass a batch of inputs"),
    "a list": (nn.Linear(6, 2), [[1.0] * 6], "example is a list: pass a batch"),
    "a number": (nn.Linear(6, 2), torch.tensor(1.0), r"the shape \(\): pass a batch of inputs"),
    "nothing": (nn.Linear(6, 2), X[:0], r"the shape \(0, 6\): pass a batch of inputs"),
    "no batch axis": (nn.Linear(6, 2), X[0], r"shape \(2,\) for an example of shape \(6,\)"),
    "unbatched image": (nn.Conv2d(3, 3, 3), torch.ones(3, 8, 8), "some numbers of examples"),
    "other features": (nn.Linear(5, 2), X, r"fails on the example, of shape \(2, 6\) \(RuntimeErr"),
    "fixed batch": (Function(lambda x: x.view(2, -1)), X, "some numbers of examples .* alone"),
    "length": (Function(lambda x: x.view(len(x), 6)), X, r"x.shape\[0\] in place of len\(x\)"),
    "batch branch": (Function(lambda x: x if len(x) < 5 else -x), X, "some numbers of examples"),
    "tuple": (Function(lambda x: (x, x)), X, "returns a tuple: wrap it in one whose forward"),
    "dictionary": (Function(lambda x: {"logits": x}), X, "returns a dict: wrap it"),
    "branch": (Branching(), X, "decides by the values of its inputs .* torch.where in place of if"),
    "NumPy inside": (
        Function(lambda x: torch.from_numpy(x.numpy())), X, "torch.export cannot follow the module"
    ),
    "operator": (Ranked(), X, r"operator aten.topk.default of 'scorer' \(Function\): replace"),
    "dropout": (Function(lambda x: nn.functional.dropout(x)), X, "aten.native_dropout.default of"),
    "batch statistics": (
        nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)), X,
        r"of '0' \(BatchNorm1d\) is by the statistics of the batch",
    ),
    "float64": (nn.Linear(6, 2).double(), X.double(), r"'weight' is float64: .* module.float\(\)"),
    "half": (nn.Linear(6, 2).half(), X.half(), r"'weight' is float16: .* module.float\(\)"),
    "float64 inside": (
        Function(lambda x: x.double().float()), X, "aten._to_copy.default .* computes in float64"
    ),
    "float64 constant": (Function(lambda x: x * torch.ones(1).double()), X, "float64"),
    "a buffer that changes": (Counting(), X, "changes 'calls' in evaluation mode"),
    "an input that changes": (Function(lambda x: x.add_(1)), X, "changes 'x' in evaluation mode"),
    "complex": (nn.Linear(6, 2), X.to(torch.complex64), "the example is complex64: pass float32"),
    "large integers": (_integers(2**40), X, "'count' has integers beyond 32 bits"),
    "no numbers": (nn.Linear(6, 2, device="meta"), X, "'weight' has no numbers yet"),
    "lazy": (nn.LazyLinear(2), X, "'weight' has no numbers yet: run the module once"),
    "extra state": (Extra(6, 2), X, "'_extra_state', a dict and no tensor"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(case, capfd):
    module, example, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as raised:
        Subject.from_torch(module, example)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"channels_last is for images .* shape \(2, 6\)"):
        Subject.from_torch(nn.Linear(6, 2), X, channels_last=True)
    with pytest.raises(ValueError, match=r"unfold is for kernels .* 'params/weight' is none"):
        Subject.from_torch(nn.Linear(6, 2), X, unfold="weight")
    with pytest.raises(ValueError, match="no parameter matches unfold 'conv'; the leaves are: par"):
        Subject.from_torch(nn.Linear(6, 2), X, unfold="conv")


def test_what_is_no_edit_of_the_network_is_refused():
    subject = Subject.from_torch(nn.Linear(6, 2), X)
    with pytest.raises(ValueError, match="have no leaf 'params/weight'"):
        subject.to_state_dict({"kernel": np.ones((6, 2))})
    with pytest.raises(ValueError, match=r"'params/weight' has the shape \(2, 6\), and the netw"):
        subject.to_state_dict({"params": {"weight": np.ones((2, 6)), "bias": np.ones(2)}})
    with pytest.raises(ValueError, match=r"for a subject of Subject.from_torch: its apply is"):
        Subject(subject.params, lambda params, x: x).to_state_dict()


def test_examples_of_another_shape_or_kind_are_refused():
    module = build("cnn")
    params, own = read_module(module, inputs("cnn", 1))
    with pytest.raises(ValueError, match=r"of shape \(1, 8, 8\), got \(8, 8, 1\): torch has the"):
        own(params, jnp.ones((2, 8, 8, 1)))
    params, own = read_module(Function(lambda tokens: tokens.float()), torch.ones(2, 3).int())
    with pytest.raises(ValueError, match="reads int32, got float32"):
        own(params, jnp.ones((2, 3)))


def test_without_torch_the_way_to_get_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"need torch: pip install 'modeledit-jax\[torch\]'"):
        Subject.from_torch(None, None)


def test_outputs_that_differ_from_those_of_torch_are_refused(monkeypatch):
    wrong = lambda x, weight, bias: 1.01 * layers.linear(x, weight, bias)  # noqa: E731
    monkeypatch.setitem(network.OPERATORS, "aten.linear.default", wrong)
    with pytest.raises(ValueError, match="something else in JAX than in torch"):
        read_module(nn.Linear(6, 7), X)
