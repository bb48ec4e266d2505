"""Evolution strategies of evosax, at the same parametrization, reward and count of evaluations.

evosax (Lange 2022, arXiv 2212.04180) is the extra ``evosax``; nothing else needs it.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import optax

from modeledit_jax import struct
from modeledit_jax.editors.search.evolution import (
    check_even,
    check_one_step,
    evaluate_population,
    step_decay,
)
from modeledit_jax.editors.search.search import SearchEditor, check_numbers
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class EvosaxState:
    """State of a search by evosax."""

    inner: Field  # evosax's own
    key: Field


@struct.dataclass
class EvosaxSearch(SearchEditor):
    """What the searches of evosax share.

    Attributes:
      population: reward evaluations of an update, an even number.
      std: spread of the candidates at first.
    """

    population: int = struct.field(pytree_node=False, default=20)
    std: Field = 0.3

    def __post_init__(self) -> None:
        if not _is_installed():
            raise ValueError(
                f"{type(self).__name__} is of evosax: pip install 'modeledit-jax[evosax]', or "
                "leave it out"
            )
        check_even(self.population)
        check_numbers(std=self.std)

    @property
    def evaluations_per_update(self) -> int:
        return self.population

    @property
    def gradient_steps_per_update(self) -> int:
        return 1

    def init(self, env: World, params: WorldParams, key: Key) -> EvosaxState:
        del params
        check_one_step(env)
        start_key, init_key, key = jax.random.split(key, 3)
        mean = env.edit.start(start_key)
        search, settings = self._made(mean, jnp.int32(0))
        return EvosaxState(search.init(init_key, mean, settings), key)

    def update(
        self, env: World, params: WorldParams, state: EvosaxState
    ) -> tuple[EvosaxState, dict[str, Array]]:
        ask_key, tell_key, key = jax.random.split(state.key, 3)
        search, settings = self._made(state.inner.mean, state.inner.generation_counter)
        actions, inner = search.ask(ask_key, state.inner, settings)
        rewards, metrics = evaluate_population(env, params, actions, self.batch_size)
        # evosax minimizes.
        inner, _ = search.tell(tell_key, actions, -rewards, inner, settings)
        return EvosaxState(inner, key), metrics

    def plan(self, env: World, params: WorldParams, state: EvosaxState) -> Array:
        return state.inner.mean[None]

    def _made(self, mean: Array, updates: Array) -> tuple[Any, Any]:
        """evosax's search, made anew where it is traced, and its settings."""
        raise NotImplementedError


@struct.dataclass
class PGPE(EvosaxSearch):
    """Policy gradients on the parameters, antithetic, with Adam on the mean (Sehnke et al. 2010).

    Attributes:
      learning_rate: of the mean at first; it falls to zero along a parabola.
    """

    learning_rate: Field = 0.1

    def _made(self, mean: Array, updates: Array) -> tuple[Any, Any]:
        from evosax.algorithms import PGPE

        rate = self.learning_rate * step_decay(updates, self.updates)
        search = PGPE(self.population, mean, optimizer=optax.adam(rate))
        settings = search.default_params
        return search, settings.replace(std_init=jnp.asarray(self.std, jnp.float32))


@struct.dataclass
class SepCMAES(EvosaxSearch):
    """CMA-ES with a diagonal covariance (Ros & Hansen 2008), which learns its own step sizes."""

    def _made(self, mean: Array, updates: Array) -> tuple[Any, Any]:
        del updates
        from evosax.algorithms import Sep_CMA_ES

        search = Sep_CMA_ES(self.population, mean)
        settings = search.default_params
        # A diagonal is learned faster than a matrix, by a factor that evosax leaves out.
        faster = (mean.shape[0] + 2) / 3
        c_1 = jnp.minimum(faster * settings.c_1, 0.5)
        c_mu = jnp.minimum(faster * settings.c_mu, 1.0 - c_1)
        std = jnp.asarray(self.std, jnp.float32)
        return search, settings.replace(std_init=std, c_1=c_1, c_mu=c_mu)


@cache
def _is_installed() -> bool:
    return find_spec("evosax") is not None
