"""Derivative-free searches over the action vector: random search, OpenES and SNES.

All three play one-step episodes of a `World`: same parametrization, same reward and same count of
evaluations as PPO. A one-step Gaussian policy with a constant observation *is* an evolution
strategy, so these are the null hypothesis of reinforcement learning, not merely its rivals.

Sources: Salimans et al. 2017 (arXiv 1703.03864) for OpenES with antithetic pairs and centered
ranks; Schaul, Glasmachers & Schmidhuber 2011 (GECCO) for SNES and its utilities.
"""

import math
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.editors.search.batching import candidates_at_once
from modeledit_jax.editors.search.search import SearchEditor, check_numbers
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.mesh import map_candidates
from modeledit_jax.types import Array, Field, Key


def evaluate_population(
    env: World, params: WorldParams, actions: Float[Array, "e a"], batch_size: int | None = None
) -> tuple[Float[Array, " e"], dict[str, Array]]:
    """Plays a one-step episode with every action.

    Args:
      env: a world of horizon 1.
      params: its params.
      actions: ``[E, A]``.
      batch_size: candidates evaluated side by side; None: `candidates_at_once`.

    Returns:
      Rewards ``[E]`` and the metrics ``score`` (mean), ``best_score`` and ``invalid_reward``.
    """
    chex.assert_shape(actions, (None, env.num_actions))
    _, start = env.reset_env(jax.random.key(0), params)

    def evaluate(action: Array) -> tuple[Array, dict[str, Array]]:
        _, _, reward, _, info = env.step_env(jax.random.key(0), start, action, params)
        return reward, info

    batch_size = batch_size or candidates_at_once(env, params, actions.shape[0])
    rewards, info = map_candidates(evaluate, actions, batch_size)
    return rewards, {
        "score": info["score"].mean(),
        "best_score": info["score"].max(),
        "invalid_reward": info["invalid_reward"].max(),
    }


def check_one_step(env: World) -> None:
    """Raises ValueError unless an episode is a single edit."""
    if env.horizon != 1:
        raise ValueError(
            f"evolution strategies and random search edit in one step; the world has horizon "
            f"{env.horizon}: set horizon=1, or use PPO"
        )


@struct.dataclass
class SearchState:
    """State of the searches of this module."""

    mean: Field  # [A] float32, center of the search, or the best action so far
    std: Field  # [A] float32
    optimizer: Field  # state of the optimizer of the mean, or the best reward so far
    key: Field
    updates: Field  # [] int32, updates made


def step_decay(updates: Array, num_updates: int) -> Array:
    """Share of a step size in force: ``(1 − updates / num_updates)²``."""
    return jnp.square(jnp.maximum(1.0 - updates / num_updates, 0.0))


def _search_state(
    env: World, key: Key, std: Array, optimizer: object, start: Array | None = None
) -> SearchState:
    check_one_step(env)
    start_key, key = jax.random.split(key)
    mean = env.edit.start(start_key) if start is None else start
    return SearchState(mean, jnp.broadcast_to(std, mean.shape), optimizer, key, jnp.int32(0))


def centered_ranks(rewards: Float[Array, " e"]) -> Float[Array, " e"]:
    """Ranks scaled to −0.5 … 0.5; tied rewards share their mean rank."""
    below = (rewards[None, :] < rewards[:, None]).sum(1)
    equal = (rewards[None, :] == rewards[:, None]).sum(1)
    ranks = below + (equal - 1) / 2
    return ranks / (rewards.shape[0] - 1) - 0.5


def snes_utilities(rewards: Float[Array, " e"]) -> Float[Array, " e"]:
    """Rank utilities ``max(0, ln(E/2 + 1) − ln k)``, normalized, minus ``1/E``; k = 1 is the best.

    Tied rewards share the mean of their utilities, so that equal candidates cancel exactly.
    """
    size = rewards.shape[0]
    k = jnp.arange(1, size + 1)
    utilities = jnp.maximum(0.0, math.log(size / 2 + 1) - jnp.log(k))
    utilities = utilities / utilities.sum() - 1.0 / size
    equal = rewards[None, :] == rewards[:, None]
    rank = (rewards[None, :] > rewards[:, None]).sum(1)
    # Positions rank … rank + ties − 1 of the sorted order belong to this group of equals.
    total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(utilities)])
    ties = equal.sum(1)
    return (total[rank + ties] - total[rank]) / ties


@struct.dataclass
class RandomSearch(SearchEditor):
    """Draws around no edit and keeps the best; the floor that every search has to beat.

    Attributes:
      population: reward evaluations of an update.
      std: spread of the candidates.
    """

    population: int = struct.field(pytree_node=False, default=20)
    std: Field = 1.0

    def __post_init__(self) -> None:
        check_numbers(std=self.std)

    @property
    def evaluations_per_update(self) -> int:
        return self.population

    @property
    def gradient_steps_per_update(self) -> int:
        return 0

    def init(self, env: World, params: WorldParams, key: Key) -> SearchState:
        del params
        state = _search_state(env, key, jnp.asarray(self.std), jnp.float32(0.0))
        scores = env.edit.num_scores
        mean = state.mean.at[scores:].set(0.0)  # nothing found yet: no edit
        if env.edit.choice is not None and env.edit.choice.drawn:
            return replace(state, mean=mean, std=state.std.at[:scores].set(0.0))
        return replace(state, mean=mean)

    def update(
        self, env: World, params: WorldParams, state: SearchState
    ) -> tuple[SearchState, dict[str, Array]]:
        key, noise_key = jax.random.split(state.key)
        shape = (self.population, state.mean.shape[0])
        noise = state.std * jax.random.normal(noise_key, shape)
        actions = jnp.where(state.std > 0, noise, state.mean)  # scores that were drawn stay
        rewards, metrics = evaluate_population(env, params, actions, self.batch_size)
        best = jnp.argmax(rewards)
        better = rewards[best] > state.optimizer
        mean = jnp.where(better, actions[best], state.mean)
        reward = jnp.where(better, rewards[best], state.optimizer)
        return replace(state, mean=mean, optimizer=reward, key=key), metrics

    def plan(self, env: World, params: WorldParams, state: SearchState) -> Array:
        return state.mean[None]


@struct.dataclass
class OpenES(SearchEditor):
    """Antithetic pairs, centered ranks, Adam on the mean, fixed spread (Salimans et al. 2017).

    Attributes:
      population: reward evaluations of an update, an even number.
      std: spread of the candidates.
      learning_rate: of Adam at first; it falls to zero along a parabola.
      start: ``[A]``, center at first; None: `Edit.start`.
    """

    population: int = struct.field(pytree_node=False, default=20)
    std: Field = 0.3
    learning_rate: Field = 0.1
    start: Field = None

    def __post_init__(self) -> None:
        check_even(self.population)
        check_numbers(std=self.std, learning_rate=self.learning_rate)

    @property
    def evaluations_per_update(self) -> int:
        return self.population

    @property
    def gradient_steps_per_update(self) -> int:
        return 1

    def init(self, env: World, params: WorldParams, key: Key) -> SearchState:
        del params
        state = _search_state(env, key, jnp.asarray(self.std), None, self.start)
        return replace(state, optimizer=optax.adam(self.learning_rate).init(state.mean))

    def update(
        self, env: World, params: WorldParams, state: SearchState
    ) -> tuple[SearchState, dict[str, Array]]:
        key, noise_key = jax.random.split(state.key)
        noise = antithetic_normal(noise_key, self.population, state.mean.shape[0])
        actions = state.mean + state.std * noise
        rewards, metrics = evaluate_population(env, params, actions, self.batch_size)
        ascent = centered_ranks(rewards) @ noise / (self.population * state.std)
        rate = self.learning_rate * step_decay(state.updates, self.updates)
        step, optimizer = optax.adam(rate).update(-ascent, state.optimizer)
        mean = optax.apply_updates(state.mean, step)
        new = replace(state, mean=mean, optimizer=optimizer, key=key, updates=state.updates + 1)
        return new, metrics

    def plan(self, env: World, params: WorldParams, state: SearchState) -> Array:
        return state.mean[None]


@struct.dataclass
class SNES(SearchEditor):
    """Separable natural evolution strategy: natural gradient on mean and per-entry spread.

    Attributes:
      population: reward evaluations of an update, an even number.
      std: spread at first.
      learning_rate: of the mean at first, in units of the spread; it falls to zero likewise.
      std_learning_rate: of the log spread; None: ``(3 + ln A) / (5 √A)``.
      start: ``[A]``, center at first; None: `Edit.start`.
    """

    population: int = struct.field(pytree_node=False, default=20)
    std: Field = 0.3
    learning_rate: Field = 1.0
    std_learning_rate: Field = None
    start: Field = None

    def __post_init__(self) -> None:
        check_even(self.population)
        rates = {"learning_rate": self.learning_rate, "std_learning_rate": self.std_learning_rate}
        check_numbers(std=self.std, **rates)

    @property
    def evaluations_per_update(self) -> int:
        return self.population

    @property
    def gradient_steps_per_update(self) -> int:
        return 1

    def init(self, env: World, params: WorldParams, key: Key) -> SearchState:
        del params
        return _search_state(env, key, jnp.asarray(self.std), None, self.start)

    def update(
        self, env: World, params: WorldParams, state: SearchState
    ) -> tuple[SearchState, dict[str, Array]]:
        key, noise_key = jax.random.split(state.key)
        size = state.mean.shape[0]
        noise = antithetic_normal(noise_key, self.population, size)
        actions = state.mean + state.std * noise
        rewards, metrics = evaluate_population(env, params, actions, self.batch_size)
        utilities = snes_utilities(rewards)
        rate = self.std_learning_rate
        if rate is None:
            rate = (3 + math.log(size)) / (5 * math.sqrt(size))
        step = self.learning_rate * step_decay(state.updates, self.updates)
        mean = state.mean + step * state.std * (utilities @ noise)
        std = state.std * jnp.exp(rate / 2 * (utilities @ (noise**2 - 1)))
        return replace(state, mean=mean, std=std, key=key, updates=state.updates + 1), metrics

    def plan(self, env: World, params: WorldParams, state: SearchState) -> Array:
        return state.mean[None]


def antithetic_normal(key: Key, population: int, size: int) -> Float[Array, "e a"]:
    """Standard normal draws in mirrored pairs: the second half is minus the first."""
    half = jax.random.normal(key, (population // 2, size))
    return jnp.concatenate([half, -half])


def check_even(population: int) -> None:
    """Raises ValueError unless the population can be split into mirrored pairs."""
    if population < 2 or population % 2:
        raise ValueError(f"antithetic search needs an even population of at least 2: {population}")
