"""The learned editor: a trained policy reads a network and a request and writes the edit at once.

No candidate is evaluated: the policy sees statistics of the unedited network
(`modeledit_jax.envs.neurons`) and its action is the edit. With a budget of reward evaluations, the
policy's edit is where a search by PPO begins.
"""

import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.agents.equivariant import Action, EquivariantPolicy
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.editors.policy.policy_file import read_policy, write_policy
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, Parametrization, PerWeight
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.neurons import Neurons
from modeledit_jax.envs.params import WorldParams, WorldState
from modeledit_jax.envs.world import World
from modeledit_jax.envs.worlds import WORLDS, WorldName, gymnax_id, make_world
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves, Params

WORLD_ACTIONS: dict[str, Action] = {"shift": "low-rank", "mask": "per-weight"}
"""What a policy of each world puts out, if not said otherwise. Whether to scale a weight up or down
depends on its sign, which no product of two neurons' factors knows."""

ADAPTATION_STD = 0.1
"""Spread of a search that starts from a policy's edit: narrower than one that starts afresh."""


@dataclass(frozen=True)
class LearnedEditor:
    """A policy as an `Editor`.

    Attributes:
      network: the policy's architecture.
      params: its trained parameters.
      world: the world it was trained in, ``"shift"`` or ``"mask"``.
      adaptation: reward evaluations to improve the policy's edit with; 0 evaluates none.
    """

    network: EquivariantPolicy
    params: Params
    world: WorldName = "shift"
    adaptation: int = 0

    def make_world(self, task: Task) -> World:
        """The world of a task, of as many steps as the task has requests, seen by neurons."""
        return neuron_world(self.network, self.world, task)

    def plan(self, env: World, params: WorldParams) -> Float[Array, "t a"]:
        """The actions of the deterministic episode; pure, for `jax.jit` and `jax.vmap`."""
        unused = jax.random.key(0)  # worlds are deterministic
        observation, state = env.reset_env(unused, params)

        def act(observation: Any) -> Array:
            policy: Any = self.network.apply(self.params, observation)
            return policy.mode()

        def step(carry: tuple[Any, WorldState], _: None) -> tuple[Any, Array]:
            action = act(carry[0])
            return env.step_env(unused, carry[1], action, params)[:2], action

        # The last edit is not evaluated: nobody looks at the network after it.
        last, actions = jax.lax.scan(step, (observation, state), length=env.horizon - 1)
        return jnp.concatenate([actions, act(last[0])[None]])

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network.

        Args:
          task: a site of dense kernels, and the evaluation sets and kind of reward that the policy
            was trained with.
          key: of the adaptation; not used without one.

        Raises:
          ValueError: the network does not use the site as dense kernels, the policy was trained
            with other evaluation sets, or an adaptation to a task of several requests.
        """
        begin = time.perf_counter()
        env = self.make_world(task)
        check_observation(self.params, env.default_params.neurons)
        plan, leaves = planned(self, env, env.default_params)
        if not self.adaptation:
            edited = jax.block_until_ready(set_leaves(task.subject.params, leaves))
            return checked(task, EditResult(edited, Cost(seconds=time.perf_counter() - begin)))
        if env.horizon > 1:
            raise ValueError("a task of several requests is edited without adaptation: leave it 0")
        result = self.adaptation_search(self.adaptation, plan[0]).edit(task, key)
        return replace(result, cost=replace(result.cost, seconds=time.perf_counter() - begin))

    def adaptation_search(self, budget: int, start: Float[Array, " a"]) -> PPO:
        """The search that improves an edit ``start`` with a budget of reward evaluations."""
        return PPO(
            world=self.world,
            budget=budget,
            parametrization=policy_parametrization(self.network),
            observation="time",
            std=ADAPTATION_STD,
            start=start,
        )

    def save(self, path: str | Path) -> None:
        """Writes the policy to one safetensors file, whole or not at all.

        Raises:
          ValueError: parameters that are not those of the architecture, or not finite.
        """
        write_policy(path, self.network, self.params, gymnax_id(self.world))


def planned(editor: LearnedEditor, env: World, params: WorldParams) -> tuple[Array, Leaves]:
    """The policy's plan ``[T, A]`` and the leaves after it, compiled once for equal worlds."""
    return _planned(editor.network, env.static, editor.params, params)


@partial(jax.jit, static_argnums=(0, 1))
def _planned(
    network: EquivariantPolicy, env: World, policy: Params, params: WorldParams
) -> tuple[Array, Leaves]:
    plan = LearnedEditor(network, policy).plan(env, params)
    return plan, env.apply_plan(plan, params.original, params.bases)


@dataclass(frozen=True)
class SavedPolicy:
    """A policy in a file, as an `Editor`: what a preset names.

    Attributes:
      path: of a file that `LearnedEditor.save` has written.
      adaptation: see `LearnedEditor`.

    Raises:
      FileNotFoundError, ValueError: see `load_editor`.
    """

    path: str
    adaptation: int = 0

    def __post_init__(self) -> None:
        _loaded(self.path)  # a missing or damaged file is refused before networks are trained

    def edit(self, task: Task, key: Key) -> EditResult:
        """See `LearnedEditor.edit`; errors also as `load_editor`."""
        return replace(_loaded(self.path), adaptation=self.adaptation).edit(task, key)


def _loaded(path: str) -> LearnedEditor:
    """The policy of a file, read once for as long as the file stays as it is."""
    if not os.path.exists(path):
        return load_editor(path)  # says what is missing
    about = os.stat(path)
    return _load_version(path, (about.st_ino, about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=8)
def _load_version(path: str, version: tuple[int, int, int]) -> LearnedEditor:
    return load_editor(path)


def load_editor(path: str | Path) -> LearnedEditor:
    """Reads a policy that `LearnedEditor.save` has written.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, no policy, or of a newer version; the message says what.
    """
    worlds = {gymnax_id(name): name for name in WORLDS}
    network, params, world = read_policy(path, tuple(worlds))
    return LearnedEditor(network, params, worlds[world])


def policy_parametrization(network: EquivariantPolicy) -> Parametrization:
    """How the actions of a policy become matrices."""
    return LowRank(network.rank) if network.action == "low-rank" else PerWeight()


def neuron_world(network: EquivariantPolicy, world: str, task: Task) -> World:
    """The world in which ``network`` edits ``task``."""
    return make_world(
        world,
        task,
        parametrization=policy_parametrization(network),
        horizon=task.requests,
        observation="neurons",
    )


def check_observation(params: Params, observation: Neurons) -> None:
    """Raises ValueError unless a policy's parameters fit an observation."""
    layers = params["params"]
    layer = observation["layers"][0]
    for side in ("inputs", "outputs"):
        known, seen = layers[side]["kernel"].shape[0], layer[side].shape[1]
        if known != seen:
            raise ValueError(
                f"the policy reads {known} features of {side}, the task shows {seen}: it was "
                "trained with other evaluation sets; train one on such tasks"
            )
    joined = layers["everyone_0"]["kernel"]  # of the context and the means of both sides
    known, seen = joined.shape[0] - 2 * joined.shape[1], len(observation["context"])
    if known != seen:
        raise ValueError(
            f"the policy reads {known} numbers of the whole network, the task shows {seen}: an "
            "earlier version of modeledit_jax has trained it; train it anew"
        )
