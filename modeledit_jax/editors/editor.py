"""One call for every editor, and the loop that all searching editors share.

A *search* proposes edits and learns from their rewards: PPO, evolution strategies, random search.
It is three pure functions (`Search`), so the same loop runs any of them, alone or many tasks at a
time under `jax.vmap`, in one compiled call or in chunks that can be saved and resumed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.envs.worlds import make
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Field, Key, Params, PyTree


@dataclass(frozen=True)
class Cost:
    """What an edit has cost.

    Attributes:
      reward_evaluations: times a candidate network was scored, of all tuning inside the editor.
      gradient_steps: optimizer steps on weights of the subject or of the policy.
      seconds: wall-clock time of the call, with compilation.
    """

    reward_evaluations: int = 0
    gradient_steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class EditResult:
    """An edited network.

    Attributes:
      params: the whole parameter pytree, edited.
      cost: see `Cost`.
      trace: what the editor recorded on its way, or None.
    """

    params: Params
    cost: Cost
    trace: Any = None


@runtime_checkable
class Editor(Protocol):
    """Anything that edits a network for a task within a budget of reward evaluations."""

    def edit(self, task: Task, key: Key, budget: int) -> EditResult:
        """Returns the edited network; at most ``budget`` reward evaluations."""
        ...


@runtime_checkable
class Search(Protocol):
    """An iterative editor on a `World` as three pure functions."""

    @property
    def evaluations_per_update(self) -> int:
        """Reward evaluations of one `update`."""
        ...

    @property
    def gradient_steps_per_update(self) -> int:
        """Optimizer steps of one `update`."""
        ...

    def init(self, env: World, params: WorldParams, key: Key) -> PyTree:
        """The first state."""
        ...

    def update(self, env: World, params: WorldParams, state: PyTree) -> tuple[PyTree, dict]:
        """One generation or policy update: the next state and scalar metrics.

        The metrics include ``score`` (mean score of the candidates) and ``invalid_reward``.
        """
        ...

    def plan(self, env: World, params: WorldParams, state: PyTree) -> Array:
        """The edit the search would settle for now: the actions of an episode, ``[T, A]``."""
        ...


@struct.dataclass
class SearchTrace:
    """The course of a search, one entry per update."""

    plans: Field  # [K, T, A] float32, see `Search.plan`
    metrics: Field  # {name: [K] float32}


def run_update(
    search: Search, env: World, params: WorldParams, state: PyTree
) -> tuple[PyTree, SearchTrace]:
    """One update, and its entry of the trace: plan ``[T, A]``, metrics ``{name: []}``."""
    state, metrics = search.update(env, params, state)
    return state, SearchTrace(plans=search.plan(env, params, state), metrics=metrics)


def run_updates(
    search: Search, env: World, params: WorldParams, state: PyTree, num_updates: int
) -> tuple[PyTree, SearchTrace]:
    """Runs ``num_updates`` updates as one scan; pure, for `jax.jit` and `jax.vmap`."""

    def step(state: PyTree, _: None) -> tuple[PyTree, SearchTrace]:
        return run_update(search, env, params, state)

    return jax.lax.scan(step, state, length=num_updates)


def updates_within(search: Search, budget: int) -> int:
    """Number of updates that ``budget`` reward evaluations pay for.

    Raises:
      ValueError: the budget does not pay for one update.
    """
    updates = budget // search.evaluations_per_update
    if updates < 1:
        raise ValueError(
            f"a budget of {budget} reward evaluations does not pay for one update of "
            f"{type(search).__name__}, which takes {search.evaluations_per_update}; raise the "
            "budget or shrink the population"
        )
    return updates


def edit_with_search(search: Search, env: World, task: Task, key: Key, budget: int) -> EditResult:
    """Searches for one task, in one compiled call.

    Raises:
      ValueError: the budget is too small, or a user's reward function returned a value that is not
        finite for a network with finite outputs.
    """
    begin = time.perf_counter()
    updates = updates_within(search, budget)
    params = env.params(task)

    @jax.jit
    def run(params: WorldParams, key: Key) -> tuple[dict[str, Array], SearchTrace]:
        state = search.init(env, params, key)
        state, trace = run_updates(search, env, params, state, updates)
        return env.apply_plan(search.plan(env, params, state), params.original), trace

    leaves, trace = jax.block_until_ready(run(params, key))
    check_rewards(trace.metrics)
    cost = Cost(
        reward_evaluations=updates * search.evaluations_per_update,
        gradient_steps=updates * search.gradient_steps_per_update,
        seconds=time.perf_counter() - begin,
    )
    return EditResult(set_leaves(task.subject.params, leaves), cost, trace)


@dataclass(frozen=True)
class SearchEditor:
    """A search as an `Editor`: makes the task's world, searches, returns the edited network.

    Attributes:
      search: the search for a budget of reward evaluations.
      world: name of the world (`modeledit_jax.make`).
      options: of the world: ``parametrization``, ``horizon``, ``observation``.
    """

    search: Callable[[int], Search]
    world: str = "ShiftWorld-v0"
    options: Mapping[str, Any] = field(default_factory=dict)

    def edit(self, task: Task, key: Key, budget: int) -> EditResult:
        """Searches with at most ``budget`` reward evaluations; raises as `edit_with_search`."""
        env, _ = make(self.world, task, **self.options)
        return edit_with_search(self.search(budget), env, task, key, budget)


def check_rewards(metrics: dict[str, Array]) -> None:
    """Raises ValueError where a reward function has returned a non-finite score (`World`)."""
    if bool(jnp.any(metrics["invalid_reward"] > 0)):
        raise ValueError(
            "the reward function returned a value that is not finite (NaN or infinity) for a "
            "network with finite outputs; guard its logarithms and divisions"
        )
