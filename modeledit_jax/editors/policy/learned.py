"""The learned editor: a trained policy reads a network and a request and writes the edit at once.

No candidate is evaluated: the policy sees statistics of the unedited network
(`modeledit_jax.envs.neurons`) and its action is the edit. With a budget of reward evaluations, the
policy's edit is where a search by PPO begins.
"""

import json
import os
import time
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.equivariant import Action, EquivariantPolicy
from modeledit_jax.editors.editor import Cost, EditResult, edit_with_search
from modeledit_jax.editors.search.ppo import PPOSearch, default_ppo_config
from modeledit_jax.edits.parametrization import LowRank, PerWeight
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.neurons import Neurons
from modeledit_jax.envs.world import World, WorldParams, WorldState
from modeledit_jax.envs.worlds import make
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves, Params

_ARCHITECTURE = tuple(f.name for f in fields(EquivariantPolicy) if f.name not in ("parent", "name"))

WORLD_ACTIONS: dict[str, Action] = {"ShiftWorld-v0": "low-rank", "MaskWorld-v0": "per-weight"}
"""What a policy of each world puts out, if not said otherwise. Whether to scale a weight up or down
depends on its sign, which no product of two neurons' factors knows."""


@dataclass(frozen=True)
class LearnedEditor:
    """A policy as an `Editor`.

    Attributes:
      network: the policy's architecture.
      params: its trained parameters.
      world: the world it was trained in, ``"ShiftWorld-v0"`` or ``"MaskWorld-v0"``.
      worlds: those of tasks edited so far, so that further tasks of the same shapes find all
        compiled: the second edit takes milliseconds.
    """

    network: EquivariantPolicy
    params: Params
    world: str = "ShiftWorld-v0"
    worlds: dict[Any, World] = field(default_factory=dict, repr=False, compare=False)

    def make_world(self, task: Task) -> World:
        """The world of a task, of as many steps as the task has requests, seen by neurons."""
        kind = _kind(task)
        if kind not in self.worlds:
            self.worlds[kind] = make_world(self.network, self.world, task)
        return self.worlds[kind]

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

    def edit(self, task: Task, key: Key, budget: int = 0) -> EditResult:
        """Returns the edited network.

        Args:
          task: a site of dense kernels, and the evaluation sets and kind of reward that the policy
            was trained with.
          key: of the search; not used without a budget.
          budget: reward evaluations to improve the policy's edit with; 0 evaluates none.

        Raises:
          ValueError: the network does not use the site as dense kernels, the policy was trained
            with other evaluation sets, or a budget for a task of several requests.
        """
        begin = time.perf_counter()
        env = self.make_world(task)
        params = env.params(task)
        check_observation(self.params, params.neurons)
        plan, leaves = planned(self, env, params)
        if not budget:
            edited = jax.block_until_ready(set_leaves(task.subject.params, leaves))
            return EditResult(edited, Cost(seconds=time.perf_counter() - begin))
        if env.horizon > 1:
            raise ValueError("a task of several requests is edited without a budget: leave it at 0")
        kind = "mask" if self.world.startswith("Mask") else "shift"
        search = PPOSearch(adaptation_config(budget, kind), start=plan[0])
        flat = make(self.world, task, parametrization=env.edit.parametrization, observation="time")
        result = edit_with_search(search, flat[0], task, key, budget)
        return replace(result, cost=replace(result.cost, seconds=time.perf_counter() - begin))

    def save(self, path: str | Path) -> None:
        """Writes the policy to one safetensors file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        network = {name: getattr(self.network, name) for name in _ARCHITECTURE}
        about = {"network": network, "world": self.world}
        temporary = path.with_name(path.name + ".tmp")
        save_file(flat, temporary, metadata={"modeledit_jax": json.dumps(about)})
        os.replace(temporary, path)


def planned(editor: LearnedEditor, env: World, params: WorldParams) -> tuple[Array, Leaves]:
    """The policy's plan ``[T, A]`` and the leaves after it, compiled once per world."""
    return _planned(editor.network, editor.world, env, editor.params, params)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _planned(
    network: EquivariantPolicy, world: str, env: World, policy: Params, params: WorldParams
) -> tuple[Array, Leaves]:
    plan = LearnedEditor(network, policy, world).plan(env, params)
    return plan, env.apply_plan(plan, params.original)


def _kind(task: Task) -> Any:
    """What two tasks must share to be edited in one world."""
    sets = task.roles["reward"]
    arrays = (task.subject.params, sets.x, sets.targets, dict(sets.weights), task.reward)
    leaves, structure = jax.tree.flatten(arrays)
    shapes = tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
    return task.subject.apply, task.site, structure, shapes


def load_editor(path: str | Path) -> LearnedEditor:
    """Reads a policy that `LearnedEditor.save` has written.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or no policy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no policy at {path}: train one, or give the path of its file")
    try:
        with safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {}).get("modeledit_jax")
            flat = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: copy or train it again ({error})") from error
    if about is None:
        raise ValueError(f"{path} holds tensors but no policy: give a file of LearnedEditor.save")
    known = json.loads(about)
    network = EquivariantPolicy(**known["network"])
    return LearnedEditor(network, unflatten_dict(flat, sep="/"), known["world"])


def make_world(network: EquivariantPolicy, world: str, task: Task) -> World:
    """The world in which ``network`` edits ``task``."""
    low_rank = network.action == "low-rank"
    parametrization = LowRank(network.rank) if low_rank else PerWeight()
    return make(
        world,
        task,
        parametrization=parametrization,
        horizon=task.requests,
        observation="neurons",
    )[0]


def adaptation_config(budget: int, world: str) -> PPOConfig:
    """PPO that starts from a good edit: `default_ppo_config` with a narrower search.

    Args:
      budget: reward evaluations.
      world: ``"mask"`` or ``"shift"``.
    """
    return replace(default_ppo_config(budget, world=world), initial_std=0.1)


def check_observation(params: Params, observation: Neurons) -> None:
    """Raises ValueError unless a policy's parameters fit an observation."""
    own = params["params"]
    layer = observation["layers"][0]
    for side in ("inputs", "outputs"):
        known, seen = own[side]["kernel"].shape[0], layer[side].shape[1]
        if known != seen:
            raise ValueError(
                f"the policy reads {known} features of {side}, the task shows {seen}: it was "
                "trained with other evaluation sets; train one on such tasks"
            )
