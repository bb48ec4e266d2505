"""A slow reference of MaskWorld and ShiftWorld: float64 NumPy, plain loops, nothing shared.

It reads a task's data and parameters and none of the package's formulas.
"""

import math

import numpy as np

OPERATORS = ("mask", "shift")
KINDS = ("accuracy", "soft")


def matrix(parametrization, action, shape):
    """The matrix of a leaf, entry by entry."""
    rows, columns = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    result = np.zeros((rows, columns))
    name = type(parametrization).__name__
    for row in range(rows):
        for column in range(columns):
            if name == "LowRank":
                rank = parametrization.rank
                total = 0.0
                for r in range(rank):
                    left = float(action[row * rank + r])
                    right = float(action[rows * rank + column * rank + r])
                    total += left * right
                result[row, column] = total / math.sqrt(rank)
            else:
                index = {"PerWeight": row * columns + column, "PerRow": row, "PerColumn": column}
                result[row, column] = action[index[name]]
    return result.reshape(shape)


def matrix_size(parametrization, shape):
    """Number of action entries of a leaf."""
    rows, columns = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    return {
        "LowRank": getattr(parametrization, "rank", 0) * (rows + columns),
        "PerWeight": rows * columns,
        "PerRow": rows,
        "PerColumn": columns,
    }[type(parametrization).__name__]


def apply_operator(name, weights, change, original):
    """``W (1 + tanh M)`` or ``W + std(W₀) M``."""
    if name == "mask":
        return weights * (1.0 + np.tanh(change))
    return weights + original.std() * change


def mlp(params, x):
    """Logits of an MLP with layers ``fc1`` … ``fcK`` and ``head``, example by example."""
    names = sorted(name for name in params if name.startswith("fc"))
    logits = []
    for example in np.asarray(x, np.float64):
        hidden = example.ravel()
        for name in names:
            hidden = hidden @ params[name]["kernel"] + params[name]["bias"]
            hidden = np.where(hidden > 0, hidden, 0.0)
        logits.append(hidden @ params["head"]["kernel"] + params["head"]["bias"])
    return np.stack(logits)


class NumpyWorld:
    """Plays one episode of forgetting ``classes``; leaves are named ``"layer/kind"``."""

    def __init__(self, task, operator, parametrization, horizon, kind, weights):
        data = task.roles["reward"]
        self.x, self.y = np.asarray(data.x, np.float64), np.asarray(data.targets)
        self.forgotten = np.array([int(y) in task.forget_classes for y in self.y])
        self.params = {
            layer: {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}
            for layer, leaves in task.subject.params.items()
        }
        self.site = task.site
        self.operator, self.parametrization, self.horizon = operator, parametrization, horizon
        self.kind, self.weights = kind, weights
        self.original = {path: self.leaf(path).copy() for path in self.site}
        self.time = 0
        self.parts = self.judge()
        self.score = self.total(self.parts)

    def leaf(self, path):
        layer, name = path.split("/")
        return self.params[layer][name]

    def judge(self):
        """The named parts: utility, forgetting and, if it is weighted, edit size."""
        hits = []
        for logits, label in zip(mlp(self.params, self.x), self.y, strict=True):
            if self.kind == "accuracy":
                hits.append(float(int(logits.argmax()) == int(label)))
            else:
                exponentials = np.exp(logits - logits.max())
                hits.append(exponentials[label] / exponentials.sum())
        hits = np.array(hits)
        parts = {
            "utility": hits[~self.forgotten].mean(),
            "forgetting": 1.0 - hits[self.forgotten].mean(),
        }
        if "edit_size" in self.weights:
            moved = sum(((self.leaf(p) - self.original[p]) ** 2).sum() for p in self.site)
            length = sum((self.original[p] ** 2).sum() for p in self.site)
            parts["edit_size"] = -math.sqrt(moved) / math.sqrt(length)
        return parts

    def total(self, parts):
        return sum(self.weights[name] * value for name, value in parts.items())

    def observation(self):
        """Normalized weights and parts, both in the order of their names, then time gone."""
        values = []
        for path in sorted(self.site):
            original = self.original[path]
            values.extend(((self.leaf(path) - original.mean()) / original.std()).ravel())
        values.extend(self.parts[name] for name in sorted(self.parts))
        return np.array([*values, self.time / self.horizon])

    def step(self, action):
        """Returns observation, reward, done."""
        begin = 0
        for path in self.site:
            layer, name = path.split("/")
            shape = self.original[path].shape
            end = begin + matrix_size(self.parametrization, shape)
            change = matrix(self.parametrization, action[begin:end], shape)
            self.params[layer][name] = apply_operator(
                self.operator, self.params[layer][name], change, self.original[path]
            )
            begin = end
        self.time += 1
        before, self.parts = self.score, self.judge()
        self.score = self.total(self.parts)
        return self.observation(), self.score - before, self.time >= self.horizon
