"""The reference that changes nothing."""

import jax
import jax.numpy as jnp

from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.lifelong.stream import StreamEditor, edit_stream, start_stream


def test_it_is_a_method_that_leaves_every_bit(model, stream):
    method = Unedited()
    assert isinstance(method, StreamEditor)
    key = jax.random.key(0)
    state = method.train(model, None, key)
    assert state is None and method.gradient_steps(stream.batches) == 0
    after, trace = edit_stream(method, model, start_stream(model, state, key), stream)
    for name, kernel in model.kernels().items():
        assert (after.kernels[name] == kernel).all()
    assert not jnp.any(trace.masks) and not jnp.any(trace.change_norms)
