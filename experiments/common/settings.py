"""The searches with their settings for editing; `experiments.tuning.unlearning` found them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.editors.editor import Search
from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPOSearch, default_ppo_config

TUNED: dict[str, dict[str, float]] = {
    "openes-mask": {"population": 6, "std": 0.3, "step": 0.15},
    "openes-shift": {"population": 6, "std": 0.3, "step": 0.1},
    "snes-mask": {"population": 10, "std": 0.3, "step": 2.0},
    "snes-shift": {"population": 10, "std": 0.3, "step": 1.0},
    "random-search-mask": {"population": 20, "std": 3.0, "step": 0.0},
    "random-search-shift": {"population": 20, "std": 1.4, "step": 0.0},
}


TUNED_ON_COMMENTS: dict[str, dict[str, float]] = {
    "ppo-mask": {"population": 10, "std": 0.3, "step": 2.5},
    "ppo-shift": {"population": 10, "std": 0.3, "step": 1.25},
    "openes-mask": {"population": 10, "std": 0.3, "step": 0.2},
    "openes-shift": {"population": 10, "std": 0.3, "step": 0.2},
    "snes-mask": {"population": 20, "std": 0.3, "step": 2.0},
    "snes-shift": {"population": 20, "std": 0.3, "step": 1.0},
    "random-search-mask": {"population": 20, "std": 0.7, "step": 0.0},
    "random-search-shift": {"population": 20, "std": 0.7, "step": 0.0},
}
"""For bias mitigation, at every budget; found by `experiments.tuning.bias_mitigation`."""


def make_search(
    name: str,
    world: str,
    budget: int,
    *,
    horizon: int = 1,
    tuned: Mapping[str, Mapping[str, float]] = TUNED,
    **settings: Any,
) -> Search:
    """Returns a search with its tuned settings for a world.

    Args:
      name: ``"ppo"``, ``"openes"``, ``"snes"`` or ``"random-search"``.
      world: ``"mask"`` or ``"shift"``.
      budget: reward evaluations, over which step sizes decay to zero.
      horizon: edits of an episode.
      tuned: settings by search and world; PPO has its own defaults.
      **settings: ``population`` (reward evaluations of an update), ``std`` and ``step`` to use
        instead of the tuned ones.
    """
    values = settings or tuned.get(f"{name}-{world}", {})
    if name == "ppo":
        config = default_ppo_config(budget, horizon, world)
        return PPOSearch(_with_settings(config, values, budget, horizon) if values else config)
    population = int(values["population"])
    if name == "random-search":
        return RandomSearch(std=values["std"], population=population)
    options: dict[str, Any] = {
        "learning_rate": values["step"],
        "std": values["std"],
        "population": population,
        "num_updates": max(budget // population, 1),
    }
    return OpenES(**options) if name == "openes" else SNES(**options)


def _with_settings(
    config: PPOConfig, values: Mapping[str, Any], budget: int, horizon: int
) -> PPOConfig:
    episodes = max(int(values["population"]) // horizon, 2)
    return replace(
        config,
        num_envs=episodes,
        num_updates=max(budget // (episodes * horizon), 1),
        initial_std=values["std"],
        action_learning_rate=values["step"],
    )
