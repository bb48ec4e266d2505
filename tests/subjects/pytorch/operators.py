"""Operators of torch as a reference for those of JAX."""

import jax.numpy as jnp
import numpy as np

from tests.subjects.pytorch.networks import torch

FLOATS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
POSITIVE = np.abs(FLOATS) + np.float32(0.1)
INTEGERS = np.random.default_rng(1).integers(-4, 5, (2, 3, 4)).astype(np.int32)
IMAGES = np.random.default_rng(2).normal(size=(2, 4, 9, 8)).astype(np.float32)
VOLUMES = np.random.default_rng(3).normal(size=(2, 3, 5, 6, 7)).astype(np.float32)


def normal(*shape, seed=4):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def case(name, *inputs, **options):
    """An operator with its arguments; arrays are NumPy's."""
    return name, inputs, options


def check(operators, name, inputs, options):
    """Fails unless the table's operator gives what torch's gives, in shape, kind and numbers."""
    namespace, packet, overload = name.split(".")
    reference = getattr(getattr(getattr(torch.ops, namespace), packet), overload)
    expected = _arrays(reference(*_converted(inputs, _tensor, list), **options))
    found = operators[name](*_converted(inputs, jnp.asarray, tuple), **options)
    found = found if isinstance(found, list | tuple) else [found]
    assert len(found) >= 1
    for ours, theirs in zip(found, expected, strict=False):  # what nobody reads is left out
        if ours is None:
            continue
        ours = np.asarray(ours)
        assert ours.shape == theirs.shape
        assert ours.dtype.kind == theirs.dtype.kind
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def _tensor(array):
    tensor = torch.tensor(array)
    return tensor.long() if array.dtype == np.int32 else tensor


def _converted(argument, convert, sequence):
    if isinstance(argument, np.ndarray):
        return convert(argument)
    if isinstance(argument, list | tuple):
        return sequence(_converted(one, convert, sequence) for one in argument)
    return argument


def _arrays(result):
    several = result if isinstance(result, list | tuple) else [result]
    return [np.asarray(one) for one in several]
