"""Unlearning by gradients once more, in NumPy and float64, for a network of three dense layers.

Nothing of the loop, of automatic differentiation or of optax is shared with what it checks, but for
the draws of `jax.random`.
"""

import jax
import numpy as np
import scipy.special

from modeledit_jax.edits.site import leaf_paths
from tests import tiny

PATHS = leaf_paths(tiny.subject().params)
LAYERS = ("fc1", "fc2", "head")
softmax = scipy.special.softmax


def leaves_of(params):
    """``{path: float64 array}`` of all leaves."""
    return {path: np.asarray(params[path.split("/")[0]][path.split("/")[1]], np.float64)
            for path in PATHS}  # fmt: skip


def forward(leaves, x):
    """Logits, and what each layer reads."""
    inputs = [np.asarray(x, np.float64)]
    for layer in LAYERS:
        z = inputs[-1] @ leaves[f"{layer}/kernel"] + leaves[f"{layer}/bias"]
        inputs.append(np.maximum(z, 0) if layer != "head" else z)
    return inputs.pop(), inputs


def backward(leaves, inputs, slope):
    """Gradients by all leaves from those by the logits."""
    found = {}
    for layer, read in zip(reversed(LAYERS), reversed(inputs), strict=True):
        found[f"{layer}/kernel"], found[f"{layer}/bias"] = read.T @ slope, slope.sum(axis=0)
        slope = (slope @ leaves[f"{layer}/kernel"].T) * (read > 0)
    return found


def cross_entropy_slope(logits, label, weight):
    """Of the weighted mean cross-entropy, by the logits; zero where nothing has weight."""
    error = softmax(logits, axis=1)
    error[np.arange(len(label)), label] -= 1
    return error * weight[:, None] / max(weight.sum(), 1)


def divergence_slope(teacher, logits, weight, temperature=1.0):
    """Of the weighted mean of ``T² KL(teacher ‖ network)``, by the network's logits."""
    apart = softmax(logits / temperature, axis=1) - softmax(teacher / temperature, axis=1)
    return temperature * apart * weight[:, None] / max(weight.sum(), 1)


def rows_of(editor, key, weights, count):
    """The rows of a step's batch."""
    keys = jax.random.split(key, len(editor.draws)) if len(editor.draws) > 1 else [key]
    found = []
    for own, name in zip(keys, editor.draws, strict=True):
        members = np.arange(count) if name == "all" else np.flatnonzero(weights[name] > 0)
        at = jax.random.randint(own, (editor.batch_size,), 0, len(members))
        found.append(members[np.asarray(at)])
    return np.concatenate(found)


def train(editor, key, x, weights, slope, leaves, paths, *, price=None, mask=None):
    """All leaves after every step.

    Args:
      editor: whose steps, optimizer and draws are taken.
      key: as of its `edit`.
      x: inputs.
      weights: of the sets.
      slope: ``(logits, rows, step) -> gradient of the objective by the logits``.
      leaves: at the start.
      paths: of those that change.
      price: ``(leaf, step) -> gradient`` of what is not about outputs.
      mask: ``{path: 0 or 1}``.
    """
    leaves = {path: leaf.copy() for path, leaf in leaves.items()}
    first = {path: np.zeros_like(leaf) for path, leaf in leaves.items()}
    second = {path: np.zeros_like(leaf) for path, leaf in leaves.items()}
    for step, own in enumerate(jax.random.split(key, editor.steps)):
        rows = rows_of(editor, own, weights, len(x))
        logits, inputs = forward(leaves, x[rows])
        gradient = backward(leaves, inputs, slope(logits, rows, step))
        rate = editor.learning_rate * 0.5 * (1 + np.cos(np.pi * step / editor.steps))
        for path in paths:
            g = gradient[path] + (0 if price is None else price(leaves[path], step))
            if editor.optimizer == "adam":
                first[path] = 0.9 * first[path] + 0.1 * g
                second[path] = 0.999 * second[path] + 0.001 * g**2
                mean, square = first[path] / (1 - 0.9 ** (step + 1)), second[path]
                change = mean / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
            else:
                change = first[path] = editor.momentum * first[path] + g
            leaves[path] -= rate * change * (1 if mask is None else mask[path])
    return leaves


def sets_of(task):
    """Inputs, labels and weights of the sets of the train role."""
    sets = task.roles["train"]
    return np.asarray(sets.x), np.asarray(sets.targets), dict(sets.weights)


def assert_leaves(params, expected, start, paths):
    """The leaves of ``paths`` are as expected and have moved; all others have kept their bits."""
    found = {path: params[path.split("/")[0]][path.split("/")[1]] for path in PATHS}
    for path in PATHS:
        if path in paths:
            np.testing.assert_allclose(found[path], expected[path], rtol=2e-3, atol=2e-5)
        else:
            assert np.asarray(found[path]).tobytes() == start[path].astype(np.float32).tobytes()
    moved = max(np.abs(expected[path] - start[path]).max() for path in paths)
    assert moved > 1e-3
