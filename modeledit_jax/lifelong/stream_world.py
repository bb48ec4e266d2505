"""Lifelong editing as an environment: each step edits one batch of facts into a language model.

The same trajectory serves two kinds of learning. The reward is a differentiable function of the
action, so RLEdit follows its exact gradient (`lifelong.meta_training`); and as a gymnax environment
it trains any agent that explores.
"""

import jax
import jax.numpy as jnp
from gymnax.environments import spaces
from gymnax.environments.environment import Environment, EnvParams, EnvState
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.model import (
    Changes,
    EditableModel,
    check_facts,
    commit,
    squared_norms,
)
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.token_gradients import Rows, capture, check_rows, rows_needed
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class StreamWorldParams(EnvParams):
    """The network and the facts of an episode."""

    model: EditableModel = None  # type: ignore[assignment]
    stream: FactBatch = None  # type: ignore[assignment]  # [S, n, ...]
    first_rows: Rows = None  # type: ignore[assignment]  # of the first batch, so a reset is free
    max_steps_in_episode: Field = 1  # T


@struct.dataclass
class StreamWorldState(EnvState):
    """The network after ``time`` batches."""

    time: Field  # [] int32
    kernels: Field  # {module: [d_in, d_out] float32}


class StreamWorld(Environment[StreamWorldState, StreamWorldParams]):
    """Edits batch after batch (RLEdit, ICML 2025, section 4.1).

    | | |
    |---|---|
    | observation | of the next batch, module after module: inputs u ``[r, d_in]`` and gradients |
    |             | v ``[r, d_out]`` of its tokens that count, flat; then ``[r]`` which rows do |
    | action | of every module K ``[r, d_in]`` and M ``[r, d_out]``, flat: the change ``Kᵀ M`` |
    | reward | ``−trajectory_loss`` of the network after the change |
    | termination | after the last batch; there is no truncation |
    | info | ``change_norm`` of all modules together |

    After the last batch there is no next one: the observation is zero.
    """

    _supports_transition_gradients = True
    action_bound = 1.0

    def __init__(self, model: EditableModel, stream: FactBatch, objective: Objective | None = None):
        """Builds the environment.

        Args:
          model: the network before any edit.
          stream: the facts of an episode, ``[S, n, ...]``; params may hold others of that shape.
          objective: whose negative is the reward.
        """
        self.objective = Objective() if objective is None else objective
        self.rows = rows_needed(stream.edit)
        self._default_params = self.params(model, stream)

    def params(self, model: EditableModel, stream: FactBatch) -> StreamWorldParams:
        """Params of another network of the same shapes or of other facts.

        Raises:
          ValueError: a batch has more answer tokens than the environment has rows, or a token that
            the network does not embed.
        """
        check_rows(stream.edit, self.rows)
        check_facts(model, stream, "stream")
        first = jax.tree.map(lambda leaf: leaf[0], stream.edit)
        _, rows = capture(model, model.kernels(), first, self.rows)
        length = jnp.int32(stream.subject_last.shape[0])
        return StreamWorldParams(
            model=model, stream=stream, first_rows=rows, max_steps_in_episode=length
        )

    @property
    def default_params(self) -> StreamWorldParams:
        """Params of the network and the facts the environment was built with."""
        return self._default_params

    def step_env(
        self,
        key: Key,
        state: StreamWorldState,
        action: Float[Array, " a"],
        params: StreamWorldParams,
    ) -> tuple[Array, StreamWorldState, Array, Array, dict[str, Array]]:
        """Writes one change; see the class for what is returned."""
        changes = self.changes(action, params.model)
        loss = trajectory_loss(
            params.model, state.kernels, changes, params.stream, state.time, self.objective
        )
        after = StreamWorldState(time=state.time + 1, kernels=commit(state.kernels, changes))
        norm = jnp.sqrt(sum(squared_norms(changes).values(), jnp.zeros(())))
        observation = self.observe(key, after, action, params)
        observation, after = self._apply_transition_gradient_policy(observation, after)
        return observation, after, -loss, self.is_terminated(after, params), {"change_norm": norm}

    def reset_env(self, key: Key, params: StreamWorldParams) -> tuple[Array, StreamWorldState]:
        """Starts from the unedited network; runs no forward pass."""
        state = StreamWorldState(time=jnp.int32(0), kernels=params.model.kernels())
        return self._flat(params.first_rows, params.model), state

    def observe(
        self, key: Key, state: StreamWorldState, action: Array | None, params: StreamWorldParams
    ) -> Float[Array, " observation"]:
        """The flat rows of the next batch under the network as it is now."""
        del key, action
        last = params.max_steps_in_episode - 1
        batch = jax.tree.map(lambda leaf: leaf[jnp.minimum(state.time, last)], params.stream.edit)
        _, rows = capture(params.model, state.kernels, batch, self.rows)
        return jnp.where(state.time > last, 0.0, self._flat(rows, params.model))

    def changes(self, action: Float[Array, " a"], model: EditableModel) -> Changes:
        """The changes that an action stands for."""
        found, begin = {}, 0
        for name, (d_in, d_out) in model.shapes.items():
            keys, values, rest = jnp.split(
                action[begin:], [self.rows * d_in, self.rows * (d_in + d_out)]
            )
            begin = action.shape[0] - rest.shape[0]
            found[name] = Hook(
                keys=keys.reshape(self.rows, d_in), values=values.reshape(self.rows, d_out)
            )
        return found

    def action(self, changes: Changes, model: EditableModel) -> Float[Array, " a"]:
        """The action that stands for low-rank changes of ``rows`` rows, masks included."""
        parts = []
        for name in model.modules:
            change = changes[name]
            mask = 1.0 if change.mask is None else change.mask
            parts += [change.keys.ravel(), (mask * change.values).ravel()]
        return jnp.concatenate(parts)

    def _flat(self, rows: Rows, model: EditableModel) -> Float[Array, " observation"]:
        parts = [side[name].ravel() for name in model.modules for side in (rows.keys, rows.values)]
        return jnp.concatenate([*parts, rows.mask.astype(jnp.float32)])

    def is_terminated(self, state: StreamWorldState, params: StreamWorldParams) -> Array:
        """True after the last batch."""
        return state.time >= params.max_steps_in_episode

    def is_truncated(self, state: StreamWorldState, params: StreamWorldParams) -> Array:
        """Never: an episode is a whole stream."""
        return jnp.zeros_like(self.is_terminated(state, params))

    @property
    def num_actions(self) -> int:
        """``A``."""
        return self.rows * sum(map(sum, self._default_params.model.shapes.values()))

    def action_space(self, params: StreamWorldParams | None = None) -> spaces.Box:
        """``[A]``."""
        return spaces.Box(-self.action_bound, self.action_bound, (self.num_actions,), jnp.float32)

    def observation_space(self, params: StreamWorldParams | None = None) -> spaces.Box:
        """Flat float32 vector."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.num_actions + self.rows,), jnp.float32)
