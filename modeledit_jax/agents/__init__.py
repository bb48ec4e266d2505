"""Reinforcement learning for any gymnax environment; nothing here knows about editing."""

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.distributions import Categorical, Gaussian, Policy
from modeledit_jax.agents.gae import generalized_advantages
from modeledit_jax.agents.networks import (
    ActorCritic,
    CategoricalHead,
    GaussianHead,
    Network,
    default_network,
)
from modeledit_jax.agents.ppo import (
    PPOState,
    evaluate,
    init,
    policy_mode,
    scan_updates,
    train,
    update,
)

__all__ = [
    "ActorCritic",
    "Categorical",
    "CategoricalHead",
    "Gaussian",
    "GaussianHead",
    "Network",
    "PPOConfig",
    "PPOState",
    "Policy",
    "default_network",
    "evaluate",
    "generalized_advantages",
    "init",
    "policy_mode",
    "scan_updates",
    "train",
    "update",
]
