"""Gradient ascent on the reward of a task: what a search of the same leaves could reach at best.

A reward that is smooth in the outputs has a gradient in the edited leaves. An editor that follows
it sees the same examples and the same reward as a search and spends no reward evaluation; one that
is made of ranks (AUCs) or of decisions has none, and is refused.
"""

import time
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.envs.worlds import make_world
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves


@dataclass(frozen=True)
class RewardGradient:
    """Adam on the leaves of the site, up the reward; the step size falls to zero along a cosine.

    Attributes:
      steps: of the optimizer, each on all examples of the ``reward`` role.
      learning_rate: at the first step.
    """

    steps: int = 400
    learning_rate: float = 1e-3

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``trace`` holds the ``score`` before every step.

        ``key`` is not used.

        Raises:
          ValueError: the reward has no gradient on the unedited network.
        """
        del key
        begin = time.perf_counter()
        env = make_world("shift", task)
        leaves, scores, first = jax.block_until_ready(
            _ascend(env.static, self.steps, jnp.float32(self.learning_rate), env.default_params)
        )
        if not first > 0:
            raise ValueError(
                f"the reward of the task {task.name!r} has no gradient in {', '.join(task.site)}: "
                "choose one that is smooth in the outputs, such as 'fidelity'"
            )
        cost = Cost(gradient_steps=self.steps, seconds=time.perf_counter() - begin)
        params = set_leaves(task.subject.params, leaves)
        return checked(task, EditResult(params, cost, {"score": scores}))


@partial(jax.jit, static_argnums=(0, 1))
def _ascend(
    env: World, steps: int, learning_rate: Array, params: WorldParams
) -> tuple[Leaves, Float[Array, " steps"], Float[Array, ""]]:
    """Edited leaves, score before every step, and the largest slope before the first."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(leaves: Leaves) -> Array:
        return -env.evaluate(leaves, params)[0]

    def step(carry: tuple[Leaves, optax.OptState], _: None) -> tuple[tuple, Array]:
        leaves, state = carry
        value, gradient = jax.value_and_grad(loss)(leaves)
        updates, state = optimizer.update(gradient, state, leaves)
        return (optax.apply_updates(leaves, updates), state), -value

    slopes = jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(params.original))
    start = params.original, optimizer.init(params.original)
    (leaves, _), scores = jax.lax.scan(step, start, length=steps)
    return leaves, scores, jnp.stack(jax.tree.leaves(slopes)).max()
