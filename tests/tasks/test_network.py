"""The network of a task: values that are not finite, examples that depend on one another, and
messages about what the user has written.

To these kinds belong weights, inputs and outputs that are NaN, infinite or too large to edit, of
the unedited network and of every result; batch statistics, dropout, attention and normalization
over the examples of a batch, and modules whose call changes their state; an ``apply`` that fails,
that returns no array or another number of rows, and outputs that are probabilities.
"""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from modeledit_jax.editors.editor import EditResult, checked
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.network import (
    NonFiniteError,
    check_logits,
    check_subject,
    sample_outputs,
    sampled_rows,
)
from modeledit_jax.tasks.unlearning import forget_classes
from modeledit_jax.types import Examples
from tests import tiny

pytestmark = pytest.mark.usefixtures("unchecked_annotations")

X = tiny.splits().reward.x


def subject(change):
    """The tiny network with other outputs."""
    base = tiny.subject()
    return Subject(base.params, lambda params, x: change(base.apply(params, x)))


def with_weights(path, change):
    params = tiny.subject().params
    return Subject(set_leaves(params, {path: change(get_leaves(params, [path])[path])}), base_apply)


base_apply = tiny.subject().apply


@pytest.mark.parametrize(
    ("path", "value"), [("fc2/kernel", np.inf), ("fc1/bias", np.nan), ("head/kernel", -np.inf)]
)
def test_weights_that_are_not_finite_are_refused_by_name(path, value):
    broken = with_weights(path, lambda leaf: np.full(leaf.shape, value, np.float32))
    with pytest.raises(NonFiniteError, match=f"weights that are not finite .* in '{path}'"):
        forget_classes(broken, tiny.splits(), 1)


@pytest.mark.parametrize("scale", [1e30, 1e20])
def test_weights_whose_spread_overflows_are_refused(scale):
    large = with_weights("fc2/kernel", lambda leaf: np.asarray(leaf) * np.float32(scale))
    with pytest.raises(ValueError, match="'fc2/kernel' has weights too large to edit"):
        forget_classes(large, tiny.splits(), 1)


def test_outputs_that_overflow_are_refused_before_the_search():
    large = with_weights("head/kernel", lambda leaf: np.asarray(leaf) * np.float32(1e38))
    with pytest.raises(NonFiniteError, match="outputs of the unedited network are not finite"):
        forget_classes(large, tiny.splits(), 1)


def test_a_world_looks_at_all_rows_and_names_them():
    task = tiny.task(1)
    x = X.copy()
    row = next(row for row in range(len(x)) if row not in sampled_rows(len(x)))
    x[row] = 3e38  # finite, but not so the outputs
    sets = replace(task.roles["reward"], x=x)
    task = replace(task, roles={**task.roles, "reward": sets})
    with pytest.raises(NonFiniteError, match=f"not finite for row {row} of the role reward"):
        ShiftWorld(task).default_params  # noqa: B018


@pytest.mark.parametrize("role", ["train", "reward", "select", "test"])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_inputs_that_are_not_finite_are_refused_by_role_and_row(role, array):
    examples = getattr(tiny.splits(), role)
    x = examples.x.copy()
    x[[3, 7], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=f"x of the role {role} has values .* in row 3, 7"):
        splits = tiny.splits().replace(**{role: Examples(array(x), examples.y)})
        forget_classes(tiny.subject(), splits, 1)


def test_a_task_made_of_another_is_checked_too():
    task = tiny.task(1)
    broken = with_weights("fc1/kernel", lambda leaf: leaf * np.nan)
    with pytest.raises(NonFiniteError):
        replace(task, subject=broken)


def test_no_result_is_not_finite():
    task = tiny.task(1)
    params = task.subject.params
    broken = jax.tree.map(lambda leaf: np.asarray(leaf) * np.nan, params)
    with pytest.raises(NonFiniteError, match="the edited network has weights that are not finite"):
        EditResult(broken)
    huge = EditResult(jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(1e25), params))
    with pytest.raises(NonFiniteError, match=r"outputs of the network edited for .*'forget-1'"):
        checked(task, huge)
    with pytest.raises(ValueError, match=r"returned a dict .* return EditResult"):
        checked(task, params)
    whole = EditResult(params)
    assert checked(task, whole) is whole


@pytest.mark.parametrize(
    "depends",
    [
        lambda z: z - z.mean(axis=0),
        lambda z: nn.softmax(z, axis=0) - 1.0,
        lambda z: z / jnp.abs(z).max(),
        lambda z: z[::-1],
        lambda z: z * jax.random.bernoulli(jax.random.key(0), 0.5, z.shape),
    ],
    ids=["centered", "softmax over examples", "largest of all", "reversed", "dropout"],
)
def test_outputs_that_depend_on_the_batch_are_refused(depends):
    with pytest.raises(ValueError, match=r"other outputs in a batch than alone.*evaluation mode"):
        sample_outputs(subject(depends), X)


class _Normalized(nn.Module):
    training: bool

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=not self.training)(nn.Dense(5, name="fc1")(x))
        return nn.Dense(tiny.CLASSES, name="head")(x)


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_is_for_evaluation_mode(training):
    module = _Normalized(training)
    state = module.init(jax.random.key(0), X)

    def apply(params, x):
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        return module.apply(variables, x, mutable=["batch_stats"])[0]

    network = Subject(state["params"], apply)
    if not training:
        assert sample_outputs(network, X).shape == (8, tiny.CLASSES)
        return
    with pytest.raises(ValueError, match="evaluation mode"):
        sample_outputs(network, X)


def test_modules_of_nnx_are_for_evaluation_mode():
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.Linear(tiny.FEATURES, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    network = Subject(params, lambda params, x: nnx.merge(graph, params, rest)(x))
    with pytest.raises(
        ValueError, match=r"changes the network's state .*evaluation mode"
    ) as refused:
        sample_outputs(network, X)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: (z, z), "apply gives tuple for 8 examples: it must return one array"),
        (lambda z: {"logits": z}, "apply gives dict"),
        (lambda z: z.mean(axis=0), r"apply gives \(3,\) for 8 examples"),
        (lambda z: None, "apply gives NoneType"),
        (lambda z: 1 / 0, "fails on a batch of the reward role .ZeroDivisionError"),
        (lambda z: z.reshape(-1, 7), "fails on a batch .*reshape"),
    ],
)
def test_an_apply_that_is_none_is_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        sample_outputs(subject(change), X)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_is_no_dependence(dtype):
    outputs = sample_outputs(tiny.subject(dtype=dtype), X)
    assert outputs.shape == (8, tiny.CLASSES) and outputs.dtype == np.float32


def test_traced_networks_are_not_looked_at():
    network = tiny.subject()
    seen = []

    def look(params):
        seen.append(sample_outputs(network.replace(params=params), X))

    jax.eval_shape(look, network.params)
    assert seen == [None]


@pytest.mark.parametrize(
    ("outputs", "classes", "message"),
    [
        ([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], 3, "outputs are probabilities"),
        ([[0.0, 1.0], [1.0, 0.0]], 2, "outputs are probabilities"),
        ([[0.9, 0.2, 0.8], [0.1, 0.1, 0.7]], 3, "outputs are probabilities"),  # sigmoids
        ([[0.9], [0.1]], 2, "outputs are probabilities"),
        ([[-1.0, 2.0]], 3, "the network has 2 outputs for 3 classes"),
        ([[1.0], [-2.0]], 3, "the network has 1 outputs for 3 classes"),
        ([1.0, -1.0], 2, r"outputs of shape \(2,\)"),
    ],
)
def test_outputs_of_a_classifier_are_logits_of_all_classes(
    outputs, classes, message, unchecked_annotations
):
    with pytest.raises(ValueError, match=message):
        check_logits(np.array(outputs), classes)


@pytest.mark.parametrize(
    "outputs", [[[0.1], [0.2]], [[1.5, -0.5, 0.0]], [[-0.1, -2.3], [-0.7, -0.7]], [[0.1, 0.2, 0.1]]]
)
def test_logits_are_not_taken_for_probabilities(outputs):
    check_logits(np.array(outputs), 2)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [("relu", "'extra' is a str"), (b"x", "is a bytes"), (np.array(["a"]), "holds no numbers")],
)
def test_parameters_hold_numbers(leaf, message):
    with pytest.raises(ValueError, match=message):
        check_subject(Subject({"extra": leaf}, base_apply))


def test_numbers_of_all_kinds_are_parameters():
    check_subject(Subject({"a": True, "b": 3, "c": 1.5, "d": jax.random.key(0)}, base_apply))


@pytest.mark.parametrize("given", [{"w": 1.0}, None, nn.Dense(3), 3])
def test_a_subject_has_params_and_apply(given):
    with pytest.raises(ValueError, match="pass Subject"):
        check_subject(given)
