"""The reinforcement-learning editor: PPO trains a policy on the task's world."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.agents import ppo
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.networks import Network, default_network
from modeledit_jax.editors.search.search import SearchEditor, check_numbers
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class PPO(SearchEditor):
    """Trains a policy on the task's world; the edit is its deterministic episode.

    Attributes:
      population: reward evaluations of an update; None: few, and more as the budget grows.
      std: spread of the actions around the policy's.
      learning_rate: of the mean action, in units of the spread; None: one that suits the world, and
        shorter for longer episodes, whose edits add up.
      config: every hyper-parameter of PPO, in place of the three above; None: `editing_config`.
      network: of the policy; None: the default MLP actor-critic over the observation.
      start: ``[A]``, where the policy is centered at first; None: `Edit.start`.
    """

    population: int | None = struct.field(pytree_node=False, default=None)
    std: Field = 0.3
    learning_rate: Field = None
    config: PPOConfig | None = None
    network: Network | None = struct.field(pytree_node=False, default=None)
    start: Field = None

    def __post_init__(self) -> None:
        check_numbers(std=self.std, learning_rate=self.learning_rate)
        if self.population is not None and self.population < 2:
            raise ValueError(f"PPO needs a population of at least 2: {self.population}")

    @property
    def hyperparameters(self) -> PPOConfig:
        """The configuration of PPO for this world, budget and horizon."""
        if self.batch_size is None:
            return self._hyperparameters
        return replace(self._hyperparameters, env_batch_size=self.batch_size)

    @property
    def _hyperparameters(self) -> PPOConfig:
        if self.config is not None:
            return self.config
        config = editing_config(self.budget, self.horizon, self.world)
        if self.population is not None:
            episodes = max(self.population // self.horizon, 2)
            updates = max(self.budget // (episodes * self.horizon), 1)
            config = replace(config, num_envs=episodes, num_updates=updates)
        if self.learning_rate is not None:
            config = replace(config, action_learning_rate=self.learning_rate)
        return replace(config, initial_std=self.std)

    @property
    def evaluations_per_update(self) -> int:
        """Every environment step evaluates the reward once."""
        return self.hyperparameters.batch_size

    @property
    def gradient_steps_per_update(self) -> int:
        """Minibatches of all epochs."""
        config = self.hyperparameters
        return config.num_epochs * config.num_minibatches

    def init(self, env: World, params: WorldParams, key: Key) -> ppo.PPOState:
        """Centers the policy at ``start``, or where the parametrization would begin."""
        start_key, key = jax.random.split(key)
        start = env.edit.start(start_key) if self.start is None else self.start
        config = self.hyperparameters
        return ppo.init(env, params, config, key, network=self.network, start_action=start)

    def update(
        self, env: World, params: WorldParams, state: ppo.PPOState
    ) -> tuple[ppo.PPOState, dict[str, Array]]:
        """One rollout and its epochs; the metrics of `ppo.update` and those of a `Search`."""
        config = self.hyperparameters
        state, metrics = ppo.update(env, params, config, state, network=self.network)
        metrics["score"] = metrics["info/score"]
        metrics["invalid_reward"] = metrics["info/invalid_reward"]
        return state, metrics

    def plan(self, env: World, params: WorldParams, state: ppo.PPOState) -> Array:
        """Actions of the deterministic episode, ``[T, A]``.

        The first action needs no evaluation. Later ones see the score of the edits before them,
        at one evaluation of the reward each.
        """
        network = self.network or default_network(
            env.action_space(params), self.hyperparameters.hidden_sizes
        )
        unused = jax.random.key(0)  # worlds are deterministic
        observation, world = env.reset_env(unused, params)
        actions = []
        for step in range(env.horizon):
            action = ppo.policy_mode(network, state, observation)
            actions.append(action)
            if step + 1 < env.horizon:
                observation, world, *_ = env.step_env(unused, world, action, params)
        return jnp.stack(actions)


def editing_config(budget: int, horizon: int = 1, world: str = "shift") -> PPOConfig:
    """The settings for editing with few evaluations.

    Beyond 2,000 evaluations the population grows a little faster than the budget: more evaluations
    buy a less noisy gradient, not more steps. The edits of a longer episode add up, so each step is
    shorter.

    Args:
      budget: reward evaluations.
      horizon: edits of an episode.
      world: ``"mask"`` or ``"shift"``; the two differ in the population that suits them.
    """
    growth = max(budget / 2000, 1.0)
    population = round((10 if world == "shift" else 6) * growth**1.4)
    num_envs = max(population // horizon, 2)
    return PPOConfig(
        learning_rate=3e-4,
        search_optimizer="natural",
        action_learning_rate=(1.25 if world == "shift" else 1.5) / horizon,
        std_learning_rate=0.0,
        schedule="quadratic",
        gamma=1.0,
        gae_lambda=0.95,
        initial_std=0.3,
        num_envs=num_envs,
        num_steps=horizon,
        num_epochs=1,
        num_minibatches=1,
        hidden_sizes=(16, 16),  # the first layer reads every weight: kept below the edits' cost
        num_updates=max(budget // (num_envs * horizon), 1),
    )
