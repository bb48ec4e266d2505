"""The searches with their settings for editing; `experiments.tune_searches` found them."""

from dataclasses import replace
from typing import Any

from modeledit_jax.editors.agent import PPOSearch, default_ppo_config, population_growth
from modeledit_jax.editors.editor import Search
from modeledit_jax.editors.evolution import SNES, OpenES, RandomSearch

TUNED: dict[str, dict[str, float]] = {
    "openes-mask": {"population": 6, "std": 0.3, "step": 0.15},
    "openes-shift": {"population": 6, "std": 0.3, "step": 0.1},
    "snes-mask": {"population": 10, "std": 0.3, "step": 2.0},
    "snes-shift": {"population": 10, "std": 0.3, "step": 1.0},
    "random-search-mask": {"population": 20, "std": 3.0, "step": 0.0},
    "random-search-shift": {"population": 20, "std": 1.4, "step": 0.0},
}


def make_search(name: str, world: str, budget: int, *, horizon: int = 1, **settings: Any) -> Search:
    """Returns a search with its tuned settings for a world.

    Args:
      name: ``"ppo"``, ``"openes"``, ``"snes"`` or ``"random-search"``.
      world: ``"mask"`` or ``"shift"``.
      budget: reward evaluations, over which step sizes decay to zero.
      horizon: edits of an episode.
      **settings: ``population``, ``std`` and ``step`` to use instead of the tuned ones.
    """
    if name == "ppo":
        config = default_ppo_config(budget, horizon, world)
        if settings:
            config = replace(
                config,
                num_envs=int(settings["population"]),
                num_updates=max(budget // int(settings["population"]), 1),
                initial_std=settings["std"],
                action_learning_rate=settings["step"],
            )
        return PPOSearch(config)
    values = settings or TUNED[f"{name}-{world}"]
    population = int(values["population"])
    if not settings:  # as PPO's own: beyond 2,000 evaluations the population grows with the budget
        population = 2 * round(population * population_growth(budget) / 2)
    if name == "random-search":
        return RandomSearch(std=values["std"], population=population)
    options: dict[str, Any] = {
        "learning_rate": values["step"],
        "std": values["std"],
        "population": population,
        "num_updates": max(budget // population, 1),
    }
    return OpenES(**options) if name == "openes" else SNES(**options)
