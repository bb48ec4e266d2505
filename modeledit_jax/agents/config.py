"""Configuration of PPO: numbers that can be swept by `vmap`, and static sizes."""

from typing import Any

from modeledit_jax import struct
from modeledit_jax.types import Field

SCHEDULES = ("constant", "linear", "quadratic", "cosine")
ADVANTAGE_NORMALIZATIONS = ("minibatch", "batch", "none")
SEARCH_OPTIMIZERS = ("adam", "natural")


def _static(default: Any) -> Any:
    return struct.field(pytree_node=False, default=default)


@struct.dataclass
class PPOConfig:
    """Hyper-parameters of `modeledit_jax.agents.ppo`.

    The first group are pytree leaves: each may be a Python float or a float32 array, traced or
    batched by `jax.vmap`, so a sweep is one `vmap`. The second group fixes shapes and structure.

    Raises:
      ValueError: on construction, if the static sizes do not fit together.
    """

    learning_rate: Field = 3e-4  # () Adam step size
    action_learning_rate: Field = None  # () for `action_mean` and `log_std`; None: learning_rate
    std_learning_rate: Field = None  # () for `log_std`; None: action_learning_rate
    gamma: Field = 0.99  # () discount per step
    gae_lambda: Field = 0.95  # () 0: one-step temporal difference, 1: Monte Carlo
    clip_epsilon: Field = 0.2  # () the ratio is clipped to 1 ± clip_epsilon
    value_clip: Field = None  # () largest move of a value that is rewarded; None: no clipping
    value_coefficient: Field = 0.5  # ()
    entropy_coefficient: Field = 0.0  # ()
    max_grad_norm: Field = 0.5  # () of all parameters together; infinity: no clipping
    adam_epsilon: Field = 1e-5  # ()
    initial_std: Field = 1.0  # () or the action's shape; sets the parameter `log_std`

    num_envs: int = _static(8)  # E
    num_steps: int = _static(128)  # T, per environment and update
    num_epochs: int = _static(4)  # passes over each rollout
    num_minibatches: int = _static(4)  # per epoch
    num_updates: int = _static(100)  # length of `train`, and horizon of the schedule
    hidden_sizes: tuple[int, ...] = _static((64, 64))  # of the default network; may be ()
    search_optimizer: str = _static("adam")  # one of SEARCH_OPTIMIZERS, of mean and `log_std`
    schedule: str = _static("constant")  # one of SCHEDULES, of both learning rates, down to zero
    normalize_advantage: str = _static("minibatch")  # one of ADVANTAGE_NORMALIZATIONS
    normalize_observations: bool = _static(False)  # by running mean and variance
    normalize_rewards: bool = _static(False)  # by the running std of the discounted return
    env_batch_size: int | None = _static(None)  # environments stepped at a time; None: all

    def __post_init__(self) -> None:
        sizes = ("num_envs", "num_steps", "num_epochs", "num_minibatches", "num_updates")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; make it at least 1")
        if self.env_batch_size is not None and self.env_batch_size < 1:
            raise ValueError(
                f"env_batch_size is {self.env_batch_size}; make it at least 1, or None for no limit"
            )
        if self.batch_size % self.num_minibatches:
            raise ValueError(
                f"num_envs * num_steps = {self.batch_size} is not divisible by "
                f"num_minibatches = {self.num_minibatches}; change one of them"
            )
        for name, choices in (
            ("schedule", SCHEDULES),
            ("search_optimizer", SEARCH_OPTIMIZERS),
            ("normalize_advantage", ADVANTAGE_NORMALIZATIONS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {choices}")
        self._check_advantage_samples()

    def _check_advantage_samples(self) -> None:
        samples = {"minibatch": self.minibatch_size, "batch": self.batch_size, "none": 2}
        if samples[self.normalize_advantage] < 2:
            raise ValueError(
                f"normalize_advantage={self.normalize_advantage!r} over a single sample is always "
                "zero; use more environments, fewer minibatches, or normalize_advantage='none'"
            )

    @property
    def batch_size(self) -> int:
        """Samples of one update, E·T."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        """Samples of one gradient step."""
        return self.batch_size // self.num_minibatches
