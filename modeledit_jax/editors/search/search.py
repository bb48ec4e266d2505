"""Editors that search: they propose edits in a world and learn from their rewards.

A search is three pure functions (`Search`) and the options of the world it plays in, so the same
loop runs any of them, alone or many tasks at a time under `jax.vmap`, in one compiled call or in
chunks that can be saved and resumed. Everything compiled is found again by the value of search and
world: another task of the same shapes compiles nothing.
"""

import math
import time
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.parametrization import LowRank, Parametrization
from modeledit_jax.edits.precision import Precision
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.options import Coordinates, Observation
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.envs.worlds import WorldName, make_world
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Field, Key, Leaves, PyTree


@runtime_checkable
class Search(Protocol):
    """An iterative search on a `World` as three pure functions."""

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
    """The progress of a search, one entry per update."""

    plans: Field  # [K, T, A] float32, see `Search.plan`
    metrics: Field  # {name: [K] float32}


@struct.dataclass
class SearchEditor:
    """A `Search` that is an editor: it makes the task's world, searches, edits the network.

    A subclass is a `struct.dataclass` with the three functions and the two counts of `Search`.
    Its numbers may be swept by `jax.vmap`.

    Attributes:
      world: ``"shift"`` or ``"mask"``.
      budget: at most so many reward evaluations; step sizes decay to zero over them.
      parametrization: how an action becomes a matrix.
      horizon: edits of an episode.
      observation: what a policy sees (`World`); None: the weights, but the time alone in episodes
        of one edit, which all begin with the same weights (docs/findings.md).
      precision: of scoring candidates (`edits.precision`).
      coordinates: of an action's matrix (`World`).
      sites_chosen: leaves of the task's site that an edit changes; None: all.
      sites_drawn: draw them once for each task in place of searching for them.
      batch_size: candidates evaluated at a time, on each device; None: as many as are fast.
    """

    world: WorldName = struct.field(pytree_node=False, default="shift")
    budget: int = struct.field(pytree_node=False, default=2000)
    parametrization: Parametrization = struct.field(pytree_node=False, default=LowRank())
    horizon: int = struct.field(pytree_node=False, default=1)
    observation: Observation | None = struct.field(pytree_node=False, default=None)
    precision: Precision = struct.field(pytree_node=False, default="float32")
    coordinates: Coordinates = struct.field(pytree_node=False, default="weights")
    sites_chosen: int | None = struct.field(pytree_node=False, default=None)
    sites_drawn: bool = struct.field(pytree_node=False, default=False)
    batch_size: int | None = struct.field(pytree_node=False, default=None)

    @property
    def evaluations_per_update(self) -> int:
        """Reward evaluations of one update."""
        raise NotImplementedError

    @property
    def gradient_steps_per_update(self) -> int:
        """Optimizer steps of one update."""
        raise NotImplementedError

    def init(self, env: World, params: WorldParams, key: Key) -> PyTree:
        """See `Search.init`."""
        raise NotImplementedError

    def update(self, env: World, params: WorldParams, state: PyTree) -> tuple[PyTree, dict]:
        """See `Search.update`."""
        raise NotImplementedError

    def plan(self, env: World, params: WorldParams, state: PyTree) -> Array:
        """See `Search.plan`."""
        raise NotImplementedError

    @property
    def updates(self) -> int:
        """Number of updates that the budget pays for.

        Raises:
          ValueError: it does not pay for one, or an update evaluates nothing.
        """
        if self.evaluations_per_update < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(
                f"{type(self).__name__} evaluates {self.evaluations_per_update} candidates an "
                f"update, {self.batch_size or 'all'} at a time: give positive numbers"
            )
        updates = self.budget // self.evaluations_per_update
        if updates < 1:
            raise ValueError(
                f"a budget of {self.budget} reward evaluations does not pay for one update of "
                f"{type(self).__name__}, which takes {self.evaluations_per_update}; raise the "
                "budget or shrink the population"
            )
        return updates

    @property
    def cost(self) -> Cost:
        """Of one edit, but for the seconds."""
        return Cost(
            reward_evaluations=self.updates * self.evaluations_per_update,
            gradient_steps=self.updates * self.gradient_steps_per_update,
        )

    def make_world(self, task: Task) -> World:
        """The world that the search plays in."""
        alike: Observation = "time" if self.horizon == 1 else "weights"
        return make_world(
            self.world,
            task,
            parametrization=self.parametrization,
            horizon=self.horizon,
            observation=self.observation or alike,
            precision=self.precision,
            coordinates=self.coordinates,
            sites_chosen=self.sites_chosen,
            sites_drawn=self.sites_drawn,
        )

    def edit(self, task: Task, key: Key) -> EditResult:
        """Searches in one compiled call; ``trace`` is a `SearchTrace`.

        Raises:
          ValueError: the budget is too small, or a user's reward function returned a value that is
            not finite for a network with finite outputs.
        """
        begin = time.perf_counter()
        cost = self.cost
        env = self.make_world(task)
        form, arrays = static_form(self)
        leaves, trace = jax.block_until_ready(
            _search(form, env.static, self.updates, arrays, env.default_params, key)
        )
        check_rewards(trace.metrics)
        return checked(
            task,
            EditResult(
                set_leaves(task.subject.params, leaves),
                Cost(cost.reward_evaluations, cost.gradient_steps, time.perf_counter() - begin),
                trace,
            ),
        )


def check_numbers(**values: Any) -> None:
    """Checks settings of a search that are plain numbers; arrays are swept and left alone.

    Args:
      **values: spreads, which are above 0, or rates by names that end in ``rate``, from 0 up; None
        and arrays are left out.

    Raises:
      ValueError: one is not finite, or below its least.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        rate = name.endswith("rate")
        if not math.isfinite(value) or value < 0 or (value == 0 and not rate):
            raise ValueError(f"{name} must be {'at least' if rate else 'above'} 0, got {value}")


StaticForm = tuple[type, Any, tuple[Any, ...]]
"""A search but for its arrays: hashable, so that it can be a static argument of `jax.jit`."""


def static_form(search: PyTree) -> tuple[StaticForm, list[Array | None]]:
    """Takes a search apart: what is compiled in (its structure and plain numbers), and its arrays.

    Plain numbers are compiled in as constants, so a search gives the same bits whether it is run
    alone or many tasks at a time.
    """
    leaves, structure = jax.tree.flatten(search)
    arrays = [leaf if isinstance(leaf, jax.Array) else None for leaf in map(_as_array, leaves)]
    numbers = [
        None if array is not None else leaf for leaf, array in zip(leaves, arrays, strict=True)
    ]
    # The class beside the structure, which does not tell it where a user took `flax.struct`.
    return (type(search), structure, tuple(numbers)), arrays


def from_static_form(form: StaticForm, arrays: list[Array | None]) -> Any:
    """Puts a search together again."""
    _, structure, numbers = form
    leaves = [n if a is None else a for n, a in zip(numbers, arrays, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if hasattr(leaf, "shape") else leaf


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    form: StaticForm,
    env: World,
    updates: int,
    arrays: list[Array | None],
    params: WorldParams,
    key: Key,
) -> tuple[Leaves, SearchTrace]:
    """Edited leaves of one task, and how they were found."""
    search = from_static_form(form, arrays)
    state = search.init(env, params, key)
    state, trace = run_updates(search, env, params, state, updates)
    plan = search.plan(env, params, state)
    return env.apply_plan(plan, params.original, params.bases), trace


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


def check_rewards(metrics: dict[str, Array]) -> None:
    """Raises ValueError where a reward function has returned a non-finite score (`World`)."""
    if bool(jnp.any(metrics["invalid_reward"] > 0)):
        raise ValueError(
            "the reward function returned a value that is not finite (NaN or infinity) for a "
            "network with finite outputs; guard its logarithms and divisions"
        )
