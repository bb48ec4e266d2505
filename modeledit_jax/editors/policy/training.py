"""Trains the policy of a `LearnedEditor` on many networks and requests by PPO."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from modeledit_jax.agents import grpo
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.equivariant import EquivariantPolicy
from modeledit_jax.agents.grpo import ALL_AT_ONCE, AtOnce, MultitaskState
from modeledit_jax.editors.policy.learned import WORLD_ACTIONS, LearnedEditor, neuron_world
from modeledit_jax.editors.policy.memory_plan import PolicyPlan, plan_updates
from modeledit_jax.envs.task_pool import TaskPool, make_pool, params_shapes, pool_shapes
from modeledit_jax.envs.world import World
from modeledit_jax.envs.worlds import WorldName
from modeledit_jax.memory import live_bytes, tree_bytes
from modeledit_jax.mesh import TASKS, Layout, automatic, axis_size, constrained, on_every_device
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key


@dataclass(frozen=True)
class PolicyTraining:
    """How a policy is trained.

    Attributes:
      updates: of PPO; each draws tasks of one pool, the pools take turns.
      tasks: drawn for every update.
      trials: actions tried in every state of a task.
      examples: of the reward role that score an update's edits; None: all.
      learning_rate: of Adam, falling to zero along a cosine.
      std: spread of the actions around the policy's; it stays.
      epochs: gradient steps on the trials of an update.
      hidden, rank, gradient: of the policy (`EquivariantPolicy`).
    """

    updates: int = 300
    tasks: int = 16
    trials: int = 32
    examples: int | None = 1000
    learning_rate: float = 8e-4
    std: float = 0.2
    epochs: int = 4
    hidden: int = 32
    rank: int = 4
    gradient: bool = True

    def __post_init__(self) -> None:
        for name in ("updates", "tasks", "trials", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.trials < 2:
            raise ValueError("an action is compared with others in its state: trials at least 2")
        if self.examples is not None and self.examples < 1:
            raise ValueError(f"examples must be at least 1, or None for all; got {self.examples}")
        if not self.std > 0:
            raise ValueError(f"actions must be spread to learn from them: std > 0, got {self.std}")

    def evaluations(self, horizon: int = 1) -> int:
        """Reward evaluations of all updates; each step but the last is evaluated once more."""
        return self.updates * self.tasks * (horizon * self.trials + horizon - 1)

    def ppo(self, horizon: int = 1) -> PPOConfig:
        """The hyper-parameters of PPO for tasks of ``horizon`` requests."""
        return PPOConfig(
            learning_rate=self.learning_rate,
            std_learning_rate=0.0,
            initial_std=self.std,
            num_envs=self.trials,
            num_steps=horizon,
            num_epochs=self.epochs,
            num_minibatches=1,
            num_updates=self.updates,
            schedule="cosine",
        )

    def network(self, world: str) -> EquivariantPolicy:
        """The policy's architecture for a world."""
        return EquivariantPolicy(
            WORLD_ACTIONS[world], rank=self.rank, hidden=self.hidden, gradient=self.gradient
        )


@dataclass(frozen=True)
class PolicyTrainer:
    """Trains one policy on pools of tasks; tasks of a pool have equal shapes.

    On a mesh the tasks of every update are spread over the axis ``tasks``, and the gradient is
    summed over devices: results are those of one device up to the order of that sum.
    """

    config: PolicyTraining
    world: WorldName
    envs: tuple[World, ...]
    pools: tuple[TaskPool, ...]
    mesh: Mesh | None = None
    at_once: AtOnce = ALL_AT_ONCE

    @classmethod
    def of(
        cls,
        config: PolicyTraining,
        world: WorldName,
        groups: Sequence[Sequence[Task]],
        mesh: Mesh | None = None,
        memory: int | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> "PolicyTrainer":
        """Prepares tasks, grouped by the shapes of their networks.

        Args:
          config: see there.
          world: that the policy edits in.
          groups: of tasks.
          mesh: devices that the tasks of every update are spread over; None: one.
          memory: bytes that the training may take on each device; it plays fewer tasks and trials
            at a time where all do not fit (`policy.memory_plan`). None: `default_budget`.
          announce: called with a line that says how it fits.

        Raises:
          ValueError: an unknown world, no group, one that is smaller than the tasks of an update,
            tasks of a group that do not fit together, devices that do not divide the tasks of an
            update, or a ``memory`` too small for one trial.
        """
        check_devices(config.tasks, mesh)
        if world not in WORLD_ACTIONS:
            raise ValueError(f"unknown world {world!r}; choose one of {', '.join(WORLD_ACTIONS)}")
        if not groups:
            raise ValueError("there is nothing to train on: give at least one group of tasks")
        for group in groups:
            if len(group) < config.tasks:
                raise ValueError(
                    f"an update draws {config.tasks} tasks, but a group has {len(group)}: make the "
                    "groups larger or tasks smaller"
                )
        mesh = None if mesh is None else automatic(mesh)
        network = config.network(world)
        envs = tuple(neuron_world(network, world, group[0]).static for group in groups)
        plan = _plan(config, network, envs, groups, mesh, memory)
        if announce is not None:
            announce(str(plan))
        pools = tuple(make_pool(env, group) for env, group in zip(envs, groups, strict=True))
        if mesh is not None:
            pools = tuple(on_every_device(pool, mesh) for pool in pools)
        return cls(config, world, envs, pools, mesh, plan.at_once)

    @property
    def network(self) -> EquivariantPolicy:
        """The policy's architecture."""
        return self.config.network(self.world)

    def init(self, key: Key, start: LearnedEditor | None = None) -> MultitaskState:
        """State before the first update, with the policy of ``start`` if one is given."""
        observation = self.pools[0].task(0).neurons
        state = grpo.init(self.network, self.config.ppo(), observation, key)
        if start is not None:
            # A copy, because training uses the state up.
            state = replace(state, params=jax.tree.map(jnp.copy, start.params))
        return state if self.mesh is None else on_every_device(state, self.mesh)

    def placement(self, state: MultitaskState) -> Layout | None:
        """How `init` has laid out a state, for `run_chunks`."""
        return None if self.mesh is None else Layout.of(state)

    def advance(
        self, state: MultitaskState, done: int, steps: int
    ) -> tuple[MultitaskState, dict[str, Array]]:
        """Makes ``steps`` updates after ``done``; metrics ``{name: [steps]}``."""
        records = []
        for step in range(done, done + steps):
            turn = step % len(self.envs)
            about = (self.config, self.envs[turn], self.network, self.mesh, self.at_once)
            state, metrics = _update(*about, self.pools[turn], state)
            if self.mesh is not None:
                # Sums over the devices of one CPU may wait for each other for ever where two
                # updates are under way at once.
                jax.block_until_ready(state)
            records.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *records)

    def editor(self, state: MultitaskState) -> LearnedEditor:
        """The editor with the present policy."""
        placement = self.placement(state)
        params = state.params if placement is None else placement.gather(state.params)
        return LearnedEditor(self.network, params, self.world)


def check_devices(tasks: int, mesh: Mesh | None) -> None:
    """Raises ValueError if the devices along ``tasks`` do not divide the tasks of an update."""
    if tasks % (devices := axis_size(mesh, TASKS)):
        raise ValueError(
            f"an update draws {tasks} tasks, which {devices} devices do not divide: give a mesh "
            "whose number along tasks does"
        )


def _plan(
    config: PolicyTraining,
    network: EquivariantPolicy,
    envs: Sequence[World],
    groups: Sequence[Sequence[Task]],
    mesh: Mesh | None,
    memory: int | None,
) -> PolicyPlan:
    """From shapes: nothing is computed."""
    pools = [pool_shapes(env, group) for env, group in zip(envs, groups, strict=True)]
    observation = params_shapes(envs[0], groups[0][0]).neurons
    key = jax.eval_shape(jax.random.key, 0)
    start = partial(grpo.init, network, config.ppo())
    state = jax.eval_shape(start, observation, key)

    def bytes_of(at_once: AtOnce) -> int:
        return max(
            live_bytes(partial(_update, config, env, network, mesh, at_once), pool, state)
            for env, pool in zip(envs, pools, strict=True)
        )

    stored = sum(map(tree_bytes, pools)) + tree_bytes(state)
    devices = axis_size(mesh, TASKS)
    return plan_updates(config.tasks, config.trials, stored, bytes_of, memory, devices)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=6)
def _update(
    config: PolicyTraining,
    env: World,
    network: EquivariantPolicy,
    mesh: Mesh | None,
    at_once: AtOnce,
    pool: TaskPool,
    state: MultitaskState,
) -> tuple[MultitaskState, dict[str, Array]]:
    def draw(key: Key) -> object:
        drawn = pool.draw(env, key, config.tasks, config.examples, at_once.tasks)
        return constrained(drawn, mesh, TASKS)

    updated = grpo.update(env, draw, config.ppo(env.horizon), network, state, at_once)
    return constrained(updated, mesh, None)
