"""OpenES of evosax on the same task: features cached by hand, candidates under `jax.vmap`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import Open_ES
from flax import linen as nn

from benchmarks.timing import Contestant
from benchmarks.workload import make_actions
from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.envs.world import World
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array


def fitness(task: Task) -> Any:
    """``(actions [E, A], data) -> rewards [E]`` as a user writes it, and ``data``."""
    params: Any = task.subject.params
    sets = task.roles["reward"]
    x = jnp.asarray(sets.x).reshape(len(sets.x), -1)
    hidden = nn.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    data = {
        "hidden": hidden,
        "params": params,
        "label": jnp.asarray(sets.targets),
        "weights": {name: jnp.asarray(w) for name, w in sets.weights.items()},
    }

    def score(kernel: Array, data: Any) -> Array:
        hidden = nn.relu(data["hidden"] @ kernel + data["params"]["fc2"]["bias"])
        logits = hidden @ data["params"]["head"]["kernel"] + data["params"]["head"]["bias"]
        probability = jnp.take_along_axis(nn.softmax(logits), data["label"][:, None], 1)[:, 0]
        means = {k: (w * probability).sum() / w.sum() for k, w in data["weights"].items()}
        return means["retain"] + 1.0 - means["forget"]

    def rewards(actions: Array, data: Any) -> Array:
        kernel = data["params"]["fc2"]["kernel"]

        def reward(action: Array) -> Array:
            matrix = LowRank().matrix(action, kernel.shape)
            return score(kernel + kernel.std() * matrix, data) - score(kernel, data)

        return jax.vmap(reward)(actions)

    return rewards, data


def evosax_openes(env: World, task: Task, population: int, generations: int) -> Contestant:
    """A search from start to end in one compiled call."""
    rewards, data = fitness(task)
    start = make_actions(env, 1)[0]
    search = Open_ES(population, start, optimizer=optax.adam(0.1))
    params = search.default_params

    @jax.jit
    def run(key: Array, data: Any) -> Array:
        def generation(state: Any, key: Array) -> tuple[Any, None]:
            ask, tell = jax.random.split(key)
            actions, state = search.ask(ask, state, params)
            state, _ = search.tell(tell, actions, -rewards(actions, data), state, params)
            return state, None

        state = search.init(key, start, params)
        state, _ = jax.lax.scan(generation, state, jax.random.split(key, generations))
        return state.mean

    return Contestant(partial(run, jax.random.key(0), data), work=population * generations)
