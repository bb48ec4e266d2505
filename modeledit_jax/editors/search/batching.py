"""How many candidate edits are evaluated side by side."""

import math

import jax

from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World

# Largest intermediate of an evaluation, in array elements. On CPU an edited layer's outputs that
# outgrow the last-level cache (and are then paged in anew at every call) cost a factor of three:
# 2^20 float32 are 4 MB, for 32 columns the 32768 // N candidates of the recorded benchmark.
# Elsewhere the limit merely bounds memory, at 1 GB.
_LARGEST = {"cpu": 2**20}
_LARGEST_ELSEWHERE = 2**28


def candidates_at_once(env: World, params: WorldParams, total: int) -> int:
    """Returns how many of ``total`` candidates to evaluate at a time, for speed and memory.

    Such batches keep the outputs of the edited layer, ``[batch, N, H]``, in cache on CPU, however
    many candidates there are. They are as equal in size as possible, so that the last is not a
    small one.

    Args:
      env: the world; its widest edited leaf gives ``H``.
      params: its params, which may be traced; the shape of the reward examples gives ``N``.
      total: number of candidates, at least 1.
    """
    limit = max(_largest() // _intermediate(env, params.original_outputs.shape[0]), 1)
    return math.ceil(total / math.ceil(total / limit))


def tasks_at_once(env: World, params: WorldParams, candidates: int) -> int:
    """Returns how many tasks to search for side by side, for speed and memory.

    Args:
      env: the world.
      params: of one task, or their shapes.
      candidates: of one update of one task, at least 1.
    """
    elements = _intermediate(env, params.original_outputs.shape[0])
    return max(_largest() // (elements * candidates), 1)


def _largest() -> int:
    return _LARGEST.get(jax.default_backend(), _LARGEST_ELSEWHERE)


def _intermediate(env: World, examples: int) -> int:
    """Elements of the outputs of the widest edited layer."""
    return max(examples * max(shape[-1] for _, shape in env.edit.shapes), 1)
