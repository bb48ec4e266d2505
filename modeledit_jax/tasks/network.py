"""The network of a task, checked before anything is spent on it, and each edit of it afterwards.

Every task is checked when it is made (`Task`): its weights and examples are finite, ``apply`` runs,
and the outputs of an example depend on no other example of its batch. A few examples and one small
program, compiled once for each ``apply``, are enough for that.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.data.arrays import brief, is_concrete, nonfinite_rows
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.types import Apply, Array, Params


class NonFiniteError(ValueError):
    """A network, or an edit of it, with weights or outputs that are NaN or infinite."""


SAMPLED = 8
"""Examples whose outputs are looked at."""

TOLERATED = 1e-3
"""Difference of outputs, relative to the largest, that rounding may make; see `_tolerated`."""


def check_subject(subject: Any) -> None:
    """Raises ValueError unless it is a network with finite weights.

    Args:
      subject: what the user has given.
    """
    if not hasattr(subject, "params") or not callable(getattr(subject, "apply", None)):
        raise ValueError(
            f"the subject is a {type(subject).__name__}: pass Subject(params=…, apply=…), whose "
            "apply(params, x) is a function"
        )
    for path, leaf in _named_leaves(subject.params).items():
        kind = getattr(getattr(leaf, "dtype", np.dtype(object)), "kind", "V")  # V: a random key
        if kind in "OSUMm" and not isinstance(leaf, int | float | complex):
            raise ValueError(
                f"the parameter {path!r} is a {type(leaf).__name__} and holds no numbers: "
                "parameters are arrays; keep settings in apply"
            )
    check_finite(subject.params, "the network", "load or train it again")


def check_finite(params: Params, whose: str, cure: str) -> None:
    """Raises ValueError where a leaf holds NaN or infinity; traced leaves are not looked at.

    Args:
      params: a pytree.
      whose: begins the message.
      cure: ends it.
    """
    for path, leaf in _named_leaves(params).items():
        array = np.asarray(leaf) if isinstance(leaf, float) else leaf
        if (is_concrete(array) or isinstance(array, np.generic)) and len(nonfinite_rows(array)):
            raise NonFiniteError(
                f"{whose} has weights that are not finite (NaN or infinity) in {path!r}: {cure}"
            )


def check_spread(leaves: Mapping[str, Any]) -> None:
    """Raises ValueError where leaves to edit are so large that their spread overflows.

    Args:
      leaves: of the site; an edit is in units of their spread.
    """
    for path, leaf in leaves.items():
        if not is_concrete(leaf):
            continue
        with np.errstate(all="ignore"):
            spread = np.var(np.asarray(leaf, np.float32))
        if not np.isfinite(spread):
            raise ValueError(
                f"the leaf {path!r} has weights too large to edit: their spread overflows float32; "
                "scale the network"
            )


def check_examples_finite(roles: Mapping[str, Any]) -> None:
    """Raises ValueError where inputs of a role hold NaN or infinity.

    Args:
      roles: ``{role: EvaluationSets}``; examples in no set are padding and may hold anything.
    """
    for role, sets in roles.items():
        if not is_concrete(sets.x) or not len(rows := nonfinite_rows(sets.x)):
            continue
        weights = [np.asarray(weight) for weight in sets.weights.values()]
        used = sum(np.abs(weight).reshape(-1, weight.shape[-1]).sum(0) for weight in weights)
        if len(rows := rows[used[rows] > 0]):
            raise ValueError(
                f"x of the role {role} has values that are not finite in row {brief(rows)}: "
                "replace or drop them"
            )


def sample_outputs(subject: Subject, x: Any) -> np.ndarray | None:
    """Outputs ``[n, ...]`` on a few examples, spread over all; None where values are traced.

    Args:
      subject: the network.
      x: examples ``[N, ...]``.

    Raises:
      ValueError: ``apply`` fails, gives no array, or gives an example other outputs in a batch than
        alone; or outputs are not finite.
    """
    leaves = jax.tree.leaves(subject.params)
    if not is_concrete(x) or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return None
    rows = sampled_rows(len(x))
    try:
        together, apart = _together_and_apart(subject.apply, subject.params, np.asarray(x[rows]))
    except Exception as error:  # code of the user's, which may raise anything
        raise ValueError(_failure(error)) from error
    if not hasattr(together, "shape") or together.shape[:1] != rows.shape:
        found = getattr(together, "shape", type(together).__name__)
        raise ValueError(
            f"apply gives {found} for {len(rows)} examples: it must return one array [N, C]"
        )
    together, apart = (np.asarray(outputs, np.float32) for outputs in (together, apart))
    if apart.size != together.size:
        raise ValueError(
            f"apply gives outputs of shape {together.shape} for {len(rows)} examples, and of shape "
            f"{apart.shape[1:]} for one: it must return one row for each example"
        )
    if len(bad := nonfinite_rows(together)):
        raise NonFiniteError(nonfinite_outputs(rows[bad]))
    if np.abs(together - apart.reshape(together.shape)).max(initial=0.0) > _tolerated(
        leaves, together
    ):
        raise ValueError(_DEPENDENT)
    return together


def nonfinite_outputs(rows: np.ndarray) -> str:
    """What is said of an unedited network whose outputs are not finite on these reward rows."""
    return (
        "the outputs of the unedited network are not finite for row "
        f"{brief(rows)} of the role reward: check its weights and the range of x"
    )


def outputs_are_finite(subject: Subject, params: Params, x: Any) -> bool:
    """Whether an edited network of the subject's shapes has finite outputs on the sample."""
    rows = sampled_rows(len(x))
    outputs = _together_and_apart(subject.apply, params, np.asarray(x[rows]))[0]
    return bool(np.isfinite(np.asarray(outputs, np.float32)).all())


def sampled_rows(size: int) -> np.ndarray:
    """Rows of the sample."""
    return np.unique(np.linspace(0, size - 1, min(size, SAMPLED)).astype(int))


def check_logits(outputs: Float[np.ndarray, "n c"], num_classes: int) -> None:
    """Raises ValueError unless outputs look like those of a classifier: logits, of all classes.

    Args:
      outputs: ``[n, C]`` on some examples; ``C = 1`` is the logit of class 1 against class 0.
      num_classes: classes of the data.
    """
    if outputs.ndim != 2:
        raise ValueError(
            f"apply gives outputs of shape {outputs.shape} for {len(outputs)} examples: it must "
            "return logits [N, C]"
        )
    classes = max(outputs.shape[1], 2)
    if classes < num_classes:
        raise ValueError(
            f"the network has {outputs.shape[1]} outputs for {num_classes} classes: give it one "
            "for each class, or correct num_classes"
        )
    inside = outputs.min() >= 0 and outputs.max() <= 1 + 1e-3
    sure = outputs.max() > 0.5 > outputs.min()
    sums_to_one = outputs.shape[1] > 1 and np.abs(outputs.sum(axis=1) - 1).max() < 1e-2
    if inside and (sure or sums_to_one):
        raise ValueError(
            "the network's outputs are probabilities, and logits are needed: leave the softmax or "
            "sigmoid at the end of apply out"
        )


_DEPENDENT = (
    "the network gives an example other outputs in a batch than alone, as batch normalization and "
    "dropout in training mode do: switch it to evaluation mode (use_running_average=True, "
    "deterministic=True, model.eval())"
)


@partial(jax.jit, static_argnums=0)
def _together_and_apart(apply: Apply, params: Params, x: Array) -> tuple[Any, Any]:
    """Outputs on examples in one batch, and on each alone."""
    with jax.default_matmul_precision("highest"):  # TF32 would differ between the two
        together = apply(params, x)
        apart = jax.lax.map(lambda one: apply(params, one[None]), x)
    return together, apart


def _tolerated(leaves: list[Any], outputs: np.ndarray) -> float:
    """Largest difference that rounding makes, in the precision of the narrowest weights."""
    narrow = any(jnp.result_type(leaf).itemsize < 4 for leaf in leaves if _is_float(leaf))
    return (100 if narrow else 1) * TOLERATED * float(np.abs(outputs).max(initial=0.0))


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _failure(error: Exception) -> str:
    """One line about an ``apply`` that failed."""
    kind, text = type(error).__name__, str(error).strip()
    about = f"{kind}: {text.splitlines()[0]}" if text else kind
    if (
        "TraceContext" in kind or "ModifyScope" in kind
    ):  # state of NNX or Linen that a call would change
        return (
            f"apply changes the network's state ({about}): switch it to evaluation mode "
            "(use_running_average=True, deterministic=True, model.eval())"
        )
    return f"apply(params, x) fails on a batch of the reward role ({about}): check both"


def _named_leaves(params: Params) -> dict[str, Any]:
    return dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
