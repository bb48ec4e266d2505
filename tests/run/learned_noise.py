"""A method of a user's own that learns: how far to go at random, in two trainings."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.stream import StreamEditor, train_in_memory


@dataclass(frozen=True)
class LearnedNoise(StreamEditor):
    """Random changes of the last module, of a size that grows with every step of the training."""

    steps: int = 8
    rate: float = 0.01

    def init(self, model, key):
        return {"size": jnp.zeros(()), "key": jax.random.key_data(key)}

    def train(self, model, stream, key, loop=train_in_memory):
        facts = stream.real.sum()

        def advance(state, done, steps):
            sizes = state["size"] + self.rate * facts * jnp.arange(1, steps + 1)
            return state | {"size": sizes[-1]}, {"loss": -sizes}

        state = loop(self.init(model, key), advance, self.steps, metrics=("loss",), chunk=3)
        return loop(state, advance, self.steps, chunk=3)  # a second training, which reports nothing

    def edit(self, model, kernels, state, batch, key):
        name = model.modules[-1]
        noise = state["size"] * jax.random.normal(key, model.shapes[name])
        return {name: Hook(delta=noise)}, state

    def gradient_steps(self, batches):
        return 2 * self.steps
