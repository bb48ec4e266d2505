"""Trains classifiers from scratch: one scan over steps, several seeds at once."""

from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int

from modeledit_jax.data.arrays import check_examples
from modeledit_jax.mesh import Spread
from modeledit_jax.subjects.batch_norm import evaluation_mode, training_mode
from modeledit_jax.subjects.state_classifier import MODEL
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.types import Array, Examples, Key, Params


@dataclass(frozen=True)
class TrainingConfig:
    """AdamW with a cosine schedule to zero.

    Attributes:
      epochs: passes over the examples; a last incomplete batch of an epoch is left out.
      batch_size: examples of one gradient step.
      learning_rate: peak step size.
      weight_decay: decoupled, on every parameter but embedding tables (most words are in few
        batches, decay would be in all) and what belongs to a language model (`state_classifier`).
      balanced: weigh the examples so that each class weighs the same in the loss.
    """

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    balanced: bool = False


def cross_entropy(logits: Float[Array, "n c"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    """Returns the softmax cross-entropy, or that of the sigmoid where ``c`` is 1 (toxic or not)."""
    if logits.shape[-1] == 1:
        # In float32 also for a network of lower precision, as the loss of a sure answer is tiny.
        return optax.sigmoid_binary_cross_entropy(logits[:, 0].astype(jnp.float32), y)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def train_classifier(
    module: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    key: Key,
    weights: Float[Array, " n"] | None = None,
) -> Params:
    """Minimizes the weighted cross-entropy from a random start.

    Args:
      module: maps ``x [B, ...]`` to logits ``[B, C]``, or to one logit ``[B, 1]``. One that is
        batch-normalized (`modeledit_jax.subjects.batch_norm`) is trained with statistics of
        batches, of the examples whose weight is not 0, and returned in evaluation mode.
      examples: ``x [N, ...]``, ``y [N]`` int; 0 or 1 if there is one logit.
      config: static.
      key: seeds the initial weights and the order of the examples.
      weights: of every example in the loss; 0 leaves one out, which retrains without a class at
        unchanged shapes, so that many such retrainings run under one `jax.vmap`. Default: ones.

    Returns:
      The trained parameters. Pure and jittable; `jax.vmap` over ``key`` and ``weights``.
    """
    batch_size = min(config.batch_size, len(examples))
    steps_per_epoch = len(examples) // batch_size
    init_key, order_key = jax.random.split(key)
    params = module.init(init_key, examples.x[:1])["params"]
    weights = jnp.ones(len(examples)) if weights is None else weights
    if config.balanced:
        outputs: Any = jax.eval_shape(module.apply, {"params": params}, examples.x[:1])
        weights = weights * class_weights(examples.y, weights, max(outputs.shape[-1], 2))
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.epochs * steps_per_epoch)
    optimizer = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_decayed)
    forward = training_mode(module)
    presence = (weights > 0).astype(jnp.float32)

    def loss(params: Params, index: Array) -> Array:
        logits, _ = forward(params, examples.x[index], presence[index])
        losses = cross_entropy(logits, examples.y[index])
        total = weights[index].sum()
        # A batch that happens to hold no example of weight must not divide by zero.
        return (weights[index] * losses).sum() / jnp.maximum(total, 1.0)

    def step(carry: Any, index: Array) -> tuple[Any, None]:
        params, optimizer_state = carry
        gradient = jax.grad(loss)(params, index)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), None

    def batches(key: Key) -> Array:
        order = jax.random.permutation(key, len(examples))[: steps_per_epoch * batch_size]
        return order.reshape(steps_per_epoch, batch_size)

    def epoch(carry: Any, key: Key) -> tuple[Any, None]:
        return jax.lax.scan(step, carry, batches(key))

    keys = jax.random.split(order_key, config.epochs)
    (params, _), _ = jax.lax.scan(epoch, (params, optimizer.init(params)), keys)
    rows = batches(jax.random.fold_in(order_key, config.epochs))
    return evaluation_mode(forward, params, examples.x, presence, rows)


def class_weights(
    y: Int[Array, " n"], weights: Float[Array, " n"], num_classes: int
) -> Float[Array, " n"]:
    """Factors of the weights by which all classes weigh the same, of mean 1.

    Args:
      y: labels in 0…``num_classes`` − 1.
      weights: of the examples; a class that weighs nothing stays so.
      num_classes: of the labels.
    """
    total = jax.ops.segment_sum(weights, y, num_classes)
    present = jnp.maximum((total > 0).sum(), 1)
    return (weights.sum() / (present * jnp.where(total > 0, total, 1.0)))[y]


def _decayed(params: Params) -> Params:
    """Which leaves decay."""

    def decays(path: tuple[Any, ...], _: Array) -> bool:
        name = jax.tree_util.keystr(path)
        return not (name.endswith("['embedding']") or name.startswith(f"['{MODEL}']"))

    return jax.tree_util.tree_map_with_path(decays, params)


@partial(jax.jit, static_argnames=("module", "config", "at_once", "spread"))
def train_classifiers(
    module: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    keys: Key,
    weights: Float[Array, "b n"] | None = None,
    *,
    at_once: int | None = None,
    spread: Spread | None = None,
) -> Params:
    """Trains ``B`` classifiers in one compiled call.

    Args:
      module: see `train_classifier`.
      examples: shared by all.
      config: shared by all.
      keys: ``[B]`` typed keys.
      weights: ``[B, N]`` or None.
      at_once: how many train side by side (`jax.vmap`); the rest follow in turn. None: all. Side
        by side is faster for dense layers; on CPU XLA runs convolutions of stacked networks
        slowly, so 1 is better there.
      spread: over which devices; keys and weights then are as `Spread.place` has put them, and what
        is returned is for `Spread.gather`. None: one device.

    Returns:
      Parameters whose leaves have a leading axis ``B``.
    """
    if weights is None:
        weights = jnp.ones((keys.shape[0], len(examples)))

    def train(examples: Examples, keys: Key, weights: Array) -> Params:
        return jax.lax.map(
            lambda one: train_classifier(module, examples, config, one[0], one[1]),
            (keys, weights),
            batch_size=at_once or keys.shape[0],
        )

    train = train if spread is None else spread.each(train, shared=1)
    return train(examples, keys, weights)


def train_spread(
    module: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    keys: Key,
    weights: Float[Array, "b n"] | None,
    mesh: Mesh,
    *,
    at_once: int | None = None,
) -> Params:
    """`train_classifiers`, the ``B`` networks spread over the axis ``tasks`` of a mesh."""
    spread = Spread(mesh, keys.shape[0])
    keys, weights = spread.place((keys, weights))
    trained = train_classifiers(
        module, examples, config, keys, weights, at_once=at_once, spread=spread
    )
    return spread.gather(trained)


def train_subjects(
    module: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    keys: Key,
    *,
    mesh: Mesh | None = None,
) -> list[Subject]:
    """Trains one subject per key, all side by side in one compiled call.

    Args:
      module, examples, config: see `train_classifier`.
      keys: ``[B]`` typed keys.
      mesh: devices that the networks are spread over (axis ``tasks``); None: one device.

    Raises:
      ValueError: labels that are no integers in 0…C − 1, where ``C`` is the number of the module's
        outputs (2 for one), inputs or trained weights that are not finite, or a module that does
        not take such inputs.
    """
    check_training_examples(module, examples)
    return _trained(module, examples, config, keys, mesh)


def _trained(
    module: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    keys: Key,
    mesh: Mesh | None = None,
) -> list[Subject]:
    if mesh is None:
        params = train_classifiers(module, examples, config, keys)
    else:
        params = train_spread(module, examples, config, keys, None, mesh)
    for leaf in jax.tree.leaves(params):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise ValueError(
                "training ended with weights that are not finite: lower the learning rate"
            )
    return [
        Subject(params=jax.tree.map(itemgetter(index), params), apply=flax_apply(module))
        for index in range(keys.shape[0])
    ]


def check_training_examples(module: nn.Module, examples: Examples) -> None:
    """Raises ValueError unless the examples are such as ``module`` can be trained on."""
    if not (hasattr(examples, "x") and hasattr(examples.x, "shape") and len(examples.x.shape)):
        raise ValueError(
            f"examples must be Examples(x, y) of arrays, got a {type(examples).__name__} whose x "
            f"is a {type(getattr(examples, 'x', None)).__name__}"
        )

    def outputs(x: Array) -> Any:
        return module.init_with_output(jax.random.key(0), x)[0]

    try:
        one = jax.ShapeDtypeStruct((1, *examples.x.shape[1:]), examples.x.dtype)
        shape = jax.eval_shape(outputs, one).shape
    except Exception as error:  # of the user's module
        about = " ".join(str(error).strip().splitlines()[:1])
        raise ValueError(
            f"{type(module).__name__} does not take examples of shape {examples.x.shape} and dtype "
            f"{examples.x.dtype} ({type(error).__name__}: {about})"
        ) from error
    check_examples(examples, max(shape[-1], 2), "the examples")


SMALL = TrainingConfig(epochs=60, batch_size=64)
LARGE = {
    "MLP": TrainingConfig(epochs=5, batch_size=128),
    "CNN": TrainingConfig(epochs=3, batch_size=128, learning_rate=3e-3),
    "ResNet": TrainingConfig(epochs=3, batch_size=128, learning_rate=3e-3),
}


def image_recipe(module: nn.Module, num_examples: int) -> TrainingConfig:
    """A recipe under which the project's image classifiers converge on so many examples."""
    if num_examples < 5000:
        return SMALL
    return LARGE.get(type(module).__name__, TrainingConfig())


def train_subject(
    module: nn.Module, examples: Examples, key: Key, config: TrainingConfig | None = None
) -> Subject:
    """Trains one network to edit.

    Args:
      module: see `train_classifier`.
      examples: likewise.
      key: likewise.
      config: the recipe; None: `image_recipe`.

    Raises:
      ValueError: as `train_subjects`.
    """
    check_training_examples(module, examples)
    config = config or image_recipe(module, len(examples))
    examples = Examples(jnp.asarray(examples.x), jnp.asarray(examples.y))
    return _trained(module, examples, config, key[None])[0]


def gradient_steps(config: TrainingConfig, num_examples: int) -> int:
    """Optimizer steps of one training run."""
    return config.epochs * (num_examples // min(config.batch_size, num_examples))
