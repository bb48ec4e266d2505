"""The editing environment: an action edits the weights, the change of the score is the reward.

A `World` is a gymnax environment. What is static (the edit, the split network, the horizon's
upper bound) lives on the object; every array lives in `WorldParams`, so that `jax.vmap` over
params trains many subjects, requests and reward weights at once. The state holds the edited
leaves alone, never the whole network.
"""

import copy
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from gymnax.environments.environment import Environment
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.arrays import nonfinite_rows
from modeledit_jax.edits.edit import Bases, Edit, leaf_shapes
from modeledit_jax.edits.operator import Operator, shift
from modeledit_jax.edits.parametrization import Parametrization
from modeledit_jax.edits.precision import Precision
from modeledit_jax.edits.site_choice import site_choice
from modeledit_jax.edits.split_apply import Features, features_in_batches, run_suffix, split_apply
from modeledit_jax.envs.input_bases import run_bases
from modeledit_jax.envs.judgement import check_unedited, judged, kept, requested
from modeledit_jax.envs.low_rank import LowRankEdits
from modeledit_jax.envs.neurons import Neurons, observe_neurons
from modeledit_jax.envs.observation import unbounded_space, weights_and_parts
from modeledit_jax.envs.options import Coordinates, Observation, check_length, check_options
from modeledit_jax.envs.params import WorldParams, WorldState
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.network import NonFiniteError, nonfinite_outputs
from modeledit_jax.tasks.reward import EditedWeights, PerExample, SetOutputs
from modeledit_jax.tasks.task import EvaluationSets, Task
from modeledit_jax.types import Array, Key, Leaves


class World(Environment[WorldState, WorldParams]):
    """Edits a network step by step (Malik 2026; `MaskWorld` and `ShiftWorld` fix the operator).

    | | |
    |---|---|
    | action | ``Box [A]`` float32: scores of leaves to choose among, if any; a matrix per leaf |
    | observation | ``[D·H + P + 1]`` float32: current weights in units of the unedited leaf |
    |             | (mean 0, spread 1), the parts of the last score, the fraction of time gone; |
    |             | leaves and parts in the order of their names; finite: weights are clipped at |
    |             | ±``observation_bound`` units, far beyond useful edits, and NaN shows as 0 |
    | reward | score after the edit minus score before; sums to the final improvement |
    | termination | after ``max_steps_in_episode`` edits, the horizon at most: `reset` refuses |
    |             | params that ask for more, and what is traced ends there; there is no |
    |             | truncation; a step beyond the end changes nothing and pays nothing |
    | info | ``score``, every part as ``part_<name>``, ``invalid_reward`` (0 or 1) |

    A network with non-finite outputs scores the reward's ``minimum``. A reward function that
    returns a non-finite score for finite outputs is a mistake of the function: it scores the
    minimum too and sets ``invalid_reward``, for the caller to raise on.
    """

    _supports_transition_gradients = True
    action_bound = 10.0
    observation_bound = 1e4

    def __init__(
        self,
        task: Task,
        operator: Operator,
        *,
        parametrization: Parametrization | None = None,
        horizon: int = 1,
        observation: Observation = "weights",
        precision: Precision = "float32",
        coordinates: Coordinates = "weights",
        sites_chosen: int | None = None,
        sites_drawn: bool = False,
    ):
        """Builds the environment of ``task``.

        Args:
          task: supplies the default params, made when they are asked for; `params` gives those of
            other tasks.
          operator: what an action's matrices do to the weights.
          parametrization: action → matrix; default ``LowRank(4)``.
          horizon: edits of an episode.
          observation: ``"weights"`` as above, or ``"time"`` to show the fraction of time alone.
          precision: of scoring (`edits.precision`); the edited network is float32 all the same.
          coordinates: of the rows of an edit's matrix: ``"weights"``, or ``"inputs"`` (additive
            edits of dense layers), which are `input_bases`.
          sites_chosen: leaves that an edit changes, by their scores (`SiteChoice`); None: all.
          sites_drawn: searches start with a choice that they keep (`SiteChoice.drawn`).

        Raises:
          ValueError: as `check_options` and `site_choice`, or a site without effect.
        """
        check_options(horizon, observation, precision, coordinates, operator is shift)
        choice = site_choice(sites_chosen, len(task.leaves), sites_drawn)
        self.edit = Edit.of(task.leaves, operator, parametrization, choice)
        self.horizon = horizon
        self.observation = observation
        self.coordinates = coordinates
        self.split = split_apply(
            task.subject.apply, task.subject.params, jnp.asarray(task.roles["reward"].x), task.site
        )
        scoring = replace(self.split, precision=precision)
        self._low_rank = LowRankEdits.of(self.edit, scoring, task.leaves, horizon)
        self._task: Task | None = task
        self._default_params: WorldParams | None = None

    def with_transition_gradients(self) -> "World":
        """As gymnax defines it. Gradients go through the edited leaves, so these are multiplied."""
        env = super().with_transition_gradients()
        env._low_rank = replace(env._low_rank, paths=())
        return env

    @property
    def static(self) -> "World":
        """This world without its task: equal to that of every task of the same shapes.

        As a static argument of `jax.jit` it makes what is compiled for one task serve all. Params
        have to be passed to it, for it has none of its own: so equal worlds can never read each
        other's numbers.
        """
        bare = copy.copy(self)
        bare._task = bare._default_params = None
        return bare

    @property
    def one_state(self) -> bool:
        """Whether all steps are taken on the unedited network: episodes of one edit (`rollout`)."""
        return self.horizon == 1

    def _static_parts(self) -> tuple[Any, ...]:
        options = self.horizon, self.observation, self.coordinates
        return type(self), self.edit, *options, self.split, self._low_rank

    def __eq__(self, other: object) -> bool:
        """Equal static parts and the same task; what a subclass adds has to be the same object."""
        if not isinstance(other, World) or self._static_parts() != other._static_parts():
            return False
        others = (vars(self).keys() | vars(other).keys()) - _COMPARED
        return all(vars(self).get(name) is vars(other).get(name) for name in others)

    def __hash__(self) -> int:
        return hash(self._static_parts())

    @property
    def default_params(self) -> WorldParams:
        """Params of the task the environment was built with.

        Raises:
          ValueError: the environment is a `static` one.
        """
        if self._task is None:
            raise ValueError("a static world has no default params: pass those of a task")
        if self._default_params is None:
            with jax.ensure_compile_time_eval():  # numbers, even if a trace asks for them
                self._default_params = self.params(self._task)
        return self._default_params

    def reset(
        self, key: Key, params: WorldParams | None = None
    ) -> tuple[Array | Neurons, WorldState]:
        """As gymnax defines it, compiled once for all equal worlds; errors of `check_length`."""
        params = self.default_params if params is None else params
        check_length(params.max_steps_in_episode, self.horizon)
        return Environment.reset(self.static, key, params)

    def step(
        self, key: Key, state: WorldState, action: ArrayLike, params: WorldParams | None = None
    ) -> tuple[Any, ...]:
        """As gymnax defines it, compiled once for all equal worlds."""
        params = self.default_params if params is None else params
        return Environment.step(self.static, key, state, action, params)

    def features(self, subject: Subject, sets: EvaluationSets) -> Features:
        """Runs the prefix of the network over the examples of ``sets``, in batches."""
        return features_in_batches(self.split, subject.params, np.asarray(sets.x))

    def params(self, task: Task, features: Features | None = None) -> WorldParams:
        """The params of a task whose site and example shapes equal those of this environment.

        Args:
          task: the problem; its ``reward`` role and no other is read.
          features: of the reward role, where they are at hand (tasks that share a subject).

        Raises:
          ValueError: other leaves than this environment edits, or outputs or a reward that are not
            finite on the unedited network.
        """
        params = self.request_params(task).joined(self.network_params(task, features))
        params = jax.tree.map(jnp.asarray, params)
        found, invalid = _unedited(self.static, params)
        check_unedited(invalid)
        return params.replace(**found)

    def network_params(self, task: Task, features: Features | None = None) -> WorldParams:
        """The fields `OF_NETWORK` of `params`; arguments and errors as there."""
        if (shapes := leaf_shapes(task.leaves)) != self.edit.shapes:
            raise ValueError(f"the task edits {shapes}, the environment {self.edit.shapes}")
        sets = task.roles["reward"]
        features = self.features(task.subject, sets) if features is None else features
        leaves = {path: jnp.asarray(leaf) for path, leaf in task.leaves.items()}
        params = self.of_features(leaves, features, jax.tree.map(jnp.asarray, sets.targets))
        if len(rows := nonfinite_rows(params.original_outputs)):
            raise NonFiniteError(nonfinite_outputs(rows))
        return params

    def of_features(self, leaves: Leaves, features: Features, targets: Any) -> WorldParams:
        """The fields `OF_NETWORK` of `params`, unchecked; pure."""
        features = self._low_rank.split.stored(features)
        return WorldParams(
            original=leaves,
            features=features,
            targets=targets,
            original_outputs=run_suffix(self._low_rank.split, leaves, features),
            products=self._low_rank.products(leaves, features),
            bases=self.bases(leaves, features),
            max_steps_in_episode=None,
        )

    def bases(self, leaves: Leaves, features: Features) -> Leaves | None:
        """`WorldParams.bases` of a network with these features of the reward role; pure."""
        return None if self.coordinates == "weights" else run_bases(self.split, leaves, features)

    def task_bases(self, task: Task) -> Leaves | None:
        """`WorldParams.bases` of a task, computed anew."""
        if self.coordinates == "weights":
            return None
        return self.bases(dict(task.leaves), self.features(task.subject, task.roles["reward"]))

    def request_params(self, task: Task) -> WorldParams:
        """The other fields of `params` but for those of `unedited`; sets as NumPy arrays."""
        weights = task.roles["reward"].weights
        return WorldParams(
            weights={name: np.asarray(weight) for name, weight in weights.items()},
            reward=task.reward,
            reward_class=type(task.reward),
            max_steps_in_episode=np.int32(self.horizon),
        )

    def unedited(self, params: WorldParams) -> tuple[dict[str, Any], Bool[Array, ""]]:
        """Fields of the params that tell of the unedited network, and whether its reward is not
        finite; pure, for `jax.jit` and `jax.vmap`."""
        score, parts, invalid = self.evaluate(params.original, params, jnp.int32(0))
        found: dict[str, Any] = {"score": score, "parts": parts}
        if self.observation == "neurons":
            state = WorldState(jnp.int32(0), params.original, score, parts)
            found["neurons"] = self._neurons(state, params)
        return found, invalid

    def outputs(self, leaves: Leaves, features: Features) -> Float[Array, "n c"]:
        """Outputs of the network with these leaves on cached features (`features`)."""
        return self.split.suffix(leaves, features)

    def evaluate(
        self, leaves: Leaves, params: WorldParams, time: Int[Array, ""] | int = 0
    ) -> tuple[Array, dict[str, Array], Array]:
        """Scores edited leaves: ``(score [], parts {name: []}, invalid [] bool)``.

        Args:
          leaves: edited.
          params: of the task.
          time: the step whose request counts, where requests change.
        """
        outputs = self._low_rank.split.suffix(leaves, params.features)
        return self._judge(outputs, leaves, params, time)

    def _judge(
        self, outputs: Array, leaves: Leaves, params: WorldParams, time: Int[Array, ""] | int
    ) -> tuple[Array, dict[str, Array], Array]:
        """`evaluate` of a network whose outputs are known."""
        score, parts = self._score(outputs, leaves, params, time)
        return judged(outputs, score, parts, params.reward.minimum)

    def _score(
        self, outputs: Array, leaves: Leaves, params: WorldParams, time: Int[Array, ""] | int
    ) -> tuple[Array, dict[str, Array]]:
        """The reward function's answer."""
        shared = PerExample.of(outputs, params.targets)
        sets = {
            name: SetOutputs(outputs, params.original_outputs, params.targets, weight, shared)
            for name, weight in requested(params.weights, time).items()
        }
        return params.reward(sets, EditedWeights(leaves, params.original))

    def step_env(
        self, key: Key, state: WorldState, action: Float[Array, " a"], params: WorldParams
    ) -> tuple[Array | Neurons, WorldState, Array, Array, dict[str, Array]]:
        """Applies one edit; see the class for what is returned."""
        over = self.is_terminated(state, params)
        action = jnp.where(over, 0.0, action)
        leaves = self.edit(state.leaves, params.original, action, params.bases)
        task = (params.original, params.features, params.products, params.bases)
        outputs, added = self._low_rank.outputs(leaves, state.added, action, state.time, *task)
        judgement = self._judge(outputs, leaves, params, state.time)
        score, parts, invalid = kept(over, (state.score, state.parts, False), judgement)
        new_state = WorldState(state.time + 1, leaves, score, parts, added)
        if any(jnp.ndim(weight) > 1 for weight in params.weights.values()):  # the request changes
            judgement = self._judge(outputs, leaves, params, new_state.time)
            ahead = kept(over, (state.score, state.parts, False), judgement)
            new_state = new_state.replace(score=ahead[0], parts=ahead[1])
        observation = self.observe(key, new_state, action, params)
        info = {
            "score": score,
            **{f"part_{name}": value for name, value in parts.items()},
            "invalid_reward": invalid.astype(jnp.float32),
        }
        reward = score - state.score
        terminated = self.is_terminated(new_state, params)
        observation, new_state = self._apply_transition_gradient_policy(observation, new_state)
        return observation, new_state, reward, terminated, info

    def reset_env(self, key: Key, params: WorldParams) -> tuple[Array | Neurons, WorldState]:
        """Starts from the unedited network; costs no evaluation."""
        added = self._low_rank.start(params.original)
        state = WorldState(jnp.int32(0), params.original, params.score, params.parts, added)
        if self.observation == "neurons":
            return params.neurons, state
        return self.observe(key, state, None, params), state

    def observe(
        self, key: Key, state: WorldState, action: Array | None, params: WorldParams
    ) -> Float[Array, " observation"] | Neurons:
        """The flat observation vector of the class docstring, or `Neurons`."""
        del key, action
        if self.observation == "neurons":
            return self._neurons(state, params)
        gone = state.time / jnp.minimum(params.max_steps_in_episode, self.horizon)
        gone = jnp.asarray(gone, jnp.float32)[None]
        if self.observation == "time":
            return gone
        return weights_and_parts(
            state.leaves, params.original, state.parts, gone, self.observation_bound
        )

    def _neurons(self, state: WorldState, params: WorldParams) -> Neurons:
        """The layers as `observe_neurons` shows them."""
        # In the order of the action, which a dictionary that passed through JAX has lost.
        leaves = {path: state.leaves[path] for path, _ in self.edit.shapes}
        label = params.targets.label if hasattr(params.targets, "label") else params.targets
        return observe_neurons(
            lambda taps: self.split.tapped(leaves, params.features, taps),
            lambda outputs: self._score(outputs, leaves, params, state.time)[0],
            leaves,
            params.original,
            label,
            requested(params.weights, state.time),
        )

    def is_terminated(self, state: WorldState, params: WorldParams) -> Array:
        """True once all edits of the episode are made."""
        return state.time >= jnp.minimum(params.max_steps_in_episode, self.horizon)

    def is_truncated(self, state: WorldState, params: WorldParams) -> Array:
        """Never: the number of edits is part of the problem and is observed."""
        return jnp.zeros_like(self.is_terminated(state, params))

    @property
    def num_actions(self) -> int:
        """``A``."""
        return self.edit.action_size

    def action_space(self, params: WorldParams | None = None) -> spaces.Box:
        """``[A]``, bounded far beyond useful edits so that random agents stay finite."""
        return spaces.Box(-self.action_bound, self.action_bound, (self.num_actions,), jnp.float32)

    def observation_space(self, params: WorldParams | None = None) -> spaces.Space:
        """Flat float32 vector, or a dictionary of arrays where neurons are observed."""
        params = self.default_params if params is None else params
        return unbounded_space(
            jax.eval_shape(lambda p: self.reset_env(jax.random.key(0), p)[0], params)
        )

    def apply_plan(
        self, plan: Float[Array, "t a"], original: Leaves, bases: Bases = None
    ) -> Leaves:
        """Returns the leaves after all edits of an episode, without evaluating them.

        Args:
          plan: the actions of the episode.
          original: the unedited leaves (`WorldParams.original`).
          bases: `WorldParams.bases`.
        """
        assert (bases is None) == (self.coordinates == "weights"), "bases for other coordinates"

        def step(leaves: Leaves, action: Array) -> tuple[Leaves, None]:
            return self.edit(leaves, original, action, bases), None

        return jax.lax.scan(step, original, plan)[0]


_COMPARED = frozenset(
    ["edit", "horizon", "observation", "coordinates", "split", "_low_rank", "_default_params"]
)
"""Attributes of a world that are compared by value, and the params, which its task determines."""

_unedited = jax.jit(World.unedited, static_argnums=0)
