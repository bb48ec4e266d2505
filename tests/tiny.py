"""Networks, data and tasks so small that a test takes seconds; for the tests of all floors."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.images.splits import Splits
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_classes
from modeledit_jax.types import Examples

CLASSES, FEATURES = 3, 6
SIZES = {"train": 60, "reward": 40, "select": 20, "test": 30}


def blobs(size: int, seed: int, features: int = FEATURES) -> Examples:
    """Gaussian clouds, one per class; every class is present."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(size) % CLASSES).astype(np.int32)
    centers = np.random.default_rng(0).normal(size=(CLASSES, features))
    x = centers[y] + 0.7 * rng.normal(size=(size, features))
    return Examples(x.astype(np.float32), y)


@lru_cache
def splits(seed: int = 0) -> Splits:
    """Four roles of different sizes, as NumPy arrays."""
    roles = {role: blobs(size, seed + index) for index, (role, size) in enumerate(SIZES.items())}
    return Splits(**roles, num_classes=CLASSES)


@lru_cache
def subject(seed: int = 0, hidden: tuple[int, ...] = (5, 4), dtype: str = "float32") -> Subject:
    """An untrained MLP; its biases are random too, so that no layer is trivial."""
    module = MLP(CLASSES, hidden)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, FEATURES)))["params"]
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.6 * rng.normal(size=leaf.shape), dtype), params
    )
    return Subject(params, flax_apply(module))


def task(classes: int | tuple[int, ...] = 0, *, seed: int = 0, **options) -> Task:
    """To forget ``classes``; options as of `forget_classes`, or ``base`` for another subject."""
    base = options.pop("base", None) or subject(seed)
    return forget_classes(base, splits(seed), classes, **options)
