"""Linear concept erasure folded into the edited layer: LEACE and INLP.

Both find an affine map of the layer's input from which no linear classifier can read what the
identity term tells about toxicity. A linear layer after an affine map is a linear layer, so the
map is folded into its weights: these editors change the *kernel and the bias* of the site's layer,
also where the site names the kernel alone.

Sources: Belrose et al. 2023, *LEACE: Perfect linear concept erasure in closed form*; Ravfogel et
al. 2020, *Null It Out: Guarding Protected Attributes by Iterative Nullspace Projection*.
"""

import time
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from modeledit_jax import struct
from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.editors.debiasing.reweighing import (
    comment_targets,
    one_sided,
    reweighing_weights,
)
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.edits.split_apply import cached_features
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Field, Key

CONCEPTS = ("log-odds", "one-hot")


@struct.dataclass
class Projection:
    """The map ``h′ = P (h − mean) + mean``, with ``P P = P``."""

    matrix: Field  # [d, d] float64, P
    mean: Field  # [d] float64

    def __call__(self, h: Num[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Projects the rows of ``h``."""
        return (h - self.mean) @ self.matrix.T + self.mean


def leace_projection(
    h: Num[np.ndarray, "n d"],
    z: Num[np.ndarray, "n k"],
    weights: Num[np.ndarray, " n"] | None = None,
    svd_tol: float = 0.01,
) -> Projection:
    """The least change of ``h``, in mean square, after which its covariance with ``z`` is zero.

    ``P = I − W⁺ U Uᵀ W`` with ``W = Σ_hh^(−1/2)`` and ``U`` an orthonormal basis of the columns of
    ``W Σ_hz``. Directions in which ``h`` does not vary (units that never fire, or below what
    float32 resolves) have no part in ``W``. ``P`` never increases the variance of ``h``.

    Args:
      h: features.
      z: the concept; a column's scale has no influence.
      weights: of the examples, not negative; None: ones.
      svd_tol: columns of ``U`` with less correlation than this are left out, so that those which
        are mere noise do no harm.

    Raises:
      ValueError: values are not finite, a weight is negative, or all are zero.
    """
    share, x, mean = _centered(h, z, weights)
    z = z - share @ z
    deviation = np.sqrt(share @ z**2)
    cross = (x.T * share) @ (z / np.where(deviation > 0, deviation, 1.0))
    values, vectors = np.linalg.eigh((x.T * share) @ x)
    kept = values > values.max() * len(values) * np.finfo(np.float32).eps
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    # In the basis of the eigenvectors W is diagonal.
    whitened, correlation, _ = np.linalg.svd((vectors.T @ cross) / roots[:, None], False)
    basis = whitened[:, correlation > svd_tol]
    left, right = vectors @ (roots[:, None] * basis), (basis / roots[:, None]).T @ vectors.T
    return Projection(np.eye(h.shape[1]) - left @ right, mean)


def inlp_projection(
    h: Num[np.ndarray, "n d"],
    z: Num[np.ndarray, "n k"],
    num_classifiers: int = 1,
    weights: Num[np.ndarray, " n"] | None = None,
    ridge: float = 0.1,
) -> Projection:
    """Removes the row spaces of linear predictors of ``z``, each fitted on what the last ones left.

    Predictors are ridge regressions, which serve labels (columns of zeros and ones) and numbers
    alike and have a closed form. The projection is orthogonal.

    Args:
      h, z, weights: as of `leace_projection`.
      num_classifiers: rounds; each removes at most one direction per column.
      ridge: penalty relative to the mean variance of ``h``. The larger, the closer a direction is
        to the covariance with ``z``, and the more of ``h`` goes with it.

    Raises:
      ValueError: as `leace_projection`, or no round at all.
    """
    if num_classifiers < 1:
        raise ValueError(f"num_classifiers={num_classifiers}: removing something takes at least 1")
    share, x, mean = _centered(h, z, weights)
    matrix, removed = np.eye(h.shape[1]), np.zeros((0, h.shape[1]))
    for _ in range(num_classifiers):
        directions = _predictors(x @ matrix, z, share, ridge) @ matrix
        sizes = np.linalg.norm(directions, axis=1)
        # A predictor that found nothing must not remove a direction of rounding errors.
        found = directions[sizes > 1e-9 * max(sizes.max(initial=0.0), 1.0)]
        if not len(found):
            break
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        removed = _row_space(np.concatenate([removed, unit]))
        matrix = np.eye(h.shape[1]) - removed.T @ removed
    return Projection(matrix, mean)


def fold(
    kernel: Float[Array, "d out"], bias: Float[Array, " out"], projection: Projection
) -> tuple[Float[Array, "d out"], Float[Array, " out"]]:
    """Kernel and bias of the layer that equals the given one after `projection` of its input."""
    W = np.asarray(kernel, np.float64)
    folded = projection.matrix.T @ W
    moved = np.asarray(bias, np.float64) + projection.mean @ (W - folded)
    return jnp.asarray(folded, kernel.dtype), jnp.asarray(moved, bias.dtype)


@dataclass(frozen=True)
class LEACE:
    """Erases the concept from the input of the edited layer by `leace_projection`.

    Attributes:
      concept: see `concept_of`.
      svd_tol: see `leace_projection`.
    """

    concept: str = "log-odds"
    svd_tol: float = 0.01

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``trace`` is the `Projection`.

        ``key`` is not used.

        Raises:
          ValueError: no task about comments, or a site that is not one dense layer with a bias.
        """
        del key
        begin = time.perf_counter()
        h, z, weights = fitting_data(task, self.concept)
        return _edited(task, leace_projection(h, z, weights, self.svd_tol), begin)


@dataclass(frozen=True)
class INLP:
    """Erases the concept from the input of the edited layer by `inlp_projection`.

    Attributes:
      num_classifiers, ridge: see `inlp_projection`.
      concept: see `concept_of`.
    """

    num_classifiers: int = 8
    ridge: float = 0.1
    concept: str = "log-odds"

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; as `LEACE.edit`."""
        del key
        begin = time.perf_counter()
        h, z, weights = fitting_data(task, self.concept)
        return _edited(
            task, inlp_projection(h, z, self.num_classifiers, weights, self.ridge), begin
        )


def fitting_data(
    task: Task, concept: str
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"], Float[np.ndarray, " n"]]:
    """Inputs of the edited layer on the ``reward`` role, the concept, and balancing weights.

    Comments and counterfactuals are weighed so that concept and label are independent
    (`reweighing_weights`); else erasing the concept would erase toxicity too. Comments with a
    combination of terms that occurs with one label alone cannot be balanced and get weight 0.
    """
    sets, targets = comment_targets(task, "reward")
    z = concept_of(task, targets.groups, concept)
    weights = np.zeros(len(z), np.float32)
    usable = np.setdiff1d(np.arange(len(z)), one_sided(targets.label, targets.groups))
    weights[usable] = reweighing_weights(targets.label[usable], targets.groups[usable])
    kernel, _ = dense_layer(task)
    return layer_inputs(task.subject, kernel, jnp.asarray(sets.x)), z, weights


def concept_of(
    task: Task, groups: Num[np.ndarray, "n i"], concept: str, smoothing: float = 1.0
) -> Float[np.ndarray, "n k"]:
    """What is to be erased: ``"one-hot"``, the terms themselves, or ``"log-odds"``, one column.

    The log-odds of a term are those of toxicity among the training comments that mention it,
    relative to all training comments: ``ln (toxic + s)/(harmless + s)`` minus the same of all. A
    comment without terms has 0, one with several their sum.

    Raises:
      ValueError: unknown concept.
    """
    if concept == "one-hot":
        return np.asarray(groups, np.float64)
    if concept != "log-odds":
        raise ValueError(f"unknown concept {concept!r}; choose one of {', '.join(CONCEPTS)}")
    _, train = comment_targets(task, "train")
    counts = np.stack([(train.groups[train.label == y] > 0).sum(axis=0) for y in (1, 0)])
    toxic, harmless = counts + smoothing
    overall = np.log(
        (np.sum(train.label == 1) + smoothing) / (np.sum(train.label == 0) + smoothing)
    )
    return np.asarray(groups, np.float64) @ (np.log(toxic / harmless) - overall)[:, None]


def dense_layer(task: Task) -> tuple[str, str]:
    """Paths of kernel and bias of the layer that the site names.

    Raises:
      ValueError: the site holds no matrix or several, or the layer has no bias.
    """
    kernels = [path for path, leaf in task.leaves.items() if leaf.ndim == 2]
    if len(kernels) != 1:
        raise ValueError(
            f"a projection folds into the kernel of one dense layer; the site {task.site} has "
            f"{len(kernels)} matrices: choose a site such as 'fc2/kernel'"
        )
    layer, slash, _ = kernels[0].rpartition("/")
    bias = f"{layer}{slash}bias"
    if bias not in leaf_paths(task.subject.params):
        raise ValueError(
            f"the layer of {kernels[0]!r} has no leaf {bias!r} to take the mean of its input: "
            "choose a layer with a bias"
        )
    return kernels[0], bias


def layer_inputs(subject: Subject, kernel: str, x: Array) -> Float[np.ndarray, "n d"]:
    """Inputs ``[N, D]`` of the dense layer with this kernel ``[D, H]``, as float64.

    Raises:
      ValueError: what reaches the leaf is no single vector per example (e.g. an embedding or a
        convolution).
    """
    rows = cached_features(subject.apply, subject.params, x, (kernel,)).per_example
    size = get_leaves(subject.params, (kernel,))[kernel].shape[0]
    if len(rows) != 1 or rows[0].size != x.shape[0] * size:
        raise ValueError(
            f"the inputs of {kernel!r} are arrays of shape {[row.shape for row in rows]}, not one "
            f"[N, {size}] matrix: choose the kernel of a dense layer, such as 'fc2/kernel'"
        )
    return np.asarray(rows[0], np.float64).reshape(-1, size)


def _edited(task: Task, projection: Projection, begin: float) -> EditResult:
    kernel, bias = dense_layer(task)
    leaves = get_leaves(task.subject.params, (kernel, bias))
    folded = fold(jnp.asarray(leaves[kernel]), jnp.asarray(leaves[bias]), projection)
    params = set_leaves(task.subject.params, dict(zip((kernel, bias), folded, strict=True)))
    return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin), projection))


def _centered(
    h: np.ndarray, z: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checks the data; returns shares that sum to 1, centered features and their mean."""
    check_shapes(h=(h, "n d"), z=(z, "n k"), weights=(weights, "n"))
    weights = np.ones(len(h)) if weights is None else np.asarray(weights, np.float64)
    if not (np.isfinite(h).all() and np.isfinite(z).all()):
        raise ValueError("features or concept are not finite; check the network and the labels")
    if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError("weights must be finite and not negative, with at least one above 0")
    share = weights / weights.sum()
    mean = share @ h
    return share, np.asarray(h - mean, np.float64), mean


def _predictors(x: np.ndarray, z: np.ndarray, share: np.ndarray, ridge: float) -> np.ndarray:
    """Weights ``[k, d]`` of the ridge regression of every column of ``z`` on centered features."""
    covariance = (x.T * share) @ x
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    cross = (x.T * share) @ (z - share @ z)
    return np.linalg.lstsq(covariance, cross, rcond=None)[0].T


def _row_space(rows: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the row space."""
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    return basis[values > values.max(initial=0.0) * 1e-9]
