"""Editors that search in a world: PPO, evolution strategies, random search."""
